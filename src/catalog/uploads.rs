//! Uploads that can be resumed.
//!
//! One request at a time takes bytes in for an upload: it takes the upload for a while, in a run of
//! its own, and what a run that has lost the upload saves changes nothing.

use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::holder::Held;
use super::{
    Catalog, During, Error, Holder, OrCorrupt, column, escrow, json as json_column, number, parsed,
    text, time,
};
use crate::model::{ImagePath, Sha256Digest, Timestamp};

/// An upload that begins.
#[derive(Debug, Clone, PartialEq)]
pub struct NewUpload {
    /// Its id, which nobody can guess.
    pub id: String,
    /// Where the image goes.
    pub path: ImagePath,
    /// What was said of it: a JSON object.
    pub request: Value,
    /// Length of the image in bytes.
    pub length: u64,
    /// Names the sealed bytes in the blob store.
    pub parts: String,
    /// The data key, wrapped.
    pub wrapped_key: String,
    /// From where sealing goes on.
    pub checkpoint: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Id of the token that did.
    pub created_by: String,
    /// When it ends if nothing happens.
    pub expires_at: Timestamp,
}

/// An upload as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct UploadRecord {
    /// What it began with, and what of that has changed since.
    pub upload: NewUpload,
    /// Bytes of the image that are kept.
    pub received: u64,
    /// How it stands.
    pub state: UploadState,
    /// Digests of the blocks from the checkpoint on that may have left a process.
    pub intents: Vec<Sha256Digest>,
    /// Until when it is taken.
    pub lease_until: Timestamp,
    /// Which of its runs this is.
    pub run: u64,
}

impl UploadRecord {
    /// Whether somebody has taken it.
    pub fn is_taken(&self, now: Timestamp) -> bool {
        Held::Work.holds(self.lease_until, now)
    }
}

/// How an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadState {
    /// It takes bytes in.
    Open,
    /// Its image is published.
    Complete,
    /// It was terminated, or has expired: nothing is kept of it but that.
    Ended,
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq)]
pub struct UploadProgress<'a> {
    /// Bytes of the image that are kept.
    pub received: u64,
    /// From where sealing goes on.
    pub checkpoint: &'a [u8],
    /// Digests of the blocks from there on that may leave the process now.
    pub intents: &'a [Sha256Digest],
    /// Names the sealed bytes in the blob store.
    pub parts: &'a str,
    /// Until when the upload is taken; none to let go of it, which ends the run.
    pub lease_until: Option<Timestamp>,
    /// When it ends if nothing happens.
    pub expires_at: Timestamp,
}

impl Catalog {
    /// Adds an upload, its key wrapped to the escrow key `escrow_kid`, unless its token has `most`
    /// open ones; returns whether it was added.
    ///
    /// # Errors
    ///
    /// [`Error::OtherEscrowKey`]; [`Error::Full`]; [`Error::Backend`].
    pub async fn insert_upload(
        &self,
        new: &NewUpload,
        escrow_kid: &str,
        most: u64,
    ) -> Result<bool, Error> {
        const OP: &str = "add an upload";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let inserted = sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO uploads ({COLUMNS}) SELECT $1, $2, $3, $4, 0, 'open', $5, $6, $7, '[]', $8, $9, $10, '', 0, 0 \
             WHERE (SELECT count(*) FROM uploads WHERE created_by = $11 AND state = 'open') < $12"
        )))
        .bind(new.id.as_str())
        .bind(new.path.as_str())
        .bind(new.request.to_string())
        .bind(column(new.length))
        .bind(new.parts.as_str())
        .bind(new.wrapped_key.as_str())
        .bind(new.checkpoint.as_slice())
        .bind(new.created_at.as_millisecond())
        .bind(new.created_by.as_str())
        .bind(new.expires_at.as_millisecond())
        .bind(new.created_by.as_str())
        .bind(column(most))
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        escrow::refuse_other_key(&mut transaction, escrow_kid).await?;
        transaction.commit().await.during(OP)?;
        Ok(inserted.rows_affected() > 0)
    }

    /// Looks an upload up.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_upload(&self, id: &str) -> Result<Option<UploadRecord>, Error> {
        let found =
            sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM uploads WHERE id = $1")));
        let row = found.bind(id).fetch_optional(&self.pool).await.during(FIND)?;
        row.as_ref().map(|row| self.upload(row)).transpose()
    }

    /// Looks for the newest open upload of a token that was begun in the same words.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_open_upload(
        &self,
        created_by: &str,
        (path, length): (&ImagePath, u64),
        request: &Value,
        now: Timestamp,
    ) -> Result<Option<UploadRecord>, Error> {
        let found = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM uploads WHERE created_by = $1 AND state = 'open' AND path = $2 AND length = $3 \
             AND request = $4 AND expires_at > $5 ORDER BY created_at DESC LIMIT 1"
        )))
        .bind(created_by)
        .bind(path.as_str())
        .bind(column(length))
        .bind(request.to_string())
        .bind(now.as_millisecond());
        let row = found.fetch_optional(&self.pool).await.during(FIND)?;
        row.as_ref().map(|row| self.upload(row)).transpose()
    }

    /// Takes an open upload that nobody has taken, in a new run; none if there is no such.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn take_upload(
        &self,
        id: &str,
        holder: Holder<'_>,
    ) -> Result<Option<UploadRecord>, Error> {
        let (now, latest) = self.while_held(Held::Work, holder.now);
        let taken = sqlx::query(AssertSqlSafe(format!(
            "UPDATE uploads SET owner = $1, lease_until = $2, run = run + 1 WHERE id = $3 AND state = 'open' \
             AND (lease_until <= $4 OR lease_until > $5) AND expires_at > $6 RETURNING {COLUMNS}"
        )))
        .bind(holder.owner)
        .bind(self.leased_until(holder.lease_until))
        .bind(id)
        .bind(now)
        .bind(latest)
        .bind(holder.now.as_millisecond());
        let row = taken.fetch_optional(&self.pool).await.during("take an upload")?;
        row.as_ref().map(|row| self.upload(row)).transpose()
    }

    /// Saves how far a run is, and returns whether the upload was still its own.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn save_upload(
        &self,
        (id, run): (&str, u64),
        progress: &UploadProgress<'_>,
    ) -> Result<bool, Error> {
        const OP: &str = "save an upload";
        let intents = serde_json::to_string(progress.intents).or_corrupt(OP)?;
        // What a run began before it let go must not take the upload again.
        let runs_ended = i64::from(progress.lease_until.is_none());
        let saved = sqlx::query(
            "UPDATE uploads SET received = $1, checkpoint = $2, intents = $3, parts = $4, lease_until = $5, run = run + $6, \
             expires_at = $7 WHERE id = $8 AND run = $9 AND state = 'open'",
        )
        .bind(column(progress.received))
        .bind(progress.checkpoint)
        .bind(intents)
        .bind(progress.parts)
        .bind(progress.lease_until.map_or(0, |until| self.leased_until(until)))
        .bind(runs_ended)
        .bind(progress.expires_at.as_millisecond())
        .bind(id)
        .bind(column(run));
        Ok(saved.execute(&self.pool).await.during(OP)?.rows_affected() > 0)
    }

    /// Keeps an upload for a run for longer, and returns whether it was still its own.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn keep_upload(
        &self,
        (id, run): (&str, u64),
        lease_until: Timestamp,
        expires_at: Timestamp,
    ) -> Result<bool, Error> {
        let kept = sqlx::query(
            "UPDATE uploads SET lease_until = $1, expires_at = $2 WHERE id = $3 AND run = $4 AND state = 'open'",
        )
        .bind(self.leased_until(lease_until))
        .bind(expires_at.as_millisecond())
        .bind(id)
        .bind(column(run));
        Ok(kept.execute(&self.pool).await.during("keep an upload")?.rows_affected() > 0)
    }

    /// Ends an upload whose image is published; of its keys nothing is kept.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn complete_upload(&self, id: &str, forgotten_at: Timestamp) -> Result<(), Error> {
        sqlx::query(
            "UPDATE uploads SET state = 'complete', received = length, wrapped_key = '', checkpoint = $1, intents = '[]', \
             lease_until = 0, expires_at = $2 WHERE id = $3 AND state = 'open'",
        )
        .bind([].as_slice())
        .bind(forgotten_at.as_millisecond())
        .bind(id)
        .execute(&self.pool)
        .await
        .map(drop)
        .during("complete an upload")
    }

    /// Names of the sealed bytes of all uploads that are open.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn open_upload_parts(&self) -> Result<Vec<String>, Error> {
        const OP: &str = "list open uploads";
        let rows = sqlx::query("SELECT parts FROM uploads WHERE state = 'open'");
        let rows = rows.fetch_all(&self.pool).await.during(OP)?;
        rows.iter().map(|row| text(row, "parts", OP)).collect()
    }

    /// The ids of all uploads that are open, with their wrapped keys.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn open_upload_keys(&self) -> Result<Vec<(String, String)>, Error> {
        const OP: &str = "list the keys of uploads";
        let rows =
            sqlx::query("SELECT id, wrapped_key FROM uploads WHERE state = 'open' ORDER BY id");
        let rows = rows.fetch_all(&self.pool).await.during(OP)?;
        rows.iter().map(|row| Ok((text(row, "id", OP)?, text(row, "wrapped_key", OP)?))).collect()
    }

    /// Exchanges the wrapped key of an upload that is open, if it is still `old`, for one that is
    /// wrapped to the escrow key `escrow_kid`.
    ///
    /// # Errors
    ///
    /// [`Error::OtherEscrowKey`]; [`Error::Full`]; [`Error::Backend`].
    pub async fn replace_upload_key(
        &self,
        id: &str,
        (old, new): (&str, &str),
        escrow_kid: &str,
    ) -> Result<(), Error> {
        const OP: &str = "replace the key of an upload";
        let mut transaction = self.pool.begin().await.during(OP)?;
        sqlx::query(
            "UPDATE uploads SET wrapped_key = $1 WHERE id = $2 AND wrapped_key = $3 AND state = 'open'",
        )
        .bind(new)
        .bind(id)
        .bind(old)
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        escrow::refuse_other_key(&mut transaction, escrow_kid).await?;
        transaction.commit().await.during(OP)
    }

    /// Lets go of all uploads that a server has taken. **Must be called by that server, before it
    /// takes any.**
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn release_uploads(&self, owner: &str) -> Result<(), Error> {
        sqlx::query(
            "UPDATE uploads SET lease_until = 0, run = run + 1 WHERE owner = $1 AND state = 'open'",
        )
        .bind(owner)
        .execute(&self.pool)
        .await
        .map(drop)
        .during("let go of uploads")
    }

    /// An upload as it is in a row, its lease by the clock of whoever asks.
    fn upload(&self, row: &AnyRow) -> Result<UploadRecord, Error> {
        let record = upload(row)?;
        Ok(UploadRecord { lease_until: self.by_own_clock(record.lease_until), ..record })
    }
}

fn upload(row: &AnyRow) -> Result<UploadRecord, Error> {
    const OP: &str = "read an upload";
    let state = match text(row, "state", OP)?.as_str() {
        "open" => UploadState::Open,
        "complete" => UploadState::Complete,
        _ => UploadState::Ended,
    };
    let new = NewUpload {
        id: text(row, "id", OP)?,
        path: parsed(row, "path", OP)?,
        request: json_column(row, "request", OP)?,
        length: number(row, "length", OP)?,
        parts: text(row, "parts", OP)?,
        wrapped_key: text(row, "wrapped_key", OP)?,
        checkpoint: row.try_get("checkpoint").during(OP)?,
        created_at: time(row, "created_at", OP)?,
        created_by: text(row, "created_by", OP)?,
        expires_at: time(row, "expires_at", OP)?,
    };
    Ok(UploadRecord {
        upload: new,
        received: number(row, "received", OP)?,
        state,
        intents: json_column(row, "intents", OP)?,
        lease_until: time(row, "lease_until", OP)?,
        run: number(row, "run", OP)?,
    })
}

const FIND: &str = "find an upload";
const COLUMNS: &str = "id, path, request, length, received, state, parts, wrapped_key, checkpoint, intents, created_at, \
     created_by, expires_at, owner, lease_until, run";
