//! Metadata of the Director repository: targets, snapshot and timestamp for one vehicle (Uptane
//! 2.1.0, 5.3.2).
//!
//! All three have one version, from a sequence that all vehicles share, and name their vehicle
//! (DIR-26, DIR-39): one vehicle's metadata can neither be replayed to another nor lock it out.
//! Nothing here ever delegates (DIR-21).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Error;
use super::canonical::canonical;
use super::custom::{DirectorCustom, EcuCustom, ImageCustom};
use super::keyring::{Keyring, RoleKey};
use super::policy::Policy;
use super::signing::{self, SPEC_VERSION, SignedFile, build_error};
use crate::model::{
    EcuSerial, RepositorySide, RoleKind, RoleName, Sha256Digest, Timestamp, VehicleId,
};

/// Signs the Director repository's metadata.
#[derive(Debug, Clone)]
pub struct DirectorRepository {
    keyring: Arc<Keyring>,
    policy: Policy,
}

/// An image that a vehicle is to install, as the Image repository lists it, and who is to install
/// it.
#[derive(Debug, Clone)]
pub struct DirectedImage {
    /// Length of the sealed image in bytes.
    pub length: u64,
    /// Digest of the sealed image.
    pub sha256: Sha256Digest,
    /// What SHALL match the Image repository.
    pub custom: ImageCustom,
    /// The ECUs, each once in all of a vehicle's images (DIR-27).
    pub ecus: BTreeMap<EcuSerial, EcuCustom>,
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

impl DirectorRepository {
    /// Starts from the role keys and the policy.
    pub fn new(keyring: Arc<Keyring>, policy: Policy) -> Self {
        Self { keyring, policy }
    }

    /// The role keys.
    pub fn keyring(&self) -> &Keyring {
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
    /// [`Error::Build`] if an ECU is listed twice, [`Error::Sign`].
    pub async fn sign(
        &self,
        vin: &VehicleId,
        version: u64,
        images: &BTreeMap<String, DirectedImage>,
        now: Timestamp,
    ) -> Result<SignedBundle, Error> {
        let vehicle = ForVehicle {
            vin,
            version,
            expires_at: signing::expiry(now, self.policy.director.bundle),
        };
        let listed = json!({ "targets": targets_of(images)? });
        let keys = |kind| self.keyring.keys(RepositorySide::Director, kind);
        let targets = vehicle.sign(&RoleName::Targets, listed, keys(RoleKind::Targets)).await?;
        let listed = json!({ "meta": described(&targets) });
        let snapshot = vehicle.sign(&RoleName::Snapshot, listed, keys(RoleKind::Snapshot)).await?;
        let listed = json!({ "meta": described(&snapshot) });
        let timestamp =
            vehicle.sign(&RoleName::Timestamp, listed, keys(RoleKind::Timestamp)).await?;
        Ok(SignedBundle { targets, snapshot, timestamp })
    }
}

fn targets_of(images: &BTreeMap<String, DirectedImage>) -> Result<Value, Error> {
    let mut ecus = std::collections::BTreeSet::new();
    let mut targets = serde_json::Map::new();
    for (path, image) in images {
        if let Some(twice) = image.ecus.keys().find(|serial| !ecus.insert((*serial).clone())) {
            return Err(build_error(
                &RoleName::Targets,
                format!("the ECU {twice} is listed twice"),
            ));
        }
        let custom =
            DirectorCustom { image: image.custom.clone(), ecu_identifiers: image.ecus.clone() };
        let target = json!({ "custom": custom, "hashes": { "sha256": image.sha256 }, "length": image.length });
        targets.insert(path.clone(), target);
    }
    Ok(Value::Object(targets))
}

fn described(file: &SignedFile) -> Value {
    let described = json!({ "hashes": { "sha256": file.sha256 }, "length": file.bytes.len(), "version": file.version });
    Value::Object([(file.role.file_name(), described)].into_iter().collect())
}

/// What the three files have in common.
struct ForVehicle<'a> {
    vin: &'a VehicleId,
    version: u64,
    expires_at: Timestamp,
}

impl ForVehicle<'_> {
    async fn sign(
        &self,
        role: &RoleName,
        mut content: Value,
        keys: &[RoleKey],
    ) -> Result<SignedFile, Error> {
        content["_type"] = role.as_str().into();
        content["expires"] = self.expires_at.to_string().into();
        content["spec_version"] = SPEC_VERSION.into();
        content["version"] = signing::version(role, self.version)?.get().into();
        content["vin"] = self.vin.as_str().into();
        // Names and `custom` are printable ASCII, so the canonical form is JSON too.
        let message = canonical(&content).map_err(|e| build_error(role, e))?;
        signing::sign_canonical(role, self.version, self.expires_at, &message, keys).await
    }
}

#[cfg(test)]
mod tests {
    use tough::schema::{Root, Signed, Snapshot, Targets, Timestamp as TimestampRole};

    use super::*;
    use crate::uptane::root;

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

    async fn repository() -> (DirectorRepository, Signed<Root>) {
        let dir = tempfile::tempdir().unwrap();
        let policy = Policy::default();
        Keyring::create(dir.path(), &policy).unwrap();
        let keyring = Arc::new(Keyring::load(dir.path(), &policy).unwrap());
        let root = root::first(RepositorySide::Director, &keyring, &policy, Timestamp::now())
            .await
            .unwrap();
        (DirectorRepository::new(keyring, policy), serde_json::from_slice(&root.bytes).unwrap())
    }

    #[tokio::test]
    async fn another_implementation_verifies_what_is_signed() {
        let (repository, root) = repository().await;
        let vin = "VIN1".parse().unwrap();
        let images = [directed("a/b.bin", "e-1")].into();
        let bundle = repository.sign(&vin, 17, &images, Timestamp::now()).await.unwrap();
        let targets: Signed<Targets> = serde_json::from_slice(&bundle.targets.bytes).unwrap();
        let snapshot: Signed<Snapshot> = serde_json::from_slice(&bundle.snapshot.bytes).unwrap();
        let timestamp: Signed<TimestampRole> =
            serde_json::from_slice(&bundle.timestamp.bytes).unwrap();
        root.signed.verify_role(&targets).unwrap();
        root.signed.verify_role(&snapshot).unwrap();
        root.signed.verify_role(&timestamp).unwrap();
        assert_eq!(targets.signed.version.get(), 17);
        for file in [&bundle.targets, &bundle.snapshot, &bundle.timestamp] {
            let content: Value = serde_json::from_slice(&file.bytes).unwrap();
            assert_eq!(content["signed"]["vin"], "VIN1", "{}", file.role);
            assert!(content["signed"]["delegations"].is_null());
        }
    }

    #[tokio::test]
    async fn no_ecu_is_listed_twice() {
        let (repository, _) = repository().await;
        let images = [directed("a.bin", "e-1"), directed("b.bin", "e-1")].into();
        let signed = repository.sign(&"VIN1".parse().unwrap(), 1, &images, Timestamp::now()).await;
        assert!(matches!(signed, Err(Error::Build { .. })));
    }
}
