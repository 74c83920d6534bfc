//! The names of blobs. No path in the store is built anywhere else.

use std::fmt;

use crate::model::{ENVELOPE_SUFFIX, RoleName, Sha256Digest, published_names};

/// What a blob is, and so its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BlobKey {
    /// `timestamp.json`: the one file that changes.
    Timestamp,
    /// `<version>.<role>.json`, a metadata file of the Image repository (TUF 1.0.34, 6.2.1).
    Metadata {
        /// Version of the file.
        version: u64,
        /// The role.
        role: RoleName,
    },
    /// `targets/<dir>/<sha256>.<file>`, a sealed image or an envelope.
    Target {
        /// Target path.
        path: String,
        /// Digest of the file.
        sha256: Sha256Digest,
    },
}

impl BlobKey {
    /// The key of a target's file.
    pub fn target(path: impl Into<String>, sha256: Sha256Digest) -> Self {
        Self::Target { path: path.into(), sha256 }
    }

    /// The blob's name below the root of the store, and below `/repo/`.
    pub fn name(&self) -> String {
        match self {
            Self::Timestamp => "timestamp.json".to_owned(),
            Self::Metadata { version, role } => format!("{version}.{role}.json"),
            Self::Target { path, sha256 } => format!("targets/{}", published_names(path, sha256).0),
        }
    }

    /// The name that other clients ask for, where they disagree.
    pub fn alias(&self) -> Option<String> {
        match self {
            Self::Timestamp | Self::Metadata { .. } => None,
            Self::Target { path, sha256 } => {
                published_names(path, sha256).1.map(|name| format!("targets/{name}"))
            }
        }
    }

    /// Whether the bytes under this key never change.
    pub fn is_immutable(&self) -> bool {
        *self != Self::Timestamp
    }

    /// The keys that `name`, a path below `/repo/`, can mean; most likely first, none for a name of
    /// no blob.
    ///
    /// A target in a folder has two names, and where both the first and the last part of a path
    /// begin with a digest, either may be meant.
    pub fn candidates(name: &str) -> Vec<Self> {
        if name == "timestamp.json" {
            return vec![Self::Timestamp];
        }
        let Some(target) = name.strip_prefix("targets/") else {
            return parse_metadata_name(name).into_iter().collect();
        };
        if !is_clean(target) {
            return Vec::new();
        }
        let in_folder = target.rsplit_once('/').and_then(|(folder, file)| {
            let (sha256, file) = split_digest(file)?;
            Some(Self::target(format!("{folder}/{file}"), sha256))
        });
        let in_front = split_digest(target).map(|(sha256, path)| Self::target(path, sha256));
        in_folder.into_iter().chain(in_front).collect()
    }

    /// The key whose name or alias `name` is, and no other spelling of it.
    pub fn named(name: &str) -> Option<Self> {
        Self::candidates(name)
            .into_iter()
            .find(|key| key.name() == name || key.alias().as_deref() == Some(name))
    }

    /// The content type under which the blob is served.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Timestamp | Self::Metadata { .. } => "application/json",
            Self::Target { path, .. } if path.ends_with(ENVELOPE_SUFFIX) => "application/jose+json", // RFC 7516, 9.2.1
            Self::Target { .. } => "application/octet-stream",
        }
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

fn parse_metadata_name(name: &str) -> Option<BlobKey> {
    let (version, role) = name.strip_suffix(".json")?.split_once('.')?;
    let canonical = version.bytes().all(|b| b.is_ascii_digit()) && !version.starts_with('0');
    let plain = role.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !canonical || !plain {
        return None;
    }
    Some(BlobKey::Metadata { version: version.parse().ok()?, role: role.parse().ok()? })
}

fn split_digest(name: &str) -> Option<(Sha256Digest, &str)> {
    let (digest, rest) = name.split_once('.')?;
    // What is left has to be clean by itself: `<digest>.../x` is, and its `../x` would leave the
    // folder.
    is_clean(rest).then_some((digest.parse().ok()?, rest))
}

/// Nothing that could leave the store's folder. Paths that the store was given are stricter.
fn is_clean(path: &str) -> bool {
    path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Sha256Digest {
        Sha256Digest::from_bytes([0xab; 32])
    }

    #[test]
    fn every_name_leads_back_to_its_key() {
        for key in [
            BlobKey::Timestamp,
            BlobKey::Metadata { version: 12, role: "bin-3f".parse().unwrap() },
            BlobKey::target("gw/4.2.0/gateway.bin", digest()),
            BlobKey::target("gateway.bin", digest()),
        ] {
            assert!(BlobKey::candidates(&key.name()).contains(&key), "{key}");
            if let Some(alias) = key.alias() {
                assert!(BlobKey::candidates(&alias).contains(&key), "{alias}");
            }
        }
    }

    #[test]
    fn a_folder_named_like_a_digest_is_still_found() {
        let key = BlobKey::target(format!("{}.x/y", digest()), digest());
        assert_eq!(BlobKey::candidates(&key.name())[0], key);
    }

    #[test]
    fn other_names_are_no_blobs() {
        let h = digest();
        for name in [
            "".to_owned(),
            "root.json".into(),
            "01.root.json".into(),
            "+1.root.json".into(),
            "1..json".into(),
            "1.a/b.json".into(),
            "99999999999999999999.root.json".into(),
            "targets/".into(),
            "targets/gateway.bin".into(),
            format!("targets/../{h}.x"),
            format!("targets/a//{h}.x"),
            format!("targets/a\\b/{h}.x"),
            format!("targets/{h}."),
            format!("targets/{h}.../x"),
            format!("targets/a/{h}..."),
            format!("targets/{h}../x"),
            format!("targets/{}.x", "AB".repeat(32)),
        ] {
            assert_eq!(BlobKey::candidates(&name), [], "{name}");
        }
    }
}
