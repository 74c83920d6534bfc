//! API tokens, by their hash.

use serde_json::json;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{
    AuditKind, Author, Catalog, During, Error, OrCorrupt, audit, optional_time, text, time,
};
use crate::model::{AccessRole, Sha256Digest, Timestamp};

/// What is kept of a token; not the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its public name, for logs and for revoking it.
    pub id: String,
    /// Digest of the token.
    pub sha256: Sha256Digest,
    /// What its holder may do.
    pub role: AccessRole,
    /// Who holds it, as its maker said.
    pub label: String,
    /// Where its holder may upload; everywhere without it.
    pub path_prefix: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl Catalog {
    /// Adds a token.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn insert_token(&self, token: &TokenRecord, author: &Author) -> Result<(), Error> {
        const OP: &str = "insert a token";
        let mut transaction = self.pool.begin().await.during(OP)?;
        sqlx::query(
            "INSERT INTO tokens (id, sha256, role, label, created_at, expires_at, path_prefix) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(token.id.as_str())
        .bind(token.sha256.to_string())
        .bind(token.role.as_str())
        .bind(token.label.as_str())
        .bind(token.created_at.as_millisecond())
        .bind(token.expires_at.map(Timestamp::as_millisecond))
        .bind(token.path_prefix.as_deref())
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        let detail = json!({
            "role": token.role.as_str(), "label": token.label, "path_prefix": token.path_prefix,
            "expires_at": token.expires_at.map(|time| time.to_string()),
        });
        let entry = author.entry(AuditKind::TokenCreated, token.id.as_str(), detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)
    }

    /// Looks a token up by its digest, revoked and expired ones included.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_token(&self, sha256: &Sha256Digest) -> Result<Option<TokenRecord>, Error> {
        let row = sqlx::query("SELECT * FROM tokens WHERE sha256 = $1").bind(sha256.to_string());
        let row = row.fetch_optional(&self.pool).await.during("find a token")?;
        row.as_ref().map(token).transpose()
    }

    /// Looks a token up by its id, revoked and expired ones included.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_token_by_id(&self, id: &str) -> Result<Option<TokenRecord>, Error> {
        let row =
            sqlx::query("SELECT * FROM tokens WHERE id = $1").bind(id).fetch_optional(&self.pool);
        row.await.during("find a token")?.as_ref().map(token).transpose()
    }

    /// All tokens, the oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_tokens(&self) -> Result<Vec<TokenRecord>, Error> {
        let rows =
            sqlx::query("SELECT * FROM tokens ORDER BY created_at, id").fetch_all(&self.pool);
        rows.await.during("list tokens")?.iter().map(token).collect()
    }

    /// Revokes a token; returns whether there was one that was not revoked.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn revoke_token(&self, id: &str, author: &Author) -> Result<bool, Error> {
        const OP: &str = "revoke a token";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let revoked =
            sqlx::query("UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
                .bind(author.at.as_millisecond())
                .bind(id)
                .execute(&mut *transaction)
                .await
                .during(OP)?;
        if revoked.rows_affected() == 0 {
            return Ok(false);
        }
        let entry = author.entry(AuditKind::TokenRevoked, id, json!({}));
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(true)
    }
}

fn token(row: &AnyRow) -> Result<TokenRecord, Error> {
    const OP: &str = "read a token";
    let role: Result<AccessRole, _> = text(row, "role", OP)?.parse();
    let sha256: Result<Sha256Digest, _> = text(row, "sha256", OP)?.parse();
    Ok(TokenRecord {
        id: text(row, "id", OP)?,
        sha256: sha256.or_corrupt(OP)?,
        role: role.or_corrupt(OP)?,
        label: text(row, "label", OP)?,
        path_prefix: row.try_get("path_prefix").during(OP)?,
        created_at: time(row, "created_at", OP)?,
        expires_at: optional_time(row, "expires_at", OP)?,
        revoked_at: optional_time(row, "revoked_at", OP)?,
    })
}
