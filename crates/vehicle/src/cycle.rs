//! The Primary's cycle (Uptane 2.1.0, 5.4.2): report, load the time, verify metadata, download,
//! hand on, install, report.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use super::agreed;
use super::bundle::VerifiedBundle;
use super::config::{EcuConfig, InstallTarget, Verification};
use super::download::{self, Wanted};
use super::http_error::HttpError;
use super::install::{install, is_atomic};
use super::names::target_path;
use super::redirect::Redirects;
use super::report;
use super::room;
use super::secondary::Secondary;
use super::setup::Vehicle;
use super::state::Installed;
use motorcade_envelope::jwe::Envelope;
use motorcade_model::{EcuRole, EcuSerial, Timestamp};
use motorcade_uptane::verify::{Assignment, Attack, Fault, Finding, TargetFile};

/// The result of a cycle.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// ECUs that run something new, and its target path.
    pub(super) installed: Vec<(EcuSerial, String)>,
    /// The first thing that went wrong.
    pub(super) failure: Option<Error>,
    /// Files of its own that were damaged and could be mended.
    pub(super) mended: Vec<PathBuf>,
    /// That the last report could not be delivered, which changes nothing of what was done.
    pub(super) undelivered: Option<Error>,
}

impl Outcome {
    /// The attack that was noticed.
    pub(super) fn attack(&self) -> Option<Attack> {
        self.failure.as_ref().and_then(Error::attack)
    }

    /// The fault that was noticed.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.failure.as_ref().and_then(Error::fault)
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }
}

/// Runs the cycle once. It always ends with a version report, also after a failure (Uptane 2.1.0,
/// 5.4.3.6), unless the first one still says it all.
pub(super) fn run(vehicle: &mut Vehicle) -> Outcome {
    let mut outcome = Outcome::default();
    let started = vehicle.now();
    let time = *started.as_ref().unwrap_or(&Timestamp::UNIX_EPOCH);
    note_mended(vehicle, &mut outcome);
    // A report that is refused keeps nobody from fetching metadata: it may be what mends that.
    let root = Some(vehicle.state.director_root).filter(|root| *root > 0);
    let (given, refused) = match report::send(vehicle, time, root) {
        Ok(given) => (given, None),
        Err(Error::Http(error)) if error.is_answer() => (None, Some(Error::Http(error))),
        Err(error) => {
            outcome.fail(error);
            return outcome;
        }
    };
    let version = vehicle.state.targets_version;
    if let Err(error) = started.and_then(|now| update(vehicle, now, given, &mut outcome)) {
        let primary = vehicle.config.primary().serial.clone();
        note(vehicle, &primary, &error);
        outcome.fail(error);
    }
    let is_mended = note_mended(vehicle, &mut outcome);
    let is_news = is_mended
        || !outcome.installed.is_empty()
        || outcome.failure.is_some()
        || version != vehicle.state.targets_version;
    if is_news {
        outcome.undelivered = report::send(vehicle, time, None).err();
    }
    if let Some(refused) = refused.filter(|_| !is_news || outcome.undelivered.is_some()) {
        outcome.fail(refused);
    }
    outcome
}

/// Keeps for the Primary's report that its disk has damaged something.
fn note_mended(vehicle: &mut Vehicle, outcome: &mut Outcome) -> bool {
    let mended = vehicle.folder.mended().take();
    if mended.is_empty() {
        return false;
    }
    let primary = vehicle.config.primary().serial.clone();
    vehicle.state.ecu(&primary).note(Finding::Fault(Fault::Storage));
    let _ = vehicle.state.save(); // the report saves it again
    outcome.mended.extend(mended);
    true
}

/// Keeps an attack or a fault for the report of the ECU that noticed it (FV-23).
fn note(vehicle: &mut Vehicle, ecu: &EcuSerial, error: &Error) {
    if let Some(finding) = error.finding() {
        vehicle.state.ecu(ecu).note(finding);
        let _ = vehicle.state.save(); // the report saves it again
    }
}

fn update(
    vehicle: &mut Vehicle,
    now: Timestamp,
    given: Option<Vec<u8>>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let bundle = agreed::verify(vehicle, now, given)?;
    let pending: Vec<_> =
        bundle.assignments.iter().filter(|each| !vehicle.state.runs(each)).cloned().collect();
    forget_downloads(vehicle, &pending);
    // Images that ask for each other are installed together or not at all, as far as that can be
    // had without going back: none before all have arrived, so that who withholds one does not
    // choose what runs beside the others (AT-11).
    let depend = pending.iter().any(|each| {
        !(each.custom.image.requires.is_empty() && each.custom.image.conflicts.is_empty())
    });
    if depend {
        for assignment in &pending {
            if let Err(error) = fetch_image(vehicle, &bundle, assignment) {
                note(vehicle, &assignment.ecu, &error);
                outcome.fail(error);
                return Ok(());
            }
        }
    }
    for assignment in &pending {
        let done = fetch_and_install(vehicle, &bundle, assignment, now);
        match done {
            Ok(()) => outcome.installed.push((assignment.ecu.clone(), assignment.path.clone())),
            Err(error) => {
                note(vehicle, &assignment.ecu, &error);
                let is_end = depend || vehicle.http.stop().is_asked();
                outcome.fail(error);
                if is_end {
                    break;
                }
            }
        }
    }
    let waiting: Vec<_> = pending.into_iter().filter(|each| !vehicle.state.runs(each)).collect();
    forget_downloads(vehicle, &waiting);
    if waiting.is_empty() {
        vehicle.config.ecus.iter().try_for_each(|ecu| vehicle.keys_of(ecu).forget_former())?;
    }
    Ok(())
}

/// Downloads that nobody waits for any more.
fn forget_downloads(vehicle: &Vehicle, pending: &[Assignment]) {
    let Ok(entries) = fs::read_dir(vehicle.folder.downloads()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let digest = name.split('.').next().unwrap_or_default().to_owned();
        if !pending.iter().any(|assignment| assignment.sha256.to_string() == digest) {
            let _ = fs::remove_file(entry.path()); // the next cycle tries again
        }
    }
}

/// Steps 4 to 7 for one ECU.
fn fetch_and_install(
    vehicle: &mut Vehicle,
    bundle: &VerifiedBundle,
    assignment: &Assignment,
    now: Timestamp,
) -> Result<(), Error> {
    let config = vehicle.config.ecus.iter().find(|ecu| ecu.serial == assignment.ecu).cloned();
    let config = config.ok_or_else(|| no_image(assignment, "it is not in this vehicle"))?;
    let sealed = fetch_image(vehicle, bundle, assignment)?;
    let envelope = fetch_envelope(vehicle, bundle, assignment)?;
    if config.role == EcuRole::Secondary {
        verify_on_secondary(vehicle, &config, assignment, now)?;
    }
    let key = vehicle.keys_of(&config).encryption_for(&envelope)?;
    let is_atomic = is_atomic(&config.install);
    if !is_atomic {
        vehicle.state.ecu(&assignment.ecu).installing = Some(assignment.path.clone());
        vehicle.state.save()?;
    }
    let (folder, patience) = (vehicle.folder.path(), vehicle.install_patience());
    let installed =
        install(folder, &config.install, assignment, &envelope, &key, &sealed, patience);
    installed.map_err(|error| blame_disk(error, bundle, assignment, &sealed))?;
    let state = vehicle.state.ecu(&assignment.ecu);
    state.installed = Some(Installed::from(assignment));
    state.installing = None;
    vehicle.state.save()
}

/// An image that came whole and does not open may have been damaged since, which is the disk's
/// doing. It is fetched again.
fn blame_disk(
    error: Error,
    bundle: &VerifiedBundle,
    assignment: &Assignment,
    sealed: &Path,
) -> Error {
    let Error::WrongImage { .. } = error else { return error };
    let is_whole =
        bundle.images.get(&assignment.path).is_none_or(|target| download::is_whole(sealed, target));
    if is_whole {
        return error;
    }
    download::remove(sealed);
    Error::Damaged {
        path: sealed.to_owned(),
        fault: "it is not what was downloaded any more".into(),
    }
}

fn no_image(assignment: &Assignment, reason: &str) -> Error {
    Error::Install { ecu: assignment.ecu.clone(), reason: reason.to_owned() }
}

/// Step 4: the sealed image, whole and with the hash that both repositories have signed.
fn fetch_image(
    vehicle: &Vehicle,
    bundle: &VerifiedBundle,
    assignment: &Assignment,
) -> Result<PathBuf, Error> {
    let path = &assignment.path;
    let target =
        bundle.images.get(path).ok_or_else(|| no_image(assignment, "nothing is signed of it"))?;
    let partial = vehicle.folder.downloads().join(assignment.sha256.to_string());
    let url = target_url(vehicle, path, target)?;
    let token = vehicle.token_for(&url);
    let wanted =
        Wanted { name: path, url: &url, token, length: target.length, hashes: &target.hashes };
    check_room(vehicle, assignment, target.length, &partial)?;
    let fetched = download::fetch(&vehicle.http, &wanted, &partial);
    vehicle.http.progress().end();
    fetched.map(|()| partial)
}

/// Checks that both the sealed image and what it opens to have room, before any of it is fetched.
fn check_room(
    vehicle: &Vehicle,
    assignment: &Assignment,
    length: u64,
    partial: &Path,
) -> Result<(), Error> {
    let missing = length.saturating_sub(fs::metadata(partial).map_or(0, |file| file.len()));
    let config = vehicle.config.ecus.iter().find(|ecu| ecu.serial == assignment.ecu);
    let plaintext = assignment.custom.image.sealed.plaintext.length;
    match config.map(|config| &config.install) {
        // A file is written beside the one that it replaces.
        Some(InstallTarget::File(path)) => {
            let path = vehicle.folder.path().join(path);
            if room::is_same_disk(&path, partial) {
                return room::check(partial, missing.saturating_add(plaintext));
            }
            room::check(&path, plaintext)?;
        }
        Some(InstallTarget::Device(_) | InstallTarget::Command(_)) | None => {}
    }
    room::check(partial, missing)
}

fn target_url(vehicle: &Vehicle, path: &str, target: &TargetFile) -> Result<String, Error> {
    let below = target_path(path, target.hashes.name())
        .ok_or_else(|| Error::TargetName { name: path.to_owned() })?;
    Ok(format!("{}/targets/{below}", vehicle.config.image()))
}

/// The data key for this ECU: from the Director, or for its hardware id from the Image repository.
fn fetch_envelope(
    vehicle: &Vehicle,
    bundle: &VerifiedBundle,
    assignment: &Assignment,
) -> Result<Vec<u8>, Error> {
    let own = assignment
        .custom
        .ecu_identifiers
        .get(&assignment.ecu)
        .and_then(|ecu| ecu.envelope.as_ref());
    if let Some(own) = own {
        return Ok(own.to_string().into_bytes());
    }
    let path = format!("{}{}", assignment.path, motorcade_model::ENVELOPE_SUFFIX);
    let target = bundle
        .envelopes
        .get(&assignment.path)
        .ok_or_else(|| no_image(assignment, "it has no envelope"))?;
    let url = target_url(vehicle, &path, target)?;
    let limit = target.length.min(Envelope::MAX_SIZE as u64);
    let fetched = vehicle.http.fetch(&url, vehicle.token_for(&url), limit, Redirects::Followed)?;
    let fetched = fetched.ok_or_else(|| Error::NotFound { name: path.clone() })?;
    if fetched.len() as u64 == target.length && target.hashes.match_bytes(&fetched) {
        return Ok(fetched);
    }
    // An envelope is JSON, and a login page is not.
    let text = fetched.trim_ascii();
    if text.starts_with(b"{") && text.ends_with(b"}") {
        return Err(Error::WrongTarget { name: path });
    }
    Err(HttpError::Unexpected { url, what: "with something that is not JSON".into() }.into())
}

/// Steps 5 to 7: the Secondary gets time, metadata and image, and decides by itself.
fn verify_on_secondary(
    vehicle: &mut Vehicle,
    config: &EcuConfig,
    assignment: &Assignment,
    now: Timestamp,
) -> Result<(), Error> {
    let state = vehicle.state.ecus.get(&config.serial);
    let secondary = Secondary {
        folder: &vehicle.folder,
        vin: &vehicle.config.vin,
        config,
        highest_counter: state.and_then(|state| state.highest_release_counter),
        targets_version: state.map_or(0, |state| state.partial_targets_version),
        now,
    };
    let (own, version) = secondary.verify()?;
    if config.verification == Verification::Partial {
        vehicle.state.ecu(&config.serial).partial_targets_version = version;
        vehicle.state.save()?;
    }
    if own != *assignment {
        return Err(no_image(assignment, "it was handed another image than its metadata names"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "cycle_changes_tests.rs"]
mod changes_tests;

#[cfg(test)]
#[path = "cycle_updates_tests.rs"]
mod updates_tests;

#[cfg(test)]
#[path = "cycle_poll_tests.rs"]
mod poll_tests;

#[cfg(test)]
#[path = "cycle_faults_tests.rs"]
mod faults_tests;

#[cfg(test)]
#[path = "cycle_disk_tests.rs"]
mod disk_tests;
