//! JSON without duplicate member names, at every level (RFC 7515 section 4, RFC 7516 section 4, RFC
//! 7517 section 4).
//!
//! Two parsers that each take another one of two `alg` members can be played against each other.
//! This walk keeps no values, so that secrets in the text are not copied.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A fault in a JSON text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Not JSON, nested too deep, or of another shape.
    #[error("not the JSON that is expected: see line {line}, column {column}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// One object has this member twice.
    #[error("the member `{member}` is there twice in one object")]
    Duplicate {
        /// Its name, if it can be shown.
        member: String,
    },
}

impl From<serde_json::Error> for JsonFault {
    /// Keeps the place and drops the message, which may quote the input.
    fn from(error: serde_json::Error) -> Self {
        Self::Syntax { line: error.line(), column: error.column() }
    }
}

/// Checks that `text` is one JSON value in which no object has a member twice.
///
/// # Errors
///
/// [`JsonFault`]: the first fault.
pub fn check_json(text: &str) -> Result<(), JsonFault> {
    let duplicate = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let outcome = Walk(&duplicate).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match (duplicate.into_inner(), outcome) {
        (Some(member), _) => Err(JsonFault::Duplicate { member }),
        (None, outcome) => outcome.map_err(JsonFault::from),
    }
}

/// Walks one value; the cell takes the name of the first duplicate.
#[derive(Clone, Copy)]
struct Walk<'c>(&'c RefCell<Option<String>>);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            if let Some(name) = names.replace(name) {
                *self.0.borrow_mut() = Some(shown_name(&name));
                return Err(A::Error::custom("duplicate member"));
            }
            map.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A member name, borrowed from the text unless it has escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A name from someone's input as an error may show it: a short token of plain characters, or no
/// more than a hint. Longer text goes to a terminal by way of `motorcade_host::shown`.
///
/// A secret pasted into the wrong member of a JWK must not come back in an error.
pub fn shown_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_+. #".contains(c);
    if name.len() <= MAX_PRINTABLE && name.chars().all(plain) {
        name.to_owned()
    } else {
        "(unprintable)".to_owned()
    }
}

/// Shorter than the shortest secret in base64url (32 bytes are 43 characters).
const MAX_PRINTABLE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_found_at_every_level_and_through_escapes() {
        for (text, member) in [
            (r#"{"a":1,"a":2}"#, "a"),
            (r#"{"x":{"b":1,"c":2,"b":3}}"#, "b"),
            (r#"[{"x":[[{"d":1,"d":1}]]}]"#, "d"),
            (r#"{"alg":1,"\u0061lg":2}"#, "alg"),
            ("{\"\u{fc}\":1,\"\u{fc}\":2}", "(unprintable)"),
        ] {
            assert_eq!(
                check_json(text),
                Err(JsonFault::Duplicate { member: member.to_owned() }),
                "{text}"
            );
        }
    }

    #[test]
    fn plain_json_passes() {
        let text = r#"{"a":{"a":[1,-2,3.5,true,null,"x\n",1e9,18446744073709551615]},"b":[{"a":1},{"a":1}]}"#;
        assert_eq!(check_json(text), Ok(()));
    }

    #[test]
    fn garbage_and_deep_nesting_are_refused_with_their_place() {
        assert_eq!(check_json("{\n  x}"), Err(JsonFault::Syntax { line: 2, column: 3 }));
        for text in ["", "{", "{}}", "{} {}", "nul", &"[".repeat(100_000)] {
            assert!(matches!(check_json(text), Err(JsonFault::Syntax { .. })));
        }
    }
}
