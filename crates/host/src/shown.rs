//! A server's words, made fit for a terminal and a log.
//!
//! Whoever it is must not move a cursor, colour a line or begin one of its own.

use url::Url;

/// As much of a text as is worth a line, with what is no printable character escaped.
pub fn printable(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => whole(&text[..end]) + "…",
        None => whole(text),
    }
}

/// All of a text, as [`printable`] escapes it: what people sign they are shown to its end.
pub fn whole(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        match character {
            '\'' | '"' | '\\' => line.push(character),
            other => line.extend(other.escape_debug()),
        }
    }
    line
}

/// A URL without what may be a secret in it: query, fragment and who asks.
pub fn place(url: &str) -> String {
    let place = url.split(['?', '#']).next().unwrap_or_default();
    let parsed =
        Url::parse(place).ok().filter(|url| !url.username().is_empty() || url.password().is_some());
    let Some(mut parsed) = parsed else { return printable(place) };
    match (parsed.set_username(""), parsed.set_password(None)) {
        (Ok(()), Ok(())) => printable(parsed.as_str()),
        _ => printable(parsed.scheme()),
    }
}

const LONGEST: usize = 1000; // characters, which is more than any message of ours has

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor_or_begins_a_line() {
        let line = printable("no \"room\" for \u{e4}\x1b[2J\r\nerror: forged \u{202e}\u{9b}");
        assert_eq!(line, "no \"room\" for \u{e4}\\u{1b}[2J\\r\\nerror: forged \\u{202e}\\u{9b}");
        assert_eq!(printable(&line), line);
        assert_eq!(printable(&"x".repeat(5000)).chars().count(), LONGEST + 1);
        assert_eq!(whole(&"\x07x".repeat(5000)), "\\u{7}x".repeat(5000));
    }

    #[test]
    fn a_place_has_no_secrets() {
        assert_eq!(place("http://a:1/b?X-Amz-Signature=1#c"), "http://a:1/b");
        assert_eq!(place("https://who:secret@a/b?c"), "https://a/b");
        assert_eq!(place("/b\x07#c"), "/b\\u{7}");
    }
}
