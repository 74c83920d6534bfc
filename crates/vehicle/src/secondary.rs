//! A Secondary, simulated in the same process: it gets files from the Primary and believes none of
//! them (Uptane 2.1.0, 5.4.3).
//!
//! It has its own trusted metadata, keys and counters. Before it takes an image it verifies what
//! the Primary handed over, fully or partially, and answers with what it is itself to install.

use super::Error;
use super::bundle::{self, VerifiedBundle};
use super::config::{EcuConfig, Verification};
use super::folder::Folder;
use super::names::metadata_file;
use super::source::Source;
use super::store::Store;
use super::updater::Updater;
use motorcade_model::{EcuSerial, ReleaseCounter, RoleName, Timestamp, VehicleId};
use motorcade_uptane::verify::{
    Assignment, KnownEcu, Limits, Rules, TrustedSet, assignments, check_ecu, verify_partial,
};

/// What a Secondary knows when metadata comes.
pub(super) struct Secondary<'a> {
    pub(super) folder: &'a Folder,
    pub(super) vin: &'a VehicleId,
    pub(super) config: &'a EcuConfig,
    pub(super) highest_counter: Option<ReleaseCounter>,
    /// The version of the Director Targets that it has seen, with partial verification.
    pub(super) targets_version: u64,
    /// From the Primary (TIM-2).
    pub(super) now: Timestamp,
}

impl Secondary<'_> {
    /// Verifies the Primary's files and returns what this ECU is to install, and the version of the
    /// Director's Targets that say so.
    pub(super) fn verify(&self) -> Result<(Assignment, u64), Error> {
        let (own_director, own_image) = self.folder.secondary_stores(&self.config.serial);
        let rules = Rules::Director { vin: self.vin.clone(), ecus: None };
        let director =
            HandedOver { store: self.folder.director_store(), rules: rules.clone(), now: self.now };
        let image =
            HandedOver { store: self.folder.image_store(), rules: Rules::Image, now: self.now };
        let mut updater = Updater::start(&own_director, &director, rules, self.now)?;
        if self.config.verification == Verification::Partial {
            return self.verify_partially(&updater, &own_director, &director);
        }
        updater.refresh()?;
        let wanted = bundle::wanted(updater.set(), |serial| self.is_me(serial))?;
        let mut image = Updater::start(&own_image, &image, Rules::Image, self.now)?;
        image.refresh()?;
        let version = updater.set().targets_version().unwrap_or_default();
        let record = |_: &EcuSerial| Some(self.record());
        let VerifiedBundle { assignments, .. } =
            bundle::verify(wanted, updater.set(), &mut image, record)?;
        Ok((assignments.into_iter().next().ok_or_else(|| self.nothing())?, version))
    }

    /// Uptane 2.1.0, 5.4.4.1. The root's chain is followed too, so that keys can be replaced over
    /// the air.
    fn verify_partially(
        &self,
        updater: &Updater<'_>,
        own: &Store,
        director: &HandedOver,
    ) -> Result<(Assignment, u64), Error> {
        updater.set().finish_root()?;
        let name = metadata_file(&RoleName::Targets, None);
        let handed_over =
            director.fetch(&name, Limits::TARGETS)?.ok_or(Error::NotFound { name })?;
        let (version, targets) = verify_partial(updater.set(), self.targets_version, &handed_over)?;
        own.put(&RoleName::Targets, version, &handed_over)?;
        for (path, target) in &targets {
            let mine = assignments(path, target)?
                .into_iter()
                .find(|assignment| self.is_me(&assignment.ecu));
            let Some(mine) = mine else { continue };
            // With the Director's word alone (Uptane 2.1.0, 5.4.3.4 steps 3 and 5).
            check_ecu(&mine, &self.record())?;
            return Ok((mine, version));
        }
        Err(self.nothing())
    }

    fn is_me(&self, serial: &EcuSerial) -> bool {
        *serial == self.config.serial
    }

    fn record(&self) -> KnownEcu {
        KnownEcu {
            hardware_id: self.config.hardware_id.clone(),
            highest_counter: self.highest_counter,
        }
    }

    fn nothing(&self) -> Error {
        let reason = "the Primary has an image for it, and the metadata has none".to_owned();
        Error::Install { ecu: self.config.serial.clone(), reason }
    }
}

/// The Primary's trusted metadata, by the names that a repository would give it.
struct HandedOver {
    store: Store,
    rules: Rules,
    now: Timestamp,
}

impl Source for HandedOver {
    fn fetch(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let stem = name.strip_suffix(".json").unwrap_or(name);
        let root = |bytes: &[u8]| TrustedSet::new(bytes, self.rules.clone(), self.now);
        let found = match stem.split_once('.') {
            Some((version, "root")) => match version.parse() {
                Ok(version) => self.store.find_root(version, root)?,
                Err(_) => None,
            },
            Some((version, role)) if version.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.store.find_file(role)
            }
            _ => self.store.find_file(stem),
        };
        // The name may have one version and the file another: whoever asked for it checks that.
        Ok(found.filter(|bytes| bytes.len() as u64 <= max))
    }
}
