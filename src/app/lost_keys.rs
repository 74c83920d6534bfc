//! Keys of a role that are lost: a person says so, other keys are made, and a server starts without
//! the old ones, to hand the role over to the new ones.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Error;
use super::principal::local_author;
use super::state_dir::StateDir;
use super::trust::{Verifier, published_signers};
use crate::catalog::Catalog;
use crate::keys::policy::key_name;
use crate::keys::{self, file, hybrid};
use crate::model::{RepositorySide, RoleKind, Timestamp};
use crate::uptane::key::{KeyId, PublicKey, Scheme};
use crate::uptane::metadata::Authority;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostKeys {
    /// Ids of the keys that are lost.
    pub lost: BTreeSet<KeyId>,
    /// Files of the keys that were made.
    pub made: Vec<PathBuf>,
}

impl StateDir {
    /// Takes those keys of a role for lost that the published metadata names and that are not here,
    /// and makes others, unless the policy says where these are. The server **must not** run.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if enough of them are here, or a server runs on the directory;
    /// [`Error::Unprocessable`] for a role whose keys are no server's; [`Error::NotFound`] if the
    /// directory isn't initialized; [`Error::Corrupt`]; [`Error::Full`]; [`Error::Internal`].
    pub async fn recover_keys(
        &self,
        side: RepositorySide,
        kind: RoleKind,
        now: Timestamp,
    ) -> Result<LostKeys, Error> {
        let role = key_name(side, kind);
        let is_online = match kind {
            RoleKind::Root => false,
            RoleKind::Suppliers => side == RepositorySide::Image,
            other => side.kinds().contains(&other),
        };
        if !is_online {
            let detail = format!("{role} has no keys that the server signs with by itself");
            return Err(Error::Unprocessable { code: "not_online", detail });
        }
        let (_lock, catalog) = self.own(now).await?;
        if self.policy()?.role(side, kind).offline {
            let detail = format!(
                "people sign {role}, as metadata/policy.toml says, and a server needs none of its keys: they give it others with \
                 `motorcade root stage`"
            );
            return Err(Error::Unprocessable { code: "not_online", detail });
        }
        let named = self.named_keys(&catalog, side, kind).await?;
        let lost = self.lost_keys(side, kind, &named).await?;
        let made = self.make_keys_for(side, kind, &named.key_ids)?;
        catalog.note_lost_keys(&role, &lost, &local_author(now)).await?;
        catalog.close().await;
        Ok(LostKeys { lost, made })
    }

    /// Those that the published metadata names; of all suppliers, all of whose keys are needed.
    async fn named_keys(
        &self,
        catalog: &Catalog,
        side: RepositorySide,
        kind: RoleKind,
    ) -> Result<Authority, Error> {
        if kind != RoleKind::Suppliers {
            let blobs = self.blobs().await?;
            return published_signers(catalog, &Verifier::new(blobs), side, kind).await;
        }
        let mut key_ids = BTreeSet::new();
        let suppliers = catalog.list_suppliers().await?.into_iter().filter(|one| !one.offline);
        for key in suppliers.flat_map(|one| one.keys) {
            let key = PublicKey::from_object(key);
            key_ids.insert(key.map_err(Error::internal("read a supplier's key"))?.id());
        }
        let threshold = key_ids.len() as u64;
        Ok(Authority { key_ids, threshold })
    }

    async fn lost_keys(
        &self,
        side: RepositorySide,
        kind: RoleKind,
        named: &Authority,
    ) -> Result<BTreeSet<KeyId>, Error> {
        let here = self.keys_here(side, kind).await?;
        let lost: BTreeSet<KeyId> = named.key_ids.difference(&here).copied().collect();
        let found = named.key_ids.len() - lost.len();
        if found as u64 >= named.threshold {
            let (role, threshold) = (key_name(side, kind), named.threshold);
            let detail = format!(
                "{found} keys of {role} are here, and {threshold} have to sign: nothing is lost that a server would miss; other \
                 keys come with `motorcade role rotate`"
            );
            return Err(Error::Conflict { code: "keys_here", detail });
        }
        Ok(lost)
    }

    /// Ids of all keys in `keys/`, and of those of the role that the policy names and that can be
    /// used.
    async fn keys_here(
        &self,
        side: RepositorySide,
        kind: RoleKind,
    ) -> Result<BTreeSet<KeyId>, Error> {
        let files = file::read_all(&self.keys()).map_err(Error::internal("read the role keys"))?;
        let mut here: BTreeSet<KeyId> = files.values().flatten().map(|key| key.id()).collect();
        for source in self.policy()?.sources(side, kind) {
            if let Ok(key) = keys::open(&self.keys(), source).await {
                here.insert(key.id());
            }
        }
        Ok(here)
    }

    /// As many as the policy asks for, with those that were made before and nothing names yet. A
    /// supplier's are made when they are rotated.
    fn make_keys_for(
        &self,
        side: RepositorySide,
        kind: RoleKind,
        named: &BTreeSet<KeyId>,
    ) -> Result<Vec<PathBuf>, Error> {
        const OP: &str = "make a key";
        let policy = self.policy()?;
        if kind == RoleKind::Suppliers || !policy.sources(side, kind).is_empty() {
            return Ok(Vec::new());
        }
        let role = policy.role(side, kind);
        let files = file::read_all(&self.keys()).map_err(Error::internal("read the role keys"))?;
        let spare = files.get(&(side, kind)).into_iter().flatten();
        let spare = spare.filter(|key| !named.contains(&key.id())).count();
        let missing = usize::from(role.keys()).saturating_sub(spare);
        let mut made = Vec::with_capacity(missing);
        for number in (1..=role.keys()).skip(spare).take(missing) {
            let scheme = if role.hybrid { hybrid::scheme(number) } else { Scheme::Ed25519 };
            let path = file::add(&self.keys(), &key_name(side, kind), scheme);
            made.push(path.map_err(Error::internal(OP))?);
        }
        Ok(made)
    }
}
