//! Recipient keys by hardware id.

use sqlx::any::AnyRow;

use super::{Catalog, Error, parsed, text, time};
use crate::model::{HardwareId, RecipientRecord};

impl Catalog {
    /// Registers a key for a hardware id; registering it again changes nothing. Returns whether it
    /// is new there.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn insert_recipient(&self, recipient: &RecipientRecord) -> Result<bool, Error> {
        let inserted = sqlx::query(
            "INSERT INTO recipients (hardware_id, kid, jwk, created_at, created_by) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (hardware_id, kid) DO NOTHING",
        )
        .bind(recipient.hardware_id.as_str())
        .bind(recipient.kid.as_str())
        .bind(recipient.jwk.as_str())
        .bind(recipient.created_at.as_millisecond())
        .bind(recipient.created_by.as_str())
        .execute(&self.pool)
        .await
        .map_err(Error::backend("insert a recipient"))?;
        Ok(inserted.rows_affected() == 1)
    }

    /// All registered keys, by hardware id.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_recipients(&self) -> Result<Vec<RecipientRecord>, Error> {
        let rows =
            sqlx::query("SELECT * FROM recipients ORDER BY hardware_id, kid").fetch_all(&self.pool);
        rows.await.map_err(Error::backend("list recipients"))?.iter().map(recipient).collect()
    }

    /// The keys that are registered for a hardware id.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_recipients(
        &self,
        hardware_id: &HardwareId,
    ) -> Result<Vec<RecipientRecord>, Error> {
        let rows = sqlx::query("SELECT * FROM recipients WHERE hardware_id = $1 ORDER BY kid")
            .bind(hardware_id.as_str());
        let rows = rows.fetch_all(&self.pool).await.map_err(Error::backend("find recipients"))?;
        rows.iter().map(recipient).collect()
    }

    /// Removes a key from one hardware id, or from all; returns how many registrations there were.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn delete_recipient(
        &self,
        kid: &str,
        hardware_id: Option<&HardwareId>,
    ) -> Result<u64, Error> {
        let deleted =
            sqlx::query("DELETE FROM recipients WHERE kid = $1 AND (hardware_id = $2 OR $2 = '')")
                .bind(kid)
                .bind(hardware_id.map_or("", HardwareId::as_str))
                .execute(&self.pool)
                .await
                .map_err(Error::backend("delete a recipient"))?;
        Ok(deleted.rows_affected())
    }
}

fn recipient(row: &AnyRow) -> Result<RecipientRecord, Error> {
    const OP: &str = "read a recipient";
    Ok(RecipientRecord {
        hardware_id: parsed(row, "hardware_id", OP)?,
        kid: text(row, "kid", OP)?,
        jwk: text(row, "jwk", OP)?,
        created_at: time(row, "created_at", OP)?,
        created_by: text(row, "created_by", OP)?,
    })
}
