//! Which database a catalog is in, so that a copy of it is not taken for it.
//!
//! The number of a database is its own on its server alone, and a new server begins with the same
//! numbers; the server's own identifier is told only to whom its administrator lets it be told. So
//! there is a mark besides, which anybody may read who may read the catalog, and which a dump doesn't
//! take along: a row that says in which transaction it was written, and into which table.
//! PostgreSQL keeps both of each row. What restores a dump writes the row again, in a transaction of
//! its own.
//!
//! So does what rewrites the table, such as a change of a column's type, and it reads as a restored
//! dump. No migration may rewrite `installation` unless it calls [`Catalog::replace_mark`] in the same
//! transaction, and that only where [`Catalog::find_mark`] said [`Mark::Own`] before: else a dump that
//! was restored passes for the original.

use std::fmt;
use std::str::FromStr;

use super::super::{Catalog, During, Error, number, text};

/// What a row of `installation` that a transaction has written is marked with. Of the number of a
/// transaction a row keeps 32 bits, also once it is frozen.
macro_rules! written {
    ($transaction:literal) => {
        concat!(
            "CAST(CAST(CAST('installation' AS regclass) AS oid) AS TEXT) || ' ' || CAST(MOD(",
            $transaction,
            ", 4294967296) AS TEXT)"
        )
    };
}

/// Writes the mark `$1` with what it is then; on a conflict, what follows.
macro_rules! mark {
    () => {
        concat!(
            "INSERT INTO installation (name, value) VALUES ($1, ",
            written!("txid_current()"),
            ") ON CONFLICT (name) DO "
        )
    };
}

/// Which database of which server, as far as that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// Number of the database.
    pub database: String,
    /// Identifier of the server; none if the catalog's user may not ask for it.
    pub server: Option<String>,
}

/// Whether what a catalog was marked with is as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// There is none.
    Missing,
    /// It was written here.
    Own,
    /// It was written elsewhere, and copied row by row; or something has rewritten the table.
    Copied,
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, server } = self;
        match server {
            Some(server) => write!(f, "database {database} of {server}"),
            None => write!(f, "database {database}"),
        }
    }
}

impl FromStr for Whereabouts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let place =
            text.strip_prefix("database ").ok_or_else(|| format!("{text:?} is no place"))?;
        let (database, server) = match place.split_once(" of ") {
            Some((database, server)) => (database, Some(server.to_owned())),
            None => (place, None),
        };
        Ok(Self { database: database.to_owned(), server })
    }
}

impl Catalog {
    /// Which database of which server this is. None where nobody else than this server looks after
    /// the catalog.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`]; [`Error::Backend`].
    pub async fn whereabouts(&self) -> Result<Option<Whereabouts>, Error> {
        const OP: &str = "find out which database this is";
        if !self.is_on_server() {
            return Ok(None);
        }
        let row = sqlx::query(
            "SELECT CAST(oid AS TEXT) AS number, \
             CAST(CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE') THEN 1 ELSE 0 END AS BIGINT) AS told \
             FROM pg_database WHERE datname = current_database()",
        );
        let row = row.fetch_one(&self.pool).await.during(OP)?;
        let database = text(&row, "number", OP)?;
        if number(&row, "told", OP)? == 0 {
            return Ok(Some(Whereabouts { database, server: None }));
        }
        let row = sqlx::query(
            "SELECT CAST(system_identifier AS TEXT) AS system FROM pg_control_system()",
        );
        let row = row.fetch_one(&self.pool).await.during(OP)?;
        Ok(Some(Whereabouts { database, server: Some(text(&row, "system", OP)?) }))
    }

    /// What an administrator runs so that the catalog's user may ask which server it is on.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`]; [`Error::Backend`].
    pub async fn missing_grant(&self) -> Result<String, Error> {
        const OP: &str = "ask for the name of the catalog's user";
        let row = sqlx::query("SELECT CAST(quote_ident(current_user) AS TEXT) AS name");
        let row = row.fetch_one(&self.pool).await.during(OP)?;
        let user = text(&row, "name", OP)?;
        Ok(format!("GRANT EXECUTE ON FUNCTION pg_control_system() TO {user}"))
    }

    /// Whether the catalog is marked, and was not copied since.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`]; [`Error::Backend`].
    pub async fn find_mark(&self) -> Result<Mark, Error> {
        const OP: &str = "look whether the catalog was copied";
        let row = sqlx::query(concat!(
            "SELECT value, ",
            written!("CAST(CAST(xmin AS TEXT) AS BIGINT)"),
            " AS written FROM installation WHERE name = $1"
        ));
        let row = row.bind(MARK).fetch_optional(&self.pool).await.during(OP)?;
        let Some(row) = row else { return Ok(Mark::Missing) };
        Ok(match text(&row, "value", OP)? == text(&row, "written", OP)? {
            true => Mark::Own,
            false => Mark::Copied,
        })
    }

    /// Marks the catalog, unless it is marked.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]; [`Error::Unreachable`]; [`Error::Backend`].
    pub async fn insert_mark(&self) -> Result<(), Error> {
        let mark = sqlx::query(concat!(mark!(), "NOTHING"));
        mark.bind(MARK).execute(&self.pool).await.map(drop).during(WRITE)
    }

    /// Marks the catalog anew.
    ///
    /// # Errors
    ///
    /// As of [`Self::insert_mark`].
    pub async fn replace_mark(&self) -> Result<(), Error> {
        let mark = sqlx::query(concat!(mark!(), "UPDATE SET value = excluded.value"));
        mark.bind(MARK).execute(&self.pool).await.map(drop).during(WRITE)
    }
}

/// The name of the mark in the table `installation`.
const MARK: &str = "mark";
const WRITE: &str = "mark the catalog";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for text in ["database 16384", "database 16384 of 7445566778899001122"] {
            assert_eq!(text.parse::<Whereabouts>().unwrap().to_string(), text);
        }
        assert!("elsewhere".parse::<Whereabouts>().is_err());
    }
}
