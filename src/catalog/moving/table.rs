//! The tables of a catalog as its engine describes them.

use sqlx::Row;
use sqlx::any::AnyRow;

use crate::catalog::{Catalog, During, Error, text};

/// Names in the table `installation`: what is here of a move.
pub(super) const MOVING: &str = "moving";

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub(super) name: String,
    /// In the order of their names, which is the same on both engines.
    pub(super) columns: Vec<Column>,
}

/// A column, and what both engines have in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Text,
    Bytes,
}

/// What is in a column of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Table {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn column_names(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Column {
    pub(super) fn read(&self, row: &AnyRow) -> Result<Value, Error> {
        const OP: &str = "read a row of the catalog";
        let name = self.name.as_str();
        Ok(match self.kind {
            Kind::Integer => Value::Integer(row.try_get(name).during(OP)?),
            Kind::Text => Value::Text(row.try_get(name).during(OP)?),
            Kind::Bytes => Value::Bytes(row.try_get(name).during(OP)?),
        })
    }
}

impl Catalog {
    /// All tables but that of the migrations, in the order of their names.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if one has a column of another kind than ours have; [`Error::Backend`].
    pub async fn tables(&self) -> Result<Vec<Table>, Error> {
        const OP: &str = "look at the tables of the catalog";
        let rows = sqlx::query(self.place.list_tables()).fetch_all(&self.pool).await.during(OP)?;
        let names = rows.iter().map(|row| text(row, "name", OP));
        let mut names = names.collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        let mut tables = Vec::with_capacity(names.len());
        for name in names {
            let columns = sqlx::query(self.place.list_columns()).bind(name.as_str());
            let columns = columns.fetch_all(&self.pool).await.during(OP)?;
            let columns = columns.iter().map(|row| self.column(&name, row));
            let mut columns = columns.collect::<Result<Vec<_>, _>>()?;
            columns.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            tables.push(Table { name, columns });
        }
        Ok(tables)
    }

    fn column(&self, table: &str, row: &AnyRow) -> Result<Column, Error> {
        const OP: &str = "look at a column of the catalog";
        let (name, kind) = (text(row, "name", OP)?, text(row, "kind", OP)?);
        let kind = match kind.to_ascii_lowercase().as_str() {
            "bigint" | "integer" => Kind::Integer,
            "text" => Kind::Text,
            "blob" | "bytea" => Kind::Bytes,
            other => {
                let fault = format!("has the column {table}.{name} of the type {other}");
                return Err(Error::Unusable { catalog: self.name(), fault });
            }
        };
        Ok(Column { name, kind })
    }
}
