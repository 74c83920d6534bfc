//! Blobs that are announced for images which are not accepted yet: what a crash would leave behind.
//!
//! They are the server's that announced them, for as long as its lease lasts. Whoever takes them for
//! abandoned owns them from then on, and the image that they were for can't be accepted any more:
//! its bytes may be gone.
//!
//! Two servers can come to the same name: an upload goes on at another one, and an entry that is taken
//! out of an envelope leads to the same bytes each time. So nobody removes a blob without having taken
//! it for that, which is given to whom it belongs and while nothing lists it, and nobody announces it
//! until it is gone.

use sqlx::{Any, AssertSqlSafe, Transaction};

use super::holder::Held;
use super::{Catalog, During, Error, Holder, placeholders, rows_at_once, text};
use crate::model::Sha256Digest;

/// Blobs that a server has announced for an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnnouncedBlobs {
    /// Their names.
    pub names: Vec<String>,
    /// Id of the server.
    pub owner: String,
}

impl Catalog {
    /// Notes which blobs are about to be stored, so that they can be removed if their image is
    /// never accepted.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] if one of them is being removed, and then none is noted;
    /// [`Error::Backend`] or [`Error::Full`].
    pub async fn announce_blobs(&self, names: &[String], holder: Holder<'_>) -> Result<(), Error> {
        const OP: &str = "announce blobs";
        let mut transaction = self.pool.begin().await.during(OP)?;
        for names in names.chunks(ROWS_AT_ONCE) {
            let mut announce = sqlx::query(AssertSqlSafe(format!(
                "INSERT INTO pending_blobs (name, created_at, owner, lease_until) VALUES {} \
                 ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until \
                 WHERE pending_blobs.owner IS NULL OR pending_blobs.owner NOT LIKE '{REMOVAL}%'",
                placeholders(names.len(), 4)
            )));
            for name in names {
                announce = announce
                    .bind(name)
                    .bind(holder.now.as_millisecond())
                    .bind(holder.owner)
                    .bind(self.leased_until(holder.lease_until));
            }
            let announced = announce.execute(&mut *transaction).await.during(OP)?;
            if announced.rows_affected() < names.len() as u64 {
                return Err(Error::Overtaken);
            }
        }
        transaction.commit().await.during(OP)
    }

    /// The blobs that are announced, whoever's they are.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn pending_blobs(&self) -> Result<Vec<String>, Error> {
        const OP: &str = "list pending blobs";
        let rows =
            sqlx::query("SELECT name FROM pending_blobs ORDER BY name").fetch_all(&self.pool);
        rows.await.during(OP)?.iter().map(|row| text(row, "name", OP)).collect()
    }

    /// Takes the blobs that are this server's own or that nobody holds any more, to be removed.
    /// **Must be called before this server announces any.**
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] or [`Error::Full`].
    pub async fn take_abandoned_blobs(&self, holder: Holder<'_>) -> Result<Vec<String>, Error> {
        const OP: &str = "take abandoned blobs";
        let (now, latest) = self.while_held(Held::Blobs, holder.now);
        let rows = sqlx::query(
            "UPDATE pending_blobs SET owner = $1, lease_until = $2 \
             WHERE owner IS NULL OR owner = $3 OR owner = $4 OR lease_until < $5 OR lease_until > $6 RETURNING name",
        )
        .bind(holder.owner)
        .bind(self.leased_until(holder.lease_until))
        .bind(holder.owner)
        .bind(format!("{REMOVAL}{}", holder.owner))
        .bind(now)
        .bind(latest)
        .fetch_all(&self.pool)
        .await
        .during(OP)?;
        let mut names: Vec<String> =
            rows.iter().map(|row| text(row, "name", OP)).collect::<Result<_, _>>()?;
        names.sort();
        Ok(names)
    }

    /// Takes the blobs of other servers that have not been heard of in time, to be removed.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] or [`Error::Full`].
    pub async fn take_expired_blobs(&self, holder: Holder<'_>) -> Result<Vec<String>, Error> {
        const OP: &str = "take expired blobs";
        let (now, latest) = self.while_held(Held::Blobs, holder.now);
        let rows = sqlx::query(
            "UPDATE pending_blobs SET owner = $1, lease_until = $2 \
             WHERE owner <> $3 AND (lease_until < $4 OR lease_until > $5) RETURNING name",
        )
        .bind(holder.owner)
        .bind(self.leased_until(holder.lease_until))
        .bind(holder.owner)
        .bind(now)
        .bind(latest)
        .fetch_all(&self.pool)
        .await
        .during(OP)?;
        rows.iter().map(|row| text(row, "name", OP)).collect()
    }

    /// Takes a blob to remove it, if it is the server's and nothing lists the file: then nobody
    /// announces it until it is forgotten. One that is listed is forgotten here. Returns whether it
    /// **may** be removed.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] or [`Error::Full`].
    pub async fn take_for_removal(
        &self,
        name: &str,
        (path, sha256): (&str, &Sha256Digest),
        holder: Holder<'_>,
    ) -> Result<bool, Error> {
        const OP: &str = "take a blob to remove it";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let taken = sqlx::query(
            "UPDATE pending_blobs SET owner = $1, lease_until = $2 WHERE name = $3 AND owner = $4 \
             AND NOT EXISTS (SELECT 1 FROM targets WHERE path = $5 AND sha256 = $6) \
             AND NOT EXISTS (SELECT 1 FROM superseded_envelopes WHERE path = $7 AND sha256 = $8)",
        )
        .bind(format!("{REMOVAL}{}", holder.owner))
        .bind(self.leased_until(holder.lease_until))
        .bind(name)
        .bind(holder.owner)
        .bind(path)
        .bind(sha256.to_string())
        .bind(path)
        .bind(sha256.to_string());
        let taken = taken.execute(&mut *transaction).await.during(OP)?.rows_affected() > 0;
        if !taken {
            let listed = sqlx::query("DELETE FROM pending_blobs WHERE name = $1 AND owner = $2");
            let listed = listed.bind(name).bind(holder.owner);
            listed.execute(&mut *transaction).await.during(OP)?;
        }
        transaction.commit().await.during(OP)?;
        Ok(taken)
    }

    /// Forgets an announced blob that is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn forget_pending_blob(&self, name: &str) -> Result<(), Error> {
        sqlx::query("DELETE FROM pending_blobs WHERE name = $1")
            .bind(name)
            .execute(&self.pool)
            .await
            .map(drop)
            .during("forget a pending blob")
    }
}

/// Ends the announcement of blobs whose image is accepted, if they are still who announced them's.
pub(super) async fn end(
    transaction: &mut Transaction<'_, Any>,
    blobs: &AnnouncedBlobs,
) -> Result<(), Error> {
    for names in blobs.names.chunks(ROWS_AT_ONCE) {
        let listed: Vec<String> = (0..names.len()).map(|name| format!("${}", name + 2)).collect();
        let mut end = sqlx::query(AssertSqlSafe(format!(
            "DELETE FROM pending_blobs WHERE owner = $1 AND name IN ({})",
            listed.join(", ")
        )));
        end = end.bind(blobs.owner.as_str());
        for name in names {
            end = end.bind(name.as_str());
        }
        let ended =
            end.execute(&mut **transaction).await.during("end the announcement of blobs")?;
        if ended.rows_affected() < names.len() as u64 {
            return Err(Error::Overtaken);
        }
    }
    Ok(())
}

/// What the owner of a blob that is being removed begins with.
const REMOVAL: &str = "removal by ";
const ROWS_AT_ONCE: usize = rows_at_once(4);
