//! By which envelope each escrow key is known, and that one comes or goes.

use serde_json::json;

use super::{AuditKind, Author, Catalog, During, Error, audit, number, text};

/// How many envelopes name an escrow key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EscrowedCount {
    /// All of them.
    pub all: u64,
    /// Those of images that were not yanked.
    pub listed: u64,
}

/// An escrow key that comes.
#[derive(Debug, Clone, Copy)]
pub struct EscrowKeyAdded<'a> {
    /// Its id.
    pub kid: &'a str,
    /// Where it is.
    pub source: &'a str,
}

impl Catalog {
    /// Counts the envelopes that name an escrow key, with those of yanked images and without.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn count_escrowed(&self, kid: &str) -> Result<EscrowedCount, Error> {
        const OP: &str = "count envelopes";
        // `_`, which kids may have, stands for any character: for an id, that is near enough.
        let row = sqlx::query(
            "SELECT COUNT(*) AS n, COUNT(yanked_at) AS yanked FROM images WHERE envelope LIKE $1",
        );
        let row = row.bind(format!("%\"{kid}\"%")).fetch_one(&self.pool).await.during(OP)?;
        let (all, yanked) = (number(&row, "n", OP)?, number(&row, "yanked", OP)?);
        Ok(EscrowedCount { all, listed: all - yanked })
    }

    /// Records a key that wraps from now on, by an envelope that it opens; doing it again changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn add_escrow_key(
        &self,
        name: &str,
        proof: &str,
        key: EscrowKeyAdded<'_>,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "record an escrow key";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let inserted = sqlx::query(
            "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        );
        let inserted = inserted.bind(name).bind(proof).execute(&mut *transaction).await;
        if inserted.during(OP)?.rows_affected() > 0 {
            let detail = json!({ "source": key.source });
            let entry = author.entry(AuditKind::EscrowKeyAdded, key.kid, detail);
            audit::append(&mut transaction, &[entry]).await?;
        }
        transaction.commit().await.during(OP)
    }

    /// Takes a former key back: the envelope under the first name, that of the key that wraps, takes
    /// the place of the one under the second. Doing it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn retire_escrow_key(
        &self,
        kid: &str,
        [own, first]: [&str; 2],
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "retire an escrow key";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let taken = sqlx::query("DELETE FROM installation WHERE name = $1 RETURNING value");
        let taken = taken.bind(own).fetch_optional(&mut *transaction).await.during(OP)?;
        let Some(row) = taken else { return transaction.rollback().await.during(OP) };
        sqlx::query(
            "INSERT INTO installation (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(first)
        .bind(text(&row, "value", OP)?)
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        let entry = author.entry(AuditKind::EscrowKeyRetired, kid, json!({}));
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)
    }
}
