//! What was published when: numbers, times and files that are not to be gone back behind.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::{Any, Transaction};

use super::{AuditKind, Author, Catalog, During, Error, audit, column, number, parsed, text, time};
use crate::model::{RoleName, Timestamp};

/// Times that outlive the process: a clock is compared with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moments {
    /// When something was signed last.
    pub signed: Option<Timestamp>,
    /// Between which two times the clock last went on further than a server lets pass without
    /// signing.
    pub leap: Option<(Timestamp, Timestamp)>,
}

/// A timestamp of the Image repository that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedTimestamp {
    /// Its version.
    pub version: u64,
    /// Version of the snapshot that it names.
    pub snapshot: u64,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Where version numbers go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkippedTo {
    /// The highest number of a role of the Image repository that is not used any more.
    pub image: u64,
    /// The Director's.
    pub director: u64,
}

impl Catalog {
    /// When something was signed last, and what the clock did.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_moments(&self) -> Result<Moments, Error> {
        let mut moments = self.list_moments().await?;
        let leap = moments.remove("before_leap").zip(moments.remove("after_leap"));
        Ok(Moments { signed: moments.remove("signed"), leap })
    }

    /// Since when [`Catalog::list_published_timestamps`] has every timestamp; none if it always
    /// had.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn timestamps_watched_since(&self) -> Result<Option<Timestamp>, Error> {
        Ok(self.list_moments().await?.remove("watched"))
    }

    async fn list_moments(&self) -> Result<BTreeMap<String, Timestamp>, Error> {
        const OP: &str = "find when something was signed last";
        let rows = sqlx::query("SELECT name, at FROM moments").fetch_all(&self.pool).await;
        let rows = rows.during(OP)?;
        rows.iter().map(|row| Ok((text(row, "name", OP)?, time(row, "at", OP)?))).collect()
    }

    /// Replaces what [`Catalog::find_moments`] gives.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn replace_moments(&self, moments: &Moments, author: &Author) -> Result<(), Error> {
        const OP: &str = "record when something was signed";
        let mut transaction = self.pool.begin().await.during(OP)?;
        put_moments(&mut transaction, moments).await?;
        let signed = moments.signed.map(|time| time.to_string());
        let entry = author.entry(AuditKind::ClockCorrected, "clock", json!({ "now": signed }));
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)
    }

    /// The timestamps that were published and not forgotten, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_published_timestamps(&self) -> Result<Vec<PublishedTimestamp>, Error> {
        const OP: &str = "list published timestamps";
        let rows = sqlx::query(
            "SELECT version, snapshot, signed_at, expires_at FROM published_timestamps ORDER BY version",
        );
        let rows = rows.fetch_all(&self.pool).await.during(OP)?;
        let read = |row| {
            Ok(PublishedTimestamp {
                version: number(row, "version", OP)?,
                snapshot: number(row, "snapshot", OP)?,
                signed_at: time(row, "signed_at", OP)?,
                expires_at: time(row, "expires_at", OP)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Forgets published timestamps whose files nobody asks for any more.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn forget_published_timestamps(&self, versions: &[u64]) -> Result<(), Error> {
        const OP: &str = "forget published timestamps";
        let mut transaction = self.pool.begin().await.during(OP)?;
        for version in versions {
            sqlx::query("DELETE FROM published_timestamps WHERE version = $1")
                .bind(column(*version))
                .execute(&mut *transaction)
                .await
                .during(OP)?;
        }
        transaction.commit().await.during(OP)
    }

    /// Takes the numbers of every role but root past `seen` and `floor` by `margin`, marks
    /// everything as changed, so that it is published with those numbers, and takes the Director's
    /// numbers on by as much. No margin leads past what every client can count to.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn skip_versions(
        &self,
        seen: &BTreeMap<RoleName, u64>,
        floor: u64,
        margin: u64,
        author: &Author,
    ) -> Result<SkippedTo, Error> {
        const OP: &str = "skip version numbers";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let director = skip_director_versions(&mut transaction, floor, margin).await?;
        let roles = sqlx::query("SELECT name, reserved FROM roles WHERE name <> 'root'");
        let roles = roles.fetch_all(&mut *transaction).await.during(OP)?;
        let mut highest = 0;
        for role in &roles {
            let name: RoleName = parsed(role, "name", OP)?;
            let known =
                number(role, "reserved", OP)?.max(floor).max(seen.get(&name).copied().unwrap_or(0));
            let reserved = past(known, margin);
            sqlx::query("UPDATE roles SET reserved = $1, changes = changes + 1 WHERE name = $2")
                .bind(column(reserved))
                .bind(name.as_str())
                .execute(&mut *transaction)
                .await
                .during(OP)?;
            highest = highest.max(reserved);
        }
        // What was signed for a vehicle has a number from before.
        sqlx::query("UPDATE vehicle_status SET bundle = NULL")
            .execute(&mut *transaction)
            .await
            .during(OP)?;
        let skipped = SkippedTo { image: highest, director };
        let detail = json!({ "image": skipped.image, "director": skipped.director });
        let entry = author.entry(AuditKind::VersionsSkipped, "versions", detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(skipped)
    }
}

/// Takes the Director's numbers past `floor` by `margin`; returns the highest that is not used any
/// more. No margin leads past what every client can count to.
pub(super) async fn skip_director_versions(
    transaction: &mut Transaction<'_, Any>,
    floor: u64,
    margin: u64,
) -> Result<u64, Error> {
    const OP: &str = "skip version numbers of the Director's";
    let row =
        sqlx::query("UPDATE sequences SET value = value WHERE name = 'director' RETURNING value");
    let row = row.fetch_one(&mut **transaction).await.during(OP)?;
    let director = past(number(&row, "value", OP)?.max(floor), margin);
    let update = sqlx::query("UPDATE sequences SET value = $1 WHERE name = 'director'")
        .bind(column(director));
    update.execute(&mut **transaction).await.during(OP)?;
    Ok(director)
}

/// `known` and `margin` together, but no more than [`HIGHEST_SKIPPED_TO`], and never less than
/// `known`.
fn past(known: u64, margin: u64) -> u64 {
    known.saturating_add(margin).min(HIGHEST_SKIPPED_TO.max(known))
}

pub(super) async fn put_moments(
    transaction: &mut Transaction<'_, Any>,
    moments: &Moments,
) -> Result<(), Error> {
    const OP: &str = "record when something was signed";
    sqlx::query("DELETE FROM moments WHERE name <> 'watched'")
        .execute(&mut **transaction)
        .await
        .during(OP)?;
    let (before, after) = moments.leap.unzip();
    for (name, at) in [("signed", moments.signed), ("before_leap", before), ("after_leap", after)] {
        let Some(at) = at else { continue };
        sqlx::query("INSERT INTO moments (name, at) VALUES ($1, $2)")
            .bind(name)
            .bind(at.as_millisecond())
            .execute(&mut **transaction)
            .await
            .during(OP)?;
    }
    Ok(())
}

/// Adds a timestamp. Where it is the first of a repository that has published before, what those
/// named isn't known.
pub(super) async fn put_published_timestamp(
    transaction: &mut Transaction<'_, Any>,
    published: &PublishedTimestamp,
) -> Result<(), Error> {
    const OP: &str = "record a published timestamp";
    if published.version > 1 {
        sqlx::query(
            "INSERT INTO moments (name, at) SELECT 'watched', $1 \
             WHERE NOT EXISTS (SELECT 1 FROM published_timestamps) ON CONFLICT (name) DO NOTHING",
        )
        .bind(published.signed_at.as_millisecond())
        .execute(&mut **transaction)
        .await
        .during(OP)?;
    }
    sqlx::query(
        "INSERT INTO published_timestamps (version, snapshot, signed_at, expires_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (version) DO NOTHING",
    )
    .bind(column(published.version))
    .bind(column(published.snapshot))
    .bind(published.signed_at.as_millisecond())
    .bind(published.expires_at.as_millisecond())
    .execute(&mut **transaction)
    .await
    .during(OP)
    .map(drop)
}

/// The narrowest client counts to 2^31, and takes nothing after that: these hundred million are
/// left to be used.
const HIGHEST_SKIPPED_TO: u64 = (1 << 31) - 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_margin_leads_past_what_clients_count_to() {
        assert_eq!(past(5, 10), 15);
        assert_eq!(past(HIGHEST_SKIPPED_TO - 1, 20_000_000), HIGHEST_SKIPPED_TO);
        assert_eq!(past(HIGHEST_SKIPPED_TO + 7, 20_000_000), HIGHEST_SKIPPED_TO + 7);
        assert_eq!(past(u64::MAX, u64::MAX), u64::MAX);
    }
}
