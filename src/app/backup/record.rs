//! `backup.json`: what a backup says of itself. A directory that has one is not served: vehicles
//! have seen later versions than it knows.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::app::Error;
use crate::model::Timestamp;

/// What a backup has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was begun; the catalog is of that moment.
    pub made_at: Timestamp,
    /// The version that made it.
    pub version: String,
    /// Number and hash of the last entry of the audit log, as `audit verify --head` takes them.
    pub audit_head: Option<String>,
    /// The files of `keys/` that are in it.
    pub key_files: Vec<String>,
    /// Where those keys are that are not files of `keys/`.
    pub keys_elsewhere: Vec<String>,
    /// Files of `repo/` that are the same files as in the state directory.
    pub linked: u64,
    /// Files of `repo/` that were copied.
    pub copied: u64,
    /// Bytes that were copied, of all files.
    pub bytes: u64,
}

impl Record {
    /// Writes it into a folder.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(folder.join(FILE), text)
    }
}

/// Refuses to serve a backup before it was said that it is one.
///
/// # Errors
///
/// [`Error::Conflict`].
pub(in crate::app) fn refuse_unrecovered(state: &Path) -> Result<(), Error> {
    let Ok(text) = fs::read(state.join(FILE)) else { return Ok(()) };
    let record = serde_json::from_slice::<Record>(&text).ok();
    let when = record.map_or_else(String::new, |record| format!(" of {}", record.made_at));
    let path = state.display();
    let detail = format!(
        "{path} is a backup{when}, and vehicles may have seen later versions than it knows: run `motorcade recover versions \
         --data-dir {path}` once, and then start the server (docs/runbooks/restored-from-an-old-backup.md)"
    );
    Err(Error::Conflict { code: "backup_not_recovered", detail })
}

/// Makes a backup a state directory like any other, since its versions were taken care of.
///
/// # Errors
///
/// [`Error::Internal`] if the file can't be removed.
pub(in crate::app) fn forget(state: &Path) -> Result<(), Error> {
    match fs::remove_file(state.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::internal("remove backup.json")),
    }
}

const FILE: &str = "backup.json";
