//! Whether a catalog in a database is where it was used last, or was restored from a dump since:
//! vehicles have seen later versions than a copy knows.

use std::path::Path;

use super::Error;
use crate::catalog::{Catalog, Mark, Whereabouts};

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
    match compare(&known, catalog.find_mark().await?, &here) {
        Place::Same => learn(catalog, &known, &here).await,
        Place::Other => Err(restored(state, &known, &here)),
        Place::Untold => Err(untold(state, &known, &here, &catalog.missing_grant().await?)),
    }
}

fn restored(state: &Path, known: &Whereabouts, here: &Whereabouts) -> Error {
    let (found, or) = match known == here {
        true => (
            format!("this catalog was written again in {here}, where it was used before"),
            "or its tables were rewritten, as pg_repack does",
        ),
        false => (format!("this catalog was used as {known} last, and is {here}"), "or moved"),
    };
    let detail = format!(
        "{found}: it was restored from a dump, {or}, and vehicles may have seen later versions than it knows: run \
         `motorcade recover versions --data-dir {}` once, and then start the server (docs/POSTGRESQL.md, Backup and restore)",
        state.display()
    );
    Error::Conflict { code: "backup_not_recovered", detail }
}

fn untold(state: &Path, known: &Whereabouts, here: &Whereabouts, grant: &str) -> Error {
    let detail = format!(
        "this catalog was used as {known} last, and is {here}: which server that is on can't be told, since the catalog's user \
         may not ask: have an administrator run `{grant}` in this database, and start the server; or, if the database was \
         restored from a dump, or moved, run `motorcade recover versions --data-dir {}` (docs/POSTGRESQL.md, Backup and restore)",
        state.display()
    );
    Error::Conflict { code: "database_untold", detail }
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

/// The name in the table `installation` of where the catalog was used last, as far as that was told.
const PLACE: &str = "place";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_was_rewritten_is_named_only_where_the_place_is_the_same() {
        let [known, other] =
            ["database 1 of 7", "database 2 of 7"].map(|text| text.parse().unwrap());
        let said = |here| restored(Path::new("state"), &known, here).to_string();
        assert!(said(&known).contains("restored from a dump, or its tables were rewritten"));
        assert!(said(&other).contains("restored from a dump, or moved"));
    }

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
