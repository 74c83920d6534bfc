//! An installation that grows out of SQLite: its catalog moves to a database, with the server
//! stopped. Whatever ends a move, it goes on where it was; at its end, all rows of both catalogs are
//! compared.
//!
//! The catalog in the state directory is only read, and stays for whoever wants to go back before
//! the other one was used.

use std::path::Path;

use super::moved::Record;
use super::principal::local_author;
use super::random::random_hex;
use super::server_id::ID_BYTES;
use super::state_dir::{StateDir, is_published};
use super::{Error, backup, footing};
use crate::catalog::{Author, Catalog, Moving, TableDigest, Target};
use crate::model::{Clock, DatabaseUrl, Timestamp};

/// What is told of a move while it goes on.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// So many rows more of a table are there.
    Moved {
        /// Which table.
        table: &'a str,
        /// How many rows.
        rows: u64,
    },
    /// A table is the same on both sides.
    Compared {
        /// Which table.
        table: &'a str,
        /// How many rows it has.
        rows: u64,
    },
}

/// A catalog that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Its tables: name, and what is in it; none if that was done before.
    pub tables: Vec<(String, TableDigest)>,
}

impl Moved {
    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, digest)| digest.rows).sum()
    }
}

/// Moves the catalog of `state` to the database `to`, or goes on with that.
///
/// # Errors
///
/// [`Error::Conflict`] if a server runs on the directory, its catalog has moved elsewhere, or the
/// database holds something else; [`Error::NotFound`] if the directory isn't initialized;
/// [`Error::Unusable`] if the database can't be used; [`Error::Corrupt`] if the two differ in the
/// end; [`Error::Full`]; [`Error::Unavailable`]; [`Error::Internal`].
pub async fn move_catalog(
    state: &StateDir,
    to: &DatabaseUrl,
    clock: &dyn Clock,
    progress: impl Fn(Progress<'_>),
) -> Result<Moved, Error> {
    if !state.catalog_file().exists() {
        return Err(state.not_initialized());
    }
    footing::refuse_root_in_foreign(state.path())?;
    let _lock = state.lock()?;
    backup::refuse_unrecovered(state.path())?;
    state.refuse_empty_catalog()?;
    let known = Record::find(state.path())?;
    if let Some(other) = known.as_ref().filter(|known| known.to != to.to_string()) {
        return Err(elsewhere(state.path(), other));
    }
    // What is in the file is old by now, whatever has become of the database.
    if known.as_ref().is_some_and(|known| known.ended_at.is_some()) {
        return Ok(Moved { tables: Vec::new() });
    }
    let source = Catalog::own_sqlite(&state.catalog_file(), clock.now()).await?;
    if !is_published(&source).await? {
        return Err(state.not_initialized());
    }
    let target = Catalog::target_postgres(to).await?;
    let is_new = known.is_none();
    let mut record = match known {
        Some(known) => known,
        None => begun(to, clock.now())?,
    };
    record.write(state.path())?; // from now on nobody changes what is moved
    let tables = match target.begin_moving(&record.id).await? {
        Target::Taken(what) => {
            if is_new {
                Record::remove(state.path())?;
            }
            return Err(taken(to, &what));
        }
        Target::Moved => Vec::new(), // and was ended before that could be written down
        Target::Ready(moving) => {
            let author = local_author(clock.now());
            move_tables(&source, &target, moving, &author, &progress).await?
        }
    };
    record.ended_at = Some(clock.now());
    record.write(state.path())?;
    source.close().await;
    target.close().await;
    Ok(Moved { tables })
}

async fn move_tables(
    source: &Catalog,
    target: &Catalog,
    mut moving: Moving,
    author: &Author,
    progress: &impl Fn(Progress<'_>),
) -> Result<Vec<(String, TableDigest)>, Error> {
    let tables = source.tables().await?;
    if tables != target.tables().await? {
        let detail =
            "the two catalogs have different tables, though they are of one version".into();
        return Err(Error::Corrupt { detail });
    }
    for table in &tables {
        loop {
            let rows = target.take_rows(source, table, &mut moving).await?;
            if rows == 0 {
                break;
            }
            progress(Progress::Moved { table: table.name(), rows });
        }
    }
    let mut compared = Vec::with_capacity(tables.len());
    for table in &tables {
        let (here, there) = (source.digest_table(table).await?, target.digest_table(table).await?);
        if here != there {
            return Err(differs(table.name(), here, there));
        }
        progress(Progress::Compared { table: table.name(), rows: here.rows });
        compared.push((table.name().to_owned(), here));
    }
    let rows = compared.iter().map(|(_, digest)| digest.rows).sum();
    target.end_moving(&moving, rows, "catalog.sqlite", author).await?;
    Ok(compared)
}

fn begun(to: &DatabaseUrl, now: Timestamp) -> Result<Record, Error> {
    let id = random_hex::<ID_BYTES>()?;
    Ok(Record { id, to: to.to_string(), begun_at: now, ended_at: None })
}

fn elsewhere(state: &Path, other: &Record) -> Error {
    let state = state.display();
    let detail = match other.ended_at {
        Some(at) => format!("the catalog of {state} was moved to {} at {at}", other.to),
        None => format!(
            "the catalog of {state} is on its way to {}: name that, or remove {state}/moving.json and begin anew",
            other.to
        ),
    };
    Error::Conflict { code: "catalog_moved", detail }
}

fn taken(to: &DatabaseUrl, what: &str) -> Error {
    let detail = format!(
        "{to} holds {what}, and nothing of it was touched: make an empty database, and name that"
    );
    Error::Conflict { code: "target_taken", detail }
}

fn differs(table: &str, here: TableDigest, there: TableDigest) -> Error {
    let detail = format!(
        "the table {table} has {} rows here and {} there, or others: was one of the two changed meanwhile? Drop the database, \
         make it anew, remove moving.json and begin again",
        here.rows, there.rows
    );
    Error::Corrupt { detail }
}
