//! What publication comes to.

use bytes::Bytes;

use crate::app::Error;
use crate::app::error::{BLOBS_UNREACHABLE, CATALOG_IS_OLDER, CATALOG_UNREACHABLE};
use crate::app::replicas::presence::OTHER_SERVER;
use crate::app::signing::KEY_UNAVAILABLE;
use crate::model::{Sha256Digest, Timestamp};

/// The signed timestamp as it is served.
#[derive(Debug, Clone)]
pub struct CurrentTimestamp {
    /// Its version.
    pub version: u64,
    /// The file.
    pub bytes: Bytes,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// When it was published.
    pub published_at: Timestamp,
    /// When it expires; after that it **must not** be served.
    pub expires_at: Timestamp,
}

/// What it takes to sign everything that is published at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SigningSize {
    /// Bytes of all files.
    pub bytes: u64,
    /// How many files there are.
    pub files: u64,
}

/// What a round tells everyone who waits for it.
pub(super) type Outcome = Result<(), Failed>;

/// The kinds of failure that a waiting request answers differently; the cause is logged once, by
/// the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    Full,
    Clock,
    Unreachable,
    Blobs,
    Key,
    Older,
    NotShown,
    Other,
}

/// Those of them that are told differently by what was to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Full,
    Clock,
    Blobs,
    Key,
    NotShown,
}

impl Failed {
    /// The answer to a request; `detail` says what a reason means for what was to be published.
    pub(super) fn into_error(self, detail: impl FnOnce(Reason) -> String) -> Error {
        let (code, why) = match self {
            Self::Full => return Error::Full { detail: detail(Reason::Full) },
            Self::Unreachable => return Error::catalog_unreachable(),
            Self::Older => return Error::catalog_is_older(),
            Self::Other => {
                let seen = std::io::Error::other("see the round's own log line");
                return Error::internal("publish")(seen);
            }
            Self::Clock => ("clock_behind", Reason::Clock),
            Self::Blobs => (BLOBS_UNREACHABLE, Reason::Blobs),
            Self::Key => (KEY_UNAVAILABLE, Reason::Key),
            Self::NotShown => (OTHER_SERVER, Reason::NotShown),
        };
        Error::Unavailable { code, detail: detail(why) }
    }
}

impl From<&Error> for Failed {
    fn from(error: &Error) -> Self {
        match error {
            Error::Full { .. } => Self::Full,
            Error::Unavailable { code: CATALOG_UNREACHABLE, .. } => Self::Unreachable,
            Error::Unavailable { code: BLOBS_UNREACHABLE, .. } => Self::Blobs,
            Error::Unavailable { code: KEY_UNAVAILABLE, .. } => Self::Key,
            Error::Unavailable { code: CATALOG_IS_OLDER, .. } => Self::Older,
            Error::Unavailable { code: OTHER_SERVER, .. } => Self::NotShown,
            Error::Unavailable { .. } => Self::Clock,
            _ => Self::Other,
        }
    }
}
