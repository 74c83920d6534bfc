//! What the installation was made with.

use super::{Catalog, During, Error, parsed, text};
use crate::model::{ImagePath, RoleName, Sha256Digest};

/// An image's envelope with its escrow entry, which **must never** leave the server.
#[derive(Debug, Clone)]
pub struct StoredEnvelope {
    /// The image.
    pub path: ImagePath,
    /// SHA-256 of the sealed image.
    pub sealed_sha256: Sha256Digest,
    /// The envelope, as JSON.
    pub envelope: String,
}

/// From which end something is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// From the first one on.
    Oldest,
    /// From the last one back.
    Newest,
}

impl Catalog {
    /// What was recorded under `name` when the installation was made.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_installed(&self, name: &str) -> Result<Option<String>, Error> {
        const OP: &str = "look at what the installation was made with";
        let row = sqlx::query("SELECT value FROM installation WHERE name = $1").bind(name);
        let row = row.fetch_optional(&self.pool).await.during(OP)?;
        row.map(|row| text(&row, "value", OP)).transpose()
    }

    /// Records something once; what is there stays.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn insert_installed(&self, name: &str, value: &str) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        )
        .bind(name)
        .bind(value)
        .execute(&self.pool)
        .await
        .map(drop)
        .during("record what the installation was made with")
    }

    /// Records something in the place of what is there.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn replace_installed(&self, name: &str, value: &str) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(value)
        .execute(&self.pool)
        .await
        .map(drop)
        .during("record where the installation is")
    }

    /// Envelopes of some images, those of yanked ones too.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_envelopes(&self, age: Age, limit: u32) -> Result<Vec<StoredEnvelope>, Error> {
        const OP: &str = "list envelopes";
        let query = match age {
            Age::Oldest => {
                "SELECT path, sealed_sha256, envelope FROM images ORDER BY created_at LIMIT $1"
            }
            Age::Newest => {
                "SELECT path, sealed_sha256, envelope FROM images ORDER BY created_at DESC LIMIT $1"
            }
        };
        let rows = sqlx::query(query).bind(i64::from(limit)).fetch_all(&self.pool).await;
        let rows = rows.during(OP)?;
        let stored = |row| {
            Ok(StoredEnvelope {
                path: parsed(row, "path", OP)?,
                sealed_sha256: parsed(row, "sealed_sha256", OP)?,
                envelope: text(row, "envelope", OP)?,
            })
        };
        rows.iter().map(stored).collect()
    }

    /// Marks roles as changed, so that they are signed again.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn mark_changed(&self, roles: &[RoleName]) -> Result<(), Error> {
        const OP: &str = "mark roles as changed";
        let mut transaction = self.pool.begin().await.during(OP)?;
        for role in roles {
            super::images::count_change(&mut transaction, role).await?;
        }
        transaction.commit().await.during(OP)
    }
}
