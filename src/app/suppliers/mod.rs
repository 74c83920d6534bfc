//! Suppliers: who signs for a folder of the Image repository with keys of its own (Uptane 2.1.0,
//! 5.2.3.2).
//!
//! A supplier's role is one that the top-level targets delegate to, before the bins. Its keys are
//! in the server's pool and serve nothing else. What it lists is decided as an image comes in
//! (`images/ingest/lister.rs`), and published like a bin.

mod refusal;

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Mutex;

use super::Error;
use super::access::Principal;
use super::handover::Handovers;
use super::images::Images;
use super::publish::Publisher;
use super::state_dir::StateDir;
use crate::catalog::{Catalog, RemovedSupplier};
use crate::keys::file::{self, FileSigner};
use crate::keys::policy::Policy;
use crate::keys::{self, Signer};
use crate::model::{Clock, Folder, HardwareId, RoleName, SupplierName, SupplierRecord};
use crate::uptane::key::{PublicKey, Scheme};
use refusal::{check_keys, conflict, no_supplier};

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
    /// Whether nobody else is asked for what lies in the folder.
    pub terminating: bool,
}

/// The suppliers.
pub struct Suppliers {
    catalog: Catalog,
    publisher: Publisher,
    images: Arc<Images>,
    handovers: Arc<Handovers>,
    state: StateDir,
    clock: Arc<dyn Clock>,
    /// Keys are made for one supplier at a time.
    turn: Mutex<()>,
}

impl Suppliers {
    pub(super) fn new(
        catalog: Catalog,
        publisher: Publisher,
        images: Arc<Images>,
        handovers: Arc<Handovers>,
        state: StateDir,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { catalog, publisher, images, handovers, state, clock, turn: Mutex::new(()) }
    }

    /// Adds a supplier: makes its keys, and publishes the delegation to it with its first file.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the name was used, the folder is another's, or others list images in
    /// a folder that the supplier alone is to speak for; [`Error::Unprocessable`] for a threshold
    /// that can't be met; [`Error::Full`] or [`Error::Internal`], also if it could not be published
    /// yet; it will be.
    pub async fn add(&self, new: NewSupplier, by: &Principal) -> Result<SupplierRecord, Error> {
        let _turn = self.turn.lock().await;
        let policy = self.publisher.policy().suppliers;
        let threshold = new.threshold.unwrap_or(policy.threshold);
        let count = new.keys.unwrap_or_else(|| policy.keys().max(threshold));
        check_keys(threshold, count)?;
        let mut supplier = SupplierRecord {
            folder: new.folder.unwrap_or_else(|| new.name.folder()),
            name: new.name,
            hardware_ids: new.hardware_ids,
            keys: Vec::new(),
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
        let keys = self.make_keys(supplier.role(), count).await?;
        supplier.keys = keys.iter().map(|key| key.public().object().clone()).collect();
        let author = by.author(supplier.created_at);
        self.handovers.reload().await?; // before the publisher can ask for them
        if let Err(found) = self.catalog.insert_supplier(&supplier, &author).await? {
            self.handovers.remove(keys.iter())?;
            return Err(conflict(&supplier, found));
        }
        tracing::info!(supplier = %supplier.name, folder = %supplier.folder, "supplier added");
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
    /// [`Error::NotFound`]; [`Error::Full`] or [`Error::Internal`], also if it could not be
    /// published yet; it will be.
    pub async fn rotate(
        &self,
        name: &SupplierName,
        by: &Principal,
    ) -> Result<SupplierRecord, Error> {
        let _turn = self.turn.lock().await;
        let found = self.catalog.list_suppliers().await?.into_iter();
        let mut supplier = { found }.find(|found| found.name == *name);
        let supplier = supplier.as_mut().ok_or_else(|| no_supplier(name))?;
        let count = u8::try_from(supplier.keys.len()).unwrap_or(Policy::MAX_KEYS);
        let keys = self.make_keys(supplier.role(), count).await?;
        self.handovers.reload().await?; // before the publisher can ask for them
        supplier.keys = keys.iter().map(|key| key.public().object().clone()).collect();
        let author = by.author(self.clock.now());
        let before = self.catalog.replace_supplier_keys(name, &supplier.keys, &author).await?;
        let before = before.ok_or_else(|| no_supplier(name))?;
        tracing::info!(supplier = %name, "supplier has other keys");
        self.publisher.publish().await?;
        self.retire_keys(&before).await?;
        Ok(supplier.clone())
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
        self.retire_keys(&removed.keys).await?;
        Ok(removed)
    }

    /// Moves the key files of a supplier away that nothing delegates to any more.
    async fn retire_keys(&self, keys: &[Value]) -> Result<(), Error> {
        let key = |object: &Value| PublicKey::from_object(object.clone()).map(|key| key.id());
        let ids = keys.iter().map(key).collect::<Result<_, _>>();
        let ids = ids.map_err(Error::internal("read the keys of a supplier"))?;
        let keyring = self.handovers.keyring();
        self.handovers.remove(keyring.named(&ids).into_iter())?;
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
