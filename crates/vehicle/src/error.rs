//! Failures in a vehicle, and the attack or fault that each looks like.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::http_error::HttpError;
use motorcade_uptane::verify::{Attack, Fault, Finding, VerifyError};

/// Why an update, or a part of one, has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Metadata, or what it says, is refused.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A server could not be reached, or did not answer as it should.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A file that has to be there is not.
    #[error("the repository has no {name}")]
    NotFound {
        /// Which file.
        name: String,
    },
    /// The file system refused.
    #[error("failed to {verb} {path}")]
    File {
        /// What was being done.
        verb: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is no room for an image and what has to stay free besides.
    #[error("{path} has room for {available} more bytes, and {needed} are needed; make room")]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// Bytes that are missing for the image.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// The clock is before a time that was verified earlier (TIM-6; AT-7).
    #[error(
        "the clock is behind: it says {now}, and {latest} has been verified before; correct the time source"
    )]
    ClockBehind {
        /// What it says.
        now: motorcade_model::Timestamp,
        /// What was seen before.
        latest: motorcade_model::Timestamp,
    },
    /// The time source has no time.
    #[error("{path} has no RFC 3339 time")]
    TimeSource {
        /// Which file.
        path: PathBuf,
    },
    /// A downloaded target does not have its length or hashes (Uptane 2.1.0, 5.4.2.4; AT-21,
    /// AT-37).
    #[error("{name} is not the file that was signed")]
    WrongTarget {
        /// Which target.
        name: String,
    },
    /// What is in the sealed image, or the envelope, is not what was signed (Uptane 2.1.0, 5.4.3.4;
    /// AT-3).
    #[error("{path} does not open to the image that was signed")]
    WrongImage {
        /// Target path.
        path: String,
        /// What went wrong, if opening did.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The target was not written, or the command did not take it.
    #[error("failed to install on the ECU {ecu}: {reason}")]
    Install {
        /// Which ECU.
        ecu: motorcade_model::EcuSerial,
        /// What happened.
        reason: String,
    },
    /// A target name that leads out of its folder (AT-40).
    #[error("the target name {name:?} can't be fetched")]
    TargetName {
        /// The name.
        name: String,
    },
    /// A file of the vehicle's own that its disk has damaged, and of which no copy is good.
    #[error("{path} is damaged ({fault}), and there is no good copy of it")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// A setting, key or state file that can't be used.
    #[error("{path} can't be used: {fault}")]
    Setting {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
}

impl Error {
    /// Says what was being done to a file; for `map_err`.
    pub(super) fn file(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { verb, path, source }
    }

    /// What it looks like, if it is of interest to the Director.
    pub fn finding(&self) -> Option<Finding> {
        match self {
            Self::Verify(error) => Some(error.finding()),
            Self::Http(error) => error.finding(),
            Self::ClockBehind { .. } | Self::TimeSource { .. } => {
                Some(Finding::Fault(Fault::Clock))
            }
            Self::WrongTarget { .. } | Self::TargetName { .. } => {
                Some(Finding::Attack(Attack::ArbitrarySoftware))
            }
            Self::WrongImage { .. } => Some(Finding::Attack(Attack::WrongSoftware)),
            Self::NotFound { .. } => Some(Finding::Fault(Fault::Missing)),
            Self::NoRoom { .. } => Some(Finding::Fault(Fault::DiskFull)),
            Self::File { source, .. } if is_full(source) => Some(Finding::Fault(Fault::DiskFull)),
            Self::File { .. } | Self::Setting { .. } | Self::Damaged { .. } => {
                Some(Finding::Fault(Fault::Storage))
            }
            Self::Install { .. } => Some(Finding::Fault(Fault::Install)),
        }
    }

    /// How long a host wants to be left alone, if it is the one that has failed and has said so.
    pub(super) fn retry_after_of(&self, host: &str) -> Option<Duration> {
        match self {
            Self::Http(error) => error.retry_after_of(host),
            _ => None,
        }
    }

    /// Whether there was no room while something was written.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::File { source, .. } if is_full(source))
    }

    /// The attack that it looks like, if it looks like one.
    pub fn attack(&self) -> Option<Attack> {
        self.finding().and_then(Finding::attack)
    }

    /// The fault that it is, if it is one.
    pub fn fault(&self) -> Option<Fault> {
        self.finding().and_then(Finding::fault)
    }
}

/// Whether there is no room: on the disk, or in a quota.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
