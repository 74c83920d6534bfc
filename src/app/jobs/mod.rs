//! Jobs: work that takes longer than a request may, one file a kind.
//!
//! A job works in steps. After each, from where it goes on is in the catalog, so that a server that
//! was killed, or one that takes over, goes on there and not at the beginning. A new kind is a
//! variant of [`JobKind`], a file here with its `Job`, and a line in `kinds`.

mod collection;
mod escrow;
mod fsck;
mod kinds;
mod requests;
mod reseal;
mod rotation;
mod runner;
mod work;

use serde_json::Value;

use super::Error;
use super::access::Principal;
use super::random::random_hex;
use crate::catalog::{InsertedJob, Page};
pub use crate::catalog::{JobProgress, JobRecord, JobState};
use crate::model::JobKind;
pub use runner::Jobs;
pub(super) use runner::JobsParts;

impl Jobs {
    /// Has a job done, with parameters that its kind knows; returns it, and whether it is new: one that does the same and has not ended
    /// is not made twice.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Internal`].
    pub async fn create(
        &self,
        kind: JobKind,
        parameters: &Value,
        by: &Principal,
    ) -> Result<(JobRecord, bool), Error> {
        self.create_beside(kind, parameters, None, by).await
    }

    /// The same for a job that must not run beside one of its kind for the same `member` of its
    /// parameters, if one is named.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] names the one that has not ended; [`Error::Full`]; [`Error::Internal`].
    async fn create_beside(
        &self,
        kind: JobKind,
        parameters: &Value,
        member: Option<&str>,
        by: &Principal,
    ) -> Result<(JobRecord, bool), Error> {
        let author = by.author(self.clock.now());
        let id = new_id(author.at.as_millisecond())?;
        let name = kind.as_str();
        let created = self.catalog.insert_job(&id, name, parameters, member, &author).await?;
        self.wake();
        match created {
            InsertedJob::New(job) => {
                tracing::info!(job.id = %job.id, job.kind = name, "job made");
                Ok((job, true))
            }
            InsertedJob::Same(job) => Ok((job, false)),
            InsertedJob::InTheWay(job) => {
                let (id, asked) = (job.id, job.parameters);
                let detail = format!(
                    "the job {id} does that already, otherwise than you ask for ({asked}): wait for its end, or cancel it \
                     with `motorcade job cancel {id}`"
                );
                Err(Error::Conflict { code: "job_in_the_way", detail })
            }
        }
    }

    /// Shows a job.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn show(&self, id: &str) -> Result<JobRecord, Error> {
        let missing = || Error::NotFound {
            code: "job_not_found",
            detail: format!("there is no job {id:.64}"),
        };
        self.catalog.find_job(id).await?.ok_or_else(missing)
    }

    /// Lists jobs, the newest first, from the one before `before`.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn list(&self, before: &str, limit: u32) -> Result<Page<JobRecord>, Error> {
        Ok(self.catalog.list_jobs(before, limit).await?)
    }

    /// Cancels a job. One that runs stops soon after; cancelling it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Conflict`] if it has ended.
    pub async fn cancel(&self, id: &str, by: &Principal) -> Result<(), Error> {
        if self.catalog.cancel_job(id, &by.author(self.clock.now())).await? {
            self.stop_cancelled();
            tracing::info!(job.id = %id, "job cancelled");
            return Ok(());
        }
        let job = self.show(id).await?;
        match job.state {
            JobState::Queued | JobState::Running | JobState::Cancelled => Ok(()),
            JobState::Done | JobState::Failed => {
                let detail = format!("the job {id} has ended: it is {}", job.state.as_str());
                Err(Error::Conflict { code: "job_ended", detail })
            }
        }
    }
}

/// An id that rises with the time.
fn new_id(now_millis: i64) -> Result<String, Error> {
    Ok(format!("{:012x}{}", now_millis.max(0), random_hex::<6>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_24_digits_and_rises_with_the_time() {
        let ids = [0, 1_795_000_000_000, 1_795_000_000_001].map(|now| new_id(now).unwrap());
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.len() == 24), "{ids:?}");
    }
}
