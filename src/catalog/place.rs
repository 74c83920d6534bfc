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
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Server(url) => f.write_str(url),
        }
    }
}
