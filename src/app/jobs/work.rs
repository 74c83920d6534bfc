//! What a job is: work in steps.

use async_trait::async_trait;
use serde_json::Value;

use crate::app::Error;
pub(super) use crate::catalog::JobProgress;

/// Work in steps. One value does the steps of one run, and may keep in memory what it can read
/// again.
#[async_trait]
pub(super) trait Job: Send {
    /// Does a piece of the work: some seconds of it, if it can be divided like that. `checkpoint` is
    /// what the step before has returned, in this process or another one, and null for the first.
    ///
    /// A step **must** be able to be done again: nobody knows whether one that was cut off has
    /// ended. It is dropped, at whatever it waits for, if the job is cancelled or the server stops.
    ///
    /// # Errors
    ///
    /// Whatever keeps the job from being done at all; it has failed then.
    async fn step(&mut self, checkpoint: Value) -> Result<Step, Error>;

    /// Takes back what a job that has failed or was cancelled has done and nobody wants without the
    /// rest. `checkpoint` is what was saved last; a step after it may have been cut off anywhere. It
    /// **must** be able to be done again.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being taken back; it is tried again.
    async fn undo(&mut self, checkpoint: Value) -> Result<(), Error> {
        let _ = checkpoint;
        Ok(())
    }
}

/// What a step has come to.
pub(super) enum Step {
    /// There is more to do.
    Next {
        /// From where.
        checkpoint: Value,
        /// How far it is.
        progress: JobProgress,
    },
    /// All is done.
    Done {
        /// What came of it, for whoever asked.
        result: Value,
    },
}
