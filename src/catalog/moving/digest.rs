//! What is in a table, as a number that both engines come to, in whatever order they have its rows.

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::table::{MOVING, Table, Value};
use crate::catalog::{Catalog, During, Error};

/// How many rows a table has, and what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableDigest {
    /// Rows.
    pub rows: u64,
    /// The sum of each row's SHA-256, as four numbers of 64 bits.
    sum: [u64; 4],
}

impl TableDigest {
    /// The sum in hexadecimal.
    pub fn sum(&self) -> String {
        self.sum.iter().map(|part| format!("{part:016x}")).collect()
    }

    fn add(&mut self, table: &Table, row: &AnyRow) -> Result<(), Error> {
        let mut hasher = Sha256::new();
        for column in &table.columns {
            match column.read(row)? {
                Value::Integer(Some(value)) => add(&mut hasher, b'i', &value.to_be_bytes()),
                Value::Text(Some(value)) => add(&mut hasher, b't', value.as_bytes()),
                Value::Bytes(Some(value)) => add(&mut hasher, b'b', &value),
                Value::Integer(None) | Value::Text(None) | Value::Bytes(None) => {
                    add(&mut hasher, b'0', &[]);
                }
            }
        }
        let hash = hasher.finalize();
        for (sum, part) in self.sum.iter_mut().zip(hash.chunks_exact(8)) {
            let part = part.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            *sum = sum.wrapping_add(part);
        }
        self.rows += 1;
        Ok(())
    }
}

/// Its length goes before a value, so that no two rows look alike.
fn add(hasher: &mut Sha256, kind: u8, value: &[u8]) {
    hasher.update([kind]);
    hasher.update((value.len() as u64).to_be_bytes());
    hasher.update(value);
}

impl Catalog {
    /// Reads all rows of a table, but the one that says how far a move is.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`]; [`Error::Backend`].
    pub async fn digest_table(&self, table: &Table) -> Result<TableDigest, Error> {
        const OP: &str = "read a table of the catalog";
        let but = match table.name.as_str() {
            "installation" => format!(" WHERE name <> '{MOVING}'"),
            _ => String::new(),
        };
        let sql = format!("SELECT {} FROM {}{but}", table.column_names(), table.name);
        let mut transaction = self.pool.begin_to_read().await.during(OP)?;
        let mut digest = TableDigest::default();
        {
            let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut *transaction);
            while let Some(row) = rows.try_next().await.during(OP)? {
                digest.add(table, &row)?;
            }
        }
        transaction.rollback().await.during(OP)?;
        Ok(digest)
    }
}
