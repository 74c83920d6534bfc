//! How a state directory is made, and how a server opens it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::audit;
use super::director::DirectorRoots;
use super::footing::{self, Room, StateLock};
use super::principal::local_author;
use super::publish::{Publisher, PublisherTask};
use super::replicas::Replica;
use super::replicas::keys::{KeyReload, KeyReloadParts, cosigners};
use super::replicas::presence::Presence;
use super::server_id::{server_id, server_record};
use super::signing::Signing;
pub use super::state_dir::StateDir;
use super::state_dir::is_published;
use super::{App, Error, Limits, Parts, backup, ballast, trust, whereabouts};
use crate::blob::{self, BlobKey, BlobStore};
use crate::catalog::{BlobsOf, Catalog};
use crate::keys;
use crate::keys::file::{self, FileEscrow};
use crate::keys::policy::Policy;
use crate::model::{Clock, MAX_ROOT_BYTES, RepositorySide, RoleName, Sha256Digest, Timestamp};
use crate::telemetry::Metrics;
use crate::uptane::image_repo::ImageRepository;
use crate::uptane::root;

/// An open state directory, and the task that publishes from it.
pub struct Opened {
    /// The use cases.
    pub app: Arc<App>,
    /// Has to be run for anything to be published.
    pub publisher_task: PublisherTask,
    /// Keeps other servers off the directory for as long as it lives.
    pub lock: StateLock,
}

impl StateDir {
    /// Makes the directory: keys, policy, catalog, and a first, empty publication. What is there
    /// already stays, so that an `init` that was cut off can be repeated.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if it is complete already, or a server runs on it; [`Error::Full`];
    /// [`Error::Internal`].
    pub async fn init(&self, clock: Arc<dyn Clock>) -> Result<(), Error> {
        footing::refuse_root_in_foreign(self.path())?;
        self.refuse_blobs_without_database()?;
        self.refuse_published().await?;
        let is_new = !self.path().exists();
        let made = self.make(clock).await;
        let is_taken = matches!(made, Err(Error::Conflict { .. }));
        let is_alone = !self.has_database() && self.bucket().is_none();
        if made.is_err() && is_new && !is_taken && is_alone {
            let _ = fs::remove_dir_all(self.path()); // nothing was there before, and nothing in it has been used
        }
        made
    }

    async fn make(&self, clock: Arc<dyn Clock>) -> Result<(), Error> {
        self.create_directories().map_err(Error::internal("create the state directory"))?;
        let _lock = self.lock()?;
        let policy_file = self.policy_file();
        if !policy_file.exists() {
            write_policy(&policy_file).map_err(Error::internal("write the metadata policy"))?;
        }
        let policy = self.policy()?;
        file::create(&self.keys(), &policy).map_err(Error::internal("make the role keys"))?;
        FileEscrow::create(&self.escrow_file()).map_err(Error::internal("make the escrow key"))?;
        self.publish_first(clock).await
    }

    /// Opens the directory for a server.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it isn't initialized, [`Error::Conflict`] if another server runs on
    /// it, [`Error::Internal`].
    pub async fn open(
        &self,
        limits: Limits,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Result<Opened, Error> {
        if !self.is_made() {
            return Err(self.not_initialized());
        }
        self.refuse_blobs_without_database()?;
        footing::refuse_root_in_foreign(self.path())?; // before anything is written
        backup::refuse_unrecovered(self.path())?;
        let lock = self.lock()?;
        let blobs = self.blobs().await?;
        if footing::check(self.path(), self.blob_folders(), &self.catalog_file())? == Room::Gone
            && !self.is_shared()
        {
            // The catalog can't be opened without some space, and these uploads have ended with
            // their process.
            let files = blobs.sweep().await?;
            tracing::warn!(
                files,
                "removed what unfinished uploads had left, since no space was left"
            );
            if footing::check(self.path(), self.blob_folders(), &self.catalog_file())? == Room::Gone
                && ballast::give_up(self.path())
            {
                tracing::warn!("gave up the ballast, since no space was left to start with");
            }
        }
        ballast::keep(self.path());
        self.refuse_empty_catalog()?;
        self.refuse_unpublished().await?;
        let catalog = self.own_catalog(clock.now()).await?;
        if !is_published(&catalog).await? {
            return Err(self.not_initialized());
        }
        whereabouts::refuse_restored(self.path(), &catalog).await?;
        let server_id = server_id(self.path())?;
        let presence = self.enter(&catalog, &server_id, &clock).await?;
        self.claim_blobs(blobs.as_ref()).await?;
        self.ensure_director_keys(&catalog).await?;
        let cosigners = cosigners(&catalog.list_handovers().await?);
        let signing = Arc::new(Signing::new(Arc::clone(&metrics)));
        let (repository, director) = self.served_repositories(&signing, cosigners).await?;
        catalog.ensure_roles(&role_names(&repository)).await?;
        let escrow = self.escrow()?;
        let (keyring, policy) = (repository.keyring(), repository.policy());
        trust::check_keys(&catalog, &blobs, &keyring, policy, &escrow).await?;
        let author = local_author(clock.now());
        if let Some(wanted) = trust::settle_wrapping(&catalog, &escrow, &author).await? {
            tracing::error!("{}", Error::other_escrow_key(&wanted, None));
        }
        keys::remember(&self.keys(), &keyring);
        self.note_loaded(&catalog, &repository, clock.now()).await?;
        let (publisher, publisher_task) = Publisher::new(
            catalog.clone(),
            Arc::clone(&blobs),
            repository,
            Arc::clone(&clock),
            Arc::clone(&metrics),
        );
        if let Some(presence) = &presence {
            publisher.ask(Arc::clone(presence));
        }
        let keys = Arc::new(KeyReload::new(KeyReloadParts {
            state: self.clone(),
            catalog: catalog.clone(),
            signing: Arc::clone(&signing),
            keyring: director.shared_keyring().clone(),
        }));
        let replica = self.is_shared().then(|| {
            let (keys, clock) = (Arc::clone(&keys), Arc::clone(&clock));
            Arc::new(Replica::new(catalog.clone(), server_id.clone(), clock, keys))
        });
        if let Some(replica) = &replica {
            catalog.release_leases(&server_id).await?; // of a process before this one
            publisher.join(Arc::clone(replica));
        }
        let app = App::new(Parts {
            catalog,
            blobs,
            escrow,
            publisher,
            director,
            signing,
            clock,
            metrics,
            limits,
            runtime,
            state: self.clone(),
            server_id,
            keys,
            presence,
            replica,
        });
        Ok(Opened { app: Arc::new(app), publisher_task, lock })
    }

    /// Shows the other servers of a database that this one is there. A catalog in a file is locked with
    /// its directory.
    async fn enter(
        &self,
        catalog: &Catalog,
        server_id: &str,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Arc<Presence>>, Error> {
        if !self.has_database() {
            return Ok(None);
        }
        let blobs = if self.is_shared() { BlobsOf::All } else { BlobsOf::One };
        let server = server_record(self.path(), server_id, blobs)?;
        let entered = Presence::enter(catalog.clone(), server, Arc::clone(clock)).await?;
        Ok(Some(Arc::new(entered)))
    }

    /// A state directory of a version without a Director has no keys for one yet.
    async fn ensure_director_keys(&self, catalog: &Catalog) -> Result<(), Error> {
        if catalog.find_director_root(None).await?.is_none() {
            file::create_side(&self.keys(), &self.policy()?, RepositorySide::Director)
                .map_err(Error::internal("make the Director's keys"))?;
        }
        Ok(())
    }

    async fn publish_first(&self, clock: Arc<dyn Clock>) -> Result<(), Error> {
        let catalog = self.own_catalog(clock.now()).await?;
        if is_published(&catalog).await? {
            return Err(self.already_initialized()); // by a version before this one
        }
        let blobs = self.blobs().await?;
        self.claim_blobs(blobs.as_ref()).await?;
        let (repository, director) = self.repositories().await?;
        catalog.ensure_roles(&role_names(&repository)).await?;
        let root = publish_first_root(&catalog, blobs.as_ref(), &repository, clock.now()).await?;
        if self.bucket().is_some() {
            fs::write(self.trust_anchor(), &root)
                .map_err(Error::internal("write the trust anchor"))?;
        }
        let escrow = self.escrow()?;
        let (keyring, policy) = (repository.keyring(), repository.policy());
        trust::check_keys(&catalog, &blobs, &keyring, policy, &escrow).await?;
        keys::remember(&self.keys(), &keyring);
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
        DirectorRoots::new(catalog.clone(), director, Arc::clone(&metrics))
            .keep_fresh(clock.now())
            .await?;
        self.note_loaded(&catalog, &repository, clock.now()).await?;
        let (publisher, task) = Publisher::new(catalog.clone(), blobs, repository, clock, metrics);
        let running = tokio::spawn(task.run(std::time::Duration::from_secs(60)));
        publisher.publish().await?;
        drop(publisher);
        running.await.map_err(Error::internal("publish"))?;
        catalog.close().await;
        Ok(())
    }

    /// Writes down in the audit log which keys and which policy are used from now on.
    async fn note_loaded(
        &self,
        catalog: &Catalog,
        repository: &ImageRepository,
        now: Timestamp,
    ) -> Result<(), Error> {
        let text = fs::read(self.policy_file()).map_err(Error::internal("read the policy"))?;
        let (keyring, policy) = (repository.keyring(), repository.policy());
        audit::note_loaded(catalog, &keyring, policy, &text, &local_author(now)).await
    }

    /// Refuses to make what is there. A server may be running on it.
    async fn refuse_published(&self) -> Result<(), Error> {
        self.refuse_empty_catalog()?;
        self.refuse_taken_bucket().await?;
        // One that can't be opened is looked at again once the directory is locked.
        let found = match self.find_catalog().await {
            // Nothing is made if the database can't be used.
            Err(error) if self.has_database() => return Err(error),
            found => found,
        };
        if let Ok(Some(catalog)) = found {
            let is_published = is_published(&catalog).await;
            catalog.close().await;
            if is_published? {
                return Err(self.already_initialized());
            }
        }
        self.refuse_other_catalog().await
    }

    /// Two servers could use the folder with two catalogs.
    fn refuse_blobs_without_database(&self) -> Result<(), Error> {
        if self.is_shared() || self.blob_dir() == self.path() {
            return Ok(());
        }
        let detail = "blobs outside of the state directory are for servers that share a database: add `--catalog`, or \
                      leave out `--shared-blobs`";
        Err(Error::Unusable { detail: detail.into() })
    }

    fn create_directories(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(self.path())?;
        for (name, mode) in [("keys", 0o700), ("metadata", 0o755)] {
            match fs::DirBuilder::new().mode(mode).create(self.path().join(name)) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

/// There whole, or not at all.
fn write_policy(path: &Path) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(Policy::DEFAULT.as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

fn role_names(repository: &ImageRepository) -> Vec<RoleName> {
    let top_level = [RoleName::Targets, RoleName::Snapshot, RoleName::Timestamp];
    top_level.into_iter().chain(repository.bins().names()).collect()
}

/// Version 1 of the root. Its file is stored before it is recorded: if an `init` was cut off in
/// between, the stored file is version 1, and this one is dropped. Returns what is stored.
async fn publish_first_root(
    catalog: &Catalog,
    blobs: &dyn BlobStore,
    repository: &ImageRepository,
    now: Timestamp,
) -> Result<Bytes, Error> {
    let key = BlobKey::Metadata { version: 1, role: RoleName::Root };
    let file =
        root::first(RepositorySide::Image, &repository.keyring(), repository.policy(), now).await;
    let file = file.map_err(Error::internal("sign the first root"))?;
    let bytes = match blobs.open(&key).await {
        Ok(stored) => {
            stored.read_all(MAX_ROOT_BYTES).await.map_err(Error::internal("read the first root"))?
        }
        Err(blob::Error::NotFound(_)) => {
            blobs.put(&key, file.bytes.clone()).await?;
            file.bytes
        }
        Err(error) => return Err(error.into()),
    };
    let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
    let author = local_author(now);
    catalog.insert_first_root(bytes.len() as u64, sha256, file.expires_at, &author).await?;
    Ok(bytes)
}
