//! What comes from outside stays within its field of its log line.
//!
//! A value can hold a line's end, the sequences that a terminal obeys, or what looks like another
//! field. In text, each value is made visible, and quoted where it would not stand alone; in JSON,
//! what the format itself lets through.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Fields as `name=value`, separated by a space.
#[derive(Debug)]
pub(super) struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = TextVisitor { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct TextVisitor<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl Visit for TextVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.result.is_ok() {
            self.result = self.write(field.name(), &format!("{value:?}"));
        }
    }
}

impl TextVisitor<'_> {
    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        if !std::mem::replace(&mut self.is_first, false) {
            self.writer.write_char(' ')?;
        }
        if name == "message" {
            return write_visible(&mut self.writer, value);
        }
        if self.writer.has_ansi_escapes() {
            write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?;
        } else {
            write!(self.writer, "{name}=")?;
        }
        if stands_alone(value) {
            return write_visible(&mut self.writer, value);
        }
        self.writer.write_char('"')?;
        write_visible(&mut self.writer, &value.replace('\\', "\\\\").replace('"', "\\\""))?;
        self.writer.write_char('"')
    }
}

/// Whether the end of a value can be told: it has nothing that ends one, or is in quotes already.
fn stands_alone(value: &str) -> bool {
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    match quoted {
        Some(quoted) => {
            let mut is_escaped = false;
            let ends_early = quoted.chars().any(|c| {
                let ends = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                ends
            });
            !ends_early && !is_escaped
        }
        None => {
            !value.is_empty()
                && !value
                    .contains(|c: char| c.is_whitespace() || matches!(c, '"' | '=' | '{' | '}'))
        }
    }
}

fn write_visible(writer: &mut impl Write, text: &str) -> fmt::Result {
    for c in text.chars() {
        if is_invisible(c) {
            write!(writer, "{}", c.escape_default())?
        } else {
            writer.write_char(c)?
        }
    }
    Ok(())
}

/// A line of JSON, in which the control characters of ASCII are escaped already.
pub(super) fn visible_json(line: &str) -> String {
    let mut visible = String::with_capacity(line.len());
    for c in line.chars() {
        // All of them are in strings, and have four digits.
        if c != '\n' && is_invisible(c) {
            visible.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            visible.push(c);
        }
    }
    visible
}

/// Whether a character does something to what is shown after or before it instead of being shown
/// itself: control characters, line and paragraph separators, marks of direction, and those of no
/// width.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(text: &str) -> String {
        let mut visible = String::new();
        write_visible(&mut visible, text).unwrap();
        visible
    }

    #[test]
    fn what_a_terminal_obeys_is_made_visible() {
        assert_eq!(
            visible("a\r\nb\tc\u{1b}[31m\u{9b}31m\u{7f}\0"),
            r"a\r\nb\tc\u{1b}[31m\u{9b}31m\u{7f}\u{0}"
        );
        assert_eq!(visible("\u{202e}gnp.exe\u{2028}\u{feff}"), r"\u{202e}gnp.exe\u{2028}\u{feff}");
        assert_eq!(visible("Größe 4.2.0 \"ok\" \\ 漢"), "Größe 4.2.0 \"ok\" \\ 漢");
    }

    #[test]
    fn json_stays_what_it_is() {
        let line =
            serde_json::json!({ "error": "a\u{85}b\u{202e}\u{7f}\n", "path": "gw/ü" }).to_string();
        let escaped = visible_json(&format!("{line}\n"));
        assert!(
            escaped.ends_with("}\n") && !escaped.trim_end().contains(is_invisible),
            "{escaped}"
        );
        let (before, after): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(&line).unwrap(), serde_json::from_str(&escaped).unwrap());
        assert_eq!(before, after);
    }

    #[test]
    fn only_a_value_whose_end_can_be_told_goes_without_quotes() {
        for alone in ["200", "0.25", "gw/1/a.bin", "\"a b\"", r#""a \"b\" c""#, "[1,2]", "\"\""] {
            assert!(stands_alone(alone), "{alone}");
        }
        for other in [
            "",
            "a b",
            "a=b",
            "x\"",
            "\"",
            "\"a\" b=\"c\"",
            r#""a\""#,
            "a{b",
            "a\nb",
            "[\"a\", \"b\"]",
        ] {
            assert!(!stands_alone(other), "{other}");
        }
    }
}
