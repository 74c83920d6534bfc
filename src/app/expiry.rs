//! When what is published expires, and who has to sign it before that: this server by itself, or a
//! person, where the keys of a role are not here.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use super::remembered::Remembered;
use super::removed::LastFiles;
use super::trust::trusted_root;
use crate::blob::BlobStore;
use crate::catalog::Catalog;
use crate::keys::Keyring;
use crate::keys::policy::{Policy, RolePolicy, key_name};
use crate::model::clock::later;
use crate::model::{RepositorySide, RoleKind, RoleName, SupplierRecord, Timestamp};
use crate::uptane::verify::{Signers, TrustedSet};

/// A role of which something is published that expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Its repository.
    pub side: RepositorySide,
    /// The role; all hash bins are one, and all suppliers whose keys are here.
    pub kind: RoleKind,
    /// The supplier's role, if the keys are with the supplier, or nobody's any more.
    pub owned: Option<RoleName>,
    /// When the first file of it expires.
    pub expires_at: Timestamp,
    /// How far that is away.
    pub stage: Stage,
    /// Who signs it.
    pub signer: SignedBy,
}

/// Who signs a role again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedBy {
    /// This server, once half of a file's life is over.
    Server,
    /// Somebody who has keys that are not here.
    Person,
    /// Nobody: the supplier was removed, and targets that people sign name its role until they have
    /// signed them again.
    Nobody,
}

/// How far a file is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// In the first half.
    Fresh,
    /// Past half of it: it can be signed again.
    Due,
    /// In its last quarter: it has to be.
    Soon,
    /// In its last twelfth, a month of a year.
    Urgent,
    /// Clients refuse it.
    Expired,
}

impl Stage {
    /// Where a file that expires at `expires_at` is.
    pub fn of(role: RolePolicy, expires_at: Timestamp, now: Timestamp) -> Self {
        let is_within = |part: u32| expires_at < later(now, role.lifetime() / part);
        match expires_at {
            // No file could expire later: on the last day that there is, it is one like any other.
            _ if expires_at >= role.expiry(now) => Self::Fresh,
            _ if expires_at <= now => Self::Expired,
            _ if is_within(12) => Self::Urgent,
            _ if is_within(4) => Self::Soon,
            _ if is_within(2) => Self::Due,
            _ => Self::Fresh,
        }
    }
}

impl Expiry {
    /// Whether it is well ahead, and a person has to do something.
    pub fn awaits_person(&self) -> bool {
        self.signer != SignedBy::Server && self.stage >= Stage::Due
    }

    /// The role's name as in the policy and in names of key files.
    pub fn name(&self) -> String {
        match &self.owned {
            Some(role) => role.to_string(),
            None => key_name(self.side, self.kind),
        }
    }

    /// What there is to know, in words.
    pub fn describe(&self) -> String {
        let Self { side, kind, owned, expires_at, .. } = self;
        let role = owned.as_ref().map_or_else(|| kind.to_string(), RoleName::to_string);
        match self.stage {
            Stage::Expired => {
                format!(
                    "the {role} metadata of the {side} expired at {expires_at}: clients refuse it"
                )
            }
            _ => format!("the {role} metadata of the {side} expires at {expires_at}"),
        }
    }

    /// What to do about it.
    pub fn action(&self) -> &'static str {
        match (self.signer, self.kind) {
            (SignedBy::Server, _) => {
                "the server signs it at half of its life: see that it runs, and what its log and /readyz say of why it could not"
            }
            (SignedBy::Nobody, _) => {
                "its supplier was removed, and the targets name it until people have signed them again: `motorcade targets stage`"
            }
            (SignedBy::Person, RoleKind::Root) => {
                "its keys are not on this machine, so a person has to sign it: docs/runbooks/root-about-to-expire.md"
            }
            (SignedBy::Person, RoleKind::Suppliers) => {
                "its keys are with the supplier, who has to sign it again: `motorcade supplier stage`"
            }
            (SignedBy::Person, RoleKind::Targets) => {
                "its keys are not on this machine, so that people have to sign it again: `motorcade targets stage`; or put them back"
            }
            (SignedBy::Person, _) => {
                "its keys are not on this machine: put them back, or have its owner sign it again"
            }
        }
    }
}

/// What was found out before, since readiness asks often.
#[derive(Debug, Default)]
pub(in crate::app) struct Known {
    /// Who signs the Director's root, as the newest one said when it was verified.
    director: Remembered<Option<Signers>>,
    /// When the last files of removed suppliers expire.
    last_files: LastFiles,
}

/// Every role of which something is published, or that what is published still names. `image` is the
/// newest root of the Image repository, with its targets; the Director's is in the catalog.
///
/// # Errors
///
/// [`Error::Unavailable`] if the store of blobs is away; [`Error::Internal`].
pub(in crate::app) async fn list(
    (catalog, blobs): (&Catalog, &dyn BlobStore),
    policy: &Policy,
    keyring: &Keyring,
    image: Option<&TrustedSet>,
    known: &Known,
    now: Timestamp,
) -> Result<Vec<Expiry>, Error> {
    let expiry = |side, (kind, owned): (RoleKind, Option<RoleName>), expires_at, signers| {
        let stage = Stage::of(policy.role(side, kind), expires_at, now);
        // Keys that are here sign nothing for others.
        let signer = match owned.is_some() || policy.role(side, kind).offline {
            true => SignedBy::Person,
            false => signer(keyring, signers),
        };
        Expiry { side, kind, owned, expires_at, stage, signer }
    };
    let suppliers = catalog.list_suppliers().await?;
    let owned: BTreeSet<RoleName> =
        suppliers.iter().filter(|supplier| supplier.offline).map(SupplierRecord::role).collect();
    let mut first: BTreeMap<(RoleKind, Option<RoleName>), (Timestamp, RoleName)> = BTreeMap::new();
    for state in catalog.list_roles().await?.into_iter().filter(|state| state.version > 0) {
        let owned = owned.get(&state.name).cloned();
        let (role, found) = ((state.name.kind(), owned), (state.expires_at, state.name));
        let known = first.entry(role).or_insert_with(|| found.clone());
        if found.0 < known.0 {
            *known = found;
        }
    }
    let mut roles: Vec<Expiry> = first
        .into_iter()
        .map(|(of, (expires_at, role))| {
            let signers = image.and_then(|set| match role {
                RoleName::Delegated(_) => set.delegated_signers(&role),
                _ => set.signers(&role),
            });
            expiry(RepositorySide::Image, of, expires_at, signers)
        })
        .collect();
    if let Some(image) = image {
        let signer = signer_of_removed(&roles);
        for (role, expires_at) in known.last_files.named((catalog, blobs), image).await? {
            let of = (role.kind(), Some(role));
            let last = expiry(RepositorySide::Image, of, expires_at, None);
            roles.push(Expiry { signer, ..last });
        }
    }
    if let Some(root) = catalog.find_director_root(None).await? {
        let read = |root: &[u8]| trusted_root(root).ok()?.signers(&RoleName::Root);
        let (signers, of) = (known.director.of(&root.body, read), (RoleKind::Root, None));
        roles.push(expiry(RepositorySide::Director, of, root.expires_at, signers));
    }
    Ok(roles)
}

/// Targets that are signed here go on without a removed supplier at once; others name it for as long as
/// people like.
fn signer_of_removed(roles: &[Expiry]) -> SignedBy {
    let targets = roles.iter().find(|role| role.kind == RoleKind::Targets);
    match targets.map(|targets| targets.signer) {
        None | Some(SignedBy::Server) => SignedBy::Server,
        Some(SignedBy::Person | SignedBy::Nobody) => SignedBy::Nobody,
    }
}

/// Whether enough of the keys that are named are here.
fn signer(keyring: &Keyring, signers: Option<Signers>) -> SignedBy {
    let Some(Signers { key_ids, threshold }) = signers else { return SignedBy::Person };
    let ids: BTreeSet<_> = key_ids.iter().filter_map(|id| id.parse().ok()).collect();
    match keyring.named(&ids).len() as u64 >= threshold {
        true => SignedBy::Server,
        false => SignedBy::Person,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_of_a_year_is_urgent_in_its_last_month() {
        let root = Policy::default().root;
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let stage = |days: i64| {
            let expires_at = Timestamp::from_second(1_790_000_000 + days * 86_400).unwrap();
            Stage::of(root, expires_at, now)
        };
        use Stage::{Due, Expired, Fresh, Soon, Urgent};
        assert_eq!(
            [365, 183, 182, 92, 91, 31, 30, 1, 0, -1].map(stage),
            [Fresh, Fresh, Due, Due, Soon, Soon, Urgent, Urgent, Expired, Expired]
        );
    }
}
