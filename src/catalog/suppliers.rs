//! Suppliers.

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, Row, Transaction};

use super::images::count_change;
use super::staged::drop_staging;
use super::{AuditKind, Author, Catalog, During, Error, OrCorrupt, audit, number};
use super::{parsed, text, time};
use crate::model::{RepositorySide, RoleName, Sha256Digest, SupplierName, SupplierRecord};

/// Why a supplier can't be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SupplierConflict {
    /// The name is, or was, a supplier's.
    NameUsed {
        /// Whether that supplier was removed.
        is_removed: bool,
    },
    /// Its folder is another's, or one lies in the other.
    FolderTaken {
        /// That supplier.
        by: SupplierName,
    },
    /// Nobody would find these images any more: others list them.
    FolderHasImages {
        /// How many.
        images: u64,
    },
}

/// What went with a supplier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedSupplier {
    /// Images that were yanked.
    pub images: u64,
    /// Ids of the tokens that were revoked.
    pub tokens: Vec<String>,
    /// Key objects of the keys that it had.
    pub keys: Vec<Value>,
}

impl Catalog {
    /// Adds a supplier with its role, which is published with the targets that delegate to it: at
    /// once, or once the supplier has signed its first file.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn insert_supplier(
        &self,
        supplier: &SupplierRecord,
        author: &Author,
    ) -> Result<Result<(), SupplierConflict>, Error> {
        const OP: &str = "add a supplier";
        let role = supplier.role();
        let mut transaction = self.pool.begin().await.during(OP)?;
        let inserted = sqlx::query(
            "INSERT INTO suppliers (name, role, folder, hardware_ids, keys, threshold, terminating, created_at, created_by, \
             offline) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (name) DO NOTHING",
        )
        .bind(supplier.name.as_str())
        .bind(role.as_str())
        .bind(supplier.folder.as_str())
        .bind(serde_json::to_string(&supplier.hardware_ids).or_corrupt(OP)?)
        .bind(serde_json::to_string(&supplier.keys).or_corrupt(OP)?)
        .bind(i64::from(supplier.threshold))
        .bind(i64::from(supplier.terminating))
        .bind(supplier.created_at.as_millisecond())
        .bind(supplier.created_by.as_str())
        .bind(i64::from(supplier.offline))
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        let is_new = inserted.rows_affected() == 1;
        if let Some(conflict) = find_conflict(&mut transaction, supplier, is_new).await? {
            return Ok(Err(conflict)); // and nothing is committed
        }
        sqlx::query(
            "INSERT INTO roles (name, version, reserved, changes, published_changes, length, sha256, expires_at) \
             VALUES ($1, 0, 0, 0, 0, 0, $2, 0)",
        )
        .bind(role.as_str())
        .bind(Sha256Digest::from_bytes([0; 32]).to_string())
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        if !supplier.offline {
            count_change(&mut transaction, &RoleName::Targets).await?;
        }
        let detail = json!({
            "folder": supplier.folder, "hardware_ids": supplier.hardware_ids, "keys": supplier.keys,
            "threshold": supplier.threshold, "terminating": supplier.terminating, "offline": supplier.offline,
        });
        let entry = author.entry(AuditKind::SupplierAdded, supplier.name.as_str(), detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(Ok(()))
    }

    /// Why a supplier could not be added now.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_supplier_conflict(
        &self,
        supplier: &SupplierRecord,
    ) -> Result<Option<SupplierConflict>, Error> {
        let mut connection =
            self.pool.begin_to_read().await.during("look for conflicts of a supplier")?;
        find_conflict(&mut connection, supplier, false).await
    }

    /// The suppliers that were not removed, by their names.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_suppliers(&self) -> Result<Vec<SupplierRecord>, Error> {
        let rows = sqlx::query("SELECT * FROM suppliers WHERE removed_at IS NULL ORDER BY name");
        let rows = rows.fetch_all(&self.pool).await.during("list suppliers")?;
        rows.iter().map(supplier).collect()
    }

    /// Removes a supplier: nobody delegates to it any more, its images are yanked, the tokens that
    /// are bound to its folder are revoked, and snapshots go on listing its role's last file. None
    /// if there is no such supplier.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn remove_supplier(
        &self,
        name: &SupplierName,
        author: &Author,
    ) -> Result<Option<RemovedSupplier>, Error> {
        const OP: &str = "remove a supplier";
        let role = RoleName::of_supplier(name);
        let mut transaction = self.pool.begin().await.during(OP)?;
        let removed = sqlx::query(
            "UPDATE suppliers SET removed_at = $1 WHERE name = $2 AND removed_at IS NULL RETURNING folder, keys",
        )
        .bind(author.at.as_millisecond())
        .bind(name.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .during(OP)?;
        let Some(removed) = removed else { return Ok(None) };
        let images = yank_all(&mut transaction, &role, author).await?;
        let folder = text(&removed, "folder", OP)?;
        let tokens = revoke_all(&mut transaction, &folder, author).await?;
        let dropped = drop_staging(&mut transaction, RepositorySide::Image, &role, author).await?;
        for statement in [
            "INSERT INTO retired_roles (name, version, length, sha256) \
             SELECT name, version, length, sha256 FROM roles WHERE name = $1 AND version > 0",
            "DELETE FROM roles WHERE name = $1",
        ] {
            let query = sqlx::query(statement).bind(role.as_str());
            query.execute(&mut *transaction).await.during(OP)?;
        }
        count_change(&mut transaction, &RoleName::Targets).await?;
        let detail = json!({ "images": images });
        let gone = author.entry(AuditKind::SupplierRemoved, name.as_str(), detail);
        let revoked = tokens.iter().map(|id| {
            author.entry(AuditKind::TokenRevoked, id.as_str(), json!({ "supplier": name }))
        });
        let entries: Vec<_> = revoked.chain(dropped).chain([gone]).collect();
        audit::append(&mut transaction, &entries).await?;
        transaction.commit().await.during(OP)?;
        Ok(Some(RemovedSupplier {
            images: images.len() as u64,
            tokens,
            keys: super::json(&removed, "keys", OP)?,
        }))
    }
}

/// `is_inserted`: whether the row of this name is its own.
async fn find_conflict(
    connection: &mut AnyConnection,
    new: &SupplierRecord,
    is_inserted: bool,
) -> Result<Option<SupplierConflict>, Error> {
    const OP: &str = "look for conflicts of a supplier";
    let rows = sqlx::query("SELECT * FROM suppliers ORDER BY name").persistent(false); // columns may come
    for row in rows.fetch_all(&mut *connection).await.during(OP)? {
        let is_removed = row.try_get::<Option<i64>, _>("removed_at").during(OP)?.is_some();
        let other = supplier(&row)?;
        if other.name == new.name {
            if !is_inserted {
                return Ok(Some(SupplierConflict::NameUsed { is_removed }));
            }
        } else if !is_removed && other.folder.overlaps(&new.folder) {
            return Ok(Some(SupplierConflict::FolderTaken { by: other.name }));
        }
    }
    if !new.terminating {
        return Ok(None);
    }
    let row = sqlx::query(
        "SELECT COUNT(*) AS images FROM images WHERE yanked_at IS NULL AND SUBSTR(path, 1, LENGTH($1)) = $2",
    )
    .bind(new.folder.as_str())
    .bind(new.folder.as_str())
    .fetch_one(&mut *connection);
    let images = number(&row.await.during(OP)?, "images", OP)?;
    Ok((images > 0).then_some(SupplierConflict::FolderHasImages { images }))
}

/// Yanks all images that a role lists, and returns their paths.
async fn yank_all(
    transaction: &mut Transaction<'_, Any>,
    role: &RoleName,
    author: &Author,
) -> Result<Vec<String>, Error> {
    const OP: &str = "yank the images of a role";
    let yanked = sqlx::query(
        "UPDATE images SET yanked_at = $1 WHERE yanked_at IS NULL \
         AND path IN (SELECT path FROM targets WHERE role = $2) RETURNING path",
    )
    .bind(author.at.as_millisecond())
    .bind(role.as_str())
    .fetch_all(&mut **transaction)
    .await
    .during(OP)?;
    sqlx::query("DELETE FROM targets WHERE role = $1")
        .bind(role.as_str())
        .execute(&mut **transaction)
        .await
        .during(OP)?;
    yanked.iter().map(|row| text(row, "path", OP)).collect()
}

/// Revokes the tokens that are bound to a folder, and returns their ids.
async fn revoke_all(
    transaction: &mut Transaction<'_, Any>,
    folder: &str,
    author: &Author,
) -> Result<Vec<String>, Error> {
    const OP: &str = "revoke the tokens of a folder";
    let revoked = sqlx::query(
        "UPDATE tokens SET revoked_at = $1 WHERE revoked_at IS NULL AND SUBSTR(path_prefix, 1, LENGTH($2)) = $2 \
         RETURNING id",
    )
    .bind(author.at.as_millisecond())
    .bind(folder)
    .fetch_all(&mut **transaction)
    .await
    .during(OP)?;
    revoked.iter().map(|row| text(row, "id", OP)).collect()
}

fn supplier(row: &AnyRow) -> Result<SupplierRecord, Error> {
    const OP: &str = "read a supplier";
    let threshold = u8::try_from(number(row, "threshold", OP)?);
    Ok(SupplierRecord {
        name: parsed(row, "name", OP)?,
        folder: parsed(row, "folder", OP)?,
        hardware_ids: super::json(row, "hardware_ids", OP)?,
        keys: super::json(row, "keys", OP)?,
        threshold: threshold.or_corrupt(OP)?,
        terminating: number(row, "terminating", OP)? != 0,
        offline: number(row, "offline", OP)? != 0,
        created_at: time(row, "created_at", OP)?,
        created_by: text(row, "created_by", OP)?,
    })
}
