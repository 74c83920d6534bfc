//! Hands roles that are signed online over from some keys to others, so that no client's cycle fails.
//!
//! A client that has walked the root chain before a new root was published goes on with what the old
//! one names, and one that walks it after with what the new one names; and both fetch the same files.
//! So these are signed by the keys that come and by those that leave: the Image repository's before
//! the new root is published, a vehicle's bundle when it is signed next; and by those that come
//! alone once nobody can be in a cycle that began before. Then the files of the keys that leave are
//! moved away.
//!
//! Bins need none of that: which keys sign them is said by the very targets that are published with
//! them, under one snapshot. Where people sign the targets, it is proposed to them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::Error;
use super::publish::Publisher;
use super::replicas::keys::KeyReload;
use super::state_dir::StateDir;
use super::trust::{Verifier, authority_of, published_signers};
use crate::blob::BlobStore;
use crate::catalog::{Author, Catalog, Handover};
use crate::keys::policy::key_name;
use crate::keys::{Keyring, SharedKeyring, Signer, file};
use crate::model::clock::later;
use crate::model::{Clock, RepositorySide, RoleKind, RoleName};
use crate::telemetry::Chain;
use crate::uptane::key::KeyId;
use crate::uptane::metadata::{Authority, Root};

/// Hands roles over.
pub(super) struct Handovers {
    parts: Parts,
    verifier: Verifier,
    /// Held by whoever ends handovers, so that a key's file is moved once, and is gone for whoever
    /// comes second.
    settling: Mutex<()>,
}

/// What [`Handovers`] is made of.
pub(super) struct Parts {
    pub(super) state: StateDir,
    pub(super) catalog: Catalog,
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) publisher: Publisher,
    pub(super) keyring: SharedKeyring,
    /// Reads the keys again.
    pub(super) keys: Arc<KeyReload>,
    pub(super) clock: Arc<dyn Clock>,
}

/// How the keys of a role change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyChange {
    pub(super) kind: RoleKind,
    pub(super) after: Authority,
    /// Keys that it has and loses.
    pub(super) leaving: BTreeSet<KeyId>,
}

impl KeyChange {
    /// From who signs to who is to; none if that is the same.
    pub(super) fn between(kind: RoleKind, before: &Authority, after: Authority) -> Option<Self> {
        let leaving = before.key_ids.difference(&after.key_ids).copied().collect();
        (*before != after).then_some(Self { kind, after, leaving })
    }

    fn begun(&self, side: RepositorySide, author: &Author) -> Handover {
        Handover {
            side,
            kind: self.kind,
            keys: self.after.key_ids.clone(),
            threshold: self.after.threshold,
            leaving: self.leaving.clone(),
            begun_at: author.at,
            ends_at: None,
        }
    }
}

/// What a root changes of the roles that servers sign by themselves.
pub(super) fn changes(current: &Root, next: &Root) -> Vec<KeyChange> {
    let change = |role: RoleName| {
        let (before, after) = (current.roles.get(&role)?, next.roles.get(&role)?);
        KeyChange::between(role.kind(), &before.into(), after.into())
    };
    [RoleName::Targets, RoleName::Snapshot, RoleName::Timestamp]
        .into_iter()
        .filter_map(change)
        .collect()
}

impl Handovers {
    pub(super) fn new(parts: Parts) -> Self {
        Self { verifier: Verifier::new(Arc::clone(&parts.blobs)), parts, settling: Mutex::new(()) }
    }

    /// The role keys as they are now.
    pub(super) fn keyring(&self) -> Arc<Keyring> {
        self.parts.keyring.current()
    }

    /// Reads policy and keys again, and signs with these from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] says what is wrong with them; the ones before stay in use.
    pub(super) async fn reload(&self) -> Result<(), Error> {
        self.parts.keys.reload().await
    }

    /// Has everything signed by the keys that come too, those of them that are here; it is visible
    /// when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the keys that are here can't be used, [`Error::Full`],
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub(super) async fn begin(
        &self,
        side: RepositorySide,
        changes: &[KeyChange],
        author: &Author,
    ) -> Result<(), Error> {
        let running = self.parts.catalog.list_handovers().await?;
        let mut is_new = false;
        for change in changes {
            let KeyChange { kind, after, leaving } = change;
            let handover = change.begun(side, author);
            let is_same = |other: &&Handover| {
                (other.side, other.kind, other.threshold) == (side, *kind, after.threshold)
                    && (&other.keys, &other.leaving, other.ends_at)
                        == (&after.key_ids, leaving, None)
            };
            if running.iter().find(is_same).is_none() {
                let changed = self.signed_by(side, *kind).await?;
                self.parts.catalog.begin_handover(&handover, &changed, author).await?;
                let role = key_name(side, *kind);
                tracing::info!(
                    role,
                    coming = handover.keys.len(),
                    leaving = leaving.len(),
                    "handing a role over to other keys"
                );
                is_new = true;
            }
        }
        if !is_new {
            return Ok(());
        }
        self.reload().await?;
        if side == RepositorySide::Image { self.parts.publisher.publish().await } else { Ok(()) }
    }

    /// Notes which keys are to sign the bins once people have signed targets that name them: in the
    /// publication of these all bins are signed again. Until then nothing is.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the keys that are here can't be used, [`Error::Full`],
    /// [`Error::Internal`].
    pub(super) async fn propose(
        &self,
        side: RepositorySide,
        change: &KeyChange,
        author: &Author,
    ) -> Result<(), Error> {
        self.parts.catalog.begin_handover(&change.begun(side, author), &[], author).await?;
        self.reload().await
    }

    /// Notes what clients can see now, once a root or targets that name other keys are published.
    /// Returns the handovers as they are then.
    ///
    /// # Errors
    ///
    /// As [`Self::settle`].
    pub(super) async fn note_published(&self) -> Result<Vec<Handover>, Error> {
        let now = self.parts.clock.now();
        let mut handovers = self.parts.catalog.list_handovers().await?;
        for handover in &mut handovers {
            if handover.ends_at.is_some() || !self.is_published(handover).await? {
                continue;
            }
            let grace = if handover.kind == RoleKind::Bins { Duration::ZERO } else { GRACE };
            let ends_at = later(now, grace);
            self.parts.catalog.bound_handover(handover, ends_at).await?;
            handover.ends_at = Some(ends_at); // if another one has begun in its place, it is not ended
        }
        Ok(handovers)
    }

    /// Gives up what was begun and not published: the keys that were to come sign no more.
    pub(super) async fn abandon(&self, side: RepositorySide, kinds: &[RoleKind]) {
        let author = Author::server(self.parts.clock.now());
        let given_up = async {
            for handover in self.parts.catalog.list_handovers().await? {
                let is_meant = handover.side == side && kinds.contains(&handover.kind);
                if is_meant && handover.ends_at.is_none() && !self.is_published(&handover).await? {
                    self.parts.catalog.end_handover(&handover, &BTreeSet::new(), &author).await?;
                }
            }
            self.reload().await
        };
        if let Err(error) = given_up.await {
            tracing::warn!(error = %Chain(&error), "failed to give up the handover of a role");
        }
    }

    /// Ends handovers whose time is over. What goes wrong is logged and tried again.
    pub(super) async fn look_after(&self) {
        if let Err(error) = self.settle().await {
            tracing::warn!(error = %Chain(&error), "failed to look after the handover of a role");
        }
    }

    /// Ends handovers whose time is over, and those that came to nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the keys that are here can't be used, [`Error::Full`],
    /// [`Error::Corrupt`], [`Error::Internal`].
    pub(super) async fn settle(&self) -> Result<(), Error> {
        let _turn = self.settling.lock().await;
        let handovers = self.note_published().await?;
        let (now, mut is_changed) = (self.parts.clock.now(), false);
        for handover in handovers {
            let is_over = handover.ends_at.is_some_and(|ends_at| ends_at <= now);
            let is_abandoned = handover.ends_at.is_none()
                && later(handover.begun_at, ABANDONED) <= now
                && !self.awaits_people(&handover);
            let retired = match (is_over, is_abandoned) {
                (true, _) => handover.leaving.clone(),
                (false, true) => BTreeSet::new(),
                (false, false) => continue,
            };
            let author = Author::server(now);
            if !self.parts.catalog.end_handover(&handover, &retired, &author).await? {
                continue; // another was begun: the keys may be those that it needs
            }
            let role = key_name(handover.side, handover.kind);
            tracing::info!(role, retired = retired.len(), "a role has been handed over");
            self.retire(&retired, &author).await?;
            is_changed = true;
        }
        if is_changed { self.reload().await } else { Ok(()) }
    }

    /// Moves the files of keys away that nothing names any more.
    async fn retire(&self, retired: &BTreeSet<KeyId>, author: &Author) -> Result<(), Error> {
        let mut named = BTreeSet::new();
        for side in RepositorySide::ALL {
            for kind in side.kinds() {
                named.extend(self.signers(side, *kind).await?.key_ids);
            }
        }
        let retired = retired.difference(&named).copied().collect();
        self.remove(self.keyring().named(&retired).into_iter(), author).await
    }

    /// Moves the files of keys away, those that this server keeps, and writes that down.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Internal`].
    pub(super) async fn remove<'a>(
        &self,
        keys: impl Iterator<Item = &'a Arc<dyn Signer>>,
        author: &Author,
    ) -> Result<(), Error> {
        let (mut moved, mut failed) = (BTreeSet::new(), None);
        for key in keys {
            let Some(path) = key.file() else { continue };
            match file::retire(&self.parts.state.keys(), path) {
                Ok(None) => {}
                Ok(Some(to)) => {
                    let to = to.display();
                    tracing::info!(%to, "a key signs no more: destroy its file once no backup needs it");
                    moved.insert(key.id());
                }
                Err(error) => failed = Some(error),
            }
        }
        if !moved.is_empty() {
            self.parts.catalog.note_moved_keys(&moved, author).await?;
        }
        failed.map_or(Ok(()), |error| Err(Error::internal("move a key away")(error)))
    }

    /// Whether it takes the time that people take.
    fn awaits_people(&self, handover: &Handover) -> bool {
        handover.kind == RoleKind::Bins && self.parts.publisher.policy().has_offline_targets()
    }

    async fn is_published(&self, handover: &Handover) -> Result<bool, Error> {
        let published = self.signers(handover.side, handover.kind).await?;
        Ok(published.key_ids == handover.keys && published.threshold == handover.threshold)
    }

    /// Who signs for a kind of roles, as the published metadata says.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if it can't be read; [`Error::Internal`].
    pub(super) async fn signers(
        &self,
        side: RepositorySide,
        kind: RoleKind,
    ) -> Result<Authority, Error> {
        published_signers(&self.parts.catalog, &self.verifier, side, kind).await
    }

    /// Who signs for a role that the published targets delegate to, if they do.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if it can't be read; [`Error::Internal`].
    pub(super) async fn delegated(&self, role: &RoleName) -> Result<Option<Authority>, Error> {
        let states = self.parts.catalog.list_roles().await?;
        let set = self.verifier.current(&states).await?;
        Ok(set.delegated_signers(role).map(authority_of))
    }

    /// The files that are signed again when the keys of a kind of roles change.
    async fn signed_by(
        &self,
        side: RepositorySide,
        kind: RoleKind,
    ) -> Result<Vec<RoleName>, Error> {
        if side == RepositorySide::Director {
            return Ok(Vec::new()); // for each vehicle when it asks
        }
        let names = self.parts.catalog.list_roles().await?.into_iter().map(|state| state.name);
        let is_signed = |name: &RoleName| {
            name.kind() == kind || (kind == RoleKind::Bins && *name == RoleName::Targets)
        };
        Ok(names.filter(is_signed).collect())
    }
}

/// For how long the keys that leave sign on: longer than any cycle of a vehicle takes.
pub(super) const GRACE: Duration = Duration::from_secs(60 * 60); // an hour
/// What was begun so long ago and is not published was cut off.
const ABANDONED: Duration = Duration::from_secs(60 * 60); // an hour
