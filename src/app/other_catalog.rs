//! A database that is not the one that has the catalog of a state directory. What would make a second
//! one of it is refused before anything is written: two catalogs hand out the same versions, and one
//! that was only begun keeps `migrate-store` out of the database.

use super::Error;
use super::installation::{self, foreign};
use super::moved::{Record, Thing, refuse_moved};
use super::state_dir::{StateDir, is_published, refuse_unfinished};
use crate::catalog::Catalog;
use crate::model::DatabaseUrl;

impl StateDir {
    /// Refuses a database from which nothing was published, for a server.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the catalog is in a file here, or only a part of it in the database;
    /// [`Error::NotFound`] if there is none; [`Error::Unusable`] if the database can't be used;
    /// [`Error::Internal`].
    pub(super) async fn refuse_unpublished(&self) -> Result<(), Error> {
        let Some(url) = self.database() else { return Ok(()) };
        if has_published(url).await? {
            return Ok(());
        }
        self.refuse_catalog_in_file(url).await?;
        Err(self.not_initialized())
    }

    /// Refuses a database that is not known to have the catalog of what is here: nothing was published
    /// from it, or it is another installation's.
    ///
    /// # Errors
    ///
    /// As [`Self::refuse_unpublished`]; [`Error::Unusable`] if it is another's.
    pub(super) async fn refuse_foreign_catalog(&self) -> Result<(), Error> {
        let Some(url) = self.database() else { return Ok(()) };
        self.refuse_unpublished().await?;
        let Some(catalog) = Catalog::look_at_postgres(url).await? else { return Ok(()) };
        let theirs = installation::id_in(&catalog).await;
        catalog.close().await;
        match (theirs?, installation::own_id(self.path())) {
            (Some(theirs), Some(own)) if theirs == own => Ok(()),
            (Some(theirs), Some(own)) => {
                Err(foreign(url, "the catalog", self.path(), (&theirs, &own)))
            }
            // It was moved there, and not used since.
            _ if Record::find(self.path(), Thing::Catalog)?
                .is_some_and(|moved| moved.to == url.to_string()) =>
            {
                Ok(())
            }
            _ => {
                self.refuse_catalog_in_file(url).await?;
                let path = self.path().display();
                let detail = format!(
                    "nothing says that {url} has the catalog of {path}: run `motorcade fsck --data-dir {path}` with it first"
                );
                Err(Error::Unusable { detail })
            }
        }
    }

    /// Refuses to begin a catalog in a database where nothing was published, if there is one of what
    /// is here already.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if it is in a file here; [`Error::Unusable`] if it is missing;
    /// [`Error::Internal`].
    pub(super) async fn refuse_other_catalog(&self) -> Result<(), Error> {
        let Some(url) = self.database() else { return Ok(()) };
        self.refuse_catalog_in_file(url).await?;
        let repository = self.blob_dir().join("repo");
        if self.bucket().is_some() || !repository.join("timestamp.json").exists() {
            return Ok(());
        }
        let detail = format!(
            "{} holds a published repository, and {url} no catalog of it: name the database that has it, or restore that one \
             from a backup",
            repository.display()
        );
        Err(Error::Unusable { detail })
    }

    async fn refuse_catalog_in_file(&self, url: &DatabaseUrl) -> Result<(), Error> {
        let (file, path) = (self.catalog_file(), self.path().display());
        if !file.exists() {
            return Ok(());
        }
        match Record::find(self.path(), Thing::Catalog)? {
            Some(Record { to, ended_at: Some(at), .. }) if to == url.to_string() => {
                let detail = format!(
                    "the catalog of {path} was moved to {to} at {at}, and nothing of it is there any more: restore that \
                     database from a backup"
                );
                return Err(Error::Conflict { code: "catalog_moved", detail });
            }
            Some(_) => return refuse_moved(self.path()),
            None => {}
        }
        // One that can't be opened may be anything.
        if let Ok(catalog) = Catalog::open_sqlite(&file).await {
            let is_published = is_published(&catalog).await;
            catalog.close().await;
            if !is_published? {
                return Ok(()); // an `init` without the database was cut off
            }
        }
        let detail = format!(
            "the catalog of {path} is {}, and {url} has none; nothing was changed: leave the database's URL out to go on with \
             the file, or take the catalog there with `motorcade migrate-store --data-dir {path}`, with the server stopped \
             (docs/POSTGRESQL.md)",
            file.display()
        );
        Err(Error::Conflict { code: "catalog_in_file", detail })
    }
}

/// Whether anything was published from the catalog in a database.
async fn has_published(url: &DatabaseUrl) -> Result<bool, Error> {
    let Some(catalog) = Catalog::look_at_postgres(url).await? else { return Ok(false) };
    let unfinished = refuse_unfinished(&catalog, url).await;
    let has_published = catalog.has_published().await;
    catalog.close().await;
    unfinished?;
    Ok(has_published?)
}
