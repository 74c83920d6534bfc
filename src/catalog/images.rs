//! Images, their envelopes and their entries in targets metadata.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::journal::NumberedChange;
use super::listed::{ListingBound, add_entry, after_folder, may_list, remove_entry};
use super::pending_blobs::{self, AnnouncedBlobs};
use super::{
    AuditKind, Author, Catalog, During, Error, NewAuditEntry, OrCorrupt, Page, audit, column,
    escrow, json, number, optional_time, parsed, text, time,
};
use crate::model::{
    ImageDescription, ImagePath, ImageRecord, ReleaseCounter, RoleKind, RoleName, SealedImage,
    Sha256Digest, TargetEntry, TargetFormat,
};

/// An image that is about to be accepted.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The image.
    pub record: ImageRecord,
    /// Its envelope with the escrow entry, as JSON.
    pub envelope: String,
    /// The id of the escrow key that it is wrapped to, if it is to one.
    pub escrow_kid: Option<String>,
    /// Its targets, each with the role that lists it.
    pub targets: Vec<(RoleName, TargetEntry)>,
    /// The blobs that [`Catalog::announce_blobs`] has announced for it.
    pub blobs: AnnouncedBlobs,
}

impl Catalog {
    /// Looks an image up, yanked ones included.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_image(&self, path: &ImagePath) -> Result<Option<ImageRecord>, Error> {
        const OP: &str = "find an image";
        let row = sqlx::query("SELECT * FROM images WHERE path = $1")
            .bind(path.as_str())
            .fetch_optional(&self.pool);
        row.await.during(OP)?.as_ref().map(image).transpose()
    }

    /// Whether this very image is there, once every change that began before has ended: also one
    /// whose commit has failed for who made it, and may take place yet.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`], and then nobody knows.
    pub async fn has_accepted_image(
        &self,
        path: &ImagePath,
        sealed: Sha256Digest,
    ) -> Result<bool, Error> {
        const OP: &str = "find out whether an image was accepted";
        let row = sqlx::query("SELECT path FROM images WHERE path = $1 AND sealed_sha256 = $2")
            .bind(path.as_str())
            .bind(sealed.to_string());
        // On SQLite a commit has ended when it fails, and a full disk takes no transaction that writes.
        if self.pool.takes_turns() {
            return Ok(row.fetch_optional(&self.pool).await.during(OP)?.is_some());
        }
        let mut transaction = self.pool.begin().await.during(OP)?;
        let found = row.fetch_optional(&mut *transaction).await.during(OP)?.is_some();
        transaction.rollback().await.during(OP)?;
        Ok(found)
    }

    /// An image's envelope with the escrow entry, as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_envelope(&self, path: &ImagePath) -> Result<Option<String>, Error> {
        const OP: &str = "find an envelope";
        let row = sqlx::query("SELECT envelope FROM images WHERE path = $1").bind(path.as_str());
        let row = row.fetch_optional(&self.pool).await.during(OP)?;
        row.map(|row| text(&row, "envelope", OP)).transpose()
    }

    /// Lists at most `limit` images whose paths come after `after`, yanked ones included.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_images(&self, after: &str, limit: u32) -> Result<Page<ImageRecord>, Error> {
        self.list_folder("", after, limit).await
    }

    /// The same of the images in a folder, with a slash at its end; of all for an empty one.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_folder(
        &self,
        folder: &str,
        after: &str,
        limit: u32,
    ) -> Result<Page<ImageRecord>, Error> {
        const OP: &str = "list images";
        let rows = sqlx::query(
            "SELECT * FROM images WHERE path > $1 AND ($2 = '' OR path < $2) ORDER BY path LIMIT $3",
        );
        let rows = rows
            .bind(after.max(folder))
            .bind(after_folder(folder))
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.pool)
            .await
            .during(OP)?;
        let images = rows.iter().map(image).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(images, limit, |image| image.path.to_string()))
    }

    /// Counts the images that are published, and those that were yanked.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn count_images(&self) -> Result<u64, Error> {
        const OP: &str = "count images";
        let row = sqlx::query("SELECT COUNT(*) AS n FROM images WHERE yanked_at IS NULL")
            .fetch_one(&self.pool);
        number(&row.await.during(OP)?, "n", OP)
    }

    /// Accepts images: all of them, with their targets, and marks the roles that list them as
    /// changed.
    ///
    /// # Errors
    ///
    /// [`Error::Retired`] if one was sealed for a key that is no recipient's any more, or
    /// [`Error::OtherEscrowKey`]: then it is to be wrapped anew;
    /// [`Error::AlreadyExists`] if a path is taken, [`Error::RoleFull`], [`Error::NotDelegated`] if
    /// others speak for a path since its role was chosen, or [`Error::Overtaken`] if
    /// another server has taken its blobs for abandoned, and then none is accepted;
    /// [`Error::Full`]; [`Error::Backend`].
    pub async fn insert_images(
        &self,
        images: &[NewImage],
        bound: &ListingBound,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "insert images";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let mut changes = Vec::with_capacity(2 * images.len());
        for image in images {
            insert_image(&mut transaction, image, bound, &mut changes).await?;
            refuse_retired(&mut transaction, &image.envelope).await?;
            if let Some(kid) = &image.escrow_kid {
                escrow::refuse_other_key(&mut transaction, kid).await?;
            }
        }
        let published: Vec<_> =
            images.iter().map(|image| published(author, &image.record)).collect();
        audit::append(&mut transaction, &published).await?;
        transaction.commit().await.during(OP)?;
        self.journal.note(changes);
        Ok(())
    }

    /// Takes an image and its envelope out of the targets, and marks the roles that listed them as
    /// changed. Returns whether it was there and not yanked before.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn yank_image(&self, path: &ImagePath, author: &Author) -> Result<bool, Error> {
        const OP: &str = "yank an image";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let yanked =
            sqlx::query("UPDATE images SET yanked_at = $1 WHERE path = $2 AND yanked_at IS NULL")
                .bind(author.at.as_millisecond())
                .bind(path.as_str())
                .execute(&mut *transaction)
                .await
                .during(OP)?;
        if yanked.rows_affected() == 0 {
            return Ok(false);
        }
        let mut changes = Vec::with_capacity(2);
        for target in [path.as_str(), &path.envelope_path()] {
            changes.extend(remove_entry(&mut transaction, target).await?);
        }
        let yanked = author.entry(AuditKind::ImageYanked, path.as_str(), json!({}));
        audit::append(&mut transaction, &[yanked]).await?;
        transaction.commit().await.during(OP)?;
        self.journal.note(changes);
        Ok(true)
    }

    /// All targets that `role` lists, in the order of their paths.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_targets(&self, role: &RoleName) -> Result<Vec<TargetEntry>, Error> {
        const OP: &str = "list targets";
        let rows = sqlx::query(
            "SELECT path, length, sha256, custom FROM targets WHERE role = $1 ORDER BY path",
        )
        .bind(role.as_str())
        .fetch_all(&self.pool)
        .await
        .during(OP)?;
        rows.iter().map(target).collect()
    }

    /// Looks one target up.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_target(&self, path: &str) -> Result<Option<TargetEntry>, Error> {
        const OP: &str = "find a target";
        let row = sqlx::query("SELECT path, length, sha256, custom FROM targets WHERE path = $1")
            .bind(path);
        row.fetch_optional(&self.pool).await.during(OP)?.as_ref().map(target).transpose()
    }
}

fn published(author: &Author, image: &ImageRecord) -> NewAuditEntry {
    let detail = json!({
        "version": image.description.version,
        "release_counter": image.description.release_counter,
        "sealed_length": image.sealed.length,
        "sealed_sha256": image.sealed.sha256.to_string(),
    });
    author.entry(AuditKind::ImagePublished, image.path.as_str(), detail)
}

/// Whoever retires a key goes through all envelopes after that: one that was sealed before, by any
/// server or request, must not come in behind that.
async fn refuse_retired(
    transaction: &mut Transaction<'_, Any>,
    envelope: &str,
) -> Result<(), Error> {
    const OP: &str = "look for retired recipients";
    let retired = sqlx::query(
        "SELECT kid FROM retired_recipients WHERE $1 LIKE '%' || kid || '%' \
         AND NOT EXISTS (SELECT 1 FROM recipients WHERE recipients.kid = retired_recipients.kid)",
    );
    let retired = retired.bind(envelope).fetch_optional(&mut **transaction).await.during(OP)?;
    match retired {
        Some(row) => Err(Error::Retired { kid: text(&row, "kid", OP)? }),
        None => Ok(()),
    }
}

async fn insert_image(
    transaction: &mut Transaction<'_, Any>,
    new: &NewImage,
    bound: &ListingBound,
    changes: &mut Vec<NumberedChange>,
) -> Result<(), Error> {
    const OP: &str = "insert an image";
    let ImageRecord { path, description, sealed, created_at, created_by, yanked_at: _ } =
        &new.record;
    let hardware_ids = serde_json::to_string(&description.hardware_ids).or_corrupt(OP)?;
    let requires = serde_json::to_string(&description.requires).or_corrupt(OP)?;
    let conflicts = serde_json::to_string(&description.conflicts).or_corrupt(OP)?;
    let inserted = sqlx::query(
        "INSERT INTO images (path, name, version, hardware_ids, release_counter, target_format, algorithm, \
         sealed_length, sealed_sha256, plaintext_length, plaintext_sha256, envelope, created_at, created_by, \
         requires, conflicts) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT (path) DO NOTHING",
    )
    .bind(path.as_str())
    .bind(description.name.as_str())
    .bind(description.version.as_str())
    .bind(hardware_ids)
    .bind(column(description.release_counter.value()))
    .bind(description.target_format.as_str())
    .bind(sealed.algorithm.as_str())
    .bind(column(sealed.length))
    .bind(sealed.sha256.to_string())
    .bind(column(sealed.plaintext_length))
    .bind(sealed.plaintext_sha256.to_string())
    .bind(new.envelope.as_str())
    .bind(created_at.as_millisecond())
    .bind(created_by.as_str())
    .bind(requires)
    .bind(conflicts)
    .execute(&mut **transaction)
    .await
    .during(OP)?;
    if inserted.rows_affected() == 0 {
        return Err(Error::AlreadyExists(path.to_string()));
    }
    for (role, target) in &new.targets {
        changes.extend(insert_target(transaction, role, target, bound).await?);
    }
    pending_blobs::end(transaction, &new.blobs).await
}

async fn insert_target(
    transaction: &mut Transaction<'_, Any>,
    role: &RoleName,
    target: &TargetEntry,
    bound: &ListingBound,
) -> Result<Option<NumberedChange>, Error> {
    sqlx::query(
        "INSERT INTO targets (path, role, length, sha256, custom) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(target.path.as_str())
    .bind(role.as_str())
    .bind(column(target.length))
    .bind(target.sha256.to_string())
    .bind(target.custom.as_deref())
    .execute(&mut **transaction)
    .await
    .during("insert a target")?;
    let added = add_entry(transaction, role, target, bound).await?;
    let is_gone = added.is_none() && role.kind() == RoleKind::Suppliers;
    if is_gone || !may_list(transaction, role, &target.path).await? {
        return Err(Error::NotDelegated { role: role.clone(), target: target.path.clone() });
    }
    Ok(added)
}

pub(super) async fn count_change(
    transaction: &mut Transaction<'_, Any>,
    role: &RoleName,
) -> Result<(), Error> {
    sqlx::query("UPDATE roles SET changes = changes + 1 WHERE name = $1")
        .bind(role.as_str())
        .execute(&mut **transaction)
        .await
        .map(drop)
        .during("mark a role as changed")
}

fn image(row: &AnyRow) -> Result<ImageRecord, Error> {
    const OP: &str = "read an image";
    let hardware_ids = json(row, "hardware_ids", OP)?;
    let release_counter = ReleaseCounter::try_from(number(row, "release_counter", OP)?);
    let target_format: Result<TargetFormat, _> = text(row, "target_format", OP)?.parse();
    Ok(ImageRecord {
        path: parsed(row, "path", OP)?,
        description: ImageDescription {
            name: parsed(row, "name", OP)?,
            version: parsed(row, "version", OP)?,
            hardware_ids,
            release_counter: release_counter.or_corrupt(OP)?,
            target_format: target_format.or_corrupt(OP)?,
            requires: json(row, "requires", OP)?,
            conflicts: json(row, "conflicts", OP)?,
        },
        sealed: SealedImage {
            algorithm: parsed(row, "algorithm", OP)?,
            length: number(row, "sealed_length", OP)?,
            sha256: parsed(row, "sealed_sha256", OP)?,
            plaintext_length: number(row, "plaintext_length", OP)?,
            plaintext_sha256: parsed(row, "plaintext_sha256", OP)?,
        },
        created_at: time(row, "created_at", OP)?,
        created_by: text(row, "created_by", OP)?,
        yanked_at: optional_time(row, "yanked_at", OP)?,
    })
}

fn target(row: &AnyRow) -> Result<TargetEntry, Error> {
    const OP: &str = "read a target";
    Ok(TargetEntry {
        path: text(row, "path", OP)?,
        length: number(row, "length", OP)?,
        sha256: parsed(row, "sha256", OP)?,
        custom: row.try_get("custom").during(OP)?,
    })
}
