//! The path of an image: its name in the API, in both repositories and on disk.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Sha256Digest;

/// What an envelope's path adds to the path of its image.
pub const ENVELOPE_SUFFIX: &str = ".jwe";

/// A target path such as `gw/4.2.0/gateway.bin`: one to sixteen parts between single slashes.
///
/// The rules keep every client agreeing on the bytes and every file system able to hold them (TUF
/// 1.0.34, 4.5; Uptane 2.1.0, 5.2.7): letters, digits and `-._~+@=,` only, no leading slash, no
/// empty part, no part that is `.` or `..`, at most 255 bytes a part. The first and the last part
/// get a digest and a dot in front of them in the published names, and the last one may get
/// [`ENVELOPE_SUFFIX`], so these two are at most 186 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImagePath(String);

impl ImagePath {
    /// Most parts of a path.
    pub const MAX_PARTS: usize = 16;

    /// The path as text, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of this image's envelope in the Image repository.
    pub fn envelope_path(&self) -> String {
        format!("{}{ENVELOPE_SUFFIX}", self.0)
    }
}

/// The two names under which a target's file is published, below `targets/`.
///
/// python-tuf puts the digest before the file name, tough before the whole path; TUF 1.0.34 (6.2.1)
/// can be read both ways. They are one name where the target isn't in a folder.
pub fn published_names(target: &str, digest: &Sha256Digest) -> (String, Option<String>) {
    match target.rsplit_once('/') {
        Some((folder, file)) => {
            (format!("{folder}/{digest}.{file}"), Some(format!("{digest}.{target}")))
        }
        None => (format!("{digest}.{target}"), None),
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<ImagePath> for String {
    fn from(path: ImagePath) -> Self {
        path.0
    }
}

impl TryFrom<String> for ImagePath {
    type Error = ParseImagePathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for ImagePath {
    type Err = ParseImagePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use ParseImagePathError as E;
        if text.is_empty() {
            return Err(E::Empty);
        }
        if text.len() > MAX_PATH_BYTES {
            return Err(E::TooLong);
        }
        if text.starts_with('/') {
            return Err(E::LeadingSlash);
        }
        if let Some(bad) = text.chars().find(|c| *c != '/' && !is_allowed(*c)) {
            return Err(E::Character(bad));
        }
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > Self::MAX_PARTS {
            return Err(E::TooManyParts);
        }
        for part in &parts {
            check_part(part)?;
        }
        // Such a folder could be the published name of another image, which is a file.
        if let Some(folder) = parts[..parts.len() - 1].iter().find(|part| starts_with_digest(part))
        {
            return Err(E::Reserved((*folder).to_owned()));
        }
        for end in [parts[0], parts[parts.len() - 1]] {
            if end.len() > MAX_PREFIXED_PART_BYTES {
                return Err(E::PartTooLong {
                    part: end.to_owned(),
                    limit: MAX_PREFIXED_PART_BYTES,
                });
            }
        }
        let file = parts[parts.len() - 1];
        if file.ends_with(ENVELOPE_SUFFIX) || RESERVED_FILES.contains(&file) {
            return Err(E::Reserved(file.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

fn check_part(part: &str) -> Result<(), ParseImagePathError> {
    use ParseImagePathError as E;
    match part {
        "" => Err(E::EmptyPart),
        "." | ".." => Err(E::DotPart),
        _ if part.len() > MAX_PART_BYTES => {
            Err(E::PartTooLong { part: part.to_owned(), limit: MAX_PART_BYTES })
        }
        _ => Ok(()),
    }
}

fn starts_with_digest(part: &str) -> bool {
    part.split_once('.').is_some_and(|(digest, _)| digest.parse::<Sha256Digest>().is_ok())
}

/// RFC 3986's unreserved characters and four more that appear in version numbers; none needs
/// quoting in a URL path, and none means anything to a shell glob or a TUF path pattern.
fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~+@=,".contains(c)
}

/// Why a text isn't an image path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseImagePathError {
    /// Nothing at all.
    #[error("image path is empty: use something like gw/4.2.0/gateway.bin")]
    Empty,
    /// The path starts with a slash.
    #[error("image path must not start with a slash")]
    LeadingSlash,
    /// Two slashes in a row, or one at the end.
    #[error("image path must not have an empty part (`//`, or a slash at the end)")]
    EmptyPart,
    /// A part that means a folder relative to another.
    #[error("image path must not have `.` or `..` as a part")]
    DotPart,
    /// A character outside the allowed set.
    #[error("image path must not contain {0:?}: letters, digits and -._~+@=, are allowed")]
    Character(char),
    /// A part that no file system would hold once its digest is before it.
    #[error(
        "image path has a part of over {limit} bytes ({part:.20}…): a part is at most 255 bytes, the first and the last \
         at most 186 as they are published with a digest before them"
    )]
    PartTooLong {
        /// The part.
        part: String,
        /// What its place allows, in bytes.
        limit: usize,
    },
    /// The whole path is too long.
    #[error("image path is over 1024 bytes")]
    TooLong,
    /// Too many folders.
    #[error("image path has more than 16 parts")]
    TooManyParts,
    /// A name that means something else here.
    #[error(
        "image path must not have {0:?}: a file with .jwe is an image's envelope, `envelope` and `reseal` are API calls, and a \
         folder that starts with a digest and a dot is a published name"
    )]
    Reserved(String),
}

const MAX_PATH_BYTES: usize = 1024;
const MAX_PART_BYTES: usize = 255; // what Linux file systems take
const MAX_PREFIXED_PART_BYTES: usize = MAX_PART_BYTES - 64 - 1 - ENVELOPE_SUFFIX.len(); // digest, dot
const RESERVED_FILES: [&str; 2] = ["envelope", "reseal"]; // /api/v1/images/{path}/envelope

#[cfg(test)]
mod tests {
    use super::ParseImagePathError as E;
    use super::*;

    fn check(input: &str, expected: Result<(), E>) {
        assert_eq!(input.parse::<ImagePath>().map(|_| ()), expected, "{input:?}");
    }

    #[test]
    fn accepts_what_firmware_is_called() {
        for path in [
            "a",
            "gw/4.2.0/gateway.bin",
            "gw/1.0.0-rc.1+build~7/x@2=3,4.img",
            "a/..b/c..",
            ".hidden",
        ] {
            check(path, Ok(()));
        }
        check(&format!("{}/{}", "a".repeat(186), "b".repeat(186)), Ok(()));
        check(&format!("a/{}/b", "m".repeat(255)), Ok(()));
    }

    #[test]
    fn refuses_what_could_leave_its_folder() {
        check("../x", Err(E::DotPart));
        check("a/../x", Err(E::DotPart));
        check("a/./x", Err(E::DotPart));
        check("/a", Err(E::LeadingSlash));
        check("a//b", Err(E::EmptyPart));
        check("a/", Err(E::EmptyPart));
        check("", Err(E::Empty));
    }

    #[test]
    fn refuses_characters_that_clients_disagree_on() {
        for bad in ['\\', '%', ' ', '\n', '\0', 'é', '*', '?', '#', ':', '"', '\u{7f}'] {
            check(&format!("a/b{bad}c"), Err(E::Character(bad)));
        }
    }

    #[test]
    fn refuses_parts_that_no_file_system_holds() {
        let long = "a".repeat(187);
        check(&long, Err(E::PartTooLong { part: long.clone(), limit: 186 }));
        let longer = "m".repeat(256);
        check(&format!("a/{longer}/b"), Err(E::PartTooLong { part: longer.clone(), limit: 255 }));
        check(&"a/".repeat(17), Err(E::TooManyParts));
        check(&format!("{}b", "a/".repeat(600)), Err(E::TooLong));
    }

    #[test]
    fn refuses_names_with_a_meaning_of_their_own() {
        for file in ["gateway.bin.jwe", "envelope", "reseal"] {
            check(&format!("gw/{file}"), Err(E::Reserved(file.into())));
        }
        check("envelope/x", Ok(()));
        let published = format!("{}.gateway.bin", "ab".repeat(32));
        check(&format!("gw/{published}/x"), Err(E::Reserved(published.clone())));
        check(&format!("gw/{published}"), Ok(()));
    }

    #[test]
    fn publishes_a_target_in_a_folder_under_both_names() {
        let digest = Sha256Digest::from_bytes([0; 32]);
        let zeros = "0".repeat(64);
        let (name, alias) = published_names("gw/4/x.bin", &digest);
        assert_eq!(name, format!("gw/4/{zeros}.x.bin"));
        assert_eq!(alias, Some(format!("{zeros}.gw/4/x.bin")));
        assert_eq!(published_names("x.bin", &digest), (format!("{zeros}.x.bin"), None));
    }
}
