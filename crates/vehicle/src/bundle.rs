//! Full verification: what the Director wants, and that the Image repository says the same (Uptane
//! 2.1.0, 5.4.4.2).

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use super::updater::Updater;
use motorcade_model::{ENVELOPE_SUFFIX, EcuSerial, HardwareId};
use motorcade_uptane::verify::{
    Assignment, KnownEcu, TargetFile, TrustedSet, VerifyError, assignments, match_image,
};

/// Assignments that have been verified for some ECUs, with their target metadata.
#[derive(Debug, Default)]
pub(super) struct VerifiedBundle {
    /// Each ECU at most once.
    pub(super) assignments: Vec<Assignment>,
    /// Target metadata of each image, by target path.
    pub(super) images: BTreeMap<String, TargetFile>,
    /// Target metadata of the envelopes that are on the Image repository, by the path of their
    /// image.
    pub(super) envelopes: BTreeMap<String, TargetFile>,
}

/// The Director's assignments for these ECUs. Not checked against the Image repository yet.
pub(super) fn wanted(
    director: &TrustedSet,
    concerns: impl Fn(&EcuSerial) -> bool,
) -> Result<Vec<Assignment>, VerifyError> {
    let mut wanted = Vec::new();
    for (path, target) in director.targets().into_iter().flatten() {
        wanted.extend(
            assignments(path, target)?.into_iter().filter(|assignment| concerns(&assignment.ecu)),
        );
    }
    Ok(wanted)
}

/// Checks what is wanted against the Image repository, image by image (FV-18 to FV-22).
pub(super) fn verify(
    wanted: Vec<Assignment>,
    director: &TrustedSet,
    image: &mut Updater<'_>,
    record: impl Fn(&EcuSerial) -> Option<KnownEcu>,
) -> Result<VerifiedBundle, Error> {
    let mut bundle = VerifiedBundle::default();
    let mut hardware: BTreeMap<&str, BTreeSet<&HardwareId>> = BTreeMap::new();
    for assignment in &wanted {
        hardware.entry(&assignment.path).or_default().insert(&assignment.hardware_id);
    }
    for (path, hardware) in hardware {
        let hardware: Vec<HardwareId> = hardware.into_iter().cloned().collect();
        let listed = director.targets().and_then(|targets| targets.get(path));
        let listed = listed.ok_or_else(|| not_there(path))?;
        let found = image.find_target(path, &hardware)?;
        for assignment in wanted.iter().filter(|assignment| assignment.path == path) {
            let ecu = record(&assignment.ecu)
                .ok_or_else(|| VerifyError::UnknownEcu { ecu: assignment.ecu.clone() })?;
            match_image(assignment, listed, found.as_ref(), &ecu)?;
            let has_own = assignment
                .custom
                .ecu_identifiers
                .get(&assignment.ecu)
                .is_some_and(|ecu| ecu.envelope.is_some());
            if !has_own && !bundle.envelopes.contains_key(path) {
                let envelope = format!("{path}{ENVELOPE_SUFFIX}");
                let found =
                    image.find_target(&envelope, &hardware)?.ok_or_else(|| not_there(&envelope))?;
                bundle.envelopes.insert(path.to_owned(), found);
            }
        }
        bundle.images.insert(path.to_owned(), listed.clone());
    }
    bundle.assignments = wanted;
    Ok(bundle)
}

fn not_there(path: &str) -> VerifyError {
    VerifyError::NotOnImageRepository { path: path.to_owned() }
}
