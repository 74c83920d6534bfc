//! The Director's root chain.

use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::staged::take_staging;
use super::{AuditKind, Author, Catalog, During, Error, audit, column, number, time};
use crate::model::{RepositorySide, RoleName, Timestamp};

/// A version of the Director's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorRoot {
    /// Its version.
    pub version: u64,
    /// The file.
    pub body: Vec<u8>,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl Catalog {
    /// Adds a version of the Director's root, unless there is one; returns whether it was added.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn insert_director_root(
        &self,
        root: &DirectorRoot,
        author: &Author,
    ) -> Result<bool, Error> {
        const OP: &str = "add a Director root";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let is_new = insert(&mut transaction, root, author).await?;
        transaction.commit().await.during(OP)?;
        Ok(is_new)
    }

    /// Adds the version of the Director's root that was staged as `revision`, which ends with it.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] if that isn't staged any more, or the version is there;
    /// [`Error::Full`]; [`Error::Backend`].
    pub async fn publish_director_root(
        &self,
        root: &DirectorRoot,
        revision: u64,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "publish a Director root";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let (side, role) = (RepositorySide::Director, RoleName::Root);
        take_staging(&mut transaction, side, &role, revision).await?;
        if !insert(&mut transaction, root, author).await? {
            return Err(Error::Overtaken);
        }
        transaction.commit().await.during(OP)
    }

    /// A version of the Director's root, or the newest.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_director_root(
        &self,
        version: Option<u64>,
    ) -> Result<Option<DirectorRoot>, Error> {
        const OP: &str = "find a Director root";
        let query = match version {
            Some(version) => sqlx::query(
                "SELECT version, body, expires_at FROM director_roots WHERE version = $1",
            )
            .bind(column(version)),
            None => sqlx::query(
                "SELECT version, body, expires_at FROM director_roots ORDER BY version DESC LIMIT 1",
            ),
        };
        let row = query.fetch_optional(&self.pool).await.during(OP)?;
        row.as_ref().map(root).transpose()
    }

    /// The newest version of the Director's root, 0 before the first.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn newest_director_root(&self) -> Result<u64, Error> {
        const OP: &str = "look for the newest Director root";
        let query = sqlx::query("SELECT version FROM director_roots ORDER BY version DESC LIMIT 1");
        let row = self.reads.fetch_optional(query).await.during(OP)?;
        row.map_or(Ok(0), |row| number(&row, "version", OP))
    }

    /// All versions of the Director's root, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_director_roots(&self) -> Result<Vec<DirectorRoot>, Error> {
        let rows =
            sqlx::query("SELECT version, body, expires_at FROM director_roots ORDER BY version");
        let rows = rows.fetch_all(&self.pool).await.during("list the Director's roots")?;
        rows.iter().map(root).collect()
    }
}

/// Adds a version with its entry in the audit log, unless there is one.
async fn insert(
    transaction: &mut Transaction<'_, Any>,
    root: &DirectorRoot,
    author: &Author,
) -> Result<bool, Error> {
    const OP: &str = "add a Director root";
    let inserted = sqlx::query(
        "INSERT INTO director_roots (version, body, expires_at) VALUES ($1, $2, $3) ON CONFLICT (version) DO NOTHING",
    )
    .bind(column(root.version))
    .bind(root.body.as_slice())
    .bind(root.expires_at.as_millisecond())
    .execute(&mut **transaction)
    .await
    .during(OP)?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    let sha256 = hex::encode(Sha256::digest(&root.body));
    let detail = json!({ "version": root.version, "sha256": sha256 });
    let entry = author.entry(AuditKind::RootPublished, "director", detail);
    audit::append(transaction, &[entry]).await?;
    Ok(true)
}

fn root(row: &AnyRow) -> Result<DirectorRoot, Error> {
    const OP: &str = "read a Director root";
    Ok(DirectorRoot {
        version: number(row, "version", OP)?,
        body: row.try_get("body").during(OP)?,
        expires_at: time(row, "expires_at", OP)?,
    })
}
