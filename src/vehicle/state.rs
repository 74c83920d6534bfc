//! `state.json`: what a vehicle has to remember over reboots, replaced whole with every change.
//!
//! Unlike metadata none of it can be had again: a counter that goes back is a report that is refused as a replay, and a
//! forgotten release counter an image that should have been refused. A file that can't be read is therefore an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;
use super::files::{find, replace};
use crate::model::{
    Candidate, Constraint, EcuSerial, ImageName, InstalledImage, ReleaseCounter, Sha256Digest, Timestamp,
};
use crate::uptane::verify::{Assignment, Attack, Fault, Finding};

/// What is remembered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The latest time at which metadata was verified: no later clock may say less (TIM-6), until a new root says otherwise
    /// (TIM-5). A clock that is ahead of the metadata's expiry verifies nothing, so this is never further ahead than that.
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

/// What is remembered of an ECU.
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

impl State {
    /// Reads what was saved, or starts with nothing.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let Some(bytes) = find(path, MAX_SIZE)? else { return Ok(Self { path: path.to_owned(), ..Self::default() }) };
        let unusable = |error: serde_json::Error| Error::Setting { path: path.to_owned(), fault: error.to_string() };
        let state: Self = serde_json::from_slice(&bytes).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), ..state })
    }

    /// Saves it; on return it is on disk.
    pub(super) fn save(&self) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(self).expect("names and numbers are always JSON");
        replace(&self.path, &json)
    }

    /// What is remembered of an ECU, to be changed.
    pub(super) fn ecu(&mut self, serial: &EcuSerial) -> &mut EcuState {
        self.ecus.entry(serial.clone()).or_default()
    }

    /// Whether an ECU runs an image already. One that was cut off while it was written runs nothing for sure.
    pub(super) fn runs(&self, assignment: &Assignment) -> bool {
        let Some(state) = self.ecus.get(&assignment.ecu).filter(|state| state.installing.is_none()) else {
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

    /// What it reports to run.
    pub(super) fn report(&self) -> InstalledImage {
        match self.installed.as_ref().filter(|_| self.installing.is_none()) {
            Some(image) => InstalledImage { path: image.filepath.clone(), length: image.length, sha256: image.sha256 },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_there_again_and_a_damaged_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut state = State::load(&path).unwrap();
        state.ecu(&"p-1".parse().unwrap()).counter = 7;
        state.ecu(&"p-1".parse().unwrap()).note(Finding::Attack(Attack::Rollback));
        state.ecu(&"p-1".parse().unwrap()).note(Finding::Attack(Attack::Rollback));
        state.save().unwrap();
        let again = State::load(&path).unwrap();
        let ecu = &again.ecus[&"p-1".parse::<EcuSerial>().unwrap()];
        assert_eq!((ecu.counter, ecu.attacks.as_slice()), (7, &[Attack::Rollback][..]));
        assert_eq!(ecu.report().path, "unprovisioned");
        std::fs::write(&path, "{\"ecus\":").unwrap();
        assert!(matches!(State::load(&path), Err(Error::Setting { .. })));
    }
}
