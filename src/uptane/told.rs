//! What people are shown before they sign, in lines that nothing which is signed can imitate.

/// Something that is listed otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    title: Vec<String>,
    facts: Vec<String>,
}

impl Change {
    pub(super) fn new(sign: char, title: Vec<String>, facts: Vec<String>) -> Self {
        let mut title = title;
        if let Some(first) = title.first_mut() {
            first.insert_str(0, &format!("{sign} "));
        }
        Self { title, facts }
    }

    /// Each fact of it a line.
    pub(super) fn lines(&self) -> Vec<String> {
        let (first, rest) = self.title.split_at(self.title.len().min(1));
        let facts = rest.iter().chain(&self.facts).map(|fact| format!("    {fact}"));
        first.iter().cloned().chain(facts).collect()
    }

    /// All of it in one line.
    pub(super) fn line(&self) -> String {
        [self.title.join(" "), self.facts.join(", ")]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// A fact whose text somebody else chose: all of it, within quotes, and in as many lines as it takes,
/// since what a terminal breaks could begin like a line of its own.
pub(super) fn fact(label: &str, text: &str) -> Vec<String> {
    let label = if label.is_empty() { String::new() } else { format!("{label} ") };
    let mut lines = vec![format!("{label}\"")];
    let mut taken = 0;
    for character in text.chars() {
        // Also other letters than those of ASCII: some look like quotes and spaces.
        let escaped = character.escape_default();
        if taken + escaped.len() > WIDTH {
            lines.push("followed by \"".to_owned());
            taken = 0;
        }
        taken += escaped.len();
        if let Some(line) = lines.last_mut() {
            line.extend(escaped);
        }
    }
    lines.iter_mut().for_each(|line| line.push('"'));
    lines
}

const WIDTH: usize = 48; // so that a line has less than the 80 characters of a narrow terminal

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_whole_and_imitates_no_other_line() {
        assert_eq!(fact("name", "brake"), ["name \"brake\""]);
        assert_eq!(fact("", "a\"\n\u{201d} b'\\"), ["\"a\\\"\\n\\u{201d} b\\'\\\\\""]);
        let long = format!("{}\", release 42", "x".repeat(1500));
        let lines = fact("path", &long);
        assert!(lines.iter().all(|line| line.len() < 70 && line.ends_with('"')), "{lines:?}");
        assert!(lines[1..].iter().all(|line| line.starts_with("followed by \"")), "{lines:?}");
        let whole: String = lines
            .iter()
            .map(|line| line.split_once('"').unwrap().1.strip_suffix('"').unwrap())
            .collect();
        assert_eq!(whole, long.replace('"', "\\\""));
    }

    #[test]
    fn each_fact_is_a_line_and_all_of_it_one() {
        let facts = vec!["release 1".to_owned(), "of 7 bytes".to_owned()];
        let change = Change::new('+', fact("", "acme/a"), facts);
        assert_eq!(change.lines(), ["+ \"acme/a\"", "    release 1", "    of 7 bytes"]);
        assert_eq!(change.line(), "+ \"acme/a\", release 1, of 7 bytes");
        assert_eq!(Change::new('-', fact("", "acme/a"), vec![]).line(), "- \"acme/a\"");
    }
}
