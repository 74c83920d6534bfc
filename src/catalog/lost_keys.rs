//! Role keys that a person says are lost: a server starts without them.

use std::collections::BTreeSet;

use serde_json::json;

use super::{AuditKind, Author, Catalog, During, Error, OrCorrupt, audit, text};
use crate::model::Sha256Digest;

impl Catalog {
    /// Writes down that keys of a role are lost, in place of what was written of it before.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn note_lost_keys(
        &self,
        role: &str,
        lost: &BTreeSet<Sha256Digest>,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "note lost keys";
        let ids: Vec<String> = lost.iter().map(ToString::to_string).collect();
        let mut transaction = self.pool.begin().await.during(OP)?;
        sqlx::query(
            "INSERT INTO installation (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(format!("{LOST_KEYS}{role}"))
        .bind(json!(ids).to_string())
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        let entry = author.entry(AuditKind::RoleKeysLost, role, json!({ "keys": ids }));
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)
    }

    /// All keys that are lost, of any role.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_lost_keys(&self) -> Result<BTreeSet<Sha256Digest>, Error> {
        const OP: &str = "list lost keys";
        let rows = sqlx::query("SELECT value FROM installation WHERE name LIKE $1");
        let rows = rows.bind(format!("{LOST_KEYS}%")).fetch_all(&self.pool).await.during(OP)?;
        let mut lost = BTreeSet::new();
        for row in &rows {
            let ids: Vec<String> = serde_json::from_str(&text(row, "value", OP)?).or_corrupt(OP)?;
            for id in ids {
                lost.insert(id.parse().or_corrupt(OP)?);
            }
        }
        Ok(lost)
    }
}

/// With the role's name, that of its entry.
const LOST_KEYS: &str = "lost_keys.";
