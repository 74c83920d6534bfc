//! Why there is no answer, or not the one that is needed.

use std::time::Duration;

use super::held::is_same_host;
use motorcade_uptane::verify::{Attack, Fault, Finding};

/// Why there is no answer, or not the one that is needed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The client could not be made.
    #[error("failed to set up HTTP")]
    Client {
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No connection, or one that was cut.
    #[error("failed to fetch {url}")]
    Network {
        /// What was asked for.
        url: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another status than is of use.
    #[error("{url} answered {status}{detail}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
        /// The server's own explanation, after a colon.
        detail: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer of somebody else: a login page, or a proxy that speaks for the server.
    #[error(
        "{url} answered {what}; does a login page or a proxy answer in the place of the server?"
    )]
    Unexpected {
        /// What was asked for.
        url: String,
        /// What came.
        what: String,
    },
    /// A redirection that is not followed.
    #[error("{url} sends us on {fault}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where to.
        fault: &'static str,
    },
    /// It has asked to be left alone, and is.
    #[error("{url} is busy, and is not asked for {} more seconds", left.as_secs())]
    Held {
        /// What would be asked for.
        url: String,
        /// For how long.
        left: Duration,
    },
    /// The process is to end.
    #[error("stopped")]
    Stopped,
    /// More bytes than the file may have (Uptane 2.1.0, 5.4.3.3; AT-16).
    #[error("{url} sends more than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// Nothing more for a while: a bad link, or a server that stands still.
    #[error("{url} sends nothing more")]
    Stalled {
        /// What was asked for.
        url: String,
    },
    /// Too few bytes a second for long (Uptane 2.1.0, 5.4.3.3; AT-5).
    #[error("{url} sends too slowly")]
    TooSlow {
        /// What was asked for.
        url: String,
    },
}

impl HttpError {
    /// What it looks like. That a link is down, cut or stands still is no sign of an attack.
    pub fn finding(&self) -> Option<Finding> {
        match self {
            Self::TooLarge { .. } => Some(Finding::Attack(Attack::EndlessData)),
            Self::TooSlow { .. } => Some(Finding::Attack(Attack::SlowRetrieval)),
            Self::Stalled { .. } => Some(Finding::Fault(Fault::Stalled)),
            Self::Unexpected { .. } => Some(Finding::Fault(Fault::Garbled)),
            Self::Network { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::Held { .. } => Some(Finding::Fault(Fault::Unreachable)),
            Self::Client { .. } | Self::Stopped => None,
        }
    }

    /// How long a host wants to be left alone, if it is the one that has said so.
    pub(super) fn retry_after_of(&self, host: &str) -> Option<Duration> {
        match self {
            Self::Status { url, retry_after, .. } if is_same_host(url, host) => *retry_after,
            Self::Held { url, left } if is_same_host(url, host) => Some(*left),
            _ => None,
        }
    }

    /// Whether somebody has answered, so that another request may be of use.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Unexpected { .. } | Self::Redirect { .. })
    }
}
