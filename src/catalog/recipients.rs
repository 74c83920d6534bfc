//! Recipient keys by hardware id.

use serde_json::json;
use sqlx::any::AnyRow;

use super::{AuditKind, Author, Catalog, During, Error, audit, parsed, text, time};
use crate::model::{HardwareId, RecipientRecord};

impl Catalog {
    /// Registers a key for a hardware id; registering it again changes nothing. Returns whether it
    /// is new there.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn insert_recipient(
        &self,
        recipient: &RecipientRecord,
        author: &Author,
    ) -> Result<bool, Error> {
        const OP: &str = "insert a recipient";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let inserted = sqlx::query(
            "INSERT INTO recipients (hardware_id, kid, jwk, created_at, created_by) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (hardware_id, kid) DO NOTHING",
        )
        .bind(recipient.hardware_id.as_str())
        .bind(recipient.kid.as_str())
        .bind(recipient.jwk.as_str())
        .bind(recipient.created_at.as_millisecond())
        .bind(recipient.created_by.as_str())
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        if inserted.rows_affected() == 0 {
            return Ok(false);
        }
        let back =
            sqlx::query("DELETE FROM retired_recipients WHERE kid = $1 AND successor IS NOT NULL");
        back.bind(recipient.kid.as_str()).execute(&mut *transaction).await.during(OP)?;
        let detail = json!({ "hardware_id": recipient.hardware_id });
        let entry = author.entry(AuditKind::RecipientRegistered, recipient.kid.as_str(), detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(true)
    }

    /// All registered keys, by hardware id.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_recipients(&self) -> Result<Vec<RecipientRecord>, Error> {
        let rows =
            sqlx::query("SELECT * FROM recipients ORDER BY hardware_id, kid").fetch_all(&self.pool);
        rows.await.during("list recipients")?.iter().map(recipient).collect()
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
        let rows = rows.fetch_all(&self.pool).await.during("find recipients")?;
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
        author: &Author,
    ) -> Result<u64, Error> {
        const OP: &str = "delete a recipient";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let deleted = sqlx::query(
            "DELETE FROM recipients WHERE kid = $1 AND (hardware_id = $2 OR $2 = '') RETURNING hardware_id",
        )
        .bind(kid)
        .bind(hardware_id.map_or("", HardwareId::as_str))
        .fetch_all(&mut *transaction)
        .await
        .during(OP)?;
        if deleted.is_empty() {
            return Ok(0);
        }
        let ids: Vec<String> =
            deleted.iter().map(|row| text(row, "hardware_id", OP)).collect::<Result<_, _>>()?;
        let entry = author.entry(AuditKind::RecipientRemoved, kid, json!({ "hardware_ids": ids }));
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(deleted.len() as u64)
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
