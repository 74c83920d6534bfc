//! Where a catalog is.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A file of SQLite, or a database in PostgreSQL.
#[derive(Debug, Clone)]
pub(super) enum Place {
    File(Arc<Path>),
    /// By its URL, without user and password.
    Server(Arc<str>),
}

impl Place {
    /// Asks whether there is a table of the name `$1`.
    pub(super) fn find_table(&self) -> &'static str {
        match self {
            Self::File(_) => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1",
            Self::Server(_) => {
                "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1"
            }
        }
    }

    /// Asks for the names of all tables that are ours.
    pub(super) fn list_tables(&self) -> &'static str {
        match self {
            Self::File(_) => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
                 AND name <> '_sqlx_migrations'"
            }
            Self::Server(_) => {
                "SELECT CAST(tablename AS TEXT) AS name FROM pg_tables WHERE schemaname = current_schema() \
                 AND tablename <> '_sqlx_migrations'"
            }
        }
    }

    /// Asks for the names and types of the columns of the table `$1`.
    pub(super) fn list_columns(&self) -> &'static str {
        match self {
            Self::File(_) => "SELECT name, type AS kind FROM pragma_table_info($1)",
            Self::Server(_) => {
                "SELECT CAST(column_name AS TEXT) AS name, CAST(data_type AS TEXT) AS kind FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = $1"
            }
        }
    }

    /// Has numbers that the engine gives itself go on after those that were written by others.
    pub(super) fn count_on(&self) -> Option<&'static str> {
        match self {
            Self::File(_) => None, // it does that by itself
            Self::Server(_) => Some(
                "SELECT setval(pg_get_serial_sequence('vehicle_events', 'id'), COALESCE(MAX(id), 0) + 1, false) AS next \
                 FROM vehicle_events",
            ),
        }
    }
}

impl Place {
    /// Asks a server for its time as `now`, in milliseconds since 1970; a file has none. It is the
    /// time of the moment, and not of the transaction's beginning.
    pub(super) fn ask_time(&self) -> Option<&'static str> {
        match self {
            Self::File(_) => None,
            Self::Server(_) => {
                Some("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now")
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Server(url) => f.write_str(url),
        }
    }
}
