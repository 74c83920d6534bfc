//! Metadata of the Image repository: hash bins, targets, snapshot, timestamp (TUF 1.0.34, 4.4 to
//! 4.6).
//!
//! The top-level targets role lists nothing and delegates to hash bins by `path_hash_prefixes`, so
//! that an image touches its bin, its envelope's bin, snapshot and timestamp, however many images
//! there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tough::schema::{
    DelegatedRole, Delegations, Hashes, Metafile, PathHashPrefix, PathSet, Snapshot, Targets,
    Timestamp as TimestampRole,
};

use super::Error;
use super::canonical::canonical;
use super::keyring::{Keyring, RoleKey};
use super::policy::{Policy, RolePolicy};
use super::root::role_keys;
use super::signing::{self, SPEC_VERSION, SignedFile, build_error};
use crate::model::{RepositorySide, RoleKind, RoleName, Sha256Digest, TargetEntry, Timestamp};

/// Signs the Image repository's metadata.
#[derive(Debug)]
pub struct ImageRepository {
    keyring: Arc<Keyring>,
    policy: Policy,
}

/// What a snapshot or a timestamp says of another metadata file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataFile {
    /// The role.
    pub role: RoleName,
    /// Version of the file.
    pub version: u64,
    /// Length of the file in bytes.
    pub length: u64,
    /// Digest of the file.
    pub sha256: Sha256Digest,
}

impl ImageRepository {
    /// Starts from the role keys and the policy.
    pub fn new(keyring: Arc<Keyring>, policy: Policy) -> Self {
        Self { keyring, policy }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The role keys.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Names of all bins, in order.
    pub fn bins(&self) -> Vec<RoleName> {
        self.prefixes().map(|prefix| bin(&prefix)).collect()
    }

    /// What the digests of a bin's paths begin with, of each bin.
    fn prefixes(&self) -> impl Iterator<Item = String> {
        let digits = usize::from(self.policy.bins.prefix_digits);
        (0..1_u32 << (4 * digits)).map(move |number| format!("{number:0digits$x}"))
    }

    /// Name of the bin that lists a target: the bin whose prefix starts the path's digest.
    pub fn bin_of(&self, target: &str) -> RoleName {
        let digest = hex::encode(Sha256::digest(target.as_bytes()));
        bin(&digest[..usize::from(self.policy.bins.prefix_digits)])
    }

    /// The policy of a role of this repository, bins included.
    pub fn role_policy(&self, role: &RoleName) -> RolePolicy {
        self.policy.role(RepositorySide::Image, role.kind())
    }

    fn keys(&self, kind: RoleKind) -> &[RoleKey] {
        self.keyring.keys(RepositorySide::Image, kind)
    }

    /// Signs a bin.
    ///
    /// # Errors
    ///
    /// [`Error::Build`] if an entry is no target, [`Error::Sign`].
    pub async fn sign_bin(
        &self,
        bin: &RoleName,
        version: u64,
        entries: Vec<TargetEntry>,
        now: Timestamp,
    ) -> Result<SignedFile, Error> {
        let expires_at = signing::expiry(now, self.policy.bins.role());
        let content = Bin {
            kind: "targets",
            expires: expires_at.to_string(),
            spec_version: SPEC_VERSION,
            targets: entries
                .iter()
                .map(bin_target)
                .collect::<Result<_, _>>()
                .map_err(|e| build_error(bin, e))?,
            version: signing::version(bin, version)?.get(),
        };
        let message = serde_json::to_vec(&content).map_err(|e| build_error(bin, e))?;
        signing::sign_canonical(bin, version, expires_at, &message, self.keys(RoleKind::Bins)).await
    }

    /// Signs the top-level targets role, which delegates to the bins.
    ///
    /// # Errors
    ///
    /// [`Error::Build`] or [`Error::Sign`].
    pub async fn sign_targets(&self, version: u64, now: Timestamp) -> Result<SignedFile, Error> {
        let keys = self.keys(RoleKind::Bins);
        let shared = role_keys(keys, self.policy.bins.threshold)?;
        let delegate = |prefix: String| {
            let name = bin(&prefix).to_string();
            let prefix =
                PathHashPrefix::new(prefix).map_err(|e| build_error(&RoleName::Targets, e))?;
            Ok(DelegatedRole {
                name,
                keyids: shared.keyids.clone(),
                threshold: shared.threshold,
                paths: PathSet::PathHashPrefixes(vec![prefix]),
                terminating: true, // no other bin may list what belongs here
                targets: None,
            })
        };
        let mut targets = self.empty_targets(&RoleName::Targets, version, now)?;
        targets.delegations = Some(Delegations {
            keys: keys.iter().map(|key| (key.id().clone(), key.public().clone())).collect(),
            roles: self.prefixes().map(delegate).collect::<Result<_, Error>>()?,
        });
        signing::sign(&RoleName::Targets, targets, self.keys(RoleKind::Targets)).await
    }

    /// Signs a snapshot of `files`: the targets role and all bins.
    ///
    /// # Errors
    ///
    /// [`Error::Build`] or [`Error::Sign`].
    pub async fn sign_snapshot(
        &self,
        version: u64,
        files: &[MetadataFile],
        now: Timestamp,
    ) -> Result<SignedFile, Error> {
        let expires = signing::expiry(now, self.policy.snapshot);
        let mut snapshot = Snapshot::new(
            SPEC_VERSION.to_owned(),
            signing::version(&RoleName::Snapshot, version)?,
            expires,
        );
        for file in files {
            snapshot.meta.insert(file.role.file_name(), metafile(file)?);
        }
        signing::sign(&RoleName::Snapshot, snapshot, self.keys(RoleKind::Snapshot)).await
    }

    /// Signs a timestamp for a snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::Build`] or [`Error::Sign`].
    pub async fn sign_timestamp(
        &self,
        version: u64,
        snapshot: &MetadataFile,
        now: Timestamp,
    ) -> Result<SignedFile, Error> {
        let expires = signing::expiry(now, self.policy.timestamp);
        let mut timestamp = TimestampRole::new(
            SPEC_VERSION.to_owned(),
            signing::version(&RoleName::Timestamp, version)?,
            expires,
        );
        timestamp.meta.insert(RoleName::Snapshot.file_name(), metafile(snapshot)?);
        signing::sign(&RoleName::Timestamp, timestamp, self.keys(RoleKind::Timestamp)).await
    }

    /// The version of a stored file of `role`, if one of our own keys has signed it.
    pub fn version_if_ours(&self, role: &RoleName, file: &[u8]) -> Option<u64> {
        let file: SignedJson = serde_json::from_slice(file).ok()?;
        let message = canonical(&file.signed).ok()?;
        let signed_by = |key: &RoleKey| {
            let verifies = |signature: &JsonSignature| {
                hex::decode(&signature.sig)
                    .is_ok_and(|signature| key.verifies(&message, &signature))
            };
            file.signatures.iter().any(verifies)
        };
        if !self.keys(role.kind()).iter().any(signed_by) {
            return None;
        }
        file.signed["version"].as_u64()
    }

    fn empty_targets(
        &self,
        role: &RoleName,
        version: u64,
        now: Timestamp,
    ) -> Result<Targets, Error> {
        let expires = signing::expiry(now, self.role_policy(role));
        Ok(Targets::new(SPEC_VERSION.to_owned(), signing::version(role, version)?, expires))
    }
}

fn bin(prefix: &str) -> RoleName {
    format!("bin-{prefix}").parse().expect("it has a name")
}

impl From<&SignedFile> for MetadataFile {
    fn from(file: &SignedFile) -> Self {
        Self {
            role: file.role.clone(),
            version: file.version,
            length: file.bytes.len() as u64,
            sha256: file.sha256,
        }
    }
}

#[derive(Deserialize)]
struct SignedJson {
    signatures: Vec<JsonSignature>,
    signed: serde_json::Value,
}

#[derive(Deserialize)]
struct JsonSignature {
    sig: String,
}

/// A bin as it is signed, written without tough: a bin of 800 targets is signed for each image, and
/// tough's canonical form takes 36 microseconds a target. Members are in canonical order, and names
/// and `custom` are printable ASCII, so what serde_json writes is the canonical form; a test
/// compares the two.
#[derive(Serialize)]
struct Bin<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    expires: String,
    spec_version: &'static str,
    targets: BTreeMap<&'a str, BinTarget>,
    version: u64,
}

#[derive(Serialize)]
struct BinTarget {
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Box<RawValue>>,
    hashes: BinHashes,
    length: u64,
}

#[derive(Serialize)]
struct BinHashes {
    sha256: Sha256Digest,
}

fn bin_target(entry: &TargetEntry) -> Result<(&str, BinTarget), serde_json::Error> {
    let custom = entry.custom.clone().map(RawValue::from_string).transpose()?;
    let hashes = BinHashes { sha256: entry.sha256 };
    Ok((entry.path.as_str(), BinTarget { custom, hashes, length: entry.length }))
}

/// Length and hashes besides the version, so that no two files of one version can be mixed up (TUF
/// 1.0.34, 4.4).
fn metafile(file: &MetadataFile) -> Result<Metafile, Error> {
    Ok(Metafile {
        length: Some(file.length),
        hashes: Some(hashes(file.sha256)),
        version: signing::version(&file.role, file.version)?,
        _extra: HashMap::new(),
    })
}

fn hashes(sha256: Sha256Digest) -> Hashes {
    Hashes { sha256: sha256.as_bytes().to_vec().into(), _extra: HashMap::new() }
}

#[cfg(test)]
mod tests {
    use tough::schema::{Role, Signed};

    use super::*;

    fn repository() -> (tempfile::TempDir, ImageRepository) {
        let dir = tempfile::tempdir().unwrap();
        Keyring::create(dir.path(), &Policy::default()).unwrap();
        let keyring = Arc::new(Keyring::load(dir.path(), &Policy::default()).unwrap());
        (dir, ImageRepository::new(keyring, Policy::default()))
    }

    fn entries(count: usize) -> Vec<TargetEntry> {
        let custom = concat!(
            r#"{"hardwareIds":["gw-mk3"],"name":"gateway","releaseCounter":42,"sealed":{"alg":"AES256_GCM_HKDF_1MB","#,
            r#""plaintext":{"hashes":{"sha256":"0000000000000000000000000000000000000000000000000000000000000000"},"#,
            r#""length":1073741824}},"targetFormat":"BINARY","version":"4.2.0"}"#
        );
        let entry = |number| TargetEntry {
            path: format!("gateway/mk3/4.2.{number}/gateway-firmware.bin"),
            length: 1 << 30,
            sha256: Sha256Digest::from_bytes([0; 32]),
            custom: Some(custom.into()),
        };
        (0..count).map(entry).collect()
    }

    #[tokio::test]
    async fn a_bin_lists_its_targets_with_what_is_custom() {
        let (_dir, repository) = repository();
        let file =
            repository.sign_bin(&bin("3f"), 7, entries(3), Timestamp::UNIX_EPOCH).await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&file.bytes).unwrap();
        assert_eq!(json["signed"]["version"], 7);
        assert_eq!(json["signed"]["expires"], "1970-04-01T00:00:00Z");
        let parsed: Signed<Targets> = serde_json::from_slice(&file.bytes).unwrap();
        let signed = br#""signed":"#;
        let start = file.bytes.windows(signed.len()).position(|part| part == signed).unwrap()
            + signed.len();
        assert_eq!(
            parsed.signed.canonical_form().unwrap(),
            file.bytes[start..file.bytes.len() - 1]
        );
        let target = &json["signed"]["targets"]["gateway/mk3/4.2.1/gateway-firmware.bin"];
        assert_eq!(target["custom"]["releaseCounter"], 42);
    }

    #[tokio::test]
    async fn signed_files_are_canonical_json() {
        let (_dir, repository) = repository();
        let file = repository.sign_targets(1, Timestamp::UNIX_EPOCH).await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&file.bytes).unwrap();
        assert_eq!(serde_json::to_vec(&json).unwrap(), file.bytes, "sorted members, no spaces");
    }

    /// The limits of issue 2 at 100,000 images: two targets each, spread over 256 bins.
    #[tokio::test]
    async fn no_file_grows_large_at_100_000_images() {
        let (_dir, repository) = repository();
        let now = Timestamp::UNIX_EPOCH;
        let full_bin = repository
            .sign_bin(&bin("00"), u64::from(u32::MAX), entries(100_000 / 256 * 3 / 2), now)
            .await
            .unwrap();
        assert!(full_bin.bytes.len() < 512 * 1024, "{}", full_bin.bytes.len());
        let file = |role| MetadataFile {
            role,
            version: u64::from(u32::MAX),
            length: 500_000,
            sha256: full_bin.sha256,
        };
        let files: Vec<_> =
            repository.bins().into_iter().chain([RoleName::Targets]).map(file).collect();
        let snapshot = repository.sign_snapshot(u64::from(u32::MAX), &files, now).await.unwrap();
        assert!(snapshot.bytes.len() < 64 * 1024, "{}", snapshot.bytes.len());
    }

    #[test]
    fn a_bin_is_chosen_by_the_digest_of_the_path() {
        let (_dir, repository) = repository();
        assert_eq!(repository.bins().len(), 256);
        assert_eq!(
            repository.bin_of("file1.txt"),
            bin(&hex::encode(Sha256::digest("file1.txt"))[..2])
        );
    }

    #[tokio::test]
    async fn version_zero_is_refused() {
        let (_dir, repository) = repository();
        let error = repository.sign_targets(0, Timestamp::UNIX_EPOCH).await.unwrap_err();
        assert!(matches!(error, Error::Build { .. }), "{error}");
    }
}
