//! Suppliers: who signs for a folder of the Image repository with keys of its own (Uptane 2.1.0,
//! 5.2.3.2).
//!
//! A supplier's role is one that the top-level targets delegate to, before the bins. Its keys are
//! in the server's pool and serve nothing else, or they are with the supplier. What it lists is
//! decided as an image comes in (`images/ingest/lister.rs`), and published like a bin; or once the
//! supplier has signed it ([`super::owners`]).

mod own_keys;
mod refusal;

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Mutex;

use super::Error;
use super::access::Principal;
use super::ceremony::Ceremony;
use super::handover::Handovers;
use super::images::Images;
use super::publish::Publisher;
use super::state_dir::StateDir;
use crate::catalog::{Author, Catalog, RemovedSupplier};
use crate::keys::file::{self, FileSigner};
use crate::keys::policy::Policy;
use crate::keys::{self, Signer};
use crate::model::{Clock, Folder, HardwareId, RoleName, SupplierName, SupplierRecord};
use crate::uptane::key::{PublicKey, Scheme};
pub use own_keys::OwnKeys;
use refusal::{check_keys, conflict, keys_elsewhere, no_supplier, targets_offline};

/// A supplier that is about to be added.
#[derive(Debug, Clone)]
pub struct NewSupplier {
    /// Its name.
    pub name: SupplierName,
    /// Whose images it speaks for; the folder of its name without it.
    pub folder: Option<Folder>,
    /// The hardware that it speaks for; any, if none is named.
    pub hardware_ids: Vec<HardwareId>,
    /// How many of its keys have to sign; as the policy says without it.
    pub threshold: Option<u8>,
    /// How many keys are made; as the policy says without it, and the threshold at least.
    pub keys: Option<u8>,
    /// Public keys, PEM or key objects, of which the private halves stay with the supplier: then
    /// none are made.
    pub public_keys: Vec<String>,
    /// Whether nobody else is asked for what lies in the folder.
    pub terminating: bool,
}

/// The suppliers.
pub struct Suppliers {
    catalog: Catalog,
    publisher: Publisher,
    images: Arc<Images>,
    ceremony: Arc<Ceremony>,
    handovers: Arc<Handovers>,
    state: StateDir,
    clock: Arc<dyn Clock>,
    /// Keys are made for one supplier at a time.
    turn: Mutex<()>,
}

/// What [`Suppliers`] is made of.
pub(super) struct Parts {
    pub(super) catalog: Catalog,
    pub(super) publisher: Publisher,
    pub(super) images: Arc<Images>,
    pub(super) ceremony: Arc<Ceremony>,
    pub(super) handovers: Arc<Handovers>,
    pub(super) state: StateDir,
    pub(super) clock: Arc<dyn Clock>,
}

impl Suppliers {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { catalog, publisher, images, ceremony, handovers, state, clock } = parts;
        let turn = Mutex::new(());
        Self { catalog, publisher, images, ceremony, handovers, state, clock, turn }
    }

    /// Adds a supplier: makes its keys, and publishes the delegation to it with its first file; or
    /// takes its public keys, and leaves both to its first signature.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the name was used, the folder is another's, or others list images in
    /// a folder that the supplier alone is to speak for; [`Error::Unprocessable`] for a threshold
    /// that can't be met, or a key that is none; [`Error::Refused`] for keys that have another use;
    /// [`Error::Full`] or [`Error::Internal`], also if it could not be published yet; it will be.
    pub async fn add(&self, new: NewSupplier, by: &Principal) -> Result<SupplierRecord, Error> {
        let _turn = self.turn.lock().await;
        let policy = self.publisher.policy().suppliers;
        let threshold = new.threshold.unwrap_or(policy.threshold);
        let offline = !new.public_keys.is_empty();
        let count = match offline {
            true => self.count_own_keys(&new)?,
            false => new.keys.unwrap_or_else(|| policy.keys().max(threshold)),
        };
        check_keys(threshold, count)?;
        let own = match offline {
            true => self.read_own_keys(&new.public_keys, threshold, None).await?,
            false => Vec::new(),
        };
        let mut supplier = SupplierRecord {
            folder: new.folder.unwrap_or_else(|| new.name.folder()),
            name: new.name,
            hardware_ids: new.hardware_ids,
            keys: own.iter().map(|key| key.object().clone()).collect(),
            offline,
            threshold,
            terminating: new.terminating,
            created_at: self.clock.now(),
            created_by: by.id.clone(),
        };
        supplier.hardware_ids.sort();
        supplier.hardware_ids.dedup();
        if let Some(found) = self.catalog.find_supplier_conflict(&supplier).await? {
            return Err(conflict(&supplier, found));
        }
        let keys = match offline {
            true => Vec::new(),
            false => self.make_keys(supplier.role(), count).await?,
        };
        supplier.keys.extend(keys.iter().map(|key| key.public().object().clone()));
        let author = by.author(supplier.created_at);
        self.handovers.reload().await?; // before the publisher can ask for them
        if let Err(found) = self.catalog.insert_supplier(&supplier, &author).await? {
            self.handovers.remove(keys.iter(), &author).await?;
            return Err(conflict(&supplier, found));
        }
        tracing::info!(supplier = %supplier.name, folder = %supplier.folder, offline, "supplier added");
        self.publisher.publish().await?;
        Ok(supplier)
    }

    /// The suppliers that a caller may see: all of them, or the one whose folder its token is bound
    /// to.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn list(&self, by: &Principal) -> Result<Vec<SupplierRecord>, Error> {
        let mut suppliers = self.catalog.list_suppliers().await?;
        if let Some(own) = &by.path_prefix {
            suppliers.retain(|supplier| supplier.folder.has(own));
        }
        Ok(suppliers)
    }

    /// Gives a supplier as many other keys as it has. Clients take the delegation to these and what
    /// they have signed from one snapshot, and what the former ones have signed from those before.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Conflict`] if the supplier keeps its keys itself;
    /// [`Error::Full`] or [`Error::Internal`], also if it could not be published yet; it will be.
    pub async fn rotate(
        &self,
        name: &SupplierName,
        by: &Principal,
    ) -> Result<SupplierRecord, Error> {
        let _turn = self.turn.lock().await;
        let mut supplier = self.find(name).await?;
        if supplier.offline {
            return Err(keys_elsewhere(name));
        }
        if self.publisher.policy().has_offline_targets() {
            return Err(targets_offline(name));
        }
        let count = u8::try_from(supplier.keys.len()).unwrap_or(Policy::MAX_KEYS);
        let keys = self.make_keys(supplier.role(), count).await?;
        self.handovers.reload().await?; // before the publisher can ask for them
        supplier.keys = keys.iter().map(|key| key.public().object().clone()).collect();
        let author = by.author(self.clock.now());
        let before = self.catalog.replace_supplier_keys(name, &supplier.keys, &author).await?;
        let before = before.ok_or_else(|| no_supplier(name))?;
        tracing::info!(supplier = %name, "supplier has other keys");
        self.publisher.publish().await?;
        self.retire_keys(&before, &author).await?;
        Ok(supplier)
    }

    async fn find(&self, name: &SupplierName) -> Result<SupplierRecord, Error> {
        let mut found = self.catalog.list_suppliers().await?.into_iter();
        found.find(|found| found.name == *name).ok_or_else(|| no_supplier(name))
    }

    /// Removes a supplier with its images and its tokens (Deployment Best Practices 6.3). Snapshots
    /// go on listing its role's last file, or clients would take the next one for a rollback.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Full`] or [`Error::Internal`], also if it could not be
    /// published yet; it will be.
    pub async fn remove(
        &self,
        name: &SupplierName,
        by: &Principal,
    ) -> Result<RemovedSupplier, Error> {
        let _turn = self.turn.lock().await;
        let author = by.author(self.clock.now());
        let removed = self.catalog.remove_supplier(name, &author).await?;
        let removed = removed.ok_or_else(|| no_supplier(name))?;
        self.images.count_yanked(removed.images);
        tracing::info!(supplier = %name, images = removed.images, "supplier removed");
        self.publisher.publish().await?;
        self.retire_keys(&removed.keys, &author).await?;
        Ok(removed)
    }

    /// Moves the key files of a supplier away that nothing delegates to any more.
    async fn retire_keys(&self, keys: &[Value], author: &Author) -> Result<(), Error> {
        let key = |object: &Value| PublicKey::from_object(object.clone()).map(|key| key.id());
        let ids = keys.iter().map(key).collect::<Result<_, _>>();
        let ids = ids.map_err(Error::internal("read the keys of a supplier"))?;
        let keyring = self.handovers.keyring();
        self.handovers.remove(keyring.named(&ids).into_iter(), author).await?;
        self.handovers.reload().await
    }

    /// Makes the keys of a role. Until it is published, nothing is signed with them.
    async fn make_keys(&self, role: RoleName, count: u8) -> Result<Vec<Arc<dyn Signer>>, Error> {
        let directory = self.state.keys();
        let make = move || {
            let made = (0..count).map(|_| {
                let file = file::add(&directory, role.as_str(), Scheme::Ed25519)?;
                Ok(Arc::new(FileSigner::read(&file)?) as Arc<dyn Signer>)
            });
            made.collect::<Result<Vec<_>, keys::Error>>()
        };
        const OP: &str = "make the keys of a supplier's role";
        let made = tokio::task::spawn_blocking(make).await.map_err(Error::internal(OP))?;
        made.map_err(Error::internal(OP))
    }
}
