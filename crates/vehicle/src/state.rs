//! `state.json`: a vehicle's durable state, replaced whole with every change.
//!
//! Unlike metadata none of it can be had again: a counter that goes back is a report that is
//! refused as a replay, and a forgotten release counter an image that should have been refused. So
//! there are two copies, each with a checksum, and the second is read if the first can't be. A
//! vehicle that has lost both is not silent: it says so, and counts on from the time. What the
//! system did not let it read is not lost, and is never written over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Error;
use super::ballast;
use super::files::{copy_of, find, replace};
use motorcade_model::{
    Candidate, Constraint, EcuSerial, ImageName, InstalledImage, ReleaseCounter, Sha256Digest,
    Timestamp,
};
use motorcade_uptane::verify::{Assignment, Attack, Fault, Finding};

/// The durable state of a vehicle.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The latest time at which metadata was verified: no later clock may say less (TIM-6), until a
    /// new root says otherwise (TIM-5). A clock that is ahead of the metadata's expiry verifies
    /// nothing, so this is never further ahead than that.
    pub(super) latest_time: Option<Timestamp>,
    /// The version of the Director's root for which that was.
    #[serde(default)]
    pub(super) director_root: u64,
    /// The version of the newest Director Targets that were verified.
    #[serde(default)]
    pub(super) targets_version: u64,
    #[serde(default)]
    pub(super) ecus: BTreeMap<EcuSerial, EcuState>,
    #[serde(skip)]
    path: PathBuf,
}

/// The durable state of an ECU.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct EcuState {
    /// Of its last report.
    #[serde(default)]
    pub(super) counter: u64,
    /// What it runs; nothing that came from here before the first update.
    pub(super) installed: Option<Installed>,
    /// The target path of an image that was being written, without a way back, when this was saved.
    pub(super) installing: Option<String>,
    /// The highest release counter that was ever accepted for it (FV-22).
    pub(super) highest_release_counter: Option<ReleaseCounter>,
    /// Attacks that it has noticed and that no accepted manifest has reported yet.
    #[serde(default)]
    pub(super) attacks: Vec<Attack>,
    /// Likewise, what went wrong and is no attack.
    #[serde(default)]
    pub(super) faults: Vec<Fault>,
    /// The version of the Director Targets that a Secondary with partial verification has verified.
    #[serde(default)]
    pub(super) partial_targets_version: u64,
}

/// An installed image: what is reported of it, and what other images may ask of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Installed {
    pub(super) filepath: String,
    pub(super) length: u64,
    pub(super) sha256: Sha256Digest,
    name: ImageName,
    release_counter: ReleaseCounter,
    #[serde(default)]
    requires: Vec<Constraint>,
    #[serde(default)]
    conflicts: Vec<Constraint>,
}

/// How much of what was saved could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// All, or nothing was saved yet.
    Whole,
    /// The second copy.
    Mended,
    /// Neither copy.
    Lost,
}

/// Reads one copy. One without a checksum is of an earlier version.
fn read(path: &Path) -> Result<Option<State>, Error> {
    let Some(bytes) = find(path, MAX_SIZE)? else { return Ok(None) };
    let damaged = |fault: String| Error::Damaged { path: path.to_owned(), fault };
    let mut value: Value =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let said = value.as_object_mut().and_then(|members| members.remove(CHECKSUM));
    if said.is_some_and(|said| said != checksum(&value)) {
        return Err(damaged("its checksum differs".into()));
    }
    // All members may be absent, so that earlier versions are read; what has none of them is
    // something else.
    if !value.get("ecus").is_some_and(Value::is_object) {
        return Err(damaged("it says nothing of any ECU".into()));
    }
    serde_json::from_value(value).map(Some).map_err(|error| damaged(error.to_string()))
}

/// Of the members without it.
fn checksum(value: &Value) -> String {
    hex::encode(Sha256::digest(value.to_string()))
}

impl State {
    /// Reads what was saved, or starts with nothing.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if no copy is good and the system did not let one be read. That one is not
    /// lost: whoever began anew would install what a release counter in it refuses.
    pub(super) fn load(path: &Path) -> Result<(Self, Memory), Error> {
        let (mut memory, nothing) =
            (Memory::Whole, Self { path: path.to_owned(), ..Self::default() });
        let mut unread = None;
        for (is_copy, file) in [(false, path.to_owned()), (true, copy_of(path))] {
            match read(&file) {
                // A copy is written last: what was counted in between does not count twice.
                Ok(Some(state)) if is_copy => return Ok((state.counted_on(path), Memory::Mended)),
                Ok(Some(state)) => {
                    return Ok((Self { path: path.to_owned(), ..state }, Memory::Whole));
                }
                Ok(None) => {}
                Err(error @ Error::File { .. }) => unread = unread.or(Some(error)),
                Err(_) => memory = Memory::Lost,
            }
        }
        unread.map_or(Ok((nothing, memory)), Err)
    }

    fn counted_on(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.path);
        for ecu in self.ecus.values_mut() {
            ecu.counter = ecu.counter.saturating_add(BETWEEN_COPIES);
        }
        self
    }

    /// Counts on from `seconds` since 1970, which is more than a vehicle that reports once a second
    /// has ever counted.
    pub(super) fn count_from(&mut self, seconds: u64, ecus: impl Iterator<Item = EcuSerial>) {
        for serial in ecus {
            let ecu = self.ecu(&serial);
            ecu.counter = ecu.counter.max(seconds);
        }
    }

    /// Saves it; on return it is on disk, twice.
    pub(super) fn save(&self) -> Result<(), Error> {
        let mut value = serde_json::to_value(self).expect("names and numbers are always JSON");
        value[CHECKSUM] = checksum(&value).into();
        let json = serde_json::to_vec_pretty(&value).expect("names and numbers are always JSON");
        match self.write(&json) {
            Err(error) if error.is_full() && ballast::give_up(&self.path) => self.write(&json),
            written => written,
        }
    }

    fn write(&self, json: &[u8]) -> Result<(), Error> {
        replace(&self.path, json)?;
        replace(&copy_of(&self.path), json)
    }

    /// The state of an ECU, to be changed.
    pub(super) fn ecu(&mut self, serial: &EcuSerial) -> &mut EcuState {
        self.ecus.entry(serial.clone()).or_default()
    }

    /// Whether an ECU runs an image already. One that was cut off while it was written runs nothing
    /// for sure.
    pub(super) fn runs(&self, assignment: &Assignment) -> bool {
        let Some(state) = self.ecus.get(&assignment.ecu).filter(|state| state.installing.is_none())
        else {
            return false;
        };
        let same = |installed: &Installed| {
            installed.filepath == assignment.path
                && installed.sha256 == assignment.sha256
                && installed.length == assignment.length
        };
        state.installed.as_ref().is_some_and(same)
    }
}

impl EcuState {
    /// Notes something for the next report.
    pub(super) fn note(&mut self, finding: Finding) {
        match finding {
            Finding::Attack(attack) if !self.attacks.contains(&attack) => self.attacks.push(attack),
            Finding::Fault(fault) if !self.faults.contains(&fault) => self.faults.push(fault),
            Finding::Attack(_) | Finding::Fault(_) => {}
        }
    }

    /// A Director has heard of it.
    pub(super) fn forget_reported(&mut self) {
        self.attacks.clear();
        self.faults.clear();
    }

    /// The installed image that it reports.
    pub(super) fn report(&self) -> InstalledImage {
        match self.installed.as_ref().filter(|_| self.installing.is_none()) {
            Some(image) => InstalledImage {
                path: image.filepath.clone(),
                length: image.length,
                sha256: image.sha256,
            },
            None => {
                let nothing = Sha256Digest::from_bytes(Sha256::digest([]).into());
                InstalledImage { path: UNPROVISIONED.into(), length: 0, sha256: nothing }
            }
        }
    }

    /// What other images may ask of it.
    pub(super) fn candidate(&self) -> Option<Candidate> {
        let image = self.installed.as_ref()?;
        Some(Candidate {
            name: image.name.clone(),
            release_counter: image.release_counter,
            requires: image.requires.clone(),
            conflicts: image.conflicts.clone(),
        })
    }
}

impl From<&Assignment> for Installed {
    fn from(assignment: &Assignment) -> Self {
        let image = &assignment.custom.image;
        Self {
            filepath: assignment.path.clone(),
            length: assignment.length,
            sha256: assignment.sha256,
            name: image.name.clone(),
            release_counter: image.release_counter,
            requires: image.requires.clone(),
            conflicts: image.conflicts.clone(),
        }
    }
}

/// What an ECU reports that runs nothing that came from here.
const UNPROVISIONED: &str = "unprovisioned";
const MAX_SIZE: u64 = 4 * 1024 * 1024; // 4 MiB
const CHECKSUM: &str = "sha256";
/// More reports than there can be between the writing of two copies.
const BETWEEN_COPIES: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn serial() -> EcuSerial {
        "p-1".parse().unwrap()
    }

    fn saved(path: &Path) -> State {
        let (mut state, memory) = State::load(path).unwrap();
        assert_eq!(memory, Memory::Whole, "there is nothing yet");
        state.ecu(&serial()).counter = 7;
        state.ecu(&serial()).note(Finding::Attack(Attack::Rollback));
        state.ecu(&serial()).note(Finding::Attack(Attack::Rollback));
        state.ecu(&serial()).note(Finding::Fault(Fault::Clock));
        state.save().unwrap();
        state
    }

    #[test]
    fn what_is_saved_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        saved(&path);
        let (again, memory) = State::load(&path).unwrap();
        let ecu = &again.ecus[&serial()];
        assert_eq!(
            (ecu.counter, ecu.attacks.as_slice(), memory),
            (7, &[Attack::Rollback][..], Memory::Whole)
        );
        assert_eq!(
            (ecu.report().path.as_str(), ecu.faults.as_slice()),
            ("unprovisioned", &[Fault::Clock][..])
        );
        // An earlier version has no checksum.
        let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        value.as_object_mut().unwrap().remove(CHECKSUM).unwrap();
        std::fs::write(&path, value.to_string()).unwrap();
        assert_eq!(State::load(&path).unwrap().0.ecus[&serial()].counter, 7);
    }

    /// Cut at any byte, emptied, zeroed, with one bit turned, or gone: the copy counts, and counts
    /// on.
    #[test]
    fn damage_of_one_copy_loses_nothing_and_of_both_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        saved(&path);
        let whole = std::fs::read(&path).unwrap();
        let flipped = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        });
        let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
        for damaged in flipped.chain(cut).chain([vec![0; whole.len()]]) {
            std::fs::write(&path, &damaged).unwrap();
            let (state, memory) = State::load(&path).unwrap();
            // White space at the end and between members is no damage.
            let expected = if memory == Memory::Whole { 7 } else { 7 + BETWEEN_COPIES };
            assert_eq!(
                state.ecus[&serial()].counter,
                expected,
                "{}",
                String::from_utf8_lossy(&damaged)
            );
        }
        for other in ["{}", "{\"signed\":1}", "[]", "null"] {
            std::fs::write(&path, other).unwrap();
            assert_eq!(State::load(&path).unwrap().1, Memory::Mended, "{other}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(State::load(&path).unwrap().1, Memory::Mended);
        std::fs::write(copy_of(&path), "").unwrap();
        std::fs::write(&path, "{\"ecus\":").unwrap();
        let (mut state, memory) = State::load(&path).unwrap();
        assert_eq!((state.ecus.len(), memory), (0, Memory::Lost));
        state.count_from(1_900_000_000, [serial()].into_iter());
        state.save().unwrap();
        assert_eq!(State::load(&path).unwrap().0.ecus[&serial()].counter, 1_900_000_000);
    }

    /// A folder in its place can be opened and not read, by root either.
    #[test]
    fn what_the_system_does_not_let_it_read_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        saved(&path);
        let whole = std::fs::read(&path).unwrap();
        let block = |path: &Path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        };
        block(&path);
        let (state, memory) = State::load(&path).unwrap();
        assert_eq!((state.ecus[&serial()].counter, memory), (7 + BETWEEN_COPIES, Memory::Mended));
        for copy in ["", "{}"] {
            std::fs::write(copy_of(&path), copy).unwrap();
            assert!(matches!(State::load(&path), Err(Error::File { .. })), "{copy}");
        }
        block(&copy_of(&path));
        assert!(matches!(State::load(&path), Err(Error::File { .. })));
        std::fs::remove_dir(&path).unwrap();
        assert!(matches!(State::load(&path), Err(Error::File { .. })), "the other one may be good");
        std::fs::write(&path, whole).unwrap();
        assert_eq!(State::load(&path).unwrap().0.ecus[&serial()].counter, 7);
    }
}
