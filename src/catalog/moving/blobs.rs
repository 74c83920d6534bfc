//! What a catalog knows of blobs that were moved to another store.

use crate::catalog::{AuditKind, Author, Catalog, During, Error, audit, ended_uploads};
use crate::model::Timestamp;

/// Blobs that are all in their new place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobsMoved<'a> {
    /// Which move it was.
    pub id: &'a str,
    /// Where they are now, without secrets.
    pub to: &'a str,
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Catalog {
    /// Ends a move of blobs, once: uploads that wait for more end with it, since what is kept of them
    /// is in the former place. Returns how many these were. **Must not** be called while any server
    /// runs.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]; [`Error::Unreachable`]; [`Error::Backend`].
    pub async fn end_moving_blobs(
        &self,
        moved: &BlobsMoved<'_>,
        forgotten_at: Timestamp,
        author: &Author,
    ) -> Result<u64, Error> {
        const OP: &str = "end the move of the blobs";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let noted = sqlx::query(
            "INSERT INTO installation (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE installation.value <> excluded.value",
        );
        let noted = noted.bind(BLOBS_MOVED).bind(moved.id).execute(&mut *transaction).await;
        if noted.during(OP)?.rows_affected() == 0 {
            transaction.rollback().await.during(OP)?; // it was ended before
            return Ok(0);
        }
        let ended = ended_uploads::end_all(&mut transaction, forgotten_at).await?;
        let detail = serde_json::json!({
            "move": moved.id, "to": moved.to, "files": moved.files, "bytes": moved.bytes, "ended_uploads": ended,
        });
        audit::append(&mut transaction, &[author.entry(AuditKind::BlobsMoved, "", detail)]).await?;
        transaction.commit().await.during(OP)?;
        Ok(ended)
    }
}

/// The name in the table `installation` of the last move of blobs that has ended.
const BLOBS_MOVED: &str = "blobs_moved";
