//! Which installation a catalog in a database, or a bucket, belongs to: its id is in both, that and
//! the state directory, and where they differ nothing is touched. So it is in a folder of blobs that
//! several servers have in common.

use std::fmt;
use std::fs;
use std::path::Path;

use super::Error;
use super::random::random_hex;
use super::server_id::{ID_BYTES, is_id, write};
use crate::catalog::{Catalog, Mark, Whereabouts};
use crate::model::DatabaseUrl;

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

/// Refuses a database that isn't the one in which the catalog was used last: a dump was restored,
/// and vehicles have seen later versions than it knows.
///
/// # Errors
///
/// [`Error::Conflict`]; [`Error::Corrupt`]; [`Error::Internal`].
pub(super) async fn refuse_restored(state: &Path, catalog: &Catalog) -> Result<(), Error> {
    let Some(here) = catalog.whereabouts().await? else { return Ok(()) };
    let Some(known) = catalog.find_installed(PLACE).await? else {
        catalog.insert_installed(PLACE, &here.to_string()).await?;
        return Ok(catalog.insert_mark().await?);
    };
    let known = known.parse::<Whereabouts>().map_err(|fault| Error::Corrupt {
        detail: format!("where the catalog was used last can't be read: {fault}"),
    })?;
    let state = state.display();
    match compare(&known, catalog.find_mark().await?, &here) {
        Place::Same => learn(catalog, &known, &here).await,
        Place::Other => {
            let found = match known == here {
                true => format!("this catalog was copied into {here}, where it was used before"),
                false => format!("this catalog was used as {known} last, and is {here}"),
            };
            let detail = format!(
                "{found}: it was restored from a dump, or moved, and vehicles may have seen later \
                 versions than it knows: run `motorcade recover versions --data-dir {state}` once, and then start the server (docs/POSTGRESQL.md, Backup and restore)"
            );
            Err(Error::Conflict { code: "backup_not_recovered", detail })
        }
        Place::Untold => {
            let detail = format!(
                "this catalog was used as {known} last, and which server this is can't be told, since its user may not ask: \
                 have an administrator run `{}` in this database, and start the server; or, if the database was restored from \
                 a dump, or moved, run `motorcade recover versions --data-dir {state}` (docs/POSTGRESQL.md, Backup and restore)",
                catalog.missing_grant().await?
            );
            Err(Error::Conflict { code: "database_untold", detail })
        }
    }
}

/// Whether a catalog is where it was used last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Same,
    Other,
    /// It may be either.
    Untold,
}

/// A mark says it by itself, since no copy has it; both servers do so where both are known. A version
/// before has left no mark.
fn compare(known: &Whereabouts, mark: Mark, here: &Whereabouts) -> Place {
    let is_other_server =
        matches!((&known.server, &here.server), (Some(known), Some(here)) if known != here);
    if known.database != here.database || is_other_server {
        return Place::Other;
    }
    match (mark, &known.server, &here.server) {
        (Mark::Own, _, _) | (Mark::Missing, Some(_), Some(_)) | (Mark::Missing, None, None) => {
            Place::Same
        }
        (Mark::Missing, Some(_), None) => Place::Untold,
        (Mark::Copied, _, _) | (Mark::Missing, None, Some(_)) => Place::Other,
    }
}

/// Notes what was not known before.
async fn learn(catalog: &Catalog, known: &Whereabouts, here: &Whereabouts) -> Result<(), Error> {
    if known.server.is_none() && here.server.is_some() {
        catalog.replace_installed(PLACE, &here.to_string()).await?;
    }
    Ok(catalog.insert_mark().await?)
}

/// Makes the database the one in which the catalog is used, since its versions were taken care of.
///
/// # Errors
///
/// [`Error::Full`]; [`Error::Internal`].
pub(super) async fn settle(catalog: &Catalog) -> Result<(), Error> {
    let Some(here) = catalog.whereabouts().await? else { return Ok(()) };
    catalog.replace_installed(PLACE, &here.to_string()).await?;
    Ok(catalog.replace_mark().await?)
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
/// Which database it is, as the server that it is on says.
const PLACE: &str = "place";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_told_from_a_database_that_says_less_or_more_of_itself() {
        let at = |text: &str| text.parse::<Whereabouts>().unwrap();
        let places = ["database 1", "database 1 of 7", "database 1 of 8", "database 2"].map(at);
        let [untold, told, elsewhere, other] = &places;
        use Mark::{Copied, Missing, Own};
        use Place::{Other, Same, Untold};
        for (known, mark, here, expected) in [
            (told, Own, told, Same),
            (told, Own, untold, Same),       // the privilege was taken away
            (untold, Own, told, Same),       // and given
            (untold, Own, untold, Same),     // or is never given
            (untold, Copied, untold, Other), // the first database of another server has the same number
            (told, Copied, untold, Other),
            (told, Copied, told, Other), // restored in its own place
            (told, Own, elsewhere, Other),
            (untold, Own, other, Other),
            (told, Missing, told, Same),
            (untold, Missing, untold, Same),
            (told, Missing, untold, Untold),
            (untold, Missing, told, Other),
        ] {
            assert_eq!(compare(known, mark, here), expected, "{known}, {mark:?}, {here}");
        }
    }
}
