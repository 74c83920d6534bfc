//! The queue of status changes: many polls, one transaction.
//!
//! A commit has to reach the disk, which takes as long for one poll as for hundreds. So whatever
//! comes while one transaction is written goes into the next one.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::app::Error;
use crate::app::watch::{Pulse, Watch};
use crate::catalog::{self, Catalog, StatusWriter};
use crate::model::VehicleChange;
use crate::telemetry::Chain;

pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

enum Job {
    Change(Arc<VehicleChange>, oneshot::Sender<Result<bool, Failed>>),
    Version(oneshot::Sender<Result<u64, Failed>>),
}

/// What everybody in a transaction that failed is told; its cause is logged once.
#[derive(Debug, Clone, Copy)]
enum Failed {
    Full,
    Unreachable,
    Older,
    Other,
}

impl Writer {
    /// Starts the task that writes; it ends with the last writer.
    pub(super) fn start(catalog: Catalog, watch: &Watch, runtime: &Handle) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE_LENGTH);
        let pulse = Pulse::default();
        watch.spawn(
            "writes the status of vehicles",
            pulse.clone(),
            runtime,
            write_all(catalog, queue, pulse),
        );
        Self { jobs }
    }

    /// Makes a change, if its vehicle is still at its revision; returns whether it was.
    pub(super) async fn change(&self, change: Arc<VehicleChange>) -> Result<bool, Error> {
        let (answer, outcome) = oneshot::channel();
        self.run(Job::Change(change, answer), outcome).await
    }

    /// Hands out a number of the Director's sequence.
    pub(super) async fn reserve_version(&self) -> Result<u64, Error> {
        let (answer, outcome) = oneshot::channel();
        self.run(Job::Version(answer), outcome).await
    }

    async fn run<T>(
        &self,
        job: Job,
        outcome: oneshot::Receiver<Result<T, Failed>>,
    ) -> Result<T, Error> {
        let internal =
            |text| Error::internal("change a vehicle's status")(std::io::Error::other(text));
        self.jobs.send(job).await.map_err(|_| internal("the writer has stopped"))?;
        match outcome.await.map_err(|_| internal("the writer has stopped"))? {
            Ok(done) => Ok(done),
            Err(Failed::Full) => {
                Err(Error::Full { detail: "no space is left for the catalog".into() })
            }
            Err(Failed::Unreachable) => Err(Error::catalog_unreachable()),
            Err(Failed::Older) => Err(Error::catalog_is_older()),
            Err(Failed::Other) => Err(internal("see the writer's own log line")),
        }
    }
}

async fn write_all(catalog: Catalog, mut queue: mpsc::Receiver<Job>, pulse: Pulse) {
    // Those of a database's last moments may be lost, and what was signed with them is nowhere but
    // in vehicles. A start after which nothing is signed uses up none.
    let left_out = if catalog.is_on_server() { LOST_AT_MOST } else { 0 };
    let mut connection = StatusWriter::new(catalog).leaving_out(left_out);
    let mut jobs = Vec::with_capacity(WRITTEN_AT_ONCE);
    let mut is_busy = false;
    while queue.recv_many(&mut jobs, WRITTEN_AT_ONCE).await > 0 {
        pulse.beat(LONGEST_WRITE);
        if is_busy && jobs.len() < WRITTEN_AT_ONCE {
            tokio::time::sleep(LINGER).await;
            while jobs.len() < WRITTEN_AT_ONCE
                && let Ok(job) = queue.try_recv()
            {
                jobs.push(job);
            }
        }
        is_busy = jobs.len() >= BUSY;
        let (mut changes, mut answers, mut versions) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs.drain(..) {
            match job {
                Job::Change(change, answer) => {
                    changes.push(change);
                    answers.push(answer);
                }
                Job::Version(answer) => versions.push(answer),
            }
        }
        // Whoever asked may be gone; then nobody takes the answer.
        match connection.apply(&changes, versions.len() as u64).await {
            Ok((made, first_version)) => {
                for (answer, made) in answers.into_iter().zip(made) {
                    let _ = answer.send(Ok(made));
                }
                for (answer, version) in versions.into_iter().zip(first_version..) {
                    let _ = answer.send(Ok(version));
                }
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), changes = changes.len(), "failed to change the status of vehicles");
                let failed = match error {
                    catalog::Error::Full { .. } => Failed::Full,
                    catalog::Error::Unreachable { .. } => Failed::Unreachable,
                    catalog::Error::Older => Failed::Older,
                    _ => Failed::Other,
                };
                for answer in answers {
                    let _ = answer.send(Err(failed));
                }
                for answer in versions {
                    let _ = answer.send(Err(failed));
                }
            }
        }
        pulse.rest();
    }
}

/// More bundles than are signed in the time by which a standby lags, and little beside the 2^31 that
/// the narrowest client counts to.
const LOST_AT_MOST: u64 = 10_000;
const QUEUE_LENGTH: usize = 4096;
const WRITTEN_AT_ONCE: usize = 1024;
/// Jobs of one transaction from which on more of them are worth waiting for.
const BUSY: usize = 4;
/// Far longer than a disk that still works takes.
const LONGEST_WRITE: Duration = Duration::from_secs(120);
const LINGER: Duration = Duration::from_millis(2); // a commit takes about as long
