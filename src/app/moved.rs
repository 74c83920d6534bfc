//! `moving.json`: that the catalog of a state directory moves to a database, or has. The one in the
//! directory is neither served nor changed from then on: two would hand out the same versions.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::model::{DatabaseUrl, Timestamp};

/// A move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its id, which the database has too.
    pub(super) id: String,
    /// Where the catalog goes, without user and password.
    pub(super) to: String,
    /// When it was begun.
    pub(super) begun_at: Timestamp,
    /// When all was there, and was compared.
    pub(super) ended_at: Option<Timestamp>,
}

impl Record {
    /// The move of a state directory, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if it can't be read: then nobody knows which catalog is the right one.
    pub(super) fn find(state: &Path) -> Result<Option<Self>, Error> {
        let path = state.join(FILE);
        let unusable = |fault: String| Error::Unusable {
            detail: format!("{} can't be used: {fault}; restore it", path.display()),
        };
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(error.to_string())),
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|error| unusable(error.to_string()))
            }
        }
    }

    /// Takes back that there is a move.
    pub(super) fn remove(state: &Path) -> Result<(), Error> {
        fs::remove_file(state.join(FILE)).map_err(Error::internal("remove moving.json"))
    }

    /// Writes it, whole or not at all; it is on the disk when this returns.
    pub(super) fn write(&self, state: &Path) -> Result<(), Error> {
        let written = || {
            let mut file = tempfile::Builder::new().prefix(".probe-").tempfile_in(state)?;
            writeln!(file, "{}", serde_json::to_string_pretty(self)?)?;
            file.as_file().sync_all()?;
            file.persist(state.join(FILE)).map_err(|error| error.error)?;
            File::open(state)?.sync_all()
        };
        written().map_err(Error::internal("write moving.json"))
    }
}

/// Refuses the catalog in a state directory that is not the one any more.
///
/// # Errors
///
/// [`Error::Conflict`] names the database.
pub(super) fn refuse_moved(state: &Path) -> Result<(), Error> {
    let Some(Record { to, ended_at, .. }) = Record::find(state)? else { return Ok(()) };
    let path = state.display();
    let detail = match ended_at {
        Some(at) => format!(
            "the catalog of {path} was moved to {to} at {at}: name that with MOTORCADE_CATALOG_URL or `--catalog`"
        ),
        None => format!(
            "the catalog of {path} is on its way to {to}: run `motorcade migrate-store --data-dir {path}` with that \
             `--to-catalog` until it is done, or remove {path}/{FILE} to stay with the one that is here"
        ),
    };
    Err(Error::Conflict { code: "catalog_moved", detail })
}

/// Refuses a database to which a catalog is still on its way.
pub(super) fn refuse_unfinished(url: &DatabaseUrl) -> Error {
    let detail = format!(
        "a catalog is on its way to {url}, and not all of it is there: run `motorcade migrate-store` again until it is done"
    );
    Error::Conflict { code: "catalog_moving", detail }
}

const FILE: &str = "moving.json";
