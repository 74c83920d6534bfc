//! What the signed files contain, to write them and to read back what was written.
//!
//! Members are declared in the order of their names, which is that of canonical JSON (TUF 1.0.34,
//! 4.2).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

use motorcade_model::{HardwareId, RoleName, Sha256Digest, Timestamp, VehicleId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::SPEC_VERSION;
use crate::key::KeyId;

/// A file: what was signed, and its signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed<T> {
    /// One for each key that has signed.
    pub signatures: Vec<Signature>,
    /// The content.
    pub signed: T,
}

/// A signature over the canonical form of a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Id of the key.
    pub keyid: String,
    /// The signature in hexadecimal.
    pub sig: String,
}

/// A content that can be signed: what all of them say.
pub trait Content: Serialize {
    /// Version of the file.
    fn version(&self) -> NonZeroU64;
    /// When it expires.
    fn expires(&self) -> Timestamp;
}

/// The root role's content: which keys sign which role (TUF 1.0.34, 4.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    #[serde(rename = "_type")]
    kind: RootType,
    /// Whether files have their version in their name; compulsory for Uptane (5.2.7).
    pub consistent_snapshot: bool,
    /// When it expires.
    pub expires: Timestamp,
    /// The key objects of all roles.
    pub keys: BTreeMap<KeyId, Value>,
    /// Who signs for the top-level roles.
    pub roles: BTreeMap<RoleName, RoleKeys>,
    spec_version: Cow<'static, str>,
    /// Version of the file.
    pub version: NonZeroU64,
    /// What somebody else has put in: it stays.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Who signs for a role, and how many have to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Ids of the keys.
    pub keyids: Vec<KeyId>,
    /// How many of them.
    pub threshold: NonZeroU64,
}

/// The content of a targets role, top-level or delegated (TUF 1.0.34, 4.5). Of a large file the
/// entries can stay the text that they are: `E` is then a [`RawValue`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets<E = Target> {
    #[serde(rename = "_type")]
    kind: TargetsType,
    /// For which hardware a role speaks that is delegated to; for any, if it isn't here.
    ///
    /// A member of the file, and none of each delegation: clients that read TUF's members alone
    /// keep what else is in a file, and drop it from a delegation, and then no signature fits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub delegation_hardware_ids: BTreeMap<RoleName, Vec<HardwareId>>,
    /// Which roles speak for which targets besides this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// When it expires.
    pub expires: Timestamp,
    /// In the Director repository: seconds after which the vehicle reports again, though nothing
    /// has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_every: Option<u64>,
    spec_version: Cow<'static, str>,
    /// What it lists, by target path.
    pub targets: BTreeMap<String, E>,
    /// Version of the file.
    pub version: NonZeroU64,
    /// For which vehicle it is, in the Director repository (FV-15).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vin: Option<VehicleId>,
}

/// An entry of a targets role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target<C = Box<RawValue>> {
    /// What is said of it beyond TUF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<C>,
    /// Digests of the file.
    pub hashes: Hashes,
    /// Length of the file in bytes.
    pub length: u64,
}

/// Digests of a file, by algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// SHA-256.
    pub sha256: Sha256Digest,
}

/// Roles to which a targets role delegates, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegations {
    /// The key objects of the roles.
    pub keys: BTreeMap<KeyId, Value>,
    /// The roles.
    pub roles: Vec<Delegation>,
}

/// A delegation to one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Ids of the keys that sign for it.
    pub keyids: Vec<KeyId>,
    /// Its name.
    pub name: RoleName,
    /// It speaks for the targets whose paths' digests begin with one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
    /// It speaks for the targets whose paths match one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Whether nobody after it is asked.
    pub terminating: bool,
    /// How many of its keys have to sign.
    pub threshold: NonZeroU64,
}

/// The content of the snapshot role (TUF 1.0.34, 4.4): every targets file.
pub type Snapshot = MetaFiles<SnapshotType>;

/// The content of the timestamp role (TUF 1.0.34, 4.6): the snapshot.
pub type TimestampRole = MetaFiles<TimestampType>;

/// What a snapshot and a timestamp are: metadata files with their versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFiles<K> {
    #[serde(rename = "_type")]
    kind: K,
    /// When it expires.
    pub expires: Timestamp,
    /// The files.
    pub meta: BTreeMap<MetaName, MetaFile>,
    spec_version: Cow<'static, str>,
    /// Version of the file.
    pub version: NonZeroU64,
    /// For which vehicle it is, in the Director repository (FV-15).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vin: Option<VehicleId>,
}

/// The role whose file a snapshot or a timestamp lists, as `<role>.json`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetaName(pub RoleName);

/// A metadata file as a snapshot or a timestamp lists it: length and digest besides the version, so
/// that no two files of one version can be mixed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFile {
    /// Digests of the file.
    pub hashes: Hashes,
    /// Length of the file in bytes.
    pub length: u64,
    /// Version of the file.
    pub version: u64,
}

impl Root {
    /// A root that names nobody yet.
    pub fn new(version: NonZeroU64, expires: Timestamp) -> Self {
        Self {
            kind: RootType::Root,
            consistent_snapshot: true,
            expires,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            spec_version: SPEC_VERSION.into(),
            version,
            others: BTreeMap::new(),
        }
    }
}

impl<E> Targets<E> {
    /// A targets role that delegates to nobody.
    pub fn new(version: NonZeroU64, expires: Timestamp, targets: BTreeMap<String, E>) -> Self {
        Self {
            kind: TargetsType::Targets,
            delegation_hardware_ids: BTreeMap::new(),
            delegations: None,
            expires,
            report_every: None,
            spec_version: SPEC_VERSION.into(),
            targets,
            version,
            vin: None,
        }
    }
}

impl<K> MetaFiles<K> {
    fn of(
        kind: K,
        version: NonZeroU64,
        expires: Timestamp,
        meta: impl IntoIterator<Item = (RoleName, MetaFile)>,
    ) -> Self {
        Self {
            kind,
            expires,
            meta: meta.into_iter().map(|(role, file)| (MetaName(role), file)).collect(),
            spec_version: SPEC_VERSION.into(),
            version,
            vin: None,
        }
    }
}

impl Snapshot {
    /// A snapshot of some files.
    pub fn new(
        version: NonZeroU64,
        expires: Timestamp,
        meta: impl IntoIterator<Item = (RoleName, MetaFile)>,
    ) -> Self {
        Self::of(SnapshotType::Snapshot, version, expires, meta)
    }
}

impl TimestampRole {
    /// A timestamp for a snapshot.
    pub fn new(version: NonZeroU64, expires: Timestamp, snapshot: MetaFile) -> Self {
        Self::of(TimestampType::Timestamp, version, expires, [(RoleName::Snapshot, snapshot)])
    }

    /// The snapshot that it names.
    pub fn snapshot(&self) -> Option<&MetaFile> {
        self.meta.get(&MetaName(RoleName::Snapshot))
    }
}

macro_rules! content {
    ($type:ty $(, $parameter:ident)?) => {
        impl$(<$parameter: Serialize>)? Content for $type {
            fn version(&self) -> NonZeroU64 {
                self.version
            }

            fn expires(&self) -> Timestamp {
                self.expires
            }
        }
    };
}

content!(Root);
content!(Targets<E>, E);
content!(MetaFiles<K>, K);

/// The member `_type` of a content.
macro_rules! role_type {
    ($visibility:vis $name:ident, $variant:ident) => {
        #[doc = concat!("The `_type` of a ", stringify!($variant), ".")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        $visibility enum $name {
            #[doc = "The only one."]
            $variant,
        }
    };
}

role_type!(RootType, Root);
role_type!(TargetsType, Targets);
role_type!(pub SnapshotType, Snapshot);
role_type!(pub TimestampType, Timestamp);

impl Serialize for MetaName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.file_name())
    }
}

impl<'de> Deserialize<'de> for MetaName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<'de, str>::deserialize(deserializer)?;
        let role = RoleName::from_file_name(&name);
        role.map(Self).ok_or_else(|| serde::de::Error::custom("this is no metadata file's name"))
    }
}
