//! The Director's root: made by `init`, or when a server of this version first opens an older state
//! directory, and signed again at half its life if its keys are here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};

use crate::app::Error;
use crate::app::signing::signing_failed;
use crate::app::trust::{authority, trusted_root};
use crate::catalog::{self, Author, Catalog, DirectorRoot};
use crate::model::{RepositorySide, RoleKind, RoleName, Sha256Digest, Timestamp};
use crate::telemetry::{Chain, Metrics};
use crate::uptane::director::{BundleAuthority, DirectorRepository};
use crate::uptane::metadata::SignedFile;
use crate::uptane::root;
use crate::uptane::verify::TrustedSet;

/// Keeps the Director's root chain.
pub(in crate::app) struct DirectorRoots {
    catalog: Catalog,
    repository: DirectorRepository,
    metrics: Arc<Metrics>,
    newest: RwLock<Option<Arc<NewestRoot>>>,
    /// Those before it that vehicles may go by that began a cycle before it was published.
    former: RwLock<VecDeque<Arc<NewestRoot>>>,
    is_failing: AtomicBool,
}

/// The newest root, ready to verify with.
pub(super) struct NewestRoot {
    pub(super) sha256: Sha256Digest,
    pub(super) set: TrustedSet,
    /// Who may sign for vehicles.
    pub(super) authority: BundleAuthority,
}

impl DirectorRoots {
    pub(in crate::app) fn new(
        catalog: Catalog,
        repository: DirectorRepository,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            catalog,
            repository,
            metrics,
            newest: RwLock::new(None),
            former: RwLock::default(),
            is_failing: AtomicBool::new(false),
        }
    }

    /// A version of the root, or the newest.
    pub(in crate::app) async fn find(
        &self,
        version: Option<u64>,
    ) -> Result<Option<DirectorRoot>, Error> {
        Ok(self.catalog.find_director_root(version).await?)
    }

    /// The newest root, with which vehicles verify what is signed for them.
    pub(super) fn newest(&self) -> Result<Arc<NewestRoot>, Error> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner).clone();
        newest.ok_or_else(|| {
            Error::internal("verify a vehicle's metadata")(std::io::Error::other(
                "there is no root yet",
            ))
        })
    }

    /// The roots before it that this process has gone by, the newest first.
    pub(super) fn former(&self) -> Vec<Arc<NewestRoot>> {
        self.former.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Keeps the root fresh, if the time is known. What goes wrong is logged and makes
    /// [`Self::is_failing`] say so; it holds nothing else back, neither a start nor the other
    /// repository.
    pub(in crate::app) async fn look_after(&self, now: Result<Timestamp, Error>) {
        let kept = match now {
            Ok(now) => self.keep_fresh(now).await,
            Err(_) => self.load().await, // the publisher says what is wrong with the clock
        };
        self.is_failing.store(kept.is_err(), Ordering::Relaxed);
        if let Err(error) = kept {
            tracing::error!(error = %Chain(&error), "failed to renew the Director's root; will try again");
        }
    }

    /// Whether the root is due, and could not be signed the last time.
    pub(in crate::app) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Makes the first version if there is none, and the next one if the newest is past half its
    /// life, or expires too late.
    pub(in crate::app) async fn keep_fresh(&self, now: Timestamp) -> Result<(), Error> {
        let newest = match self.catalog.find_director_root(None).await? {
            Some(newest) => newest,
            None => {
                let signed = root::first(
                    RepositorySide::Director,
                    &self.repository.keyring(),
                    self.repository.policy(),
                    now,
                )
                .await;
                self.add(signed.map_err(signing_failed("sign the Director's first root"))?, now)
                    .await?
            }
        };
        self.go_by(&newest)?; // also if the next one can't be signed
        if !self.is_due(&newest, now) {
            return Ok(()); // or nobody here can
        }
        let (keyring, policy) = (self.repository.keyring(), self.repository.policy());
        let version = newest.version + 1;
        let signed =
            root::renewed(RepositorySide::Director, &newest.body, version, &keyring, policy, now)
                .await;
        // Checked as a vehicle does, before it is anybody's.
        let signed =
            signed.and_then(|next| Ok(root::check_successor(&newest.body, next.bytes, now)?));
        let newest =
            self.add(signed.map_err(signing_failed("sign the Director's root"))?, now).await?;
        self.go_by(&newest)
    }

    /// Publishes the next version, which people have signed and the caller has checked; it was
    /// staged as `staging`.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if it isn't the next version any more; [`Error::Full`];
    /// [`Error::Internal`].
    pub(in crate::app) async fn publish(
        &self,
        file: &SignedFile,
        staging: u64,
        author: &Author,
    ) -> Result<(), Error> {
        let root = as_stored(file);
        match self.catalog.publish_director_root(&root, staging, author).await {
            Err(catalog::Error::Overtaken) => {
                let detail = format!(
                    "what was staged as root {} is not staged any more, or another one was published meanwhile: look at \
                     `motorcade root status --repository director`",
                    root.version
                );
                return Err(Error::Conflict { code: "staging_outdated", detail });
            }
            published => published?,
        }
        tracing::info!(version = root.version, expires_at = %root.expires_at, "the Director's root published");
        self.go_by(&root)
    }

    /// Goes by the newest root of the catalog.
    pub(super) async fn load(&self) -> Result<(), Error> {
        match self.catalog.find_director_root(None).await? {
            Some(newest) => self.go_by(&newest),
            None => Ok(()),
        }
    }

    /// Verifies with this root from now on.
    fn go_by(&self, newest: &DirectorRoot) -> Result<(), Error> {
        let set =
            trusted_root(&newest.body).map_err(Error::internal("verify the Director's root"))?;
        let sha256 = Sha256Digest::from_bytes(Sha256::digest(&newest.body).into());
        let authority = BundleAuthority {
            targets: authority(&set, &RoleName::Targets)?,
            snapshot: authority(&set, &RoleName::Snapshot)?,
            timestamp: authority(&set, &RoleName::Timestamp)?,
        };
        let mut known = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| known.set.root_version() > newest.version) {
            return Ok(()); // somebody else has read a newer one meanwhile
        }
        let former = known.replace(Arc::new(NewestRoot { sha256, authority, set }));
        drop(known);
        if let Some(former) = former.filter(|former| former.set.root_version() < newest.version) {
            let mut roots = self.former.write().unwrap_or_else(PoisonError::into_inner);
            roots.push_front(former);
            roots.truncate(FORMER);
        }
        self.metrics.set_metadata(
            RepositorySide::Director,
            RoleKind::Root,
            newest.version,
            newest.expires_at.into(),
        );
        Ok(())
    }

    fn is_due(&self, newest: &DirectorRoot, now: Timestamp) -> bool {
        let policy = self.repository.policy().director.root;
        policy.is_due(newest.expires_at, now)
            && root::can_renew(&self.repository.keyring(), &newest.body)
    }

    async fn add(&self, file: SignedFile, now: Timestamp) -> Result<DirectorRoot, Error> {
        let root = as_stored(&file);
        self.catalog.insert_director_root(&root, &Author::server(now)).await?;
        // Somebody else may have been first: what is in the catalog counts.
        Ok(self.catalog.find_director_root(Some(root.version)).await?.unwrap_or(root))
    }
}

/// More than are published within a vehicle's cycle.
const FORMER: usize = 8;

fn as_stored(file: &SignedFile) -> DirectorRoot {
    let (version, body, expires_at) = (file.version, file.bytes.to_vec(), file.expires_at);
    DirectorRoot { version, body, expires_at }
}
