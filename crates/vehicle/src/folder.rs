//! The state directory of a vehicle.

use std::fs::File;
use std::path::{Path, PathBuf};

use motorcade_host::files;
use motorcade_model::{EcuSerial, RoleName};
use rustix::fs::{FlockOperation, flock};

use super::Error;
use super::config::Config;
use super::files::{copy_of, replace, sweep};
use super::mended::Mended;
use super::store::Store;

/// The state directory, by the names of what is in it.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf, Mended);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned(), Mended::default())
    }

    /// What was damaged in it and could be mended.
    pub(super) fn mended(&self) -> &Mended {
        &self.1
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn config(&self) -> PathBuf {
        self.0.join("vehicle.toml")
    }

    /// There once a Director, or whoever registers vehicles, knows of it.
    pub(super) fn enrolled(&self) -> PathBuf {
        self.0.join("enrolled")
    }

    pub(super) fn token(&self) -> PathBuf {
        self.0.join("token")
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    pub(super) fn downloads(&self) -> PathBuf {
        self.0.join("downloads")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// Trusted metadata of the Primary. It keeps what its Secondaries need.
    pub(super) fn director_store(&self) -> Store {
        Store::keeping_roots(&self.0.join("trust/director")).noting(&self.1)
    }

    pub(super) fn image_store(&self) -> Store {
        Store::keeping_roots(&self.0.join("trust/image")).noting(&self.1)
    }

    /// Trusted metadata of a Secondary, which is its own.
    pub(super) fn secondary_stores(&self, serial: &EcuSerial) -> (Store, Store) {
        let trust = self.0.join("ecus").join(serial.as_str()).join("trust");
        (
            Store::new(&trust.join("director")).noting(&self.1),
            Store::new(&trust.join("image")).noting(&self.1),
        )
    }

    /// Two processes on one directory would use report counters twice.
    pub(super) fn lock(&self) -> Result<File, Error> {
        let foreign = |error: std::io::Error| Error::Setting {
            path: self.0.clone(),
            fault: error.to_string(),
        };
        files::refuse_root_in_foreign(&self.0).map_err(foreign)?;
        let path = self.0.join("lock");
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Error::file("write", &path))?;
        let busy = |_| Error::Setting {
            path,
            fault: "another motorcade-vehicle runs on this directory".into(),
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(busy)?;
        Ok(file)
    }

    /// Removes what a power cut left half-written.
    pub(super) fn sweep(&self, config: &Config) {
        sweep(&self.0);
        for below in [
            "trust/director",
            "trust/image",
            "trust/director/roots",
            "trust/image/roots",
            "downloads",
            "keys",
        ] {
            sweep(&self.0.join(below));
        }
        for ecu in &config.ecus {
            sweep(&self.0.join("ecus").join(ecu.serial.as_str()));
        }
    }
}

/// Whether a state directory belongs to a vehicle that somebody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    NotYet,
    Already,
}

impl Use {
    /// An earlier version has left no mark of an enrolment, and a lost answer leaves none either.
    /// What can't be looked at counts as there.
    pub(super) fn of(folder: &Folder) -> Self {
        let state = folder.state();
        let signs = [
            folder.enrolled(),
            copy_of(&state),
            state,
            folder.director_store().path(&RoleName::Timestamp),
        ];
        let is_known = signs.iter().any(|sign| sign.try_exists().unwrap_or(true));
        if is_known { Self::Already } else { Self::NotYet }
    }
}

/// Remembers that the vehicle has been made known.
pub(super) fn mark_enrolled(folder: &Folder) -> Result<(), Error> {
    replace(&folder.enrolled(), b"")
}
