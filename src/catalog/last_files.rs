//! The last file of each role, also of roles that nobody delegates to any more: snapshots go on
//! listing these, or clients would take the next one for a rollback.

use sqlx::any::AnyRow;

use super::{Catalog, During, Error, number, parsed};
use crate::model::{RoleName, Sha256Digest};

/// The last file of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFile {
    /// The role.
    pub name: RoleName,
    /// Version of the file; 0 before the first.
    pub version: u64,
    /// Length of the file in bytes.
    pub length: u64,
    /// Digest of the file.
    pub sha256: Sha256Digest,
}

impl Catalog {
    /// The last file of a role, whether or not somebody delegates to it; none if it is no role of
    /// this repository and never was.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_last_file(&self, role: &RoleName) -> Result<Option<LastFile>, Error> {
        const OP: &str = "find the last file of a role";
        let row = sqlx::query(
            "SELECT name, version, length, sha256 FROM roles WHERE name = $1 \
             UNION ALL SELECT name, version, length, sha256 FROM retired_roles WHERE name = $2",
        );
        let row = row.bind(role.as_str()).bind(role.as_str());
        let row = row.fetch_optional(&self.pool).await.during(OP)?;
        row.map(|row| last_file(&row, OP)).transpose()
    }

    /// The last files of roles that nobody delegates to any more.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_retired_roles(&self) -> Result<Vec<LastFile>, Error> {
        const OP: &str = "list retired roles";
        let rows = sqlx::query("SELECT name, version, length, sha256 FROM retired_roles");
        let rows = rows.fetch_all(&self.pool).await.during(OP)?;
        rows.iter().map(|row| last_file(row, OP)).collect()
    }
}

fn last_file(row: &AnyRow, op: &'static str) -> Result<LastFile, Error> {
    Ok(LastFile {
        name: parsed(row, "name", op)?,
        version: number(row, "version", op)?,
        length: number(row, "length", op)?,
        sha256: parsed(row, "sha256", op)?,
    })
}
