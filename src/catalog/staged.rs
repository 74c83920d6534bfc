//! Metadata that is staged until enough people have signed it: one staging a role, and its
//! signatures.
//!
//! A revision is never used twice, so that whoever says which one was meant can't hit another one
//! that was staged after it.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::{
    AuditKind, Author, Catalog, During, Error, NewAuditEntry, OrCorrupt, audit, column, number,
    parsed, text, time,
};
use crate::model::{RepositorySide, RoleName, Sha256Digest, Timestamp};

/// A role's next file, which is not signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStaging {
    /// Of which repository.
    pub side: RepositorySide,
    /// Of which role.
    pub role: RoleName,
    /// The version that is published.
    pub base: u64,
    /// The version that is staged.
    pub version: u64,
    /// How many changes of what the role lists it has; 0 for a root.
    pub changes: u64,
    /// What is signed, as it stands in the file.
    pub content: Vec<u8>,
}

/// A staging as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staging {
    /// What is staged.
    pub staged: NewStaging,
    /// Which of all stagings, ever.
    pub revision: u64,
    /// When it was staged.
    pub created_at: Timestamp,
    /// Who staged it: id of a token.
    pub created_by: String,
    /// The signatures that came in, by key id.
    pub signatures: Vec<StagedSignature>,
}

/// A signature that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedSignature {
    /// Id of the key, as it came.
    pub key_id: String,
    /// Why, for programs.
    pub code: &'static str,
}

/// A signature that was checked as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedSignature {
    /// Id of the key.
    pub key_id: Sha256Digest,
    /// The signature.
    pub signature: Vec<u8>,
    /// When it came.
    pub created_at: Timestamp,
    /// Who brought it: id of a token.
    pub created_by: String,
}

impl Catalog {
    /// Stages a role's next file in place of `replaced`, or where none is staged, and returns its
    /// revision. The signatures of the one that it replaces go.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] if another one is staged than `replaced`, or one where none was;
    /// [`Error::Full`]; [`Error::Backend`].
    pub async fn stage(
        &self,
        new: &NewStaging,
        replaced: Option<u64>,
        author: &Author,
    ) -> Result<u64, Error> {
        const OP: &str = "stage metadata";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let next = sqlx::query(
            "UPDATE sequences SET value = value + 1 WHERE name = 'staging' RETURNING value",
        );
        let next = next.fetch_one(&mut *transaction).await.during(OP)?;
        let revision = number(&next, "value", OP)?;
        if let Some(replaced) = replaced {
            take_staging(&mut transaction, new.side, &new.role, replaced).await?;
        }
        let inserted = sqlx::query(
            "INSERT INTO staged_metadata (side, role, base, version, content, revision, created_at, created_by, changes) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (side, role) DO NOTHING",
        )
        .bind(new.side.as_str())
        .bind(new.role.as_str())
        .bind(column(new.base))
        .bind(column(new.version))
        .bind(new.content.as_slice())
        .bind(column(revision))
        .bind(author.at.as_millisecond())
        .bind(author.who.id())
        .bind(column(new.changes))
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        if inserted.rows_affected() == 0 {
            return Err(Error::Overtaken);
        }
        let detail = json!({
            "repository": new.side.as_str(), "version": new.version, "revision": revision, "replaced": replaced,
        });
        let entry = author.entry(AuditKind::MetadataStaged, new.role.as_str(), detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(revision)
    }

    /// What is staged for a role.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_staging(
        &self,
        side: RepositorySide,
        role: &RoleName,
    ) -> Result<Option<Staging>, Error> {
        const OP: &str = "find staged metadata";
        // One statement, so that no signature of another revision is read with it.
        let rows = sqlx::query(
            "SELECT m.base, m.version, m.changes, m.content, m.revision, m.created_at, m.created_by, s.key_id, s.signature, \
             s.created_at AS signed_at, s.created_by AS signed_by \
             FROM staged_metadata m LEFT JOIN staged_signatures s ON s.side = m.side AND s.role = m.role \
             WHERE m.side = $1 AND m.role = $2 ORDER BY s.key_id",
        )
        .bind(side.as_str())
        .bind(role.as_str());
        let rows = rows.fetch_all(&self.pool).await.during(OP)?;
        let Some(first) = rows.first() else { return Ok(None) };
        let staged = NewStaging {
            side,
            role: role.clone(),
            base: number(first, "base", OP)?,
            version: number(first, "version", OP)?,
            changes: number(first, "changes", OP)?,
            content: first.try_get("content").during(OP)?,
        };
        Ok(Some(Staging {
            staged,
            revision: number(first, "revision", OP)?,
            created_at: time(first, "created_at", OP)?,
            created_by: text(first, "created_by", OP)?,
            signatures: rows
                .iter()
                .filter_map(|row| signature(row).transpose())
                .collect::<Result<_, _>>()?,
        }))
    }

    /// Keeps a signature of a staging, and returns whether it is new.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] if `revision` isn't staged any more; [`Error::Full`];
    /// [`Error::Backend`].
    pub async fn add_staged_signature(
        &self,
        staging: &Staging,
        key_id: Sha256Digest,
        signature: &[u8],
        author: &Author,
    ) -> Result<bool, Error> {
        const OP: &str = "keep a signature";
        let Staging { staged: NewStaging { side, role, version, .. }, revision, .. } = staging;
        let mut transaction = self.pool.begin().await.during(OP)?;
        let found = sqlx::query(
            "UPDATE staged_metadata SET revision = revision WHERE side = $1 AND role = $2 AND revision = $3",
        )
        .bind(side.as_str())
        .bind(role.as_str())
        .bind(column(*revision))
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        if found.rows_affected() == 0 {
            return Err(Error::Overtaken);
        }
        let inserted = sqlx::query(
            "INSERT INTO staged_signatures (side, role, key_id, signature, created_at, created_by) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (side, role, key_id) DO NOTHING",
        )
        .bind(side.as_str())
        .bind(role.as_str())
        .bind(key_id.to_string())
        .bind(hex::encode(signature))
        .bind(author.at.as_millisecond())
        .bind(author.who.id())
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        if inserted.rows_affected() == 0 {
            return Ok(false);
        }
        let detail = json!({
            "repository": side.as_str(), "version": version, "revision": revision, "key_id": key_id.to_string(),
        });
        let entry = author.entry(AuditKind::MetadataSigned, role.as_str(), detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(true)
    }

    /// Writes down signatures of a staging that were not kept.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn note_refused_signatures(
        &self,
        staging: &Staging,
        refused: &[RefusedSignature],
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "note refused signatures";
        let Staging { staged: NewStaging { side, role, version, .. }, revision, .. } = staging;
        let entry = |RefusedSignature { key_id, code }: &RefusedSignature| {
            let detail = json!({
                "repository": side.as_str(), "version": version, "revision": revision,
                "key_id": format!("{key_id:.64}"), "reason": code,
            });
            author.entry(AuditKind::SignatureRefused, role.as_str(), detail)
        };
        let entries: Vec<_> = refused.iter().map(entry).collect();
        let mut transaction = self.pool.begin().await.during(OP)?;
        audit::append(&mut transaction, &entries).await?;
        transaction.commit().await.during(OP)
    }

    /// Drops what is staged, with its signatures.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] if `revision` isn't staged any more; [`Error::Full`];
    /// [`Error::Backend`].
    pub async fn cancel_staging(
        &self,
        side: RepositorySide,
        role: &RoleName,
        revision: u64,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "cancel a staging";
        let mut transaction = self.pool.begin().await.during(OP)?;
        take_staging(&mut transaction, side, role, revision).await?;
        let entry = cancelled(side, role, revision, author);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)
    }
}

/// Takes a staging out, for whoever records what came of it in the same transaction.
pub(super) async fn take_staging(
    transaction: &mut Transaction<'_, Any>,
    side: RepositorySide,
    role: &RoleName,
    revision: u64,
) -> Result<(), Error> {
    const OP: &str = "take what is staged";
    let deleted =
        sqlx::query("DELETE FROM staged_metadata WHERE side = $1 AND role = $2 AND revision = $3")
            .bind(side.as_str())
            .bind(role.as_str())
            .bind(column(revision))
            .execute(&mut **transaction)
            .await
            .during(OP)?;
    if deleted.rows_affected() == 0 {
        return Err(Error::Overtaken);
    }
    drop_signatures(transaction, side, role).await
}

/// Drops what is staged for a role, if anything is, for whoever takes away what it was staged for in
/// the same transaction, and writes down what is returned at its end.
pub(super) async fn drop_staging(
    transaction: &mut Transaction<'_, Any>,
    side: RepositorySide,
    role: &RoleName,
    author: &Author,
) -> Result<Option<NewAuditEntry>, Error> {
    const OP: &str = "drop what is staged";
    let dropped =
        sqlx::query("DELETE FROM staged_metadata WHERE side = $1 AND role = $2 RETURNING revision");
    let dropped = dropped.bind(side.as_str()).bind(role.as_str());
    let dropped = dropped.fetch_optional(&mut **transaction).await.during(OP)?;
    drop_signatures(transaction, side, role).await?;
    dropped.map(|row| Ok(cancelled(side, role, number(&row, "revision", OP)?, author))).transpose()
}

fn cancelled(
    side: RepositorySide,
    role: &RoleName,
    revision: u64,
    author: &Author,
) -> NewAuditEntry {
    let detail = json!({ "repository": side.as_str(), "revision": revision });
    author.entry(AuditKind::StagingCancelled, role.as_str(), detail)
}

async fn drop_signatures(
    transaction: &mut Transaction<'_, Any>,
    side: RepositorySide,
    role: &RoleName,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM staged_signatures WHERE side = $1 AND role = $2")
        .bind(side.as_str())
        .bind(role.as_str())
        .execute(&mut **transaction)
        .await
        .during("drop signatures")
        .map(drop)
}

/// The signature of a row, if it has one.
fn signature(row: &AnyRow) -> Result<Option<StagedSignature>, Error> {
    const OP: &str = "read a signature";
    let key_id: Option<String> = row.try_get("key_id").during(OP)?;
    if key_id.is_none() {
        return Ok(None);
    }
    Ok(Some(StagedSignature {
        key_id: parsed(row, "key_id", OP)?,
        signature: hex::decode(text(row, "signature", OP)?).or_corrupt(OP)?,
        created_at: time(row, "signed_at", OP)?,
        created_by: text(row, "signed_by", OP)?,
    }))
}
