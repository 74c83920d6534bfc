//! Uploads that end before they are whole: by whoever has begun them, since they have expired, or all
//! of them.

use sqlx::{Any, AssertSqlSafe, Transaction};

use super::holder::Held;
use super::{Catalog, During, Error, column, text};
use crate::model::Timestamp;

impl Catalog {
    /// Ends an open upload that nobody has taken, or that `run` has; returns whether it was. Nothing
    /// of it is kept but that.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn end_upload(
        &self,
        id: &str,
        run: Option<u64>,
        now: Timestamp,
        forgotten_at: Timestamp,
    ) -> Result<bool, Error> {
        let (now, latest) = self.while_held(Held::Work, now);
        let ended = sqlx::query(AssertSqlSafe(format!(
            "{END} WHERE id = $3 AND state = 'open' AND (lease_until <= $4 OR lease_until > $5 OR run = $6)"
        )))
        .bind([].as_slice())
        .bind(forgotten_at.as_millisecond())
        .bind(id)
        .bind(now)
        .bind(latest)
        .bind(run.map_or(-1, column));
        Ok(ended.execute(&self.pool).await.during("end an upload")?.rows_affected() > 0)
    }

    /// Ends at most `limit` open uploads that have expired, or whose token was revoked or has, and
    /// that nobody has taken; returns the names of their sealed bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn end_expired_uploads(
        &self,
        now: Timestamp,
        forgotten_at: Timestamp,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        const OP: &str = "end expired uploads";
        // What is asked within is asked again without: a request may have been first.
        let ended = sqlx::query(AssertSqlSafe(format!(
            "{END} WHERE state = 'open' AND (lease_until <= $3 OR lease_until > $4) \
             AND id IN (SELECT id FROM uploads WHERE {} ORDER BY expires_at LIMIT $9) RETURNING parts",
            expired(5)
        )));
        let (held, latest) = self.while_held(Held::Work, now);
        let ended = ended.bind([].as_slice()).bind(forgotten_at.as_millisecond());
        let ended = ended.bind(held).bind(latest).bind(held).bind(latest);
        let ended = ended.bind(now.as_millisecond()).bind(now.as_millisecond());
        let rows = ended.bind(i64::from(limit)).fetch_all(&self.pool).await.during(OP)?;
        rows.iter().map(|row| text(row, "parts", OP)).collect()
    }

    /// The names of the sealed bytes of what [`Self::end_expired_uploads`] would end.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn expired_upload_parts(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        const OP: &str = "list expired uploads";
        let found = sqlx::query(AssertSqlSafe(format!(
            "SELECT parts FROM uploads WHERE {} ORDER BY expires_at LIMIT $5",
            expired(1)
        )));
        let (held, latest) = self.while_held(Held::Work, now);
        let found = found.bind(held).bind(latest);
        let found = found.bind(now.as_millisecond()).bind(now.as_millisecond());
        let rows = found.bind(i64::from(limit)).fetch_all(&self.pool).await.during(OP)?;
        rows.iter().map(|row| text(row, "parts", OP)).collect()
    }

    /// Ends all open uploads, also those that somebody has taken, and returns how many there were.
    /// **Must not** be called while any server runs.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn end_all_uploads(&self, forgotten_at: Timestamp) -> Result<u64, Error> {
        const OP: &str = "end all uploads";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let ended = end_all(&mut transaction, forgotten_at).await?;
        transaction.commit().await.during(OP)?;
        Ok(ended)
    }

    /// Forgets uploads that have ended long enough ago, and of one token all but the last `most`;
    /// returns how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn forget_ended_uploads(&self, now: Timestamp, most: u64) -> Result<u64, Error> {
        let forgotten = sqlx::query(
            "DELETE FROM uploads WHERE state <> 'open' AND (expires_at <= $1 OR id IN (SELECT id FROM (SELECT id, \
             ROW_NUMBER() OVER (PARTITION BY created_by ORDER BY expires_at DESC, id) AS place \
             FROM uploads WHERE state <> 'open') AS ended WHERE place > $2))",
        )
        .bind(now.as_millisecond())
        .bind(column(most));
        Ok(forgotten.execute(&self.pool).await.during("forget uploads")?.rows_affected())
    }
}

/// Ends all open uploads, and returns how many there were.
pub(super) async fn end_all(
    transaction: &mut Transaction<'_, Any>,
    forgotten_at: Timestamp,
) -> Result<u64, Error> {
    let ended = sqlx::query(AssertSqlSafe(format!("{END} WHERE state = 'open'")))
        .bind([].as_slice())
        .bind(forgotten_at.as_millisecond());
    Ok(ended.execute(&mut **transaction).await.during("end all uploads")?.rows_affected())
}

/// Whether an upload has expired and nobody has it, of parameters from this number on: the two of
/// its lease, and now twice.
fn expired(first: usize) -> String {
    let [held, latest, now, again] = [0, 1, 2, 3].map(|number| first + number);
    format!(
        "state = 'open' AND (lease_until <= ${held} OR lease_until > ${latest}) AND (expires_at <= ${now} \
         OR created_by IN (SELECT id FROM tokens WHERE revoked_at IS NOT NULL OR expires_at <= ${again}))"
    )
}

const END: &str = "UPDATE uploads SET state = 'ended', request = '{}', wrapped_key = '', checkpoint = $1, intents = '[]', \
     lease_until = 0, expires_at = $2";
