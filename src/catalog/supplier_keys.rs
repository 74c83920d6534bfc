//! The keys of suppliers: those that they have, and those that none is to have again.

use serde_json::{Value, json};
use sqlx::{Any, Transaction};

use super::images::count_change;
use super::staged::drop_staging;
use super::{AuditKind, Author, Catalog, During, Error, OrCorrupt, audit};
use crate::model::{RepositorySide, RoleName, SupplierName};

impl Catalog {
    /// Gives a supplier other keys. Returns those that it had; none if there is no such supplier.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn replace_supplier_keys(
        &self,
        name: &SupplierName,
        keys: &[Value],
        author: &Author,
    ) -> Result<Option<Vec<Value>>, Error> {
        const OP: &str = "give a supplier other keys";
        let mut transaction = self.pool.begin().await.during(OP)?;
        // First, so that a publication sees the change with what it needs.
        for role in [RoleName::Targets, RoleName::of_supplier(name)] {
            count_change(&mut transaction, &role).await?;
        }
        let Some(before) = swap_keys(&mut transaction, name, keys, author).await? else {
            return Ok(None);
        };
        let detail = json!({ "before": before, "keys": keys });
        let entry = author.entry(AuditKind::SupplierKeysReplaced, name.as_str(), detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(Some(before))
    }

    /// Notes which keys a supplier signs with itself from its next file on, and how many of them
    /// have to. Nothing is to be signed by this server. Returns the keys that it had; none if there
    /// is no such supplier.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn give_supplier_keys(
        &self,
        name: &SupplierName,
        keys: &[Value],
        threshold: u8,
        author: &Author,
    ) -> Result<Option<Vec<Value>>, Error> {
        const OP: &str = "note the keys of a supplier";
        let (role, side) = (RoleName::of_supplier(name), RepositorySide::Image);
        let mut transaction = self.pool.begin().await.during(OP)?;
        // A staging is for the keys that it was made for.
        let dropped = drop_staging(&mut transaction, side, &role, author).await?;
        let Some(before) = swap_keys(&mut transaction, name, keys, author).await? else {
            return Ok(None);
        };
        sqlx::query("UPDATE suppliers SET threshold = $1, offline = 1 WHERE name = $2")
            .bind(i64::from(threshold))
            .bind(name.as_str())
            .execute(&mut *transaction)
            .await
            .during(OP)?;
        let detail = json!({
            "before": before, "keys": keys, "threshold": threshold, "offline": true,
        });
        let given = author.entry(AuditKind::SupplierKeysReplaced, name.as_str(), detail);
        let entries: Vec<_> = dropped.into_iter().chain([given]).collect();
        audit::append(&mut transaction, &entries).await?;
        transaction.commit().await.during(OP)?;
        Ok(Some(before))
    }

    /// Key objects of the keys that suppliers had and were to lose: replaced ones, and those of
    /// suppliers who were removed.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_former_supplier_keys(&self) -> Result<Vec<Value>, Error> {
        const OP: &str = "list former keys of suppliers";
        let rows = sqlx::query(
            "SELECT keys FROM suppliers WHERE removed_at IS NOT NULL \
             UNION ALL SELECT keys FROM former_supplier_keys",
        );
        let rows = rows.fetch_all(&self.pool).await.during(OP)?;
        let lists: Vec<Vec<Value>> =
            rows.iter().map(|row| super::json(row, "keys", OP)).collect::<Result<_, _>>()?;
        Ok(lists.concat())
    }
}

/// Puts other keys in the place of a supplier's, and keeps in mind those that it loses. Returns all
/// that it had; none if there is no such supplier.
async fn swap_keys(
    transaction: &mut Transaction<'_, Any>,
    name: &SupplierName,
    keys: &[Value],
    author: &Author,
) -> Result<Option<Vec<Value>>, Error> {
    const OP: &str = "exchange the keys of a supplier";
    let row = sqlx::query("SELECT keys FROM suppliers WHERE name = $1 AND removed_at IS NULL");
    let row = row.bind(name.as_str()).fetch_optional(&mut **transaction).await.during(OP)?;
    let Some(row) = row else { return Ok(None) };
    let before: Vec<Value> = super::json(&row, "keys", OP)?;
    sqlx::query("UPDATE suppliers SET keys = $1 WHERE name = $2")
        .bind(serde_json::to_string(keys).or_corrupt(OP)?)
        .bind(name.as_str())
        .execute(&mut **transaction)
        .await
        .during(OP)?;
    let lost: Vec<&Value> = before.iter().filter(|key| !keys.contains(key)).collect();
    sqlx::query(
        "INSERT INTO former_supplier_keys (supplier, keys, replaced_at) VALUES ($1, $2, $3)",
    )
    .bind(name.as_str())
    .bind(serde_json::to_string(&lost).or_corrupt(OP)?)
    .bind(author.at.as_millisecond())
    .execute(&mut **transaction)
    .await
    .during(OP)?;
    Ok(Some(before))
}
