//! The state of each metadata role: versions, expiry, and what waits to be published.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::published::{Moments, PublishedTimestamp, put_moments, put_published_timestamp};
use super::rewraps;
use super::staged::take_staging;
use super::{
    AuditKind, Author, Catalog, During, Error, NewAuditEntry, audit, column, number, parsed, time,
};
use crate::model::{RepositorySide, RoleName, Sha256Digest, Timestamp};

/// What is published of a role, and what is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleState {
    /// The role.
    pub name: RoleName,
    /// Published version; 0 before the first.
    pub version: u64,
    /// Highest version that was handed out.
    pub reserved: u64,
    /// Length of the published file in bytes.
    pub length: u64,
    /// Digest of the published file.
    pub sha256: Sha256Digest,
    /// When the published file expires.
    pub expires_at: Timestamp,
    /// How many changes of what it lists the published file has, at least.
    pub changes: u64,
    /// Whether what it lists has changed since.
    pub is_changed: bool,
}

/// A version number that belongs to one attempt to publish and to nothing else, ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedVersion {
    /// The role.
    pub name: RoleName,
    /// The version.
    pub version: u64,
    /// How many changes had been made when it was reserved; the file has at least these.
    pub changes: u64,
}

/// What was published when files were signed that go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedUpon {
    /// Version of root.
    pub root: u64,
    /// Version of the timestamp, 0 before the first.
    pub timestamp: u64,
}

impl SignedUpon {
    /// Takes them from the state of all roles.
    pub fn of(states: &[RoleState]) -> Self {
        let version = |name: RoleName| {
            states.iter().find(|state| state.name == name).map_or(0, |state| state.version)
        };
        Self { root: version(RoleName::Root), timestamp: version(RoleName::Timestamp) }
    }
}

/// A signed file that is about to become the published one of its role.
#[derive(Debug, Clone)]
pub struct PublishedRole {
    /// Its reservation.
    pub reserved: ReservedVersion,
    /// Length of the file in bytes.
    pub length: u64,
    /// Digest of the file.
    pub sha256: Sha256Digest,
    /// When it expires.
    pub expires_at: Timestamp,
    /// The file, for `timestamp` alone.
    pub body: Option<Vec<u8>>,
    /// What it comes from, if others have signed it.
    pub staging: Option<EndedStaging>,
}

/// A staging that ends with the publication of its file.
#[derive(Debug, Clone)]
pub struct EndedStaging {
    /// Which one.
    pub revision: u64,
    /// Who publishes it.
    pub author: Author,
}

impl Catalog {
    /// Adds roles that are not there yet, unpublished.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn ensure_roles(&self, names: &[RoleName]) -> Result<(), Error> {
        const OP: &str = "add roles";
        let mut transaction = self.pool.begin().await.during(OP)?;
        for name in names {
            sqlx::query(
                "INSERT INTO roles (name, version, reserved, changes, published_changes, length, sha256, expires_at) \
                 VALUES ($1, 0, 0, 0, 0, 0, $2, 0) ON CONFLICT (name) DO NOTHING",
            )
            .bind(name.as_str())
            .bind(Sha256Digest::from_bytes([0; 32]).to_string())
            .execute(&mut *transaction)
            .await
            .during(OP)?;
        }
        transaction.commit().await.during(OP)
    }

    /// Adds the root role with its first version, if it isn't there.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn insert_first_root(
        &self,
        length: u64,
        sha256: Sha256Digest,
        expires_at: Timestamp,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "add the root role";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let inserted = sqlx::query(
            "INSERT INTO roles (name, version, reserved, changes, published_changes, length, sha256, expires_at) \
             VALUES ('root', 1, 1, 0, 0, $1, $2, $3) ON CONFLICT (name) DO NOTHING",
        )
        .bind(column(length))
        .bind(sha256.to_string())
        .bind(expires_at.as_millisecond())
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        if inserted.rows_affected() == 1 {
            audit::append(&mut transaction, &[root_published(author, 1, sha256)]).await?;
        }
        transaction.commit().await.during(OP)
    }

    /// Records the next version of root, whose number is not reserved: it is the published one and
    /// 1, whatever was tried. What was staged as `staging`, if it comes from there, ends with it.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] if `version` isn't the next one, or `staging` isn't staged any more;
    /// [`Error::Full`]; [`Error::Backend`].
    pub async fn record_root(
        &self,
        staging: Option<u64>,
        version: u64,
        length: u64,
        sha256: Sha256Digest,
        expires_at: Timestamp,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "record a root";
        let mut transaction = self.pool.begin().await.during(OP)?;
        if let Some(revision) = staging {
            take_staging(&mut transaction, RepositorySide::Image, &RoleName::Root, revision)
                .await?;
        }
        let updated = sqlx::query(
            "UPDATE roles SET version = version + 1, reserved = version + 1, length = $1, sha256 = $2, expires_at = $3 \
             WHERE name = 'root' AND version = $4",
        )
        .bind(column(length))
        .bind(sha256.to_string())
        .bind(expires_at.as_millisecond())
        .bind(column(version) - 1)
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        if updated.rows_affected() == 0 {
            return Err(Error::Overtaken);
        }
        audit::append(&mut transaction, &[root_published(author, version, sha256)]).await?;
        transaction.commit().await.during(OP)
    }

    /// The state of every role, in the order of their names.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_roles(&self) -> Result<Vec<RoleState>, Error> {
        let rows = sqlx::query(
            "SELECT name, version, reserved, length, sha256, expires_at, published_changes, \
             changes - published_changes AS waiting \
             FROM roles ORDER BY name",
        );
        let rows = rows.fetch_all(&self.pool).await.during("list roles")?;
        rows.iter().map(role).collect()
    }

    /// The state of one role.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_role(&self, name: &RoleName) -> Result<Option<RoleState>, Error> {
        let row = sqlx::query(
            "SELECT name, version, reserved, length, sha256, expires_at, published_changes, \
             changes - published_changes AS waiting \
             FROM roles WHERE name = $1",
        );
        let row = row.bind(name.as_str()).fetch_optional(&self.pool).await.during("find a role")?;
        row.as_ref().map(role).transpose()
    }

    /// The state of the role that lists a target, and the published version of the top-level
    /// targets, which say whether clients ask that role.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_listing(&self, target: &str) -> Result<Option<(RoleState, u64)>, Error> {
        const OP: &str = "find what lists a target";
        let row = sqlx::query(
            "SELECT r.name, r.version, r.reserved, r.length, r.sha256, r.expires_at, r.published_changes, \
             r.changes - r.published_changes AS waiting, \
             COALESCE((SELECT version FROM roles WHERE name = 'targets'), 0) AS targets_version \
             FROM targets t JOIN roles r ON r.name = t.role WHERE t.path = $1",
        );
        let row = row.bind(target).fetch_optional(&self.pool).await.during(OP)?;
        row.map(|row| Ok((role(&row)?, number(&row, "targets_version", OP)?))).transpose()
    }

    /// The published version of a role, as whoever is about to serve its file asks.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn published_version(&self, name: &RoleName) -> Result<u64, Error> {
        const OP: &str = "look for what is published";
        let query = sqlx::query("SELECT version FROM roles WHERE name = $1").bind(name.as_str());
        let row = self.reads.fetch_optional(query).await.during(OP)?;
        row.map_or(Ok(0), |row| number(&row, "version", OP))
    }

    /// The published file of a role that keeps it here.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_role_body(&self, name: &RoleName) -> Result<Option<Vec<u8>>, Error> {
        const OP: &str = "find a role's file";
        let row = sqlx::query("SELECT body FROM roles WHERE name = $1 AND body IS NOT NULL")
            .bind(name.as_str());
        let row = row.fetch_optional(&self.pool).await.during(OP)?;
        row.map(|row| row.try_get("body").during(OP)).transpose()
    }

    /// Hands out the next version number of each role. It is on disk when this returns, and no
    /// other call ever gets it.
    ///
    /// # Errors
    ///
    /// [`Error::Older`] if the database has handed it out before; [`Error::Full`];
    /// [`Error::Backend`].
    pub async fn reserve_versions(
        &self,
        names: &[RoleName],
    ) -> Result<Vec<ReservedVersion>, Error> {
        const OP: &str = "reserve versions";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let mut reserved = Vec::with_capacity(names.len());
        for name in names {
            let row =
                sqlx::query("UPDATE roles SET reserved = reserved + 1 WHERE name = $1 RETURNING reserved, changes")
                    .bind(name.as_str())
                    .fetch_one(&mut *transaction)
                    .await
                    .during(OP)?;
            let (version, changes) = (number(&row, "reserved", OP)?, number(&row, "changes", OP)?);
            if !self.numbers.is_new(name.as_str(), version) {
                return Err(Error::Older);
            }
            reserved.push(ReservedVersion { name: name.clone(), version, changes });
        }
        transaction.commit().await.during(OP)?;
        for ReservedVersion { name, version, .. } in &reserved {
            self.numbers.note(name.as_str(), *version);
        }
        Ok(reserved)
    }

    /// Makes signed files the published ones of their roles, all or none; with what is known then
    /// of the time, and of the timestamp, if there is a new one, which was signed upon what `upon`
    /// says to have been published. What was staged of them ends with it.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] if a version of one of these roles has been reserved since: a publisher
    /// that started later has, or will have, everything that this one has; if something else was
    /// published than what these files were signed upon; or if a staging isn't staged any more.
    /// [`Error::Full`]; [`Error::Backend`].
    pub async fn record_publication(
        &self,
        roles: &[PublishedRole],
        timestamp: Option<(&PublishedTimestamp, SignedUpon)>,
        moments: &Moments,
    ) -> Result<(), Error> {
        const OP: &str = "record a publication";
        let mut transaction = self.pool.begin().await.during(OP)?;
        if let Some((_, upon)) = timestamp {
            refuse_other_base(&mut transaction, upon).await?;
        }
        for role in roles {
            if let Some(signed) = moments.signed {
                let published = (&role.reserved.name, role.reserved.changes);
                rewraps::date_superseded(&mut transaction, published, signed).await?;
            }
            let updated = sqlx::query(
                "UPDATE roles SET version = $1, published_changes = $2, length = $3, sha256 = $4, expires_at = $5, \
                 body = $6 WHERE name = $7 AND reserved = $8",
            )
            .bind(column(role.reserved.version))
            .bind(column(role.reserved.changes))
            .bind(column(role.length))
            .bind(role.sha256.to_string())
            .bind(role.expires_at.as_millisecond())
            .bind(role.body.as_deref())
            .bind(role.reserved.name.as_str())
            .bind(column(role.reserved.version))
            .execute(&mut *transaction)
            .await
            .during(OP)?;
            if updated.rows_affected() != 1 {
                return Err(Error::Overtaken);
            }
        }
        if let Some((timestamp, _)) = timestamp {
            put_published_timestamp(&mut transaction, timestamp).await?;
        }
        put_moments(&mut transaction, moments).await?;
        end_stagings(&mut transaction, roles).await?;
        transaction.commit().await.during(OP)?;
        for PublishedRole { reserved, .. } in roles {
            self.journal.forget(&reserved.name, reserved.changes);
        }
        Ok(())
    }
}

/// Whatever is published changes one of the two, so that files which were signed upon older ones
/// are found out here: a snapshot of them would take other roles back.
async fn refuse_other_base(
    transaction: &mut Transaction<'_, Any>,
    upon: SignedUpon,
) -> Result<(), Error> {
    const OP: &str = "compare what is published";
    for (name, version) in [(RoleName::Root, upon.root), (RoleName::Timestamp, upon.timestamp)] {
        let same =
            sqlx::query("UPDATE roles SET version = version WHERE name = $1 AND version = $2");
        let same = same.bind(name.as_str()).bind(column(version));
        let same = same.execute(&mut **transaction).await.during(OP)?;
        if same.rows_affected() != 1 {
            return Err(Error::Overtaken);
        }
    }
    Ok(())
}

/// Ends what others have signed, as the last thing of its publication.
async fn end_stagings(
    transaction: &mut Transaction<'_, Any>,
    roles: &[PublishedRole],
) -> Result<(), Error> {
    let mut entries = Vec::new();
    for PublishedRole {
        reserved: ReservedVersion { name, version, .. }, sha256, staging, ..
    } in roles
    {
        let Some(EndedStaging { revision, author }) = staging else { continue };
        take_staging(transaction, RepositorySide::Image, name, *revision).await?;
        let detail =
            json!({ "version": version, "sha256": sha256.to_string(), "revision": revision });
        entries.push(author.entry(AuditKind::MetadataPublished, name.as_str(), detail));
    }
    if entries.is_empty() { Ok(()) } else { audit::append(transaction, &entries).await }
}

fn root_published(author: &Author, version: u64, sha256: Sha256Digest) -> NewAuditEntry {
    let detail = json!({ "version": version, "sha256": sha256.to_string() });
    author.entry(AuditKind::RootPublished, "image", detail)
}

fn role(row: &AnyRow) -> Result<RoleState, Error> {
    const OP: &str = "read a role";
    Ok(RoleState {
        name: parsed(row, "name", OP)?,
        version: number(row, "version", OP)?,
        reserved: number(row, "reserved", OP)?,
        length: number(row, "length", OP)?,
        sha256: parsed(row, "sha256", OP)?,
        expires_at: time(row, "expires_at", OP)?,
        changes: number(row, "published_changes", OP)?,
        is_changed: number(row, "waiting", OP)? > 0,
    })
}
