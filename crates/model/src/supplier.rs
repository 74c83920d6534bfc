//! Suppliers: who signs for a folder of the Image repository with keys of its own (Uptane 2.1.0,
//! 5.2.3.2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ImagePath;

/// The name of a supplier: lower-case letters, digits and single hyphens, 1 to 32 characters.
///
/// It is part of the name of a role, which is the name of a file and part of a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SupplierName(String);

/// A folder of the Image repository, with a slash at its end: `acme/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Folder(String);

/// No name of a supplier, or no folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseSupplierError {
    /// Not a name.
    #[error(
        "a supplier's name has 1 to 32 lower-case letters, digits and single hyphens between them"
    )]
    Name,
    /// Not a folder, or one in which no image could be.
    #[error("a folder is the path of an image's folder with a slash at its end, such as acme/")]
    Folder,
}

impl SupplierName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder that a supplier has where nothing else is said: the one of its name (Deployment
    /// Best Practices 3.3.2.1).
    pub fn folder(&self) -> Folder {
        Folder(format!("{}/", self.0))
    }
}

impl Folder {
    /// The folder, with the slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether something lies in it: a path, or a folder with a slash at its end.
    pub fn has(&self, path: &str) -> bool {
        path.starts_with(&self.0)
    }

    /// Whether one of two folders lies in the other, or both are one.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.has(&other.0) || other.has(&self.0)
    }

    /// Patterns that match all that lies in it, at any depth, for clients whose `*` stops at a
    /// slash as well as for those whose doesn't (TUF 1.0.34, 4.5).
    pub fn patterns(&self) -> Vec<String> {
        let folders = self.0.matches('/').count();
        let depths = 1..=ImagePath::MAX_PARTS.saturating_sub(folders);
        depths.map(|depth| format!("{}{}", self.0, vec!["*"; depth].join("/"))).collect()
    }
}

impl FromStr for SupplierName {
    type Err = ParseSupplierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_name = (1..=32).contains(&text.len())
            && text.chars().all(is_allowed)
            && text.split('-').all(|part| !part.is_empty());
        is_name.then(|| Self(text.to_owned())).ok_or(ParseSupplierError::Name)
    }
}

impl FromStr for Folder {
    type Err = ParseSupplierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // That an image can be in it says that its parts are those of a path.
        let has_images = text.ends_with('/') && format!("{text}a").parse::<ImagePath>().is_ok();
        has_images.then(|| Self(text.to_owned())).ok_or(ParseSupplierError::Folder)
    }
}

macro_rules! text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = ParseSupplierError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(SupplierName);
text!(Folder);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_the_name_of_a_file_and_part_of_a_url() {
        for name in ["acme", "tier-1", "0"] {
            assert_eq!(name.parse::<SupplierName>().unwrap().as_str(), name);
        }
        for name in ["", "Acme", "a_b", "-a", "a-", "a--b", "a/b", "..", &"a".repeat(33)] {
            assert_eq!(name.parse::<SupplierName>(), Err(ParseSupplierError::Name), "{name}");
        }
    }

    #[test]
    fn a_folder_is_one_in_which_images_can_be() {
        assert_eq!("acme".parse::<SupplierName>().unwrap().folder(), "acme/".parse().unwrap());
        for folder in ["acme", "/acme/", "a//", "../", "a*/", "", "/"] {
            assert_eq!(folder.parse::<Folder>(), Err(ParseSupplierError::Folder), "{folder}");
        }
    }

    #[test]
    fn a_folder_does_not_have_what_only_begins_like_it() {
        let folder: Folder = "acme/brakes/".parse().unwrap();
        assert!(folder.has("acme/brakes/1/a.bin") && !folder.has("acme/brakes-2/a.bin"));
        let overlaps = |other: &str| folder.overlaps(&other.parse().unwrap());
        assert!(overlaps("acme/") && overlaps("acme/brakes/eu/") && overlaps("acme/brakes/"));
        assert!(!overlaps("acme/doors/"));
    }

    #[test]
    fn patterns_go_as_deep_as_paths_do() {
        let patterns = "acme/brakes/".parse::<Folder>().unwrap().patterns();
        assert_eq!(patterns[..2], ["acme/brakes/*", "acme/brakes/*/*"]);
        assert_eq!(patterns.last().unwrap().split('/').count(), ImagePath::MAX_PARTS);
    }
}
