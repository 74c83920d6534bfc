//! What Uptane asks beyond TUF: the Director's own rules, and that both repositories say the same
//! of an image (Uptane 2.1.0, 5.4.4.2 step 10, 5.4.4.6; FV-12 to FV-22).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::VerifyError;
use super::error::CustomField;
use super::roles::{TargetFile, Targets};
use crate::custom::DirectorCustom;
use crate::manifest::is_reportable;
use motorcade_model::{
    Candidate, EcuSerial, HardwareId, ReleaseCounter, RoleName, SealAlgorithm, Sha256Digest,
    violations,
};

/// Checks the Director's Targets as such. Their `vin` is compared before (FV-15).
pub(super) fn check_targets(
    targets: &Targets,
    ecus: Option<&BTreeMap<EcuSerial, HardwareId>>,
) -> Result<(), VerifyError> {
    // FV-12: online keys sign them, so they must not be able to hand anything on.
    // Uptane 2.1.0, 5.4.4.6 step 6: "If checking Targets metadata from the Director repository,
    // verify that there are no delegations."
    if targets.delegations.is_some() {
        return Err(VerifyError::DelegationFromDirector);
    }
    let mut seen = BTreeSet::new();
    for (path, target) in &targets.targets {
        for ecu in ecu_serials(path, target)? {
            // FV-13. Uptane 2.1.0, 5.4.4.6 step 7: "If checking Targets metadata from the Director
            // repository, check that no ECU identifier is represented more than once."
            if !seen.insert(ecu.clone()) {
                return Err(VerifyError::DuplicateEcu { ecu });
            }
            // FV-14. Uptane 2.1.0, 5.4.4.6 step 8: "and the ECU performing the verification is the
            // Primary ECU, check that all listed ECU identifiers correspond to ECUs that are
            // actually present in the vehicle."
            if ecus.is_some_and(|ecus| !ecus.contains_key(&ecu)) {
                return Err(VerifyError::UnknownEcu { ecu });
            }
        }
    }
    Ok(())
}

/// Whom a target is for. The rest of `custom` is read when it is compared, so that what is wrong
/// with it gets its own error.
fn ecu_serials(path: &str, target: &TargetFile) -> Result<Vec<EcuSerial>, VerifyError> {
    // Uptane 2.1.0, 5.2.3.1.1: "The following information SHALL be provided from the Director
    // repository for each image in the Targets metadata: An ECU identifier (such as a serial
    // number), specifying the ECU that SHOULD install the image."
    let ecus = target
        .custom
        .as_ref()
        .and_then(|custom| custom.get("ecuIdentifiers"))
        .and_then(Value::as_object);
    let fault = |fault: String| VerifyError::Malformed {
        role: RoleName::Targets,
        fault: format!("{path}: {fault}"),
    };
    let ecus = ecus.ok_or_else(|| fault("it has no ECU identifiers".into()))?;
    ecus.keys().map(|serial| serial.parse().map_err(|error| fault(format!("{error}")))).collect()
}

/// An image that the Director wants on an ECU, checked against the Image repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Which ECU.
    pub ecu: EcuSerial,
    /// Its hardware.
    pub hardware_id: HardwareId,
    /// Target path.
    pub path: String,
    /// Length of the sealed image in bytes.
    pub length: u64,
    /// SHA-256 of the sealed image.
    pub sha256: Sha256Digest,
    /// Its `custom` object.
    pub custom: DirectorCustom,
}

/// Hardware and release counter of an ECU, against which an image is checked.
#[derive(Debug, Clone)]
pub struct KnownEcu {
    /// Its hardware.
    pub hardware_id: HardwareId,
    /// The highest release counter that was ever accepted for it, whatever came between: FV-22
    /// compares with previous Targets, and an empty Targets file must not make them forgotten.
    pub highest_counter: Option<ReleaseCounter>,
}

/// Reads whom the Director wants to install a target. Nothing is compared with the Image repository
/// yet.
///
/// # Errors
///
/// [`VerifyError::EncryptionDowngrade`] for an image that is not sealed as it should be,
/// [`VerifyError::Malformed`] for a `custom` that can't be read.
pub fn assignments(path: &str, target: &TargetFile) -> Result<Vec<Assignment>, VerifyError> {
    let custom = target.custom.clone().unwrap_or_default();
    // ENC-12, ENC-18: first, since without it the rest can't be read either.
    // Uptane 2.1.0, 5.2.3.1.1, of an encrypted image: "Information about the encryption method, and
    // other relevant information".
    let sealed = custom.get("sealed").and_then(|sealed| sealed.get("alg")).and_then(Value::as_str);
    if sealed.and_then(|alg| alg.parse::<SealAlgorithm>().ok()).is_none() {
        return Err(VerifyError::EncryptionDowngrade { path: path.to_owned() });
    }
    let fault = |fault: String| VerifyError::Malformed {
        role: RoleName::Targets,
        fault: format!("{path:?}: {fault}"),
    };
    if !is_reportable(path) {
        // AT-40. Uptane 2.1.0, 5.2.7: "Filenames of images SHOULD be encoded to prevent a path
        // traversal on the client system, either by using URL encoding or by limiting the allowed
        // character set in the filename."
        return Err(fault("no report could name it".into()));
    }
    let custom: DirectorCustom =
        serde_json::from_value(custom).map_err(|error| fault(error.to_string()))?;
    let unknown = || VerifyError::UnknownHash { role: RoleName::Targets };
    let sha256 = target.hashes.sha256().filter(|_| target.hashes.is_known()).ok_or_else(unknown)?;
    let assign = |(ecu, details): (&EcuSerial, &crate::custom::EcuCustom)| Assignment {
        ecu: ecu.clone(),
        hardware_id: details.hardware_id.clone(),
        path: path.to_owned(),
        length: target.length,
        sha256,
        custom: custom.clone(),
    };
    Ok(custom.ecu_identifiers.iter().map(assign).collect())
}

/// Checks one image of the Director's Targets against the Image repository's entry of exactly the
/// same name, and against the ECU that is to run it.
///
/// # Errors
///
/// [`VerifyError`]: the first rule that is broken.
pub fn match_image(
    assignment: &Assignment,
    director: &TargetFile,
    image: Option<&TargetFile>,
    ecu: &KnownEcu,
) -> Result<(), VerifyError> {
    let path = || assignment.path.clone();
    // FV-19. Uptane 2.1.0, 5.4.4.2 step 10.1: "a Targets metadata file from the Image repository
    // that contains an image with exactly the same filename listed in the Director metadata".
    let image = image.ok_or_else(|| VerifyError::NotOnImageRepository { path: path() })?;
    // FV-20. Uptane 2.1.0, 5.4.4.2 step 10.2.1: "Check that the non-custom metadata (i.e., length
    // and hashes) of the unencrypted or encrypted image are the same in both sets of metadata."
    if image.length != director.length || image.hashes != director.hashes {
        return Err(VerifyError::ImageMismatch { path: path() });
    }
    // FV-21. Uptane 2.1.0, 5.4.4.2 step 10.2.2: "Check that all SHALL match custom metadata (e.g.,
    // hardware identifier and release counter) are the same in both sets of metadata." That is all
    // of it here, but for whom it is.
    if let Some(field) = difference(director.custom.as_ref(), image.custom.as_ref()) {
        return Err(VerifyError::CustomMismatch { path: path(), field });
    }
    check_ecu(assignment, ecu)
}

/// Checks an assignment against the ECU that is to run it.
///
/// # Errors
///
/// [`VerifyError::HardwareMismatch`] or [`VerifyError::ReleaseCounterRollback`].
pub fn check_ecu(assignment: &Assignment, ecu: &KnownEcu) -> Result<(), VerifyError> {
    let path = || assignment.path.clone();
    // FV-21. Uptane 2.1.0, 5.4.3.4 step 3: "Check that the hardware identifier in the metadata
    // matches the ECU's hardware identifier."
    let hardware_ids = &assignment.custom.image.hardware_ids;
    if assignment.hardware_id != ecu.hardware_id || !hardware_ids.contains(&ecu.hardware_id) {
        return Err(VerifyError::HardwareMismatch { path: path(), ecu: assignment.ecu.clone() });
    }
    // FV-22. Uptane 2.1.0, 5.4.4.2 step 10.2.3: "Check that the release counter, if one is used, in
    // the previous Targets metadata file is less than or equal to the release counter in this
    // Targets metadata file."
    let offered = assignment.custom.image.release_counter;
    match ecu.highest_counter.filter(|highest| offered < *highest) {
        Some(highest) => Err(VerifyError::ReleaseCounterRollback {
            path: path(),
            ecu: assignment.ecu.clone(),
            highest: highest.value(),
            offered: offered.value(),
        }),
        None => Ok(()),
    }
}

fn difference(director: Option<&Value>, image: Option<&Value>) -> Option<CustomField> {
    let mut director = director.cloned().unwrap_or_default();
    if let Some(members) = director.as_object_mut() {
        members.remove("ecuIdentifiers");
    }
    let image = image.cloned().unwrap_or_default();
    if director == image {
        return None;
    }
    let differs = |member: &str| director.get(member) != image.get(member);
    Some(match (differs("hardwareIds"), differs("releaseCounter")) {
        (true, _) => CustomField::HardwareIds,
        (false, true) => CustomField::ReleaseCounter,
        (false, false) => CustomField::Other,
    })
}

/// Installed images by ECU, as far as they are known.
pub type VehicleImages = BTreeMap<EcuSerial, Vec<Candidate>>;

/// Checks again what the Director should have resolved: that the images fit together and with what
/// is installed (Deployment Best Practices 8.0.6.1; AT-19). An image that is installed already is
/// not new.
///
/// # Errors
///
/// [`VerifyError::ConstraintViolated`]: the first one.
pub fn check_constraints(
    installed: &VehicleImages,
    assignments: &[Assignment],
) -> Result<(), VerifyError> {
    let candidate = |assignment: &Assignment| {
        let image = &assignment.custom.image;
        let (requires, conflicts) = (image.requires.clone(), image.conflicts.clone());
        Candidate {
            name: image.name.clone(),
            release_counter: image.release_counter,
            requires,
            conflicts,
        }
    };
    let bundle: BTreeMap<_, _> =
        assignments.iter().map(|each| (each.ecu.clone(), candidate(each))).collect();
    match violations(installed, &bundle).into_iter().next() {
        Some(violation) => Err(VerifyError::ConstraintViolated(Box::new(violation))),
        None => Ok(()),
    }
}
