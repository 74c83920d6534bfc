//! Which installation a catalog in a database, or a bucket, belongs to: its id is in both, that and
//! the state directory, and where they differ nothing is touched. So it is in a folder of blobs that
//! several servers have in common.

use std::fmt;
use std::fs;
use std::path::Path;

use super::Error;
use super::random::random_hex;
use super::server_id::{ID_BYTES, is_id, write};
use crate::catalog::Catalog;
use crate::model::DatabaseUrl;

/// The id of the installation that a catalog is of, if it has one.
///
/// # Errors
///
/// [`Error::Internal`].
pub(super) async fn id_in(catalog: &Catalog) -> Result<Option<String>, Error> {
    Ok(catalog.find_installed(NAME).await?)
}

/// Makes the catalog this directory's, unless it is another's. A directory without an id, as a copy
/// of the keys is, takes the catalog's over: whether its keys are the right ones is found out then.
///
/// # Errors
///
/// [`Error::Unusable`] names both, if the catalog is another installation's;
/// [`Error::Internal`].
pub(super) async fn claim(state: &Path, url: &DatabaseUrl, catalog: &Catalog) -> Result<(), Error> {
    let own = own_id(state);
    let id = match &own {
        Some(id) => id.clone(),
        None => random_hex::<ID_BYTES>()?,
    };
    catalog.insert_installed(NAME, &id).await?;
    let known = catalog.find_installed(NAME).await?.unwrap_or(id);
    match own {
        Some(own) if own != known => Err(foreign(url, "the catalog", state, (&known, &own))),
        Some(_) => Ok(()),
        None => write_own_id(state, &known),
    }
}

/// The id of the installation that a state directory is of, if it has one.
pub(super) fn own_id(state: &Path) -> Option<String> {
    let id = fs::read_to_string(state.join(FILE)).ok()?;
    Some(id.trim().to_owned()).filter(|id| is_id(id))
}

/// The same; a directory without one takes `found`, or gets a new one.
///
/// # Errors
///
/// [`Error::Internal`].
pub(super) fn ensure_own_id(state: &Path, found: Option<String>) -> Result<String, Error> {
    if let Some(own) = own_id(state) {
        return Ok(own);
    }
    let id = match found.filter(|id| is_id(id)) {
        Some(found) => found,
        None => random_hex::<ID_BYTES>()?,
    };
    write_own_id(state, &id)?;
    Ok(id)
}

fn write_own_id(state: &Path, id: &str) -> Result<(), Error> {
    write(state, &state.join(FILE), id).map_err(Error::internal("write the installation's id"))
}

/// What is said of a thing that is of one installation, in the hands of another one.
pub(super) fn foreign(
    place: &dyn fmt::Display,
    what: &str,
    state: &Path,
    (theirs, own): (&str, &str),
) -> Error {
    let state = state.display();
    Error::Unusable {
        detail: format!(
            "{place} is {what} of installation {theirs}, and {state} is of installation {own}: use its own, or one that is \
             empty"
        ),
    }
}

/// Makes a folder of blobs this installation's, for all of its servers, unless it is another's.
///
/// # Errors
///
/// [`Error::Unusable`] names both, if it is another installation's; [`Error::Internal`].
pub(super) async fn claim_blobs(folder: &Path, catalog: &Catalog) -> Result<(), Error> {
    let ours = catalog.find_installed(NAME).await?.unwrap_or_default();
    let file = folder.join(FILE);
    if !file.exists() {
        fs::create_dir_all(folder).map_err(Error::internal("make the folder of the blobs"))?;
        write(folder, &file, &ours).map_err(Error::internal("write the installation's id"))?;
    }
    let theirs = fs::read_to_string(&file).map_err(Error::internal("read whose the blobs are"))?;
    let theirs = theirs.trim();
    if theirs != ours {
        let detail = format!(
            "{} has the blobs of installation {theirs}, and the catalog is of installation {ours}: use the folder that \
             belongs to it, or an empty one",
            folder.display()
        );
        return Err(Error::Unusable { detail });
    }
    Ok(catalog.insert_installed(BLOBS, SHARED).await?)
}

/// A server that has the blobs in its own state directory would find none of those that are in a
/// folder, and sign everything anew.
///
/// # Errors
///
/// [`Error::Unusable`]; [`Error::Internal`].
pub(super) async fn refuse_shared_blobs(catalog: &Catalog) -> Result<(), Error> {
    if catalog.find_installed(BLOBS).await?.is_none() {
        return Ok(());
    }
    let detail = "the servers of this installation have their blobs in one folder: say which, with `--shared-blobs` or in \
                  MOTORCADE_SHARED_BLOBS";
    Err(Error::Unusable { detail: detail.into() })
}

const BLOBS: &str = "blobs";
const SHARED: &str = "in a folder";
const FILE: &str = "installation-id";
const NAME: &str = "id";
