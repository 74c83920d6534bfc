//! Recipients' keys that images are not to be sealed for any more: replaced by another one, or
//! revoked.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::{Any, Row, Transaction};

use super::{AuditKind, Author, Catalog, During, Error, audit, number, text};

/// A key that takes the place of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// Its RFC 7638 thumbprint.
    pub kid: String,
    /// The public key, as JSON.
    pub jwk: String,
}

/// What became of a recipient's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetiredRecipient {
    /// Another key took its place.
    Replaced {
        /// Id of that one.
        by: String,
    },
    /// It was revoked, and never comes back.
    Revoked,
}

impl Catalog {
    /// What became of a key, if it was retired.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_retired(&self, kid: &str) -> Result<Option<RetiredRecipient>, Error> {
        const OP: &str = "find a retired recipient";
        let row = sqlx::query("SELECT successor FROM retired_recipients WHERE kid = $1").bind(kid);
        let row = row.fetch_optional(&self.pool).await.during(OP)?;
        row.map(|row| {
            let successor: Option<String> = row.try_get("successor").during(OP)?;
            Ok(successor.map_or(RetiredRecipient::Revoked, |by| RetiredRecipient::Replaced { by }))
        })
        .transpose()
    }

    /// Whether a key was revoked: nothing is to be wrapped for it any more.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn is_revoked(&self, kid: &str) -> Result<bool, Error> {
        Ok(self.find_retired(kid).await? == Some(RetiredRecipient::Revoked))
    }

    /// Ids of the keys that were revoked.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_revoked(&self) -> Result<BTreeSet<String>, Error> {
        const OP: &str = "list revoked recipients";
        let rows = sqlx::query("SELECT kid FROM retired_recipients WHERE successor IS NULL");
        let rows = rows.fetch_all(&self.pool).await.during(OP)?;
        rows.iter().map(|row| text(row, "kid", OP)).collect()
    }

    /// The keys that were revoked, and of how many images that are not yanked the envelopes still have
    /// an entry for each; those of none are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn count_sealed_for_revoked(&self) -> Result<Vec<(String, u64)>, Error> {
        const OP: &str = "count images that are sealed for revoked keys";
        let rows = sqlx::query(
            "SELECT r.kid AS kid, COUNT(*) AS n FROM retired_recipients r \
             JOIN images i ON i.envelope LIKE '%' || r.kid || '%' \
             WHERE r.successor IS NULL AND i.yanked_at IS NULL GROUP BY r.kid ORDER BY r.kid",
        );
        let rows = rows.fetch_all(&self.pool).await.during(OP)?;
        rows.iter().map(|row| Ok((text(row, "kid", OP)?, number(row, "n", OP)?))).collect()
    }

    /// Retires a recipient's key: registers `successor` in its place wherever it is registered, or
    /// takes its registrations away. Doing it again changes nothing. A key that was revoked stays so,
    /// whatever is wrapped for `successor` in its place.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] if it has another successor; [`Error::Full`]; [`Error::Backend`].
    pub async fn retire_recipient(
        &self,
        kid: &str,
        successor: Option<&Successor>,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "retire a recipient";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let deleted =
            sqlx::query("DELETE FROM recipients WHERE kid = $1 RETURNING hardware_id").bind(kid);
        let deleted = deleted.fetch_all(&mut *transaction).await.during(OP)?;
        let hardware_ids: Vec<String> =
            deleted.iter().map(|row| text(row, "hardware_id", OP)).collect::<Result<_, _>>()?;
        let is_new = note_retired(&mut transaction, kid, successor, author).await?;
        if let Some(successor) = successor {
            register(&mut transaction, successor, &hardware_ids, author).await?;
        }
        if is_new || !hardware_ids.is_empty() {
            let (what, detail) = match successor {
                Some(Successor { kid, .. }) => (
                    AuditKind::RecipientReplaced,
                    json!({ "successor": kid, "hardware_ids": hardware_ids }),
                ),
                None => (AuditKind::RecipientRevoked, json!({ "hardware_ids": hardware_ids })),
            };
            audit::append(&mut transaction, &[author.entry(what, kid, detail)]).await?;
        }
        transaction.commit().await.during(OP)
    }
}

/// Notes what becomes of a key; returns whether that is news. A key that was replaced can be
/// revoked after that, and not the other way round.
async fn note_retired(
    transaction: &mut Transaction<'_, Any>,
    kid: &str,
    successor: Option<&Successor>,
    author: &Author,
) -> Result<bool, Error> {
    const OP: &str = "note a retired recipient";
    let wanted = successor.map(|successor| successor.kid.as_str());
    let noted = sqlx::query(
        "INSERT INTO retired_recipients (kid, successor, retired_at, retired_by) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (kid) DO NOTHING",
    )
    .bind(kid)
    .bind(wanted)
    .bind(author.at.as_millisecond())
    .bind(author.who.id())
    .execute(&mut **transaction)
    .await
    .during(OP)?;
    if noted.rows_affected() > 0 {
        return Ok(true);
    }
    if wanted.is_none() {
        let revoked = sqlx::query(
            "UPDATE retired_recipients SET successor = NULL WHERE kid = $1 AND successor IS NOT NULL",
        );
        let revoked = revoked.bind(kid).execute(&mut **transaction).await.during(OP)?;
        return Ok(revoked.rows_affected() > 0);
    }
    let row = sqlx::query("SELECT successor FROM retired_recipients WHERE kid = $1").bind(kid);
    let row = row.fetch_one(&mut **transaction).await.during(OP)?;
    let known: Option<String> = row.try_get("successor").during(OP)?;
    match known {
        Some(known) if Some(known.as_str()) != wanted => {
            Err(Error::AlreadyExists(format!("another successor of the recipient {kid}")))
        }
        Some(_) | None => Ok(false), // the same one, or it is revoked
    }
}

async fn register(
    transaction: &mut Transaction<'_, Any>,
    successor: &Successor,
    hardware_ids: &[String],
    author: &Author,
) -> Result<(), Error> {
    const OP: &str = "register the successor of a recipient";
    // A rotation can be taken back: then the key that was replaced is in use again.
    let back =
        sqlx::query("DELETE FROM retired_recipients WHERE kid = $1 AND successor IS NOT NULL");
    back.bind(successor.kid.as_str()).execute(&mut **transaction).await.during(OP)?;
    for hardware_id in hardware_ids {
        sqlx::query(
            "INSERT INTO recipients (hardware_id, kid, jwk, created_at, created_by) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (hardware_id, kid) DO NOTHING",
        )
        .bind(hardware_id.as_str())
        .bind(successor.kid.as_str())
        .bind(successor.jwk.as_str())
        .bind(author.at.as_millisecond())
        .bind(author.who.id())
        .execute(&mut **transaction)
        .await
        .during(OP)?;
    }
    Ok(())
}
