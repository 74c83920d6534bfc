//! By which envelope each escrow key is known, which of them all servers wrap to, and that one comes
//! or goes.
//!
//! Which key wraps is noted to refuse what another one has wrapped, as by a server that has not
//! heard of a rotation, and for nothing else: a server **must never** choose a key by what is here,
//! or whoever writes a row would have every data key wrapped to his own.

use serde_json::json;
use sqlx::{Any, Transaction};

use super::{AuditKind, Author, Catalog, During, Error, NewAuditEntry, audit, number, text};

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
    /// Id of the one that wraps until then.
    pub after: &'a str,
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

    /// The id of the key that all servers wrap to, if it is noted.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_escrow_kid(&self) -> Result<Option<String>, Error> {
        self.find_installed(WRAPPING).await
    }

    /// Notes the key that all servers wrap to, unless one is noted.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn note_escrow_kid(&self, kid: &str) -> Result<(), Error> {
        self.insert_installed(WRAPPING, kid).await
    }

    /// Notes another key in the place of the one that all servers wrapped to, with what is to be written
    /// down of that.
    ///
    /// # Errors
    ///
    /// [`Error::OtherEscrowKey`] if that was another one than `after`; [`Error::Full`];
    /// [`Error::Backend`].
    pub async fn replace_escrow_kid(
        &self,
        kid: &str,
        after: &str,
        entries: &[NewAuditEntry],
    ) -> Result<(), Error> {
        const OP: &str = "note which escrow key wraps";
        let mut transaction = self.pool.begin().await.during(OP)?;
        wrap_with(&mut transaction, kid, after).await?;
        audit::append(&mut transaction, entries).await?;
        transaction.commit().await.during(OP)
    }

    /// Whether a key was taken back, and has not come again since.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn is_escrow_retired(&self, kid: &str) -> Result<bool, Error> {
        Ok(self.find_installed(&retired(kid)).await?.is_some())
    }

    /// Records a key that all servers wrap to from now on, by an envelope that it opens; doing it
    /// again changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::OtherEscrowKey`] if neither this one nor the one before wraps, as after another
    /// server's rotation; [`Error::Full`]; [`Error::Backend`].
    pub async fn add_escrow_key(
        &self,
        name: &str,
        proof: &str,
        key: EscrowKeyAdded<'_>,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "record an escrow key";
        let mut transaction = self.pool.begin().await.during(OP)?;
        wrap_with(&mut transaction, key.kid, key.after).await?;
        let back = sqlx::query("DELETE FROM installation WHERE name = $1").bind(retired(key.kid));
        back.execute(&mut *transaction).await.during(OP)?;
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
        sqlx::query(
            "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        )
        .bind(retired(kid))
        .bind(author.at.to_string())
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        let entry = author.entry(AuditKind::EscrowKeyRetired, kid, json!({}));
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)
    }
}

async fn wrap_with(
    transaction: &mut Transaction<'_, Any>,
    kid: &str,
    after: &str,
) -> Result<(), Error> {
    const OP: &str = "note which escrow key wraps";
    let noted = sqlx::query(
        "INSERT INTO installation (name, value) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE installation.value = $3",
    );
    let noted = noted.bind(WRAPPING).bind(kid).bind(after);
    let noted = noted.execute(&mut **transaction).await.during(OP)?;
    if noted.rows_affected() > 0 {
        return Ok(());
    }
    refuse_other_key(transaction, kid).await
}

/// Refuses what was wrapped to another key than the one that all servers wrap to: whoever goes
/// through what the former one has wrapped must not miss anything.
pub(super) async fn refuse_other_key(
    transaction: &mut Transaction<'_, Any>,
    kid: &str,
) -> Result<(), Error> {
    const OP: &str = "look which escrow key wraps";
    let other = sqlx::query("SELECT value FROM installation WHERE name = $1 AND value <> $2");
    let other = other.bind(WRAPPING).bind(kid).fetch_optional(&mut **transaction).await;
    match other.during(OP)? {
        Some(row) => Err(Error::OtherEscrowKey { wanted: text(&row, "value", OP)? }),
        None => Ok(()),
    }
}

fn retired(kid: &str) -> String {
    format!("{RETIRED}{kid}")
}

/// The name of the key that all servers wrap to.
const WRAPPING: &str = "escrow_kid";
/// With a key's id after it, that it was taken back.
const RETIRED: &str = "escrow_retired.";
