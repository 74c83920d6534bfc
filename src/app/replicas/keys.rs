//! The role keys of a server, read again when another replica hands a role over.
//!
//! What other keys sign is in the catalog; their files are where somebody has put them. A replica
//! that has not got them publishes nothing that clients would refuse.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::app::Error;
use crate::app::signing::{KEY_UNAVAILABLE, Signing};
use crate::app::state_dir::StateDir;
use crate::catalog::{Catalog, Handover};
use crate::keys::policy::key_name;
use crate::keys::{self, Cosigners, Keyring, SharedKeyring};
use crate::model::{RepositorySide, RoleKind, RoleName};
use crate::uptane::key::KeyId;

/// Reads policy and keys again.
pub(in crate::app) struct KeyReload {
    parts: KeyReloadParts,
    /// Held by whoever reads the keys: what is read later is what is used.
    reading: tokio::sync::Mutex<()>,
    /// What the keys were read for the last time.
    known: Mutex<Option<Wanted>>,
}

/// What [`KeyReload`] is made of.
#[derive(Clone)]
pub(in crate::app) struct KeyReloadParts {
    pub(in crate::app) state: StateDir,
    pub(in crate::app) catalog: Catalog,
    pub(in crate::app) signing: Arc<Signing>,
    pub(in crate::app) keyring: SharedKeyring,
}

/// What says which keys sign.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    handovers: Vec<Handover>,
    roots: [u64; 2],
}

impl KeyReload {
    pub(in crate::app) fn new(parts: KeyReloadParts) -> Self {
        Self { parts, reading: tokio::sync::Mutex::new(()), known: Mutex::new(None) }
    }

    /// Reads policy and keys again, and signs with these from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] says what is wrong with them; the ones before stay in use.
    pub(in crate::app) async fn reload(&self) -> Result<(), Error> {
        let _turn = self.reading.lock().await;
        let KeyReloadParts { state, catalog, signing, keyring } = &self.parts;
        let cosigners = cosigners(&catalog.list_handovers().await?);
        let policy = state.policy().map_err(unusable)?;
        let read = state.keyring(&policy).await.map_err(unusable)?;
        keys::remember(&state.keys(), &read);
        keyring.replace(signing.measured(read).cosigned_by(cosigners));
        Ok(())
    }

    /// Reads them again if another replica has begun or ended to hand a role over, or has published
    /// a root.
    ///
    /// # Errors
    ///
    /// As of [`Self::reload`]; [`Error::Unavailable`] if keys that are to sign are not here.
    pub(in crate::app) async fn follow(&self) -> Result<(), Error> {
        let catalog = &self.parts.catalog;
        let roots = [
            catalog.published_version(&RoleName::Root).await?,
            catalog.newest_director_root().await?,
        ];
        let wanted = Wanted { handovers: catalog.list_handovers().await?, roots };
        if self.known().as_ref() == Some(&wanted) {
            return Ok(());
        }
        self.reload().await?;
        let (keyring, policy) = (self.parts.keyring.current(), self.parts.state.policy()?);
        let online = wanted.handovers.iter().filter(|it| !policy.role(it.side, it.kind).offline);
        let missing = online.filter_map(|handover| missing(handover, &keyring)).next();
        *self.known() = missing.is_none().then_some(wanted); // or they are looked for again
        match missing {
            Some(detail) => Err(Error::Unavailable { code: KEY_UNAVAILABLE, detail }),
            None => Ok(()),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Wanted>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who signs besides whom the published metadata names, by role.
pub(in crate::app) fn cosigners(handovers: &[Handover]) -> Cosigners {
    let top_level = handovers.iter().filter(|handover| handover.kind != RoleKind::Bins);
    top_level
        .map(|handover| {
            let both = handover.keys.union(&handover.leaving).copied().collect();
            ((handover.side, handover.kind), both)
        })
        .collect()
}

/// Too few of the keys that come are here: clients of the next root would refuse what is signed.
fn missing(handover: &Handover, keyring: &Keyring) -> Option<String> {
    let here = keyring.named(&handover.keys);
    if here.len() as u64 >= handover.threshold {
        return None;
    }
    let is_away = |id: &&KeyId| here.iter().all(|key| key.id() != **id);
    let ids = handover.keys.iter().filter(is_away).map(ToString::to_string);
    Some(not_here(handover.side, handover.kind, ids))
}

/// Says which keys a replica has to be given.
pub(in crate::app) fn not_here(
    side: RepositorySide,
    kind: RoleKind,
    ids: impl Iterator<Item = String>,
) -> String {
    format!(
        "the role {} is signed by keys that are not on this replica ({}): give it the keys/ and metadata/policy.toml of the \
         one that made them",
        key_name(side, kind),
        ids.collect::<Vec<_>>().join(", ")
    )
}

/// The keys or the policy that are here can't be used; whoever manages them is told why.
fn unusable(error: Error) -> Error {
    let detail = format!("the keys stay as they are: {}", error.reason());
    Error::Conflict { code: "keys_unusable", detail }
}
