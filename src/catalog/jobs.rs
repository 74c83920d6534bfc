//! Jobs: work that outlives requests and processes.
//!
//! A job belongs to the server that took it, for as long as its lease lasts, and in one run at a
//! time: what is saved by a run that has lost the job changes nothing.

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::holder::Held;
use super::{
    AuditKind, Author, Catalog, During, Error, Holder, OrCorrupt, Page, audit, column,
    json as json_column, number, optional_time, text, time,
};
use crate::model::Timestamp;

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// Its id, which rises with the time at which it was made.
    pub id: String,
    /// What it does.
    pub kind: String,
    /// What it was asked for: a JSON object.
    pub parameters: Value,
    /// How it stands.
    pub state: JobState,
    /// From where the next step goes on; null before the first.
    pub checkpoint: Value,
    /// How far it is.
    pub progress: JobProgress,
    /// What came of it.
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Id of the token that asked for it.
    pub created_by: String,
    /// When it was first taken.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The server that runs it.
    pub owner: Option<String>,
    /// Which of its runs this is.
    pub run: u64,
    /// How often it was taken since it last got on.
    pub stalled: u64,
}

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// What is being done, for people; empty before the first step.
    pub phase: String,
    /// How much of `total` is done, in whatever the phase counts.
    pub done: u64,
    /// How much there is; 0 if nobody knows.
    pub total: u64,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It waits to be taken.
    Queued,
    /// A server has taken it.
    Running,
    /// It has done what it was there for.
    Done,
    /// It could not.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEnd {
    /// With a result.
    Done(Value),
    /// With a reason, for people.
    Failed(String),
    /// Because somebody cancelled it.
    Cancelled,
}

/// What a run hears when it says how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobLease {
    /// It may go on.
    Kept,
    /// It is to stop, and to say so.
    Cancelled,
    /// The job is somebody else's, or has ended: nothing of this run counts any more.
    Lost,
}

/// What came of adding a job.
#[derive(Debug, Clone, PartialEq)]
pub enum InsertedJob {
    /// It is there now.
    New(JobRecord),
    /// One that does the same waits or runs.
    Same(JobRecord),
    /// Another one has not ended, which this one must not run beside.
    InTheWay(JobRecord),
}

impl Catalog {
    /// Adds a job, unless one of the same kind and parameters waits or runs and nobody has cancelled
    /// it. If a `member` of its parameters is named, it must be alone: none of its kind may wait, run,
    /// or be about to stop, whose parameters have the same one. Of those that have ended the newest
    /// are kept.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn insert_job(
        &self,
        id: &str,
        kind: &str,
        parameters: &Value,
        member: Option<&str>,
        author: &Author,
    ) -> Result<InsertedJob, Error> {
        const OP: &str = "add a job";
        let mut transaction = self.pool.begin().await.during(OP)?;
        sqlx::query(
            "DELETE FROM jobs WHERE state NOT IN ('queued', 'running') AND id NOT IN \
             (SELECT id FROM jobs WHERE state NOT IN ('queued', 'running') ORDER BY id DESC LIMIT $1)",
        )
        .bind(ENDED_KEPT)
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        let like = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM jobs WHERE kind = $1 AND parameters = $2 AND state IN ('queued', 'running') AND is_cancelled = 0 \
             ORDER BY id LIMIT 1"
        )));
        let like = like.bind(kind).bind(parameters.to_string());
        let like = like.fetch_optional(&mut *transaction).await.during(OP)?;
        if let Some(row) = like {
            return Ok(InsertedJob::Same(job(&row)?));
        }
        if let Some(member) = member
            && let Some(other) = find_beside(&mut transaction, kind, member, parameters).await?
        {
            return Ok(InsertedJob::InTheWay(other));
        }
        let inserted = sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO jobs (id, kind, parameters, state, checkpoint, phase, done, total, created_at, created_by, \
             lease_until, run, stalled, is_cancelled) VALUES ($1, $2, $3, 'queued', 'null', '', 0, 0, $4, $5, 0, 0, 0, 0) \
             RETURNING {COLUMNS}"
        )));
        let row = inserted
            .bind(id)
            .bind(kind)
            .bind(parameters.to_string())
            .bind(author.at.as_millisecond())
            .bind(author.who.id())
            .fetch_one(&mut *transaction)
            .await
            .during(OP)?;
        let detail = json!({ "kind": kind, "parameters": parameters });
        let entry = author.entry(AuditKind::JobCreated, id, detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(InsertedJob::New(job(&row)?))
    }

    /// Looks a job up.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_job(&self, id: &str) -> Result<Option<JobRecord>, Error> {
        let row = sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM jobs WHERE id = $1")))
            .bind(id);
        let row = row.fetch_optional(&self.pool).await.during("find a job")?;
        row.as_ref().map(job).transpose()
    }

    /// Lists at most `limit` jobs, the newest first, from the one before `before`; from the newest
    /// if that is empty.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_jobs(&self, before: &str, limit: u32) -> Result<Page<JobRecord>, Error> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM jobs WHERE (id < $1 OR $2 = '') ORDER BY id DESC LIMIT $3"
        )));
        let rows = rows.bind(before).bind(before).bind(i64::from(limit) + 1);
        let rows = rows.fetch_all(&self.pool).await.during("list jobs")?;
        let jobs = rows.iter().map(job).collect::<Result<_, _>>()?;
        Ok(Page::of(jobs, limit, |job: &JobRecord| job.id.clone()))
    }

    /// Cancels a job: at once if it waits; if it runs, its owner stops when it next says how far it
    /// is. Returns whether it had neither ended nor been cancelled.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn cancel_job(&self, id: &str, author: &Author) -> Result<bool, Error> {
        const OP: &str = "cancel a job";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let cancelled = sqlx::query(
            "UPDATE jobs SET is_cancelled = 1, ended_at = CASE WHEN state = 'queued' THEN $1 ELSE ended_at END, \
             state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END \
             WHERE id = $2 AND is_cancelled = 0 AND state IN ('queued', 'running')",
        )
        .bind(author.at.as_millisecond())
        .bind(id)
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        if cancelled.rows_affected() == 0 {
            return Ok(false);
        }
        let entry = author.entry(AuditKind::JobCancelled, id, json!({}));
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(true)
    }

    /// Ends the leases that a server had before it was started again: nobody else runs under its
    /// id.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn release_jobs(&self, owner: &str) -> Result<u64, Error> {
        let released =
            sqlx::query("UPDATE jobs SET lease_until = 0 WHERE owner = $1 AND state = 'running'");
        let released = released.bind(owner).execute(&self.pool).await;
        released.map(|done| done.rows_affected()).during("release jobs")
    }

    /// Takes the oldest job that waits, or whose owner has not been heard of in time.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn take_job(&self, taker: Holder<'_>) -> Result<Option<JobRecord>, Error> {
        // What is asked within is asked again without: another server may have been first.
        let row = sqlx::query(AssertSqlSafe(format!(
            "UPDATE jobs SET state = 'running', owner = $1, lease_until = $2, run = run + 1, stalled = stalled + 1, \
             started_at = COALESCE(started_at, $3) WHERE id = (SELECT id FROM jobs WHERE state = 'queued' \
             OR (state = 'running' AND (lease_until < $4 OR lease_until > $5)) ORDER BY id LIMIT 1) \
             AND (state = 'queued' OR (state = 'running' AND (lease_until < $6 OR lease_until > $7))) RETURNING {COLUMNS}"
        )));
        let row = row.bind(taker.owner).bind(self.leased_until(taker.lease_until));
        let (now, latest) = self.while_held(Held::Work, taker.now);
        let row = row.bind(taker.now.as_millisecond()).bind(now).bind(latest).bind(now);
        let row = row.bind(latest).fetch_optional(&self.pool).await;
        row.during("take a job")?.as_ref().map(job).transpose()
    }

    /// Keeps a job that takes long for a step.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn keep_job(
        &self,
        id: &str,
        run: u64,
        lease_until: Timestamp,
    ) -> Result<JobLease, Error> {
        let row = sqlx::query(
            "UPDATE jobs SET lease_until = $1 WHERE id = $2 AND run = $3 AND state = 'running' RETURNING is_cancelled",
        );
        let row = row.bind(self.leased_until(lease_until)).bind(id).bind(column(run));
        lease(row.fetch_optional(&self.pool).await, "keep a job")
    }

    /// Saves from where a job goes on and how far it is, and keeps it.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn save_job(
        &self,
        id: &str,
        run: u64,
        checkpoint: &Value,
        progress: &JobProgress,
        lease_until: Timestamp,
    ) -> Result<JobLease, Error> {
        let row = sqlx::query(
            "UPDATE jobs SET checkpoint = $1, phase = $2, done = $3, total = $4, lease_until = $5, stalled = 0 \
             WHERE id = $6 AND run = $7 AND state = 'running' RETURNING is_cancelled",
        )
        .bind(checkpoint.to_string())
        .bind(progress.phase.as_str())
        .bind(column(progress.done))
        .bind(column(progress.total))
        .bind(self.leased_until(lease_until))
        .bind(id)
        .bind(column(run));
        lease(row.fetch_optional(&self.pool).await, "save how far a job is")
    }

    /// Ends a job; returns whether it was still this run's.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn end_job(
        &self,
        id: &str,
        run: u64,
        end: &JobEnd,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let (state, result, error) = match end {
            JobEnd::Done(result) => (JobState::Done, Some(result.to_string()), None),
            JobEnd::Failed(reason) => (JobState::Failed, None, Some(reason.clone())),
            JobEnd::Cancelled => (JobState::Cancelled, None, None),
        };
        let ended = sqlx::query(
            "UPDATE jobs SET state = $1, result = $2, error = $3, ended_at = $4, lease_until = 0, checkpoint = 'null' \
             WHERE id = $5 AND run = $6 AND state = 'running'",
        )
        .bind(state.as_str())
        .bind(result)
        .bind(error)
        .bind(now.as_millisecond())
        .bind(id)
        .bind(column(run))
        .execute(&self.pool)
        .await;
        Ok(ended.during("end a job")?.rows_affected() == 1)
    }
}

/// A job of a kind that has not ended, and whose parameters have the same `member`.
async fn find_beside(
    transaction: &mut Transaction<'_, Any>,
    kind: &str,
    member: &str,
    parameters: &Value,
) -> Result<Option<JobRecord>, Error> {
    let active = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM jobs WHERE kind = $1 AND state IN ('queued', 'running') ORDER BY id"
    )));
    let active = active.bind(kind).fetch_all(&mut **transaction).await;
    for row in active.during("look for jobs that have not ended")? {
        let other = job(&row)?;
        if other.parameters[member] == parameters[member] {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

fn lease(row: Result<Option<AnyRow>, sqlx::Error>, op: &'static str) -> Result<JobLease, Error> {
    let Some(row) = row.during(op)? else { return Ok(JobLease::Lost) };
    Ok(match number(&row, "is_cancelled", op)? {
        0 => JobLease::Kept,
        _ => JobLease::Cancelled,
    })
}

impl JobState {
    const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// Its name in the API and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

fn job(row: &AnyRow) -> Result<JobRecord, Error> {
    const OP: &str = "read a job";
    let state = text(row, "state", OP)?;
    let optional = |name| row.try_get::<Option<String>, _>(name).during(OP);
    let result = optional("result")?.map(|result| serde_json::from_str(&result)).transpose();
    Ok(JobRecord {
        id: text(row, "id", OP)?,
        kind: text(row, "kind", OP)?,
        parameters: json_column(row, "parameters", OP)?,
        state: JobState::from_name(&state)
            .ok_or_else(|| Error::corrupt(OP, format!("no state is called {state}")))?,
        checkpoint: json_column(row, "checkpoint", OP)?,
        progress: JobProgress {
            phase: text(row, "phase", OP)?,
            done: number(row, "done", OP)?,
            total: number(row, "total", OP)?,
        },
        result: result.or_corrupt(OP)?,
        error: optional("error")?,
        created_at: time(row, "created_at", OP)?,
        created_by: text(row, "created_by", OP)?,
        started_at: optional_time(row, "started_at", OP)?,
        ended_at: optional_time(row, "ended_at", OP)?,
        owner: optional("owner")?,
        run: number(row, "run", OP)?,
        stalled: number(row, "stalled", OP)?,
    })
}

const COLUMNS: &str = "id, kind, parameters, state, checkpoint, phase, done, total, result, error, created_at, \
     created_by, started_at, ended_at, owner, run, stalled";
/// Jobs that have ended and can still be looked at.
const ENDED_KEPT: i64 = 1000;
