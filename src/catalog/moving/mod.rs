//! A catalog that moves from SQLite to PostgreSQL: all of its tables, row by row, in batches that
//! are each one transaction with the word of how far it is. Whatever ends it, it goes on from there.
//!
//! No table is named here but where the word is kept, so that one that is new comes with the others.

mod blobs;
mod digest;
mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::versions::OLDEST_VERSION;
use super::{AuditKind, Author, Catalog, During, Error, OrCorrupt, audit, number, placeholders};
pub use blobs::BlobsMoved;
pub use digest::TableDigest;
pub use table::Table;
use table::{MOVING, Value};

/// How far a catalog has moved, as the one that it moves to remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Which move this is.
    id: String,
    /// The last row of each table that is there, by its number in the catalog that is moved.
    tables: BTreeMap<String, i64>,
}

/// What a database is to a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// It takes what is still missing.
    Ready(Moving),
    /// All of this move is in it.
    Moved,
    /// It is another installation's, or another move's: what is in it.
    Taken(String),
}

impl Catalog {
    /// Makes this database the target of a move, if it is empty or has been that before.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]; [`Error::Unreachable`]; [`Error::Backend`].
    pub async fn begin_moving(&self, id: &str) -> Result<Target, Error> {
        const OP: &str = "begin to move the catalog";
        if let Some(moving) = self.find_moving().await? {
            return Ok(match moving.id == id {
                true => Target::Ready(moving),
                false => Target::Taken(format!("the catalog of the unfinished move {}", moving.id)),
            });
        }
        if self.find_installed(MOVED).await?.is_some_and(|moved| moved == id) {
            return Ok(Target::Moved);
        }
        if let Some(other) = self.find_installed("id").await? {
            return Ok(Target::Taken(format!("the catalog of installation {other}")));
        }
        // Whoever makes the tables notes which versions can use them.
        let row = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM roles) + (SELECT COUNT(*) FROM installation WHERE name <> $1) AS n",
        );
        let row = row.bind(OLDEST_VERSION).fetch_one(&self.pool).await.during(OP)?;
        if number(&row, "n", OP)? > 0 {
            return Ok(Target::Taken("a catalog".into()));
        }
        let moving = Moving { id: id.to_owned(), tables: BTreeMap::new() };
        let mut transaction = self.pool.begin().await.during(OP)?;
        // What each catalog is made with comes with the other one.
        for table in self.tables().await? {
            let emptied = sqlx::query(AssertSqlSafe(format!("DELETE FROM {}", table.name)));
            emptied.execute(&mut *transaction).await.during(OP)?;
        }
        remember(&mut transaction, &moving).await?;
        transaction.commit().await.during(OP)?;
        Ok(Target::Ready(moving))
    }

    /// The move that has not ended of which this is the target.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_moving(&self) -> Result<Option<Moving>, Error> {
        let found = self.find_installed(MOVING).await?;
        found
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .or_corrupt("read how far a move is")
    }

    /// Takes the next rows of a table from `source`, and returns how many these were; none if there
    /// are no more.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if the tables differ; [`Error::Full`]; [`Error::Unreachable`];
    /// [`Error::Backend`].
    pub async fn take_rows(
        &self,
        source: &Self,
        table: &Table,
        moving: &mut Moving,
    ) -> Result<u64, Error> {
        const OP: &str = "move rows of the catalog";
        let after = moving.tables.get(&table.name).copied().unwrap_or(i64::MIN);
        let rows = source.numbered_rows(&table.name, &table.column_names(), after, ROWS).await?;
        let Some(last) = rows.last() else { return Ok(0) };
        let last: i64 = last.try_get("row_number").during(OP)?;
        let mut transaction = self.pool.begin().await.during(OP)?;
        for rows in rows.chunks(self.pool.rows_at_once(table.columns.len())) {
            insert_rows(&mut transaction, table, rows).await?;
        }
        moving.tables.insert(table.name.clone(), last);
        remember(&mut transaction, moving).await?;
        transaction.commit().await.during(OP)?;
        Ok(rows.len() as u64)
    }

    /// Ends a move of which all rows are there and were compared: this is the catalog from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]; [`Error::Unreachable`]; [`Error::Backend`].
    pub async fn end_moving(
        &self,
        moving: &Moving,
        rows: u64,
        from: &str,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "end the move of the catalog";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let ended = sqlx::query("UPDATE installation SET name = $1, value = $2 WHERE name = $3");
        let ended = ended.bind(MOVED).bind(moving.id.as_str()).bind(MOVING);
        ended.execute(&mut *transaction).await.during(OP)?;
        if let Some(sql) = self.place.count_on() {
            sqlx::query(sql).fetch_all(&mut *transaction).await.during(OP)?;
        }
        let detail = serde_json::json!({ "move": moving.id, "from": from, "rows": rows });
        let entry = author.entry(AuditKind::CatalogMoved, "", detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)
    }
}

async fn insert_rows(
    transaction: &mut Transaction<'_, Any>,
    table: &Table,
    rows: &[AnyRow],
) -> Result<(), Error> {
    let columns = table.columns.len();
    let sql = format!(
        "INSERT INTO {} ({}) VALUES {}",
        table.name,
        table.column_names(),
        placeholders(rows.len(), columns)
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for row in rows {
        for column in &table.columns {
            query = match column.read(row)? {
                Value::Integer(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
            };
        }
    }
    let inserted = query.execute(&mut **transaction).await;
    inserted.map(drop).during("write rows of the catalog")
}

async fn remember(transaction: &mut Transaction<'_, Any>, moving: &Moving) -> Result<(), Error> {
    const OP: &str = "write down how far a move is";
    let text = serde_json::to_string(moving).or_corrupt(OP)?;
    let put = sqlx::query(
        "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    );
    put.bind(MOVING).bind(text).execute(&mut **transaction).await.map(drop).during(OP)
}

/// The name in the table `installation` of the move of which all is here.
const MOVED: &str = "moved";
/// Of one transaction.
const ROWS: i64 = 1000;
