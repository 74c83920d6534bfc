//! Signs the Director repository: targets, snapshot and timestamp for one vehicle (Uptane 2.1.0,
//! 5.3.2).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use motorcade_uptane::metadata::director::ForVehicle;
use motorcade_uptane::metadata::{Authority, SignedFile, version};

pub use motorcade_uptane::metadata::director::DirectedImage;

use crate::keys::policy::Policy;
use crate::keys::{Error, Keyring, SharedKeyring};
use crate::model::{RepositorySide, RoleKind, RoleName, Timestamp, VehicleId};

/// Signs the Director repository's metadata.
#[derive(Debug, Clone)]
pub struct DirectorRepository {
    keyring: SharedKeyring,
    policy: Policy,
    report_every: Duration,
}

/// The three files that are signed for one vehicle.
#[derive(Debug, Clone)]
pub struct SignedBundle {
    /// `targets.json`
    pub targets: SignedFile,
    /// `snapshot.json`
    pub snapshot: SignedFile,
    /// `timestamp.json`
    pub timestamp: SignedFile,
}

/// Who may sign for vehicles, as the published root says.
#[derive(Debug, Clone)]
pub struct BundleAuthority {
    /// `targets.json`
    pub targets: Authority,
    /// `snapshot.json`
    pub snapshot: Authority,
    /// `timestamp.json`
    pub timestamp: Authority,
}

impl DirectorRepository {
    /// Starts from the role keys and the policy.
    pub fn new(keyring: impl Into<SharedKeyring>, policy: Policy) -> Self {
        Self { keyring: keyring.into(), policy, report_every: REPORT_EVERY }
    }

    /// From now on asks vehicles for a report so often at least, in whole seconds.
    pub fn asking_for_reports_every(self, report_every: Duration) -> Self {
        Self { report_every, ..self }
    }

    /// The role keys as they are now.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.keyring.current()
    }

    /// What the role keys can be exchanged by.
    pub fn shared_keyring(&self) -> &SharedKeyring {
        &self.keyring
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Signs a vehicle's metadata. `version` **must** be a number of the Director's sequence that
    /// nothing else has.
    ///
    /// # Errors
    ///
    /// [`Error::Metadata`] if an ECU is listed twice, or the keys are not those of `authority`;
    /// [`Error::Sign`].
    pub async fn sign(
        &self,
        vin: &VehicleId,
        number: u64,
        images: &BTreeMap<String, DirectedImage>,
        now: Timestamp,
        authority: &BundleAuthority,
    ) -> Result<SignedBundle, Error> {
        let expires = self.policy.role(RepositorySide::Director, RoleKind::Targets).expiry(now);
        let vehicle = ForVehicle { vin, version: version(&RoleName::Targets, number)?, expires };
        let (side, keyring) = (RepositorySide::Director, self.keyring.current());
        let targets = vehicle.targets(images, self.report_every)?;
        let targets = keyring.sign(side, targets, &authority.targets).await?;
        let snapshot = vehicle.snapshot(targets.described())?;
        let snapshot = keyring.sign(side, snapshot, &authority.snapshot).await?;
        let timestamp = vehicle.timestamp(snapshot.described())?;
        let timestamp = keyring.sign(side, timestamp, &authority.timestamp).await?;
        Ok(SignedBundle { targets, snapshot, timestamp })
    }
}

/// How often a vehicle reports at least, where nothing is said: often enough to see within a day
/// which vehicles are silent, and seldom enough that a parked fleet costs little.
pub const REPORT_EVERY: Duration = Duration::from_secs(6 * 60 * 60); // 6 h

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tough::schema::{Root, Signed, Snapshot, Targets, Timestamp as TimestampRole};

    use super::*;
    use crate::keys::file;
    use crate::model::Sha256Digest;
    use crate::uptane::custom::EcuCustom;
    use crate::uptane::{metadata, root};

    fn directed(path: &str, serial: &str) -> (String, DirectedImage) {
        let custom = json!({
            "name": "gateway", "version": "1", "hardwareIds": ["gw-mk3"], "releaseCounter": 1, "targetFormat": "BINARY",
            "sealed": { "alg": "AES256_GCM_HKDF_1MB", "plaintext": { "length": 1, "hashes": { "sha256": "ab".repeat(32) } } },
        });
        let ecu = EcuCustom {
            hardware_id: "gw-mk3".parse().unwrap(),
            envelope: Some(json!({ "tag": "x" })),
        };
        let image = DirectedImage {
            length: 7,
            sha256: Sha256Digest::from_bytes([1; 32]),
            custom: serde_json::from_value(custom).unwrap(),
            ecus: [(serial.parse().unwrap(), ecu)].into(),
        };
        (path.to_owned(), image)
    }

    async fn repository() -> (DirectorRepository, BundleAuthority, Signed<Root>) {
        let dir = tempfile::tempdir().unwrap();
        let policy = Policy::default();
        file::create(dir.path(), &policy).unwrap();
        let keyring = Arc::new(file::load(dir.path(), &policy).unwrap());
        let side = RepositorySide::Director;
        let root = root::first(side, &keyring, &policy, Timestamp::now()).await.unwrap();
        let named = metadata::root::parse(&root.bytes).unwrap();
        let of = |role| Authority::from(&named.roles[&role]);
        let authority = BundleAuthority {
            targets: of(RoleName::Targets),
            snapshot: of(RoleName::Snapshot),
            timestamp: of(RoleName::Timestamp),
        };
        let theirs = serde_json::from_slice(&root.bytes).unwrap();
        (DirectorRepository::new(keyring, policy), authority, theirs)
    }

    #[tokio::test]
    async fn another_implementation_verifies_what_is_signed() {
        let (repository, authority, root) = repository().await;
        let vin = "VIN1".parse().unwrap();
        let images = [directed("a/b.bin", "e-1")].into();
        let signed = repository.sign(&vin, 17, &images, Timestamp::now(), &authority).await;
        let bundle = signed.unwrap();
        let targets: Signed<Targets> = serde_json::from_slice(&bundle.targets.bytes).unwrap();
        let snapshot: Signed<Snapshot> = serde_json::from_slice(&bundle.snapshot.bytes).unwrap();
        let timestamp: Signed<TimestampRole> =
            serde_json::from_slice(&bundle.timestamp.bytes).unwrap();
        root.signed.verify_role(&targets).unwrap();
        root.signed.verify_role(&snapshot).unwrap();
        root.signed.verify_role(&timestamp).unwrap();
        assert_eq!(targets.signed.version.get(), 17);
        let content: Value = serde_json::from_slice(&bundle.targets.bytes).unwrap();
        assert_eq!(content["signed"]["report_every"], REPORT_EVERY.as_secs());
        for file in [&bundle.targets, &bundle.snapshot, &bundle.timestamp] {
            let content: Value = serde_json::from_slice(&file.bytes).unwrap();
            assert_eq!(content["signed"]["vin"], "VIN1", "{}", file.role);
            assert!(content["signed"]["delegations"].is_null());
        }
    }

    #[tokio::test]
    async fn no_ecu_is_listed_twice() {
        let (repository, authority, _) = repository().await;
        let images = [directed("a.bin", "e-1"), directed("b.bin", "e-1")].into();
        let vin = "VIN1".parse().unwrap();
        let signed = repository.sign(&vin, 1, &images, Timestamp::now(), &authority).await;
        assert!(matches!(signed, Err(Error::Metadata(metadata::Error::Build { .. }))));
    }

    #[tokio::test]
    async fn keys_that_the_root_does_not_name_sign_nothing() {
        let (_, authority, _) = repository().await;
        let (other, ..) = repository().await;
        let vin = "VIN1".parse().unwrap();
        let signed = other.sign(&vin, 1, &BTreeMap::new(), Timestamp::now(), &authority).await;
        let refused = signed.unwrap_err();
        assert!(
            matches!(refused, Error::Metadata(metadata::Error::ForeignKey { .. })),
            "{refused}"
        );
    }
}
