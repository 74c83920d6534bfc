//! The Image repository: hash bins, targets, snapshot, timestamp (TUF 1.0.34, 4.4 to 4.6).
//!
//! The top-level targets role lists nothing. It delegates to suppliers by folder, and after them to
//! hash bins by `path_hash_prefixes`, so that an image touches its bin, its envelope's bin, snapshot
//! and timestamp, however many images there are.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use motorcade_model::{Folder, HardwareId, RoleName, TargetEntry, Timestamp};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{
    Delegation, Delegations, Error, Hashes, MetaFile, Signed, Snapshot, Target, Targets,
    TimestampRole, Unsigned,
};
use crate::key::{KeyId, PublicKey};

/// How targets are spread over hash bins: by the first digits of their paths' digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bins {
    prefix_digits: usize,
}

/// Who signs for a role that targets delegate to: all bins together, or a supplier's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegatedKeys {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// How many of them have to sign.
    pub threshold: NonZeroU64,
}

/// What a bin lists, each entry as the text that is signed.
#[derive(Debug, Clone, Default)]
pub struct Entries(BTreeMap<String, Box<RawValue>>);

impl DelegatedKeys {
    /// Whom targets that are published name for a role, if they do. The file **must** have been
    /// verified.
    pub fn of_file(targets: &[u8], role: &RoleName) -> Option<Self> {
        let file: Signed<Targets<serde::de::IgnoredAny>> = serde_json::from_slice(targets).ok()?;
        let delegations = file.signed.delegations?;
        let delegation = delegations.roles.iter().find(|delegation| delegation.name == *role)?;
        let key = |id| PublicKey::from_object(delegations.keys.get(id)?.clone()).ok();
        let keys = delegation.keyids.iter().map(key).collect::<Option<Vec<_>>>()?;
        Some(Self { keys, threshold: delegation.threshold })
    }

    /// Their ids.
    pub fn ids(&self) -> BTreeSet<KeyId> {
        self.keys.iter().map(PublicKey::id).collect()
    }
}

impl Bins {
    /// By so many hexadecimal digits.
    pub fn new(prefix_digits: u8) -> Self {
        Self { prefix_digits: prefix_digits.into() }
    }

    /// Names of all bins, in order.
    pub fn names(self) -> impl Iterator<Item = RoleName> {
        self.prefixes().map(|prefix| bin(&prefix))
    }

    /// The bin that lists a target.
    pub fn of(self, target: &str) -> RoleName {
        let digest = hex::encode(Sha256::digest(target.as_bytes()));
        bin(&digest[..self.prefix_digits])
    }

    fn prefixes(self) -> impl Iterator<Item = String> {
        let digits = self.prefix_digits;
        (0..1_u32 << (4 * digits)).map(move |number| format!("{number:0digits$x}"))
    }
}

/// A delegation to a supplier (Uptane 2.1.0, 5.2.3.2).
#[derive(Debug, Clone)]
pub struct SupplierDelegation {
    /// The supplier's role.
    pub role: RoleName,
    /// The folder whose images it speaks for.
    pub folder: Folder,
    /// The hardware that it speaks for; any, if none is named.
    pub hardware_ids: Vec<HardwareId>,
    /// Its keys.
    pub keys: Vec<PublicKey>,
    /// How many of them have to sign.
    pub threshold: NonZeroU64,
    /// Whether nobody else is asked for what lies in the folder.
    pub terminating: bool,
}

impl SupplierDelegation {
    fn delegation(&self) -> Delegation {
        Delegation {
            keyids: self.keys.iter().map(PublicKey::id).collect(),
            name: self.role.clone(),
            path_hash_prefixes: None,
            paths: Some(self.folder.patterns()),
            terminating: self.terminating,
            threshold: self.threshold,
        }
    }
}

fn bin(prefix: &str) -> RoleName {
    format!("bin-{prefix}").parse().expect("it has a name")
}

impl Entries {
    /// Adds an entry, or takes its place.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if its `custom` is no JSON.
    pub fn put(&mut self, entry: &TargetEntry) -> Result<(), serde_json::Error> {
        let custom = entry.custom.clone().map(RawValue::from_string).transpose()?;
        let hashes = Hashes { sha256: entry.sha256 };
        let target = Target { custom, hashes, length: entry.length };
        self.0.insert(entry.path.clone(), serde_json::value::to_raw_value(&target)?);
        Ok(())
    }

    /// Removes an entry.
    pub fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// What a file of ours lists. Its digest **must** have been compared.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if it is no such file.
    pub fn of_file(file: &[u8]) -> Result<Self, serde_json::Error> {
        let file: Signed<Targets<Box<RawValue>>> = serde_json::from_slice(file)?;
        Ok(Self(file.signed.targets))
    }

    /// A bin, or another role that is delegated to, which lists these.
    ///
    /// # Errors
    ///
    /// [`Error::Build`].
    pub fn into_bin(
        self,
        bin: RoleName,
        version: NonZeroU64,
        expires: Timestamp,
    ) -> Result<Unsigned, Error> {
        Unsigned::as_written(bin, &Targets::new(version, expires, self.0))
    }
}

/// The top-level targets, which delegate to suppliers first, and to the bins for all else: all bins
/// have the same keys.
///
/// # Errors
///
/// [`Error::Build`].
pub fn targets(
    version: NonZeroU64,
    expires: Timestamp,
    suppliers: &[SupplierDelegation],
    bins: Bins,
    keys: &DelegatedKeys,
) -> Result<Unsigned, Error> {
    let DelegatedKeys { keys, threshold } = keys;
    let delegate = |prefix: String| Delegation {
        keyids: keys.iter().map(|key| key.id()).collect(),
        name: bin(&prefix),
        path_hash_prefixes: Some(vec![prefix]),
        paths: None,
        terminating: true, // no other bin may list what belongs here
        threshold: *threshold,
    };
    let of_suppliers = suppliers.iter().flat_map(|supplier| &supplier.keys);
    let all_keys = of_suppliers.chain(keys);
    let mut targets = Targets::<Target>::new(version, expires, BTreeMap::new());
    targets.delegation_hardware_ids = suppliers
        .iter()
        .filter(|supplier| !supplier.hardware_ids.is_empty())
        .map(|supplier| (supplier.role.clone(), supplier.hardware_ids.clone()))
        .collect();
    targets.delegations = Some(Delegations {
        keys: all_keys.map(|key| (key.id(), key.object().clone())).collect(),
        roles: suppliers
            .iter()
            .map(SupplierDelegation::delegation)
            .chain(bins.prefixes().map(delegate))
            .collect(),
    });
    Unsigned::new(RoleName::Targets, &targets)
}

/// A snapshot of the targets role and all that it delegates to.
///
/// # Errors
///
/// [`Error::Build`].
pub fn snapshot(
    version: NonZeroU64,
    expires: Timestamp,
    files: impl IntoIterator<Item = (RoleName, MetaFile)>,
) -> Result<Unsigned, Error> {
    Unsigned::new(RoleName::Snapshot, &Snapshot::new(version, expires, files))
}

/// A timestamp for a snapshot.
///
/// # Errors
///
/// [`Error::Build`].
pub fn timestamp(
    version: NonZeroU64,
    expires: Timestamp,
    snapshot: MetaFile,
) -> Result<Unsigned, Error> {
    Unsigned::new(RoleName::Timestamp, &TimestampRole::new(version, expires, snapshot))
}

#[cfg(test)]
mod tests {
    use motorcade_model::Sha256Digest;

    use super::super::Authority;
    use super::*;
    use crate::key::SigningKey;

    const VERSION: NonZeroU64 = NonZeroU64::MAX;

    fn entry(number: usize) -> TargetEntry {
        let custom = concat!(
            r#"{"hardwareIds":["gw-mk3"],"name":"gateway","releaseCounter":42,"sealed":{"alg":"AES256_GCM_HKDF_1MB","#,
            r#""plaintext":{"hashes":{"sha256":"0000000000000000000000000000000000000000000000000000000000000000"},"#,
            r#""length":1073741824}},"targetFormat":"BINARY","version":"4.2.0"}"#
        );
        TargetEntry {
            path: format!("gateway/mk3/4.2.{number}/gateway-firmware.bin"),
            length: 1 << 30,
            sha256: Sha256Digest::from_bytes([0; 32]),
            custom: Some(custom.into()).filter(|_| number.is_multiple_of(2)),
        }
    }

    fn entries(numbers: impl IntoIterator<Item = usize>) -> Entries {
        let mut entries = Entries::default();
        numbers.into_iter().for_each(|number| entries.put(&entry(number)).unwrap());
        entries
    }

    fn file(entries: Entries) -> Vec<u8> {
        let bin = entries.into_bin(bin("3f"), VERSION, Timestamp::UNIX_EPOCH).unwrap();
        let key = SigningKey::ed25519_from_seed(&[7; 32]);
        let authority = Authority { key_ids: [key.public().id()].into(), threshold: 1 };
        let bin = bin.authorize(&authority, [key.public().id()]).unwrap();
        let signature = key.sign(bin.message());
        bin.into_file([(key.public().id(), signature)]).unwrap().bytes.to_vec()
    }

    #[test]
    fn what_is_written_of_a_bin_is_canonical() {
        let value: serde_json::Value = serde_json::from_slice(&file(entries(0..3))).unwrap();
        assert!(crate::canonical::canonical(&value).unwrap() == file(entries(0..3)));
        let target = &value["signed"]["targets"]["gateway/mk3/4.2.2/gateway-firmware.bin"];
        assert_eq!(target["custom"]["releaseCounter"], 42);
    }

    #[test]
    fn a_bin_that_is_taken_up_and_changed_is_the_one_that_is_made_anew() {
        let mut taken_up = Entries::of_file(&file(entries(0..20))).unwrap();
        taken_up.remove(&entry(4).path);
        taken_up.remove("never there");
        taken_up.put(&entry(20)).unwrap();
        taken_up.put(&entry(7)).unwrap();
        let anew = file(entries((0..21).filter(|number| *number != 4)));
        assert!(file(taken_up) == anew);
    }

    #[test]
    fn who_signs_for_bins_is_read_back_from_the_targets() {
        let keys = [[7; 32], [8; 32]].map(|seed| SigningKey::ed25519_from_seed(&seed));
        let public: Vec<PublicKey> = keys.iter().map(|key| key.public().clone()).collect();
        let bins = DelegatedKeys { keys: public, threshold: NonZeroU64::new(2).unwrap() };
        let unsigned = targets(VERSION, Timestamp::UNIX_EPOCH, &[], Bins::new(1), &bins).unwrap();
        let authority = Authority { key_ids: bins.ids(), threshold: 1 };
        let unsigned = unsigned.authorize(&authority, bins.ids()).unwrap();
        let file = unsigned.into_file([]).unwrap().bytes;
        assert_eq!(DelegatedKeys::of_file(&file, &bin("a")), Some(bins));
        assert_eq!(DelegatedKeys::of_file(&file, &bin("aa")), None);
    }

    #[test]
    fn a_bin_is_chosen_by_the_digest_of_the_path() {
        let bins = Bins::new(2);
        assert_eq!(bins.names().count(), 256);
        assert_eq!(bins.of("file1.txt"), bin(&hex::encode(Sha256::digest("file1.txt"))[..2]));
        assert_eq!(Bins::new(1).names().last(), Some(bin("f")));
    }

    /// Two targets each, spread over 256 bins, some of which are half as full again.
    #[test]
    fn no_file_grows_large_at_100_000_images() {
        let full_bin = file(entries(0..100_000 / 256 * 3 / 2));
        assert!(full_bin.len() < 512 * 1024, "{}", full_bin.len());
        let described = MetaFile {
            hashes: Hashes { sha256: Sha256Digest::from_bytes([0; 32]) },
            length: 500_000,
            version: u32::MAX.into(),
        };
        let files = Bins::new(2).names().chain([RoleName::Targets]).map(|role| (role, described));
        let snapshot = Snapshot::new(VERSION, Timestamp::UNIX_EPOCH, files);
        let length = serde_json::to_vec(&snapshot).unwrap().len();
        assert!(length < 64 * 1024, "{length}");
    }
}
