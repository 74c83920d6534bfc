//! What the server knows of a vehicle: its inventory, what it runs, and what it is to run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::{
    EcuMap, EcuRole, EcuSerial, HardwareId, ImagePath, InstalledImage, KeyObject, ReleaseCounter,
    Sha256Digest, Timestamp, VehicleId,
};

/// An ECU in the inventory (Uptane 2.1.0, 5.3.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcuRecord {
    /// Its identifier.
    pub serial: EcuSerial,
    /// Its hardware identifier.
    pub hardware_id: HardwareId,
    /// What it does in the vehicle.
    pub role: EcuRole,
    /// The public key under which it signs its reports, as a TUF key object.
    pub signing_key: KeyObject,
    /// The public key for which data keys are wrapped, as a JWK. An ECU without one opens the
    /// envelopes of its hardware id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<KeyObject>,
}

/// A vehicle that is about to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVehicle {
    /// Its id.
    pub vin: VehicleId,
    /// Its ECUs, the Primary first and then by serial.
    pub ecus: Vec<EcuRecord>,
    /// Digest of the bearer token with which it identifies itself, if it has one.
    pub token_sha256: Option<Sha256Digest>,
}

/// A vehicle as the catalog holds it.
#[derive(Debug, Clone)]
pub struct VehicleRecord {
    /// Its number, for logs.
    pub id: i64,
    /// Its id.
    pub vin: VehicleId,
    /// Its ECUs, the Primary first and then by serial. Shared: a record is copied with every poll.
    pub ecus: Arc<[EcuRecord]>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Id of the token that registered it.
    pub created_by: String,
    /// What changes as it is served.
    pub status: VehicleStatus,
}

impl VehicleRecord {
    /// Looks an ECU up.
    pub fn ecu(&self, serial: &EcuSerial) -> Option<&EcuRecord> {
        self.ecus.iter().find(|ecu| ecu.serial == *serial)
    }
}

/// What changes as a vehicle is served. A [`super::VehicleChange`] is the one way to another one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VehicleStatus {
    /// Rises with every change.
    pub revision: i64,
    /// Counter of each ECU's last accepted report; the next one has to be higher.
    pub counters: EcuMap<u64>,
    /// What each ECU runs and is to run. An ECU that never reported may be missing.
    pub ecus: EcuMap<EcuStatus>,
    /// When a manifest was accepted last.
    pub seen_at: Option<Timestamp>,
    /// Whether it is kept from new assignments, since when, and why.
    pub quarantine: Option<Quarantine>,
    /// The metadata that is signed for it.
    pub bundle: Option<Arc<Bundle>>,
}

impl VehicleStatus {
    /// What is known of an ECU.
    pub fn ecu(&self, serial: &EcuSerial) -> EcuStatus {
        self.ecus.get(serial).cloned().unwrap_or_default()
    }

    /// The counter that was accepted before, if what an ECU has signed with `counter` at `time` is
    /// a replay: counters rise strictly (DIR-17), and what was signed before a counter was started
    /// again under the same key is not to be sent again.
    pub fn replayed(&self, serial: &EcuSerial, counter: u64, time: Timestamp) -> Option<u64> {
        let last = self.counters.get(serial).copied().filter(|last| counter <= *last);
        last.or_else(|| {
            let reset = self.ecus.get(serial)?.reset.as_ref()?;
            (counter <= reset.counter && time < reset.since).then_some(reset.counter)
        })
    }
}

/// What one ECU runs and is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EcuStatus {
    /// What it last said it runs, whether that was to be expected or not.
    pub installed: Option<InstalledImage>,
    /// Whether that is nothing that it had, was given, or that a person has accepted.
    pub unexpected: bool,
    /// What a person has accepted although nobody gave it to this ECU, oldest first.
    pub accepted: Vec<InstalledImage>,
    /// What it ran before it fell back to something older, until it runs something as new again.
    pub fallen_from: Option<Box<FallenFrom>>,
    /// What the factory had installed, once it is something else.
    pub factory: Option<Box<InstalledImage>>,
    /// What it was offered and may be running since, oldest first (Deployment Best Practices
    /// 8.0.6.2).
    pub offered: Vec<Offer>,
    /// The highest release counter that it was ever offered or ran: it refuses lower ones.
    pub highest_counter: Option<ReleaseCounter>,
    /// What it is to run.
    pub assigned: Option<Box<CurrentAssignment>>,
    /// Where its report counter was when it started again under the same signing key.
    pub reset: Option<Box<CounterReset>>,
}

impl EcuStatus {
    /// Whether it is to run something else than it runs.
    pub fn is_to_update(&self) -> bool {
        self.assigned.is_some() || self.fallen_from.is_some()
    }

    /// Remembers an image that a person has accepted.
    pub fn accept(&mut self, image: InstalledImage) {
        self.accepted.retain(|known| *known != image);
        if self.accepted.len() == MAX_ACCEPTED {
            self.accepted.remove(0);
        }
        self.accepted.push(image);
        self.unexpected = false;
        self.fallen_from = None;
    }
}

/// A report counter that started again. A report from before, which has the same signature as ever,
/// is known by its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterReset {
    /// The highest that was accepted before.
    pub counter: u64,
    /// Reports with a time before this, and no higher counter, are from before.
    pub since: Timestamp,
}

/// An image that an ECU ran before it fell back to something older.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallenFrom {
    /// The image.
    pub path: String,
    /// Its release counter.
    pub release_counter: ReleaseCounter,
}

/// An image that was listed for an ECU in signed metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The image.
    pub path: ImagePath,
    /// The newest Targets that listed it.
    pub last_version: u64,
}

/// The assignment that an ECU has now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentAssignment {
    /// Its id.
    pub id: String,
    /// The image.
    pub path: ImagePath,
}

/// A vehicle that has reported an attack, or runs what nobody gave it, gets no new assignments
/// until a person has cleared it. It goes on getting valid metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// Since when.
    pub since: Timestamp,
    /// What was reported first.
    pub reason: String,
    /// Names of everything that it is for.
    pub kinds: BTreeSet<String>,
}

/// The Director's metadata for one vehicle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// Version of all three files.
    pub version: u64,
    /// When the first of them expires.
    pub expires_at: Timestamp,
    /// What it lists: a bundle is made again when this changes.
    pub lists: Vec<Listing>,
    /// `targets.json`
    pub targets: String,
    /// `snapshot.json`
    pub snapshot: String,
    /// `timestamp.json`
    pub timestamp: String,
    /// Digest of the three files and of the root with which they were verified. Versions that did
    /// not verify kept none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Sha256Digest>,
    /// What this process knows of that.
    #[serde(skip)]
    pub verified_under: VerifiedUnder,
}

/// The version of the root under which something was verified, kept beside it so that it is
/// verified once in a process. It is no part of it: what is equal but for this is equal.
#[derive(Debug, Default)]
pub struct VerifiedUnder(AtomicU64);

impl VerifiedUnder {
    /// The version; 0 if it was not verified.
    pub fn version(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Notes that it was verified.
    pub fn note(&self, version: u64) {
        self.0.store(version, Ordering::Relaxed);
    }
}

impl Clone for VerifiedUnder {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.version()))
    }
}

impl PartialEq for VerifiedUnder {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// An image that a bundle lists for one ECU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The ECU.
    pub ecu_serial: EcuSerial,
    /// The image.
    pub path: ImagePath,
    /// Id of the key that the data key is wrapped for, if the ECU has one.
    pub kid: Option<String>,
}

/// An assignment, past or present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentRecord {
    /// Its id.
    pub id: String,
    /// Which ECU.
    pub ecu_serial: EcuSerial,
    /// Which image.
    pub image_path: ImagePath,
    /// Why the release counter was allowed to go down.
    pub rollback_reason: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Id of the token that made it.
    pub created_by: String,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<AssignmentOutcome>,
}

/// How an assignment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignmentOutcome {
    /// The ECU reported that it runs the image.
    Installed,
    /// A person cancelled it.
    Cancelled,
    /// Another assignment took its place.
    Superseded,
    /// The image is no longer in the Image repository.
    Withdrawn,
}

impl AssignmentOutcome {
    const ALL: [Self; 4] = [Self::Installed, Self::Cancelled, Self::Superseded, Self::Withdrawn];

    /// Its name in the API and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The outcome of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }
}

/// Most images that are accepted for one ECU; each can have two or three at a time.
const MAX_ACCEPTED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_accepted_images_are_kept() {
        let image = |length| InstalledImage {
            path: "gw".into(),
            length,
            sha256: Sha256Digest::from_bytes([1; 32]),
        };
        let mut status = EcuStatus { unexpected: true, ..EcuStatus::default() };
        (1..=9).chain([4]).for_each(|length| status.accept(image(length)));
        let lengths: Vec<u64> = status.accepted.iter().map(|image| image.length).collect();
        assert_eq!((status.unexpected, lengths), (false, vec![2, 3, 5, 6, 7, 8, 9, 4]));
    }
}
