//! Short names: of software, its versions, hardware, vehicles and ECUs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Defines a short printable-ASCII name with a parser.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>); // shared: a fleet keeps the same ones in several places

        impl $name {
            /// Longest value, in characters.
            pub const MAX_LENGTH: usize = $max;

            /// The value as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseFieldError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_name($field, text, $max).map(|()| Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseFieldError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type!(
    /// Name of a piece of software: printable ASCII, 1 to 128 characters.
    ImageName,
    "name",
    128
);
name_type!(
    /// Version of a piece of software: printable ASCII, 1 to 128 characters, in whatever scheme its
    /// makers use.
    ImageVersion,
    "version",
    128
);
name_type!(
    /// Hardware identifier (Uptane 2.1.0, 5.2.3.1.1): printable ASCII without spaces, 1 to 64
    /// characters.
    HardwareId,
    "hardware_id",
    64
);

pub(super) use name_type;

pub(super) fn parse_name(
    field: &'static str,
    text: &str,
    max: usize,
) -> Result<(), ParseFieldError> {
    if text.is_empty() || text.len() > max {
        return Err(ParseFieldError::Length { field, max });
    }
    // Only ASCII: jsoncpp and OLPC canonical JSON disagree on everything else (shared signatures
    // would break).
    match text.chars().find(|c| !is_allowed(field, *c)) {
        Some(character) => Err(ParseFieldError::Character { field, character }),
        None => Ok(()),
    }
}

/// Ids of vehicles and ECUs are parts of URLs and of file names, and appear in globs and CSV: none
/// of their characters may mean anything there.
fn is_allowed(field: &str, c: char) -> bool {
    match field {
        "vin" | "ecu_serial" => c.is_ascii_alphanumeric() || "-._".contains(c),
        "hardware_id" => c.is_ascii_graphic(),
        _ => c.is_ascii_graphic() || c == ' ',
    }
}

/// A short field that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseFieldError {
    /// Empty or too long.
    #[error("`{field}` must have 1 to {max} characters")]
    Length {
        /// The field.
        field: &'static str,
        /// Its limit, in characters.
        max: usize,
    },
    /// A character that clients would not agree on.
    #[error("`{field}` must not contain {character:?}: use {}", allowed(field))]
    Character {
        /// The field.
        field: &'static str,
        /// The first character that is not allowed.
        character: char,
    },
    /// Not a number, or too large.
    #[error("`release_counter` must be a whole number from 0 to 9007199254740991")]
    ReleaseCounter,
    /// No such format.
    #[error("`target_format` must be BINARY or OSTREE")]
    TargetFormat,
    /// No such role.
    #[error("`role` must be primary or secondary")]
    EcuRole,
}

fn allowed(field: &str) -> &'static str {
    match field {
        "vin" | "ecu_serial" => "letters, digits, `-`, `.` and `_`",
        _ => "printable ASCII",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printable_ascii() {
        assert!("gateway firmware".parse::<ImageName>().is_ok());
        let error = |character| Err(ParseFieldError::Character { field: "name", character });
        assert_eq!("a\nb".parse::<ImageName>(), error('\n'));
        assert_eq!("gäteway".parse::<ImageName>(), error('ä'));
        assert_eq!(
            "".parse::<ImageName>(),
            Err(ParseFieldError::Length { field: "name", max: 128 })
        );
    }

    #[test]
    fn hardware_ids_have_no_spaces() {
        let error = ParseFieldError::Character { field: "hardware_id", character: ' ' };
        assert_eq!("gw mk3".parse::<HardwareId>(), Err(error));
    }
}
