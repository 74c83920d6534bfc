//! Signs the Image repository: hash bins, targets, snapshot, timestamp (TUF 1.0.34, 4.4 to 4.6).

use std::num::NonZeroU64;
use std::sync::Arc;

use motorcade_uptane::canonical::canonical;
use motorcade_uptane::metadata::image::{self, Bins, DelegatedKeys, Entries, SupplierDelegation};
use motorcade_uptane::metadata::{
    self, Authority, MetaFile, Signature, Signed, SignedFile, Unsigned, version,
};

use crate::keys::policy::{Policy, RolePolicy};
use crate::keys::{Error, Keyring, SharedKeyring};
use crate::model::{RepositorySide, RoleKind, RoleName, Timestamp};

/// Signs the Image repository's metadata.
#[derive(Debug)]
pub struct ImageRepository {
    keyring: SharedKeyring,
    policy: Policy,
}

impl ImageRepository {
    /// Starts from the role keys and the policy.
    pub fn new(keyring: impl Into<SharedKeyring>, policy: Policy) -> Self {
        Self { keyring: keyring.into(), policy }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The role keys as they are now.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.keyring.current()
    }

    /// How targets are spread over bins.
    pub fn bins(&self) -> Bins {
        Bins::new(self.policy.bins.prefix_digits)
    }

    /// The policy of a role of this repository, bins included.
    pub fn role_policy(&self, role: &RoleName) -> RolePolicy {
        self.policy.role(RepositorySide::Image, role.kind())
    }

    /// Signs a bin, or the role of a supplier.
    ///
    /// # Errors
    ///
    /// [`Error::Metadata`] if the keys are not those of `authority`, [`Error::Sign`].
    pub async fn sign_bin(
        &self,
        bin: &RoleName,
        number: u64,
        entries: Entries,
        now: Timestamp,
        authority: &Authority,
    ) -> Result<SignedFile, Error> {
        let (version, expires) = self.next(bin, number, now)?;
        self.sign(entries.into_bin(bin.clone(), version, expires)?, authority).await
    }

    /// Whom the bins are given to at first: the keys that were made or declared for them.
    pub fn first_bin_keys(&self) -> DelegatedKeys {
        let keyring = self.keyring.current();
        let keys = keyring.public(RepositorySide::Image, RoleKind::Bins);
        let threshold = NonZeroU64::new(self.policy.bins.threshold.into());
        DelegatedKeys {
            keys: keys.into_iter().cloned().collect(),
            threshold: threshold.unwrap_or(NonZeroU64::MIN),
        }
    }

    /// Signs the top-level targets role, which delegates to suppliers and, after them, to the bins.
    ///
    /// # Errors
    ///
    /// As [`Self::sign_bin`].
    pub async fn sign_targets(
        &self,
        number: u64,
        suppliers: &[SupplierDelegation],
        bin_keys: &DelegatedKeys,
        now: Timestamp,
        authority: &Authority,
    ) -> Result<SignedFile, Error> {
        let (version, expires) = self.next(&RoleName::Targets, number, now)?;
        let unsigned = image::targets(version, expires, suppliers, self.bins(), bin_keys)?;
        self.sign(unsigned, authority).await
    }

    /// Signs a snapshot of `files`: the targets role and all bins.
    ///
    /// # Errors
    ///
    /// As [`Self::sign_bin`].
    pub async fn sign_snapshot(
        &self,
        number: u64,
        files: impl IntoIterator<Item = (RoleName, MetaFile)>,
        now: Timestamp,
        authority: &Authority,
    ) -> Result<SignedFile, Error> {
        let (version, expires) = self.next(&RoleName::Snapshot, number, now)?;
        self.sign(image::snapshot(version, expires, files)?, authority).await
    }

    /// Signs a timestamp for a snapshot.
    ///
    /// # Errors
    ///
    /// As [`Self::sign_bin`].
    pub async fn sign_timestamp(
        &self,
        number: u64,
        snapshot: MetaFile,
        now: Timestamp,
        authority: &Authority,
    ) -> Result<SignedFile, Error> {
        let (version, expires) = self.next(&RoleName::Timestamp, number, now)?;
        self.sign(image::timestamp(version, expires, snapshot)?, authority).await
    }

    /// The version of a stored file of `role`, if one of our own keys has signed it.
    pub fn version_if_ours(&self, role: &RoleName, file: &[u8]) -> Option<u64> {
        let file: Signed<serde_json::Value> = serde_json::from_slice(file).ok()?;
        let message = canonical(&file.signed).ok()?;
        let keyring = self.keyring.current();
        let keys = keyring.public(RepositorySide::Image, role.kind());
        let is_ours = |signature: &Signature| {
            let signature = hex::decode(&signature.sig);
            signature
                .is_ok_and(|signature| keys.iter().any(|key| key.verifies(&message, &signature)))
        };
        file.signatures.iter().any(is_ours).then(|| file.signed["version"].as_u64())?
    }

    async fn sign(&self, unsigned: Unsigned, authority: &Authority) -> Result<SignedFile, Error> {
        self.keyring.current().sign(RepositorySide::Image, unsigned, authority).await
    }

    /// Version and expiry of a role's next file.
    fn next(
        &self,
        role: &RoleName,
        number: u64,
        now: Timestamp,
    ) -> Result<(NonZeroU64, Timestamp), metadata::Error> {
        Ok((version(role, number)?, self.role_policy(role).expiry(now)))
    }
}

#[cfg(test)]
mod tests {
    use tough::schema::{Role, Signed, Targets};

    use super::*;
    use crate::keys::file;
    use crate::model::{Sha256Digest, TargetEntry};

    fn repository() -> ImageRepository {
        let dir = tempfile::tempdir().unwrap();
        file::create(dir.path(), &Policy::default()).unwrap();
        let keyring = Arc::new(file::load(dir.path(), &Policy::default()).unwrap());
        ImageRepository::new(keyring, Policy::default())
    }

    /// What a root that names the repository's own keys would say.
    fn authority(repository: &ImageRepository, kind: RoleKind) -> Authority {
        let keyring = repository.keyring();
        let keys = keyring.public(RepositorySide::Image, kind);
        Authority { key_ids: keys.iter().map(|key| key.id()).collect(), threshold: 1 }
    }

    fn entries(count: usize) -> Entries {
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
        let mut entries = Entries::default();
        (0..count).for_each(|number| entries.put(&entry(number)).unwrap());
        entries
    }

    #[tokio::test]
    async fn a_bin_is_canonical_for_another_implementation() {
        let repository = repository();
        let (bin, bins) = ("bin-3f".parse().unwrap(), authority(&repository, RoleKind::Bins));
        let signed = repository.sign_bin(&bin, 7, entries(3), Timestamp::UNIX_EPOCH, &bins).await;
        let file = signed.unwrap();
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
        assert_eq!(repository.version_if_ours(&bin, &file.bytes), Some(7));
        assert_eq!(repository.version_if_ours(&RoleName::Snapshot, &file.bytes), None);
    }

    #[tokio::test]
    async fn signed_files_are_canonical_json() {
        let repository = repository();
        let targets = authority(&repository, RoleKind::Targets);
        let signed = repository
            .sign_targets(1, &[], &repository.first_bin_keys(), Timestamp::UNIX_EPOCH, &targets)
            .await;
        let file = signed.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&file.bytes).unwrap();
        assert_eq!(serde_json::to_vec(&json).unwrap(), file.bytes, "sorted members, no spaces");
        let theirs: Signed<Targets> = serde_json::from_slice(&file.bytes).unwrap();
        assert_eq!(theirs.signed.delegations.unwrap().roles.len(), 256);
    }

    #[tokio::test]
    async fn version_zero_is_refused() {
        let repository = repository();
        let targets = authority(&repository, RoleKind::Targets);
        let signed = repository
            .sign_targets(0, &[], &repository.first_bin_keys(), Timestamp::UNIX_EPOCH, &targets)
            .await;
        let error = signed.unwrap_err();
        assert!(matches!(error, Error::Metadata(metadata::Error::Build { .. })), "{error}");
    }

    #[tokio::test]
    async fn keys_that_the_root_does_not_name_sign_nothing() {
        let (repository, other) = (repository(), repository());
        let named = authority(&other, RoleKind::Targets);
        let signed = repository
            .sign_targets(1, &[], &repository.first_bin_keys(), Timestamp::UNIX_EPOCH, &named)
            .await;
        let error = signed.unwrap_err();
        assert!(matches!(error, Error::Metadata(metadata::Error::ForeignKey { .. })), "{error}");
    }
}
