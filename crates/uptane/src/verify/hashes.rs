//! Lengths and hashes that metadata lists of files.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256, Sha512};

use motorcade_model::Sha256Digest;

/// Hashes of one file, by algorithm. Every one of them has to match, so one that can't be computed
/// here is as good as a wrong one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hashes(BTreeMap<String, String>);

impl Hashes {
    /// Whether each is of a kind that is known here, and there is one.
    pub fn is_known(&self) -> bool {
        !self.0.is_empty() && self.0.keys().all(|kind| matches!(kind.as_str(), "sha256" | "sha512"))
    }

    /// SHA-256, which is what our repositories list.
    pub fn sha256(&self) -> Option<Sha256Digest> {
        self.0.get("sha256")?.parse().ok()
    }

    /// The hash that names the file under consistent snapshots: any of them does.
    ///
    /// TUF 1.0.34, 5.7.3: "HASH.FILENAME.EXT … where HASH is one of the hashes of the targets file
    /// listed in the targets metadata file".
    pub fn name(&self) -> Option<&str> {
        let hash = self.0.get("sha256").or_else(|| self.0.get("sha512"))?;
        hash.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(hash.as_str())
    }

    /// Whether they are those of `bytes`.
    pub fn match_bytes(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        self.match_hasher(hasher)
    }

    /// Starts to hash a file in parts.
    pub fn hasher(&self) -> Hasher {
        Hasher {
            sha256: self.0.contains_key("sha256").then(Sha256::new),
            sha512: self.0.contains_key("sha512").then(Sha512::new),
        }
    }

    /// Whether they are those of what went through a hasher of theirs.
    pub fn match_hasher(&self, hasher: Hasher) -> bool {
        let sha256 = hasher.sha256.map(|hasher| hex::encode(hasher.finalize()));
        let sha512 = hasher.sha512.map(|hasher| hex::encode(hasher.finalize()));
        // Uptane 2.1.0, 5.4.2.4: "it SHALL verify every hash for this image even though the image
        // is identified by a single hash as part of its filename."
        self.is_known()
            && self.0.iter().all(|(kind, expected)| match kind.as_str() {
                "sha256" => sha256.as_ref() == Some(expected),
                _ => sha512.as_ref() == Some(expected),
            })
    }
}

/// Hashes a file with what its metadata lists.
#[derive(Clone)]
pub struct Hasher {
    sha256: Option<Sha256>,
    sha512: Option<Sha512>,
}

impl Hasher {
    /// Takes the next part.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hashes(value: Value) -> Hashes {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_listed_hash_has_to_match() {
        let (sha256, sha512) =
            (hex::encode(Sha256::digest(b"a")), hex::encode(Sha512::digest(b"a")));
        assert!(hashes(json!({ "sha256": sha256 })).match_bytes(b"a"));
        assert!(hashes(json!({ "sha256": sha256, "sha512": sha512 })).match_bytes(b"a"));
        assert!(!hashes(json!({ "sha256": sha256, "sha512": sha256 })).match_bytes(b"a"));
        assert!(
            !hashes(json!({ "sha256": sha256, "md5": "0" })).match_bytes(b"a"),
            "can't be checked"
        );
        assert!(!hashes(json!({})).match_bytes(b"a"), "none is not enough");
    }
}
