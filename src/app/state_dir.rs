//! The state directory: what is where in it.
//!
//! ```text
//! motorcade-data/
//!   keys/       role keys, the escrow key, and the secret of TLS session tickets, mode 0600
//!   metadata/   policy.toml
//!   1.root.json if blobs are in a bucket: the trust anchor for vehicles
//!   catalog.sqlite  unless the catalog is in a database
//!   repo/       blobs: a static TUF repository; unless they are in a bucket, or a folder of several servers
//!   staging/    files on their way into repo/
//!   server-id   whose jobs and uploads are this server's
//!   installation-id  which catalog in a database, and which bucket, is this directory's
//!   ballast     room for a start on a full disk
//!   lock        held, as the directory itself, by the one server that runs on it
//!   moving.json if the catalog was moved to a database, or is on its way
//!   moving-blobs.json if the blobs were moved to a bucket, or are on their way
//!   backup.json in a backup alone, until its versions were taken care of
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::footing::{self, StateLock};
use super::installation;
use super::moved;
use super::replicas::presence;
use super::server_id::server_id;
use super::signing::Signing;
use crate::catalog::Catalog;
use crate::keys::policy::Policy;
use crate::keys::{self, Cosigners, EscrowRing, Keyring, RingFile, SharedKeyring};
use crate::model::{Bucket, DatabaseUrl, RoleName, Timestamp};
use crate::uptane::director::DirectorRepository;
use crate::uptane::image_repo::ImageRepository;

/// A state directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    catalog: Option<DatabaseUrl>,
    shared_blobs: Option<PathBuf>,
    bucket: Option<Bucket>,
}

impl StateDir {
    /// Names a state directory, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), catalog: None, shared_blobs: None, bucket: None }
    }

    /// The same with its catalog in a database.
    #[must_use]
    pub fn with_catalog(self, catalog: Option<DatabaseUrl>) -> Self {
        Self { catalog, ..self }
    }

    /// The same with its blobs in a folder that other servers use too.
    #[must_use]
    pub fn with_shared_blobs(self, shared_blobs: Option<PathBuf>) -> Self {
        Self { shared_blobs, ..self }
    }

    /// Whether other servers may have the same catalog and the same blobs.
    pub(super) fn is_shared(&self) -> bool {
        self.has_database() && (self.shared_blobs.is_some() || self.bucket.is_some())
    }

    /// Whether blobs are in a folder that other servers use too.
    pub(super) fn has_shared_folder(&self) -> bool {
        self.shared_blobs.is_some()
    }

    /// The folder with `repo/` and `staging/`.
    pub(super) fn blob_dir(&self) -> &Path {
        self.shared_blobs.as_deref().unwrap_or(&self.path)
    }

    /// The same with its blobs in a bucket.
    #[must_use]
    pub fn with_bucket(self, bucket: Option<Bucket>) -> Self {
        Self { bucket, ..self }
    }

    /// The bucket that its blobs are in, if they are in one.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the catalog alone and as it is, for a command that works beside a running server.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the directory isn't initialized, [`Error::Unusable`],
    /// [`Error::Internal`].
    pub async fn open_catalog(&self) -> Result<Catalog, Error> {
        if !self.is_made() {
            return Err(self.not_initialized());
        }
        self.find_catalog().await?.ok_or_else(|| self.not_initialized())
    }

    /// The same, if there is one.
    pub(super) async fn find_catalog(&self) -> Result<Option<Catalog>, Error> {
        match &self.catalog {
            None if !self.catalog_file().exists() => Ok(None),
            None => {
                moved::refuse_moved(&self.path)?;
                Ok(Some(Catalog::open_sqlite(&self.catalog_file()).await?))
            }
            Some(url) => {
                let found = Catalog::open_postgres(url).await?;
                if let Some(catalog) = &found {
                    refuse_unfinished(catalog, url).await?;
                }
                Ok(found)
            }
        }
    }

    /// Locks the directory and opens its catalog as a server does, for a command that must not run
    /// beside one.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the directory isn't initialized, [`Error::Conflict`] if a server runs
    /// on it, [`Error::Unusable`], [`Error::Internal`].
    pub(super) async fn own(&self, now: Timestamp) -> Result<(StateLock, Catalog), Error> {
        if !self.is_made() {
            return Err(self.not_initialized());
        }
        footing::refuse_root_in_foreign(&self.path)?;
        let lock = self.lock()?;
        self.refuse_empty_catalog()?;
        self.refuse_unpublished().await?;
        let catalog = self.own_catalog(now).await?;
        self.refuse_beside_others(&catalog, now).await?;
        if is_published(&catalog).await? {
            Ok((lock, catalog))
        } else {
            Err(self.not_initialized())
        }
    }

    /// A directory's lock keeps no server off that has another directory.
    pub(super) async fn refuse_beside_others(
        &self,
        catalog: &Catalog,
        now: Timestamp,
    ) -> Result<(), Error> {
        if !self.has_database() {
            return Ok(());
        }
        let others = presence::others(catalog, &server_id(&self.path)?, now).await?;
        if others.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "other servers of this installation run ({}): stop them first; one that was killed seems to run for half a minute",
            others.join(", ")
        );
        Err(Error::Conflict { code: "other_replicas", detail })
    }

    /// Opens the catalog as a server does. **Must be called by the holder of the directory's lock.**
    pub(super) async fn own_catalog(&self, now: Timestamp) -> Result<Catalog, Error> {
        let Some(url) = &self.catalog else {
            moved::refuse_moved(&self.path)?;
            return Ok(Catalog::own_sqlite(&self.catalog_file(), now).await?);
        };
        let catalog = Catalog::own_postgres(url, now).await?;
        refuse_unfinished(&catalog, url).await?;
        installation::claim(&self.path, url, &catalog).await?;
        match &self.shared_blobs {
            Some(blobs) => installation::claim_blobs(blobs, &catalog).await?,
            None if self.bucket.is_some() => {}
            None => installation::refuse_shared_blobs(&catalog).await?,
        }
        Ok(catalog)
    }

    /// Whether there is something that may be an initialized directory.
    pub(super) fn is_made(&self) -> bool {
        match self.catalog {
            None => self.catalog_file().exists(),
            Some(_) => self.policy_file().exists(),
        }
    }

    /// The database that the catalog is in, if it is in one.
    pub(super) fn database(&self) -> Option<&DatabaseUrl> {
        self.catalog.as_ref()
    }

    /// Whether the catalog is in a database.
    pub fn has_database(&self) -> bool {
        self.catalog.is_some()
    }

    /// What signs the Image repository, and what signs for vehicles.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if keys or policy can't be read.
    pub async fn repositories(&self) -> Result<(ImageRepository, DirectorRepository), Error> {
        let policy = self.policy()?;
        let keyring = self.keyring(&policy).await?;
        Ok(repositories_of(keyring, policy))
    }

    /// The same for a server: its keys are measured, and some sign too that the published metadata
    /// does not name.
    pub(super) async fn served_repositories(
        &self,
        signing: &Signing,
        cosigners: Cosigners,
    ) -> Result<(ImageRepository, DirectorRepository), Error> {
        let policy = self.policy()?;
        let keyring = signing.measured(self.keyring(&policy).await?);
        Ok(repositories_of(keyring.cosigned_by(cosigners), policy))
    }

    /// The role keys.
    pub(super) async fn keyring(&self, policy: &Policy) -> Result<Keyring, Error> {
        let loaded = keys::load(&self.keys(), policy).await;
        loaded.map_err(Error::internal("load the role keys"))
    }

    pub(super) fn already_initialized(&self) -> Error {
        let whose = match &self.catalog {
            None => self.path.display().to_string(),
            Some(url) => url.to_string(),
        };
        let detail = format!("{whose} is initialized already; nothing was changed");
        Error::Conflict { code: "already_initialized", detail }
    }

    /// A published repository with no catalog: nothing can be known of its images any more.
    pub(super) fn refuse_empty_catalog(&self) -> Result<(), Error> {
        if self.has_database() {
            return Ok(());
        }
        let catalog = self.catalog_file();
        let is_empty = fs::metadata(&catalog).map_or(true, |metadata| metadata.len() == 0);
        if is_empty && self.path.join("repo/timestamp.json").exists() {
            let (catalog, repo) = (catalog.display(), self.path.join("repo"));
            let detail = format!(
                "{catalog} is missing or empty, and {} holds a published repository: restore the catalog from a backup",
                repo.display()
            );
            return Err(Error::Unusable { detail });
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> Result<StateLock, Error> {
        StateLock::acquire(&self.path)
    }

    /// The policy as it is in its file now.
    pub(super) fn policy(&self) -> Result<Policy, Error> {
        let text = fs::read_to_string(self.policy_file())
            .map_err(Error::internal("read metadata/policy.toml"))?;
        Policy::parse(&text).map_err(Error::internal("use metadata/policy.toml"))
    }

    /// The escrow keys.
    pub(super) fn escrow(&self) -> Result<Arc<EscrowRing>, Error> {
        let keys = RingFile::read(&self.keys()).and_then(|ring| ring.open(&self.keys()));
        Ok(Arc::new(EscrowRing::new(keys.map_err(Error::internal("read the escrow keys"))?)))
    }

    pub(super) fn not_initialized(&self) -> Error {
        let path = self.path.display();
        let detail = match &self.catalog {
            None => format!("{path} is not initialized: run `motorcade init --data-dir {path}`"),
            Some(url) => format!(
                "{path} with its catalog in {url} is not initialized: run `motorcade init --data-dir {path}` with the \
                 same catalog"
            ),
        };
        Error::NotFound { code: "not_initialized", detail }
    }

    /// Where the secret is from which the keys of TLS session tickets follow.
    pub fn ticket_file(&self) -> PathBuf {
        self.keys().join(TICKET_FILE)
    }

    /// The first root of the Image repository, which vehicles get at the factory.
    pub fn trust_anchor(&self) -> PathBuf {
        match self.bucket {
            None => self.blob_dir().join("repo/1.root.json"),
            Some(_) => self.path.join("1.root.json"),
        }
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    pub(super) fn escrow_file(&self) -> PathBuf {
        self.keys().join("escrow.jwk")
    }

    pub(super) fn policy_file(&self) -> PathBuf {
        self.path.join("metadata/policy.toml")
    }

    pub(super) fn catalog_file(&self) -> PathBuf {
        self.path.join("catalog.sqlite")
    }
}

fn repositories_of(keyring: Keyring, policy: Policy) -> (ImageRepository, DirectorRepository) {
    let keyring = SharedKeyring::from(Arc::new(keyring));
    let image = ImageRepository::new(keyring.clone(), policy.clone());
    (image, DirectorRepository::new(keyring, policy))
}

/// A database to which a catalog is still on its way has a part of it.
pub(super) async fn refuse_unfinished(catalog: &Catalog, url: &DatabaseUrl) -> Result<(), Error> {
    match catalog.find_moving().await? {
        Some(_) => Err(moved::refuse_unfinished(url)),
        None => Ok(()),
    }
}

/// The timestamp is the last thing that `init` makes.
pub(super) async fn is_published(catalog: &Catalog) -> Result<bool, Error> {
    Ok(catalog.find_role(&RoleName::Timestamp).await?.is_some_and(|state| state.version > 0))
}

/// Below `keys/`, made anew by each server that lacks it.
pub(super) const TICKET_FILE: &str = "session-tickets.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trust_anchor_is_where_the_blobs_are() {
        let state = StateDir::new("state");
        assert_eq!(state.trust_anchor(), Path::new("state/repo/1.root.json"));
        let shared = state.with_shared_blobs(Some("blobs".into()));
        assert_eq!(shared.trust_anchor(), Path::new("blobs/repo/1.root.json"));
    }
}
