//! A catalog that moves to a database: all rows are copied, and then those of both are compared.

use super::progress::Progress;
use crate::app::Error;
use crate::app::moved::{Record, Thing};
use crate::app::principal::local_author;
use crate::app::state_dir::{StateDir, is_published};
use crate::catalog::{Author, Catalog, Moving, TableDigest, Target};
use crate::model::{Clock, DatabaseUrl};

/// A move of a catalog that was begun.
pub(super) struct CatalogMove {
    state: StateDir,
    source: Catalog,
    target: Catalog,
    record: Record,
    /// How far it is; none if all was there before that could be written down.
    moving: Option<Moving>,
}

impl CatalogMove {
    /// Begins the move of the catalog of `state` to the database `to`, or goes on with it; none if
    /// it has ended. **Must be called by the holder of the directory's lock.**
    ///
    /// # Errors
    ///
    /// As [`super::move_store`].
    pub(super) async fn begin(
        state: &StateDir,
        to: &DatabaseUrl,
        clock: &dyn Clock,
    ) -> Result<Option<Self>, Error> {
        let known = Record::find_to(state.path(), Thing::Catalog, &to.to_string())?;
        // What is in the file is old by now, whatever has become of the database.
        if known.as_ref().is_some_and(|known| known.ended_at.is_some()) {
            return Ok(None);
        }
        let source = Catalog::own_sqlite(&state.catalog_file(), clock.now()).await?;
        if !is_published(&source).await? {
            return Err(state.not_initialized());
        }
        let target = Catalog::target_postgres(to).await?;
        let is_new = known.is_none();
        let record = match known {
            Some(known) => known,
            None => Record::begun(to.to_string(), clock.now())?,
        };
        record.write(state.path(), Thing::Catalog)?; // from now on nobody changes what is moved
        let moving = match target.begin_moving(&record.id).await? {
            Target::Taken(what) => {
                if is_new {
                    Record::remove(state.path(), Thing::Catalog)?;
                }
                return Err(taken(to, &what));
            }
            Target::Moved => None,
            Target::Ready(moving) => Some(moving),
        };
        Ok(Some(Self { state: state.clone(), source, target, record, moving }))
    }

    /// Whether all is in the database, where servers may use it.
    pub(super) fn is_there(&self) -> bool {
        self.moving.is_none()
    }

    /// Moves all tables, and compares them.
    ///
    /// # Errors
    ///
    /// As [`super::move_store`].
    pub(super) async fn finish(
        mut self,
        clock: &dyn Clock,
        progress: &impl Fn(Progress<'_>),
    ) -> Result<Vec<(String, TableDigest)>, Error> {
        let tables = match self.moving.take() {
            Some(moving) => {
                let author = local_author(clock.now());
                move_tables(&self.source, &self.target, moving, &author, progress).await?
            }
            None => Vec::new(),
        };
        self.record.ended_at = Some(clock.now());
        self.record.write(self.state.path(), Thing::Catalog)?;
        self.source.close().await;
        self.target.close().await;
        Ok(tables)
    }
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
