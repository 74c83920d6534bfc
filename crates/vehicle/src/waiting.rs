//! How this program waits for servers: on one runtime, with patience, and until it is to end.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::http_error::HttpError;
use super::progress::Progress;
use super::stop::Stop;

/// How long the client waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a connection, and as long again for the head of an answer.
    pub(super) answer: Duration,
    /// For the next byte of a body.
    pub(super) stall: Duration,
    /// Bytes a second that must come in each window.
    pub(super) min_speed: u64,
    /// Length of the window.
    pub(super) window: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let half_a_minute = Duration::from_secs(30);
        // Less than the slowest link that a vehicle may be left with gives, measured for long.
        Self {
            answer: half_a_minute,
            stall: half_a_minute,
            min_speed: 256,
            window: half_a_minute * 2,
        }
    }
}

/// Whoever waits, and what ends that.
pub(super) struct Waiting {
    pub(super) runtime: Runtime,
    pub(super) patience: Patience,
    pub(super) stop: Stop,
    /// Where it is shown how far downloads are.
    pub(super) progress: Progress,
}

impl Waiting {
    pub(super) fn with(patience: Patience) -> Result<Self, HttpError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| HttpError::Client { source: Box::new(source) })?;
        Ok(Self { runtime, patience, stop: Stop::never(), progress: Progress::default() })
    }

    /// Waits for something to be done.
    ///
    /// # Errors
    ///
    /// [`HttpError::Stopped`] once the process is to end.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, HttpError> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.asked() => Err(HttpError::Stopped),
                done = future => Ok(done),
            }
        })
    }
}
