//! `moving.json` and `moving-blobs.json`: that the catalog of a state directory moves to a database, or
//! has, and its blobs to a bucket. What is in the directory is neither served nor changed from then
//! on: two catalogs would hand out the same versions.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;
use super::random::random_hex;
use super::server_id::{self, ID_BYTES};
use crate::model::{Bucket, DatabaseUrl, Timestamp};

/// What of an installation moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thing {
    /// Its catalog, to a database.
    Catalog,
    /// Its blobs, to a bucket.
    Blobs,
}

impl Thing {
    /// The file that says so.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Catalog => "moving.json",
            Self::Blobs => "moving-blobs.json",
        }
    }
}

/// A move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its id, which the catalog has too that is used afterwards.
    pub(super) id: String,
    /// Where it goes, without user and password.
    pub(super) to: String,
    /// When it was begun.
    pub(super) begun_at: Timestamp,
    /// When all was there, and was compared.
    pub(super) ended_at: Option<Timestamp>,
    /// How far the blobs are.
    #[serde(default, skip_serializing_if = "Copied::is_nothing")]
    pub(super) copied: Copied,
}

/// Blobs that are there and were read back, in the order in which they move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copied {
    /// The last one's name.
    pub(super) last: String,
    /// How many.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

impl Copied {
    fn is_nothing(&self) -> bool {
        self.files == 0
    }
}

impl Record {
    /// A move that begins.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub(super) fn begun(to: String, now: Timestamp) -> Result<Self, Error> {
        let (id, copied) = (random_hex::<ID_BYTES>()?, Copied::default());
        Ok(Self { id, to, begun_at: now, ended_at: None, copied })
    }

    /// The move of a state directory, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if it can't be read: then nobody knows which catalog is the right one.
    pub(super) fn find(state: &Path, thing: Thing) -> Result<Option<Self>, Error> {
        let path = state.join(thing.file());
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

    /// The same, which has to be one to there.
    ///
    /// # Errors
    ///
    /// As of [`Self::find`]; [`Error::Conflict`] names where it is to.
    pub(super) fn find_to(state: &Path, thing: Thing, to: &str) -> Result<Option<Self>, Error> {
        let known = Self::find(state, thing)?;
        let Some(other) = known.as_ref().filter(|known| known.to != to) else { return Ok(known) };
        let (state, file, to) = (state.display(), thing.file(), &other.to);
        let (what, was, on_its_way, code) = match thing {
            Thing::Catalog => ("catalog", "was", "is on its way", "catalog_moved"),
            Thing::Blobs => ("blobs", "were", "are on their way", "blobs_moved"),
        };
        let detail = match other.ended_at {
            Some(at) => format!("the {what} of {state} {was} moved to {to} at {at}"),
            None => format!(
                "the {what} of {state} {on_its_way} to {to}: name that, or remove {state}/{file} and begin anew"
            ),
        };
        Err(Error::Conflict { code, detail })
    }

    /// Takes back that there is a move.
    pub(super) fn remove(state: &Path, thing: Thing) -> Result<(), Error> {
        fs::remove_file(state.join(thing.file())).map_err(Error::internal("take a move back"))
    }

    /// Writes it, whole or not at all; it is on the disk when this returns.
    pub(super) fn write(&self, state: &Path, thing: Thing) -> Result<(), Error> {
        let written = || {
            let text = serde_json::to_string_pretty(self)?;
            server_id::write(state, &state.join(thing.file()), &text)?;
            File::open(state)?.sync_all()
        };
        written().map_err(Error::internal("write down how far a move is"))
    }
}

/// Refuses the catalog in a state directory that is not the one any more.
///
/// # Errors
///
/// [`Error::Conflict`] names the database.
pub(super) fn refuse_moved(state: &Path) -> Result<(), Error> {
    let Some(Record { to, ended_at, .. }) = Record::find(state, Thing::Catalog)? else {
        return Ok(());
    };
    let (path, file) = (state.display(), Thing::Catalog.file());
    let detail = match ended_at {
        Some(at) => format!(
            "the catalog of {path} was moved to {to} at {at}: name that with MOTORCADE_CATALOG_URL or `--catalog`"
        ),
        None => format!(
            "the catalog of {path} is on its way to {to}: run `motorcade migrate-store --data-dir {path}` with that \
             `--to-catalog` until it is done, or remove {path}/{file} to stay with the one that is here"
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

/// Refuses blobs in a state directory that are not the ones any more, and a bucket that doesn't have
/// all of them yet.
///
/// # Errors
///
/// [`Error::Conflict`] names the bucket.
pub(super) fn refuse_moved_blobs(state: &Path, bucket: Option<&Bucket>) -> Result<(), Error> {
    let Some(Record { to, ended_at, .. }) = Record::find(state, Thing::Blobs)? else {
        return Ok(());
    };
    let (path, file) = (state.display(), Thing::Blobs.file());
    let detail = match (ended_at, bucket) {
        (Some(_), Some(_)) => return Ok(()),
        (Some(at), None) => format!(
            "the blobs of {path} were moved to {to} at {at}: name that with MOTORCADE_BLOBS or `--blobs`"
        ),
        (None, _) => format!(
            "the blobs of {path} are on their way to {to}, and not all of them are there: run `motorcade migrate-store \
             --data-dir {path}` with that `--to-blobs` until it is done, or remove {path}/{file} to stay with those that are \
             here"
        ),
    };
    Err(Error::Conflict { code: "blobs_moved", detail })
}
