//! The runner: takes jobs, does their steps, and says after each how far they are.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::kinds::{Context, make};
use super::work::Step;
use crate::app::Error;
use crate::app::director::Director;
use crate::app::escrow::Escrows;
use crate::app::images::Images;
use crate::app::state_dir::StateDir;
use crate::app::watch::Pulse;
use crate::catalog::{self, Catalog, Holder, JobEnd, JobLease, JobProgress, JobRecord};
use crate::model::clock::later;
use crate::model::{Clock, JobKind, Timestamp};
use crate::telemetry::Chain;

/// The jobs of an installation, and those that this server runs.
pub struct Jobs {
    pub(super) catalog: Catalog,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) context: Context,
    /// Id of this server.
    owner: String,
    pulse: Pulse,
    made: Notify,
    cancelled: Notify,
}

/// What [`Jobs`] is made of.
pub(in crate::app) struct JobsParts {
    pub(in crate::app) catalog: Catalog,
    pub(in crate::app) clock: Arc<dyn Clock>,
    pub(in crate::app) state: StateDir,
    pub(in crate::app) images: Arc<Images>,
    pub(in crate::app) director: Arc<Director>,
    pub(in crate::app) escrows: Arc<Escrows>,
    pub(in crate::app) owner: String,
}

/// What has become of a piece of work.
enum Outcome<T> {
    Stepped(Result<T, Error>),
    Panicked,
    Cancelled,
    Lost,
}

impl Jobs {
    pub(in crate::app) fn new(parts: JobsParts) -> Self {
        let JobsParts { catalog, clock, state, images, director, escrows, owner } = parts;
        let context = Context { state, catalog: catalog.clone(), images, director, escrows };
        Self {
            catalog,
            clock,
            context,
            owner,
            pulse: Pulse::default(),
            made: Notify::new(),
            cancelled: Notify::new(),
        }
    }

    /// The pulse of [`Self::run`].
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Id of this server.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// A job may be there to be taken.
    pub(super) fn wake(&self) {
        self.made.notify_one();
    }

    /// A job that runs may have been cancelled.
    pub(super) fn stop_cancelled(&self) {
        self.cancelled.notify_waiters();
    }

    /// Runs jobs, forever. What runs when this is dropped is left as it is, for the next start.
    pub async fn run(self: Arc<Self>) {
        let mut running = JoinSet::new();
        let mut is_released = false;
        loop {
            self.pulse.beat(LOOK_INTERVAL + LONGEST_LOOK);
            if !is_released {
                is_released = self.release().await;
            }
            while is_released && running.len() < RUN_AT_ONCE {
                let Some(job) = self.take().await else { break };
                running.spawn(Arc::clone(&self).carry_out(job));
            }
            tokio::select! {
                () = self.made.notified() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                Some(_) = running.join_next(), if !running.is_empty() => {}
            }
        }
    }

    /// What this server ran before it was started again can be taken at once.
    async fn release(&self) -> bool {
        match self.catalog.release_jobs(&self.owner).await {
            Ok(0) => true,
            Ok(jobs) => {
                tracing::info!(jobs, "goes on with the jobs from before the start");
                true
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "failed to look for jobs from before the start");
                false
            }
        }
    }

    async fn take(&self) -> Option<JobRecord> {
        let now = self.clock.now();
        let taker = Holder { owner: &self.owner, now, lease_until: later(now, LEASE) };
        match self.catalog.take_job(taker).await {
            Ok(job) => job,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "failed to look for jobs");
                None
            }
        }
    }

    /// Does a job's steps until it ends, or is somebody else's.
    async fn carry_out(self: Arc<Self>, job: JobRecord) {
        let (id, run) = (job.id.as_str(), job.run);
        let ended = match self.work(&job).await {
            Ok(Some(end)) => {
                tracing::info!(job.id = %id, job.kind = %job.kind, outcome = outcome(&end), "job ended");
                self.catalog.end_job(id, run, &end, self.clock.now()).await.map(drop)
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            // Its lease ends, and whoever takes it then goes on from what was saved.
            tracing::warn!(job.id = %id, error = %Chain(&error), "failed to save how far a job is; it is taken up again");
        }
    }

    /// How a job ends, with what it has done taken back if it is not done; none if it is somebody
    /// else's by now, or taken up again.
    async fn work(&self, job: &JobRecord) -> Result<Option<JobEnd>, catalog::Error> {
        let Some(end) = self.steps(job).await? else { return Ok(None) };
        if matches!(end, JobEnd::Done(_)) {
            return Ok(Some(end));
        }
        match self.undo(job).await? {
            Outcome::Stepped(Ok(())) => Ok(Some(end)),
            // However long that takes: what was done is not to stay half done.
            Outcome::Stepped(Err(error @ Error::Unavailable { .. })) => {
                if let Some(saved) = self.catalog.find_job(&job.id).await? {
                    let JobRecord { checkpoint, progress, .. } = saved;
                    self.put_off(job, &checkpoint, progress, &error.reason()).await?;
                }
                Ok(None)
            }
            Outcome::Stepped(Err(error)) if job.stalled <= MOST_STALLED => {
                let error = error.reason();
                tracing::warn!(job.id = %job.id, error, "failed to take back what a job had done; it is tried again");
                Ok(None)
            }
            Outcome::Cancelled | Outcome::Lost => Ok(None),
            Outcome::Panicked | Outcome::Stepped(Err(_)) => {
                let reason = match end {
                    JobEnd::Failed(reason) => reason,
                    JobEnd::Done(_) | JobEnd::Cancelled => "it was cancelled".into(),
                };
                let left = "what it had done is not taken back: the log says why";
                Ok(Some(JobEnd::Failed(format!("{reason}; {left}"))))
            }
        }
    }

    /// Has a job take back what it has done.
    async fn undo(&self, job: &JobRecord) -> Result<Outcome<()>, catalog::Error> {
        let saved = self.catalog.find_job(&job.id).await?;
        let checkpoint = saved.map_or(Value::Null, |saved| saved.checkpoint);
        let kind = JobKind::from_name(&job.kind);
        let Some(Ok(mut work)) = kind.map(|kind| make(kind, job, &self.context)) else {
            return Ok(Outcome::Stepped(Ok(()))); // no step of it was done
        };
        Ok(self.kept(work.undo(checkpoint), job, JobLease::Cancelled).await)
    }

    /// How a job's steps end; none if it is somebody else's by now.
    async fn steps(&self, job: &JobRecord) -> Result<Option<JobEnd>, catalog::Error> {
        let (id, run) = (job.id.as_str(), job.run);
        if job.stalled > MOST_STALLED {
            let reason = format!("it was begun {MOST_STALLED} times and got no further each time");
            return Ok(Some(JobEnd::Failed(reason)));
        }
        let Some(kind) = JobKind::from_name(&job.kind) else {
            let reason = format!("this version has no job {}", job.kind);
            return Ok(Some(JobEnd::Failed(reason)));
        };
        match self.catalog.keep_job(id, run, self.lease()).await? {
            JobLease::Kept => {}
            JobLease::Cancelled => return Ok(Some(JobEnd::Cancelled)),
            JobLease::Lost => return Ok(None),
        }
        let mut work = match make(kind, job, &self.context) {
            Ok(work) => work,
            Err(error) => return Ok(Some(failed(id, &error))),
        };
        let (mut checkpoint, mut progress) = (job.checkpoint.clone(), job.progress.clone());
        loop {
            let step = work.step(checkpoint.clone());
            match self.kept(step, job, JobLease::Kept).await {
                Outcome::Stepped(Ok(Step::Next { checkpoint: next, progress: made })) => {
                    (checkpoint, progress) = (next, made);
                }
                Outcome::Stepped(Ok(Step::Done { result })) => {
                    return Ok(Some(JobEnd::Done(result)));
                }
                Outcome::Stepped(Err(error)) if error.is_unreachable() => {
                    tracing::warn!(job.id = %id, %error, "job waits until its lease has ended");
                    return Ok(None);
                }
                Outcome::Stepped(Err(Error::Unavailable { detail, .. })) => {
                    return self.put_off(job, &checkpoint, progress, &detail).await;
                }
                Outcome::Stepped(Err(error)) => return Ok(Some(failed(id, &error))),
                Outcome::Panicked => {
                    return Ok(Some(JobEnd::Failed("it panicked: the log says where".into())));
                }
                Outcome::Cancelled => return Ok(Some(JobEnd::Cancelled)),
                Outcome::Lost => return Ok(None),
            }
            match self.catalog.save_job(id, run, &checkpoint, &progress, self.lease()).await? {
                JobLease::Kept => {}
                JobLease::Cancelled => return Ok(Some(JobEnd::Cancelled)),
                JobLease::Lost => return Ok(None),
            }
        }
    }

    /// Has a job that waits for something, such as a key that is away, taken up again from where it
    /// is: for as long as that takes, unless somebody cancels it.
    async fn put_off(
        &self,
        job: &JobRecord,
        checkpoint: &Value,
        mut progress: JobProgress,
        why: &str,
    ) -> Result<Option<JobEnd>, catalog::Error> {
        tracing::warn!(job.id = %job.id, error = why, "job waits");
        progress.phase = format!("waits: {why}");
        let until = later(self.clock.now(), PUT_OFF);
        let saved = self.catalog.save_job(&job.id, job.run, checkpoint, &progress, until).await?;
        Ok(matches!(saved, JobLease::Cancelled).then_some(JobEnd::Cancelled))
    }

    /// Does a piece of the work, and keeps the job for as long as that takes. What is `expected`, be
    /// it that the job was cancelled, is no reason to stop.
    async fn kept<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
        job: &JobRecord,
        expected: JobLease,
    ) -> Outcome<T> {
        let step = AssertUnwindSafe(work).catch_unwind();
        tokio::pin!(step);
        loop {
            tokio::select! {
                stepped = &mut step => {
                    return stepped.map_or(Outcome::Panicked, Outcome::Stepped);
                }
                () = self.cancelled.notified() => {}
                () = tokio::time::sleep(KEEP_INTERVAL) => {}
            }
            match self.catalog.keep_job(&job.id, job.run, self.lease()).await {
                Ok(JobLease::Kept) => {}
                Ok(JobLease::Cancelled) if expected == JobLease::Cancelled => {}
                Ok(JobLease::Cancelled) => return Outcome::Cancelled,
                Ok(JobLease::Lost) => return Outcome::Lost,
                Err(error) => {
                    tracing::warn!(job.id = %job.id, error = %Chain(&error), "failed to keep a job");
                }
            }
        }
    }

    fn lease(&self) -> Timestamp {
        later(self.clock.now(), LEASE)
    }
}

/// The reason of a failure, for whoever may manage the server.
fn failed(id: &str, error: &Error) -> JobEnd {
    let reason = error.reason();
    tracing::error!(job.id = %id, error = reason, "job failed");
    JobEnd::Failed(reason)
}

fn outcome(end: &JobEnd) -> &'static str {
    match end {
        JobEnd::Done(_) => "done",
        JobEnd::Failed(_) => "failed",
        JobEnd::Cancelled => "cancelled",
    }
}

/// Each may read as fast as the disk gives.
const RUN_AT_ONCE: usize = 2;
/// How often to look for jobs that another server has made, or has left behind.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
const LONGEST_LOOK: Duration = Duration::from_secs(120); // on a disk that still works
const LEASE: Duration = Duration::from_secs(60);
const KEEP_INTERVAL: Duration = Duration::from_secs(15);
/// After how long a job that waits for something looks for it again.
const PUT_OFF: Duration = Duration::from_secs(30);
/// A job that takes its server down with it is given up then.
const MOST_STALLED: u64 = 10;
