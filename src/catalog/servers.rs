//! Which servers use a catalog: each says so again and again, and one that can't be beside another
//! is told of that one.

use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};

use super::holder::Held;
use super::{Catalog, During, Error, number, text};
use crate::model::Timestamp;

/// A server that uses the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRecord {
    /// Its id.
    pub id: String,
    /// Its process: another one after each start.
    pub process: String,
    /// What tells its directory, on a machine that is up, from all others: whoever has that locked
    /// is the only one there.
    pub place: String,
    /// Where its blobs are.
    pub blobs: BlobsOf,
    /// Host, process and directory, for people.
    pub described: String,
}

/// Where the blobs of a server are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobsOf {
    /// Where other servers have theirs, too.
    All,
    /// In its own state directory.
    One,
}

/// Another server that one can't be beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherServer {
    /// That one.
    pub server: ServerRecord,
    /// Changes each time that it shows itself.
    pub shown: u64,
}

/// At which moment of its life a server shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It starts, and has its directory locked: whoever was there before is gone.
    AtStart,
    /// It goes on.
    Again,
}

impl Catalog {
    /// Shows that a server is there until `lease_until`, unless there is one that it can't be beside:
    /// one of the same id, or one that has other blobs. Returns those, and shows nothing then.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn show_server(
        &self,
        server: &ServerRecord,
        shown: Shown,
        (now, lease_until): (Timestamp, Timestamp),
    ) -> Result<Vec<OtherServer>, Error> {
        const OP: &str = "show that a server is there";
        let (now, latest) = self.while_held(Held::Turn, now);
        let mut transaction = self.pool.begin().await.during(OP)?;
        forget_gone(&mut transaction, now).await?;
        let rows = sqlx::query(
            "SELECT id, process, place, blobs, described, lease_until FROM servers \
             WHERE lease_until > $1 AND lease_until <= $2 AND process <> $3 ORDER BY id",
        );
        let rows = rows.bind(now).bind(latest).bind(server.process.as_str());
        let rows = rows.fetch_all(&mut *transaction).await.during(OP)?;
        let others: Vec<OtherServer> = rows.iter().map(other).collect::<Result<_, _>>()?;
        let others: Vec<OtherServer> =
            others.into_iter().filter(|other| excludes(other, server, shown)).collect();
        if others.is_empty() {
            note(&mut transaction, server, self.leased_until(lease_until)).await?;
        }
        transaction.commit().await.during(OP)?;
        Ok(others)
    }

    /// Shows that a process of a server is not there any more.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn end_server(&self, process: &str) -> Result<(), Error> {
        let ended = sqlx::query("UPDATE servers SET lease_until = 0 WHERE process = $1");
        let ended = ended.bind(process).execute(&self.pool).await;
        ended.map(drop).during("show that a server has left")
    }
}

fn excludes(other: &OtherServer, server: &ServerRecord, shown: Shown) -> bool {
    let there = &other.server;
    if there.id == server.id {
        return shown == Shown::Again || there.place != server.place;
    }
    there.blobs == BlobsOf::One || server.blobs == BlobsOf::One
}

async fn forget_gone(transaction: &mut Transaction<'_, Any>, now: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM servers WHERE lease_until < $1")
        .bind(now.saturating_sub(KEPT_MILLIS))
        .execute(&mut **transaction)
        .await
        .map(drop)
        .during("forget servers that are gone")
}

async fn note(
    transaction: &mut Transaction<'_, Any>,
    server: &ServerRecord,
    lease_until: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO servers (id, process, place, blobs, described, lease_until) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO UPDATE SET process = excluded.process, place = excluded.place, blobs = excluded.blobs, \
         described = excluded.described, lease_until = excluded.lease_until",
    )
    .bind(server.id.as_str())
    .bind(server.process.as_str())
    .bind(server.place.as_str())
    .bind(server.blobs.as_str())
    .bind(server.described.as_str())
    .bind(lease_until)
    .execute(&mut **transaction)
    .await
    .map(drop)
    .during("note that a server is there")
}

fn other(row: &AnyRow) -> Result<OtherServer, Error> {
    const OP: &str = "read which servers are there";
    let blobs = match text(row, "blobs", OP)?.as_str() {
        SHARED => BlobsOf::All,
        _ => BlobsOf::One,
    };
    let server = ServerRecord {
        id: text(row, "id", OP)?,
        process: text(row, "process", OP)?,
        place: text(row, "place", OP)?,
        blobs,
        described: text(row, "described", OP)?,
    };
    Ok(OtherServer { server, shown: number(row, "lease_until", OP)? })
}

impl BlobsOf {
    fn as_str(self) -> &'static str {
        match self {
            Self::All => SHARED,
            Self::One => OWN,
        }
    }
}

const SHARED: &str = "shared";
const OWN: &str = "own";
/// For whoever looks into the table.
const KEPT_MILLIS: i64 = 24 * 60 * 60 * 1000; // a day
