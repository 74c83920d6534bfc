//! Why something is refused, by the outcomes of the specifications, and which attack or fault it
//! looks like.

use super::attack::Attack;
use super::fault::{Fault, Finding};
use motorcade_model::{EcuSerial, RoleName, Timestamp, Violation};

/// Part of `custom` in which the two repositories differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomField {
    /// `hardwareIds`.
    HardwareIds,
    /// `releaseCounter`.
    ReleaseCounter,
    /// Any other.
    Other,
}

/// Why metadata, or what it says, is refused. Nothing that was trusted before is touched by that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// What came is no metadata, or was rewritten on its way: nobody has signed it, and nobody
    /// gains by it.
    #[error("{role} metadata did not arrive as such: {fault}")]
    Garbled {
        /// Whose file.
        role: RoleName,
        /// What came in its place.
        fault: String,
    },
    /// Not UTF-8, not JSON, a member twice, a fraction, a missing or misshapen member, version 0
    /// (TUF 1.0.34, 4).
    #[error("{role} metadata is malformed: {fault}")]
    Malformed {
        /// Whose file.
        role: RoleName,
        /// What is wrong with it.
        fault: String,
    },
    /// `_type` is another role's (TUF 1.0.34, 4.3; AT-32).
    #[error("{role} metadata says that it is {found:?}")]
    WrongType {
        /// Whose file it should be.
        role: RoleName,
        /// What it says.
        found: String,
    },
    /// `spec_version` has another major number than 1 (TUF 1.0.34, 4.3).
    #[error(
        "{role} metadata is of the specification's version {found:?}, and 1.x is what is known here"
    )]
    SpecVersion {
        /// Whose file.
        role: RoleName,
        /// What it says.
        found: String,
    },
    /// Too few good signatures of distinct keys (TUF 1.0.34, 5.3.4, 5.4.2, 5.5.3, 5.6.3; FV-3,
    /// FV-8, FV-10, FV-11).
    #[error(
        "{role} metadata has {valid} valid signatures of distinct keys where {threshold} are needed"
    )]
    ThresholdNotMet {
        /// Whose file.
        role: RoleName,
        /// Keys that signed it.
        valid: u64,
        /// Keys that must.
        threshold: u64,
    },
    /// A threshold of 0 (TUF 1.0.34, 4.3; AT-27).
    #[error("{role} metadata has a role {of:?} that needs no signature")]
    ZeroThreshold {
        /// Where it is said.
        role: RoleName,
        /// Of which role.
        of: String,
    },
    /// A key id is not the hash of its key (TUF 1.0.34, 4.3; AT-33).
    #[error("{role} metadata lists a key under the id {key_id:?}, which is not its own")]
    KeyIdMismatch {
        /// Whose file.
        role: RoleName,
        /// The id.
        key_id: String,
    },
    /// One key twice (TUF 1.0.34, 4.3; AT-26).
    #[error("{role} metadata lists one key twice")]
    DuplicateKey {
        /// Whose file.
        role: RoleName,
    },
    /// One key id twice in `signatures` (TUF 1.0.34, 4.2.1).
    #[error("{role} metadata has two signatures under one key id")]
    DuplicateSignature {
        /// Whose file.
        role: RoleName,
    },
    /// Past its expiry (TUF 1.0.34, 5.3.10, 5.4.4, 5.5.6, 5.6.5; FV-6, FV-8, FV-10, FV-11).
    #[error("{role} metadata expired at {expires}")]
    Expired {
        /// Whose file.
        role: RoleName,
        /// When.
        expires: Timestamp,
    },
    /// A version below one that was trusted before (TUF 1.0.34, 5.3.5, 5.4.3, 5.5.5; FV-4, FV-8,
    /// FV-10, FV-11).
    #[error("{role} metadata goes back from version {trusted} to {found}")]
    Rollback {
        /// Whose file.
        role: RoleName,
        /// What was seen before.
        trusted: u64,
        /// What came now.
        found: u64,
    },
    /// Root skips a version (TUF 1.0.34, 5.3.5; FV-4).
    #[error("root metadata goes from version {trusted} to {found}")]
    RootSkipped {
        /// The trusted version.
        trusted: u64,
        /// What came as the next one.
        found: u64,
    },
    /// Not the version that the snapshot or the timestamp lists (TUF 1.0.34, 5.5.4, 5.6.4; FV-10,
    /// FV-11; AT-18).
    #[error("{role} metadata has version {found} where {expected} is listed")]
    VersionMismatch {
        /// Whose file.
        role: RoleName,
        /// What is listed.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// Not the length or the hashes that are listed (TUF 1.0.34, 5.5.2, 5.6.2; FV-10, FV-11;
    /// AT-14).
    #[error("{role} metadata is not the file that is listed: its length or hash differs")]
    HashMismatch {
        /// Whose file.
        role: RoleName,
    },
    /// Hashes of kinds that are not known here, or none where one must be (TUF 1.0.34, 4.2.1;
    /// MET-8).
    #[error(
        "what {role} metadata lists has no SHA-256 or SHA-512 digest, or one of another kind besides"
    )]
    UnknownHash {
        /// Whose file.
        role: RoleName,
    },
    /// A role that an earlier snapshot listed is gone (TUF 1.0.34, 5.5.5; FV-10).
    #[error("{role} is no longer in the snapshot")]
    DroppedFromSnapshot {
        /// Which role.
        role: RoleName,
    },
    /// A role that is delegated to is not in the snapshot (TUF 1.0.34, 5.6.7.2; FV-18).
    #[error("{role} is not in the snapshot")]
    MissingFromSnapshot {
        /// Which role.
        role: RoleName,
    },
    /// More bytes than are listed or than such a file may have (TUF 1.0.34, 5.3.3, 5.4.1, 5.5.1,
    /// 5.6.1; FV-2, FV-8; AT-16).
    #[error("{role} metadata has more than {limit} bytes")]
    TooLarge {
        /// Whose file.
        role: RoleName,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file that is listed is not there (TUF 1.0.34, 5.6.7.2; FV-18, FV-18m: a withheld role ends
    /// the search; AT-47).
    #[error("{role} metadata is listed but is not there")]
    Withheld {
        /// Whose file.
        role: RoleName,
    },
    /// A search visits too many roles (TUF 1.0.34, 5.6.7.1; AT-17).
    #[error("the search for {path} visits more than {limit} roles")]
    TooManyDelegations {
        /// What is searched.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// Director metadata of another vehicle, or of none (Uptane 2.1.0, 5.2.3.1; FV-15; AT-9,
    /// AT-10).
    #[error("{role} metadata of the Director is not for this vehicle")]
    WrongVehicle {
        /// Whose file.
        role: RoleName,
    },
    /// The Director delegates (Uptane 2.1.0, 5.4.4.6 step 6; FV-12; AT-34).
    #[error("the Director delegates, which it must not")]
    DelegationFromDirector,
    /// An ECU is to install two images (Uptane 2.1.0, 5.4.4.6 step 7; FV-13; AT-35).
    #[error("the Director has more than one image for the ECU {ecu}")]
    DuplicateEcu {
        /// Which ECU.
        ecu: EcuSerial,
    },
    /// An ECU that is not in this vehicle (Uptane 2.1.0, 5.4.4.6 step 8; FV-14; AT-35).
    #[error("the Director has an image for the ECU {ecu}, which is not in this vehicle")]
    UnknownEcu {
        /// Which ECU.
        ecu: EcuSerial,
    },
    /// No image of that name on the Image repository, for that hardware (Uptane 2.1.0, 5.4.4.2 step
    /// 10.1; FV-19; AT-22, AT-24).
    #[error("{path} is not on the Image repository")]
    NotOnImageRepository {
        /// Target path.
        path: String,
    },
    /// Length or hashes differ between the repositories (Uptane 2.1.0, 5.4.4.2 step 10.2.1; FV-20;
    /// AT-22).
    #[error("{path} has another length or hash on the Image repository")]
    ImageMismatch {
        /// Target path.
        path: String,
    },
    /// `custom` differs between the repositories (Uptane 2.1.0, 5.4.4.2 step 10.2.2; FV-21).
    #[error("{path} is described differently on the Image repository")]
    CustomMismatch {
        /// Target path.
        path: String,
        /// In what.
        field: CustomField,
    },
    /// An image for other hardware (Uptane 2.1.0, 5.4.3.4 step 3; FV-21; AT-36).
    #[error("{path} is not for the hardware of the ECU {ecu}")]
    HardwareMismatch {
        /// Target path.
        path: String,
        /// Which ECU.
        ecu: EcuSerial,
    },
    /// A lower release counter than was accepted before (Uptane 2.1.0, 5.4.4.2 step 10.2.3; FV-22;
    /// AT-15).
    #[error(
        "{path} has the release counter {offered}, and the ECU {ecu} has accepted {highest} before"
    )]
    ReleaseCounterRollback {
        /// Target path.
        path: String,
        /// Which ECU.
        ecu: EcuSerial,
        /// The highest that was accepted.
        highest: u64,
        /// What is offered.
        offered: u64,
    },
    /// The images do not fit together (Deployment Best Practices 8.0.6; AT-19).
    #[error("the images do not fit together: {0}")]
    ConstraintViolated(Box<Violation>),
    /// Not sealed, or in a way that is not known (ENC-12, ENC-18; AT-2).
    #[error("{path} is not sealed in a way that is known here")]
    EncryptionDowngrade {
        /// Target path.
        path: String,
    },
}

impl VerifyError {
    /// What it looks like: an attack, or something that happens without one.
    pub fn finding(&self) -> Finding {
        let attack = match self {
            Self::Garbled { .. } => return Finding::Fault(Fault::Garbled),
            // Nobody has signed it again, or the clock is ahead: who withholds the new can't be
            // told from who made nothing new.
            Self::Expired { .. } => return Finding::Fault(Fault::Expired),
            Self::Malformed { .. } | Self::SpecVersion { .. } => Attack::Malformed,
            Self::DuplicateSignature { .. } | Self::UnknownHash { .. } => Attack::Malformed,
            Self::ThresholdNotMet { .. } | Self::ZeroThreshold { .. } => Attack::ArbitrarySoftware,
            Self::KeyIdMismatch { .. } | Self::DuplicateKey { .. } => Attack::ArbitrarySoftware,
            Self::DelegationFromDirector | Self::TooManyDelegations { .. } => {
                Attack::ArbitrarySoftware
            }
            Self::NotOnImageRepository { .. } | Self::ImageMismatch { .. } => {
                Attack::ArbitrarySoftware
            }
            Self::Withheld { .. } => Attack::Freeze,
            Self::Rollback { .. } | Self::RootSkipped { .. } | Self::DroppedFromSnapshot { .. } => {
                Attack::Rollback
            }
            Self::VersionMismatch { .. } | Self::HashMismatch { .. } | Self::WrongType { .. } => {
                Attack::MixAndMatch
            }
            Self::MissingFromSnapshot { .. } | Self::ConstraintViolated(_) => Attack::MixAndMatch,
            Self::TooLarge { .. } => Attack::EndlessData,
            Self::WrongVehicle { .. } | Self::UnknownEcu { .. } => Attack::WrongVehicle,
            Self::DuplicateEcu { .. } => Attack::MixedBundles,
            Self::CustomMismatch { field, .. } => match field {
                CustomField::HardwareIds => Attack::WrongHardware,
                CustomField::ReleaseCounter => Attack::ImageRollback,
                CustomField::Other => Attack::ArbitrarySoftware,
            },
            Self::HardwareMismatch { .. } => Attack::WrongHardware,
            Self::ReleaseCounterRollback { .. } => Attack::ImageRollback,
            Self::EncryptionDowngrade { .. } => Attack::EncryptionDowngrade,
        };
        Finding::Attack(attack)
    }
}
