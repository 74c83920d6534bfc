//! Why a use case failed, by who has to do something about it.

use crate::blob;
use crate::catalog;
use crate::model::RoleName;
use crate::telemetry::Chain;

/// What went wrong. `code` is stable and for programs, `detail` is for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is malformed; the caller has to change it.
    #[error("{detail}")]
    Invalid {
        /// Stable code.
        code: &'static str,
        /// What is wrong and what to do.
        detail: String,
    },
    /// Nobody has been recognized.
    #[error("{detail}")]
    Unauthenticated {
        /// What is missing.
        detail: String,
    },
    /// Somebody has been recognized who may not do this.
    #[error("{detail}")]
    Forbidden {
        /// What would be needed.
        detail: String,
    },
    /// There is no such thing.
    #[error("{detail}")]
    NotFound {
        /// Stable code.
        code: &'static str,
        /// What is missing.
        detail: String,
    },
    /// The request contradicts what is there.
    #[error("{detail}")]
    Conflict {
        /// Stable code.
        code: &'static str,
        /// What it contradicts.
        detail: String,
    },
    /// There was such a thing, and it is gone for good.
    #[error("{detail}")]
    Gone {
        /// Stable code.
        code: &'static str,
        /// What to do instead.
        detail: String,
    },
    /// Another request works on this; it ends soon.
    #[error("{detail}")]
    Locked {
        /// On what, and what to wait for.
        detail: String,
    },
    /// An upload goes on from another offset.
    #[error("this upload goes on from the offset {offset}")]
    WrongOffset {
        /// From which, in bytes.
        offset: u64,
    },
    /// What came is not what was sent.
    #[error("{detail}")]
    WrongChecksum {
        /// How that is known.
        detail: String,
    },
    /// Several things speak against the request.
    #[error("{}", join(problems))]
    Refused {
        /// Each of them; at least one.
        problems: Vec<Problem>,
    },
    /// The request is well formed and can't be carried out as it is.
    #[error("{detail}")]
    Unprocessable {
        /// Stable code.
        code: &'static str,
        /// Why, and what to do.
        detail: String,
    },
    /// The body is something else than what belongs here.
    #[error("{detail}")]
    UnsupportedMediaType {
        /// What it is, and how to send it.
        detail: String,
    },
    /// Nobody can tell where the body ends.
    #[error("{detail}")]
    LengthRequired {
        /// What to send.
        detail: String,
    },
    /// What the request expects is not so.
    #[error("{detail}")]
    Unexpected {
        /// What is so.
        detail: String,
    },
    /// More bytes than are allowed.
    #[error("the body is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The client sent nothing for too long.
    #[error("nothing was received for {seconds} seconds")]
    Stalled {
        /// The idle timeout.
        seconds: u64,
    },
    /// The client sent so little that it kept others waiting, or went on like that for minutes.
    #[error(
        "only {bytes} bytes came in {seconds} seconds of waiting for more: send faster, or when fewer others do"
    )]
    TooSlow {
        /// What came.
        bytes: u64,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The client is gone; nobody reads the answer.
    #[error("the connection broke off before the whole image was received")]
    ClientGone,
    /// All upload slots are taken, or somebody else was first each time that a change was tried.
    #[error("the server is too busy for this; try again later")]
    Busy,
    /// The server can't do what it is there for, whatever is asked of it.
    #[error("{detail}")]
    NotReady {
        /// Why.
        detail: String,
    },
    /// Somebody has to mend the server first.
    #[error("{detail}")]
    Unavailable {
        /// Stable code.
        code: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// No room is left.
    #[error("{detail}")]
    Full {
        /// For what.
        detail: String,
    },
    /// A stored file isn't what it was; it is not served.
    #[error("{detail}")]
    Corrupt {
        /// Which file.
        detail: String,
    },
    /// The state directory can't be used as it is, and only its operator can change that.
    #[error("{detail}")]
    Unusable {
        /// What is wrong with which file or folder, and what to do.
        detail: String,
    },
    /// The server's own failure. The caller is told nothing but that.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One of several things that speak against a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable, for programs.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub detail: String,
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.detail.as_str()).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// Wraps an error that no caller can do anything about.
    pub(crate) fn internal<E>(op: &'static str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        move |source| Self::Internal(Box::new(FailedTo { op, source: Box::new(source) }))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("failed to {op}")]
struct FailedTo {
    op: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// The catalog's database has gone back to an older state while this server ran. Nothing is
    /// signed then: numbers would be used twice.
    pub(in crate::app) fn catalog_is_older() -> Self {
        let detail = "the catalog's database has lost what it had committed, as after a failover to a standby that lagged, and \
                      nothing is signed: stop every server, run `motorcade recover versions`, and start again \
                      (docs/POSTGRESQL.md)";
        Self::Unavailable { code: CATALOG_IS_OLDER, detail: detail.into() }
    }

    /// This server wraps to another escrow key than the installation has; `why` says what is wrong
    /// with its keys, if that is known.
    pub(in crate::app) fn other_escrow_key(wanted: &str, why: Option<&str>) -> Self {
        let why = why.map_or_else(String::new, |why| format!(" ({why})"));
        let detail = format!(
            "another escrow key wraps since a rotation, {wanted}, and it is not on this server{why}: give it the keys/ of the \
             server on which that was; until then, send uploads to the others"
        );
        Self::Unavailable { code: ESCROW_KEY_DIFFERS, detail }
    }

    /// The bytes of a blob can't be had.
    pub(in crate::app) fn reading(name: &str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| blob::Error::reading(name, source).into()
    }

    /// The catalog's database is away.
    pub(in crate::app) fn catalog_unreachable() -> Self {
        Self::Unavailable {
            code: CATALOG_UNREACHABLE,
            detail: "the server can't reach its database; try again later".into(),
        }
    }

    /// Whether the same may succeed once the catalog's database, or the store of blobs, is back.
    pub(in crate::app) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unavailable { code: CATALOG_UNREACHABLE | BLOBS_UNREACHABLE, .. })
    }

    /// What went wrong, for whoever may manage the server: not without the words for those who are
    /// told no more.
    pub(in crate::app) fn reason(&self) -> String {
        match self {
            Self::Internal(source) => Chain(source.as_ref()).to_string(),
            other => other.to_string(),
        }
    }
}

impl From<blob::Error> for Error {
    fn from(error: blob::Error) -> Self {
        match error {
            blob::Error::Full { .. } => Self::Full { detail: "no space is left for blobs".into() },
            blob::Error::NotFound(name) => {
                Self::NotFound { code: "blob_not_found", detail: format!("there is no {name}") }
            }
            away @ blob::Error::Unavailable { .. } => {
                tracing::warn!(error = %Chain(&away), "the store of blobs can't be used");
                Self::Unavailable {
                    code: BLOBS_UNREACHABLE,
                    detail: "the server can't use its store of blobs; try again later".into(),
                }
            }
            other @ (blob::Error::AlreadyExists(_) | blob::Error::Backend { .. }) => {
                Self::Internal(Box::new(other))
            }
        }
    }
}

fn no_room(role: &RoleName, folder: Option<&str>) -> Error {
    let whose = folder.map_or_else(String::new, |folder| format!("the share of {folder} in "));
    let detail = format!(
        "{whose}{role}, the metadata file that would list this, is full: more would be refused by vehicles; have images \
         yanked that nobody needs, or use another path, which another file lists"
    );
    Error::Conflict { code: "metadata_full", detail }
}

impl From<catalog::Error> for Error {
    fn from(error: catalog::Error) -> Self {
        match error {
            catalog::Error::Full { .. } => {
                Self::Full { detail: "no space is left for the catalog".into() }
            }
            catalog::Error::AlreadyExists(what) => Self::Conflict {
                code: "already_exists",
                detail: format!("{what} is there already"),
            },
            catalog::Error::Unusable { catalog, fault } => {
                Self::Unusable { detail: format!("{catalog} {fault}") }
            }
            unreachable @ catalog::Error::Unreachable { .. } => {
                tracing::warn!(error = %Chain(&unreachable), "the catalog's database can't be reached");
                Self::catalog_unreachable()
            }
            catalog::Error::Older => Self::catalog_is_older(),
            catalog::Error::Text { .. } => Self::Invalid {
                code: "bad_text",
                detail: "a text that was sent has a NUL character".into(),
            },
            catalog::Error::RoleFull { role, folder } => no_room(&role, folder.as_deref()),
            catalog::Error::NotDelegated { target, .. } => Self::Conflict {
                code: "delegation_changed",
                detail: format!(
                    "who signs for {target} has changed while it came in: send it again"
                ),
            },
            catalog::Error::Retired { kid } => Self::Conflict {
                code: "recipient_retired",
                detail: format!(
                    "the recipient {kid} was retired while the image was sealed: send it again"
                ),
            },
            catalog::Error::OtherEscrowKey { wanted } => Self::other_escrow_key(&wanted, None),
            other @ (catalog::Error::Overtaken
            | catalog::Error::Migrate(_)
            | catalog::Error::Backend { .. }) => Self::Internal(Box::new(other)),
        }
    }
}

/// The code of what can't be signed since the catalog has lost something.
pub(in crate::app) const CATALOG_IS_OLDER: &str = "catalog_is_older";
/// The code of what waits for the escrow key that all servers wrap to.
pub(in crate::app) const ESCROW_KEY_DIFFERS: &str = "escrow_key_differs";
/// The store of blobs is away, or lets nobody in.
pub(in crate::app) const BLOBS_UNREACHABLE: &str = "blobs_unreachable";
/// The catalog's database is away.
pub(in crate::app) const CATALOG_UNREACHABLE: &str = "catalog_unreachable";
