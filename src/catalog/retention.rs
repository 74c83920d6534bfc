//! Which images' files are kept for longer, and which of yanked images are removed.

use serde_json::json;
use sqlx::any::AnyRow;

use super::holder::Held;
use super::{
    AuditKind, Author, Catalog, During, Error, Holder, Page, audit, number, optional_time, parsed,
    text,
};
use crate::model::{ImagePath, ImageRetention, Sha256Digest, Timestamp};

/// Whether a row of `installation` is the mark of a backup that holds all files: its name is like the
/// first parameter, and its time between the others.
macro_rules! is_held {
    ($like:literal, $first:literal, $last:literal) => {
        concat!(
            "CASE WHEN name LIKE ",
            $like,
            " THEN CAST(value AS BIGINT) ELSE 0 END BETWEEN ",
            $first,
            " AND ",
            $last
        )
    };
}

/// A yanked image whose files are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YankedImage {
    /// Its path.
    pub path: ImagePath,
    /// Digest of the sealed image.
    pub sha256: Sha256Digest,
    /// Length of the sealed image in bytes.
    pub length: u64,
    /// Its envelope with the escrow entry, as JSON.
    pub envelope: String,
    /// How long its files are kept, as far as that was said.
    pub retention: ImageRetention,
    /// Whether a vehicle is to install it, although it was yanked.
    pub is_assigned: bool,
}

impl Catalog {
    /// How long an image's files are kept, as far as that was said.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_retention(&self, path: &ImagePath) -> Result<ImageRetention, Error> {
        const OP: &str = "find how long an image is kept";
        let row =
            sqlx::query("SELECT retain_until, collected_at FROM image_retention WHERE path = $1");
        let row = row.bind(path.as_str()).fetch_optional(&self.pool).await.during(OP)?;
        Ok(row.as_ref().map(|row| retention(row, OP)).transpose()?.unwrap_or_default())
    }

    /// Says until when an image's files are kept in any case; none takes that back. Returns whether
    /// they still are there.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn retain_image(
        &self,
        path: &ImagePath,
        until: Option<Timestamp>,
        author: &Author,
    ) -> Result<bool, Error> {
        const OP: &str = "keep an image";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let changed = sqlx::query(
            "INSERT INTO image_retention (path, retain_until) VALUES ($1, $2) \
             ON CONFLICT (path) DO UPDATE SET retain_until = excluded.retain_until \
             WHERE image_retention.collected_at IS NULL",
        )
        .bind(path.as_str())
        .bind(until.map(Timestamp::as_millisecond))
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        if changed.rows_affected() == 0 {
            return Ok(false);
        }
        let detail = json!({ "retain_until": until.map(|until| until.to_string()) });
        let entry = author.entry(AuditKind::ImageRetained, path.as_str(), detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(true)
    }

    /// Lists at most `limit` images whose paths come after `after`, that were yanked before
    /// `before` and whose files are there.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_yanked_images(
        &self,
        before: Timestamp,
        after: &str,
        limit: u32,
    ) -> Result<Page<YankedImage>, Error> {
        const OP: &str = "list yanked images";
        let rows = sqlx::query(
            "SELECT i.path AS path, i.sealed_sha256, i.sealed_length, i.envelope, r.retain_until, r.collected_at, \
             (SELECT COUNT(*) FROM assignments a WHERE a.image_path = i.path AND a.ended_at IS NULL) AS assigned \
             FROM images i LEFT JOIN image_retention r ON r.path = i.path \
             WHERE i.yanked_at < $1 AND i.path > $2 AND r.removed_at IS NULL ORDER BY i.path LIMIT $3",
        );
        let rows = rows.bind(before.as_millisecond()).bind(after).bind(i64::from(limit) + 1);
        let rows = rows.fetch_all(&self.pool).await.during(OP)?;
        let read = |row: &AnyRow| {
            Ok(YankedImage {
                path: parsed(row, "path", OP)?,
                sha256: parsed(row, "sealed_sha256", OP)?,
                length: number(row, "sealed_length", OP)?,
                envelope: text(row, "envelope", OP)?,
                retention: retention(row, OP)?,
                is_assigned: number(row, "assigned", OP)? > 0,
            })
        };
        let images = rows.iter().map(read).collect::<Result<Vec<_>, Error>>()?;
        Ok(Page::of(images, limit, |image| image.path.to_string()))
    }

    /// Has all files stay for a backup that copies them after the catalog, until its lease ends.
    /// Several may be made at once, each under an id of its own; what others that were cut off have
    /// left is forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn hold_files(&self, backup: Holder<'_>) -> Result<(), Error> {
        const OP: &str = "forget backups that have ended";
        let (now, latest) = self.while_held(Held::Files, backup.now);
        let forgotten = sqlx::query(concat!(
            "DELETE FROM installation WHERE name LIKE $1 AND NOT ",
            is_held!("$2", "$3", "$4")
        ));
        let forgotten = forgotten.bind(HELD).bind(HELD).bind(now + 1).bind(latest);
        forgotten.execute(&self.pool).await.during(OP)?;
        let until = self.leased_until(backup.lease_until).to_string();
        self.replace_installed(&mark(backup.owner), &until).await
    }

    /// Lets go of all files for a backup that has them.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn release_files(&self, backup: &str) -> Result<(), Error> {
        let released = sqlx::query("DELETE FROM installation WHERE name = $1").bind(mark(backup));
        released.execute(&self.pool).await.map(drop).during("let go of files")
    }

    /// Decides that a yanked image's files are removed, unless somebody wants them kept, a backup is
    /// being made, or a vehicle is to install it. Returns whether they are to be removed.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn collect_image(&self, path: &ImagePath, author: &Author) -> Result<bool, Error> {
        const OP: &str = "collect an image";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let now = author.at.as_millisecond();
        let (held, latest) = self.while_held(Held::Files, author.at);
        let decided = sqlx::query(concat!(
            "INSERT INTO image_retention (path, collected_at) SELECT path, $1 FROM images \
             WHERE path = $2 AND yanked_at IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM assignments a WHERE a.image_path = images.path AND a.ended_at IS NULL) \
             AND NOT EXISTS (SELECT 1 FROM installation WHERE ",
            is_held!("$3", "$4", "$5"),
            ") ON CONFLICT (path) DO UPDATE SET collected_at = excluded.collected_at \
             WHERE image_retention.collected_at IS NULL \
             AND (image_retention.retain_until IS NULL OR image_retention.retain_until <= excluded.collected_at)"
        ))
        .bind(now)
        .bind(path.as_str())
        .bind(HELD)
        .bind(held + 1)
        .bind(latest)
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        if decided.rows_affected() == 0 {
            drop(transaction);
            return Ok(self.find_retention(path).await?.collected_at.is_some());
        }
        let entry = author.entry(AuditKind::ImageCollected, path.as_str(), json!({}));
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(true)
    }

    /// Notes that the files of an image that was collected are gone.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn note_removed_image(&self, path: &ImagePath, at: Timestamp) -> Result<(), Error> {
        const OP: &str = "note a removed image";
        sqlx::query(
            "UPDATE image_retention SET removed_at = $1 WHERE path = $2 AND collected_at IS NOT NULL",
        )
        .bind(at.as_millisecond())
        .bind(path.as_str())
        .execute(&self.pool)
        .await
        .map(drop)
        .during(OP)
    }
}

fn retention(row: &AnyRow, op: &'static str) -> Result<ImageRetention, Error> {
    Ok(ImageRetention {
        retain_until: optional_time(row, "retain_until", op)?,
        collected_at: optional_time(row, "collected_at", op)?,
    })
}

/// The name of a backup's mark in the table `installation`: until when no file goes.
fn mark(backup: &str) -> String {
    format!("files_held_until/{backup}")
}

/// Such names, and the one that versions before have for all backups.
const HELD: &str = "files_held_until%";
