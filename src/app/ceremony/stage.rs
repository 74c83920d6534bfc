//! From what is to change to what is to be signed.

use std::collections::BTreeSet;

use super::{Ceremony, CeremonyState, PublishedRoot, StagedRoot, hybrid};
use crate::app::access::Principal;
use crate::app::images::precondition::Precondition;
use crate::app::keys::{Door, check_keys, stored_recipient, use_in_a_vehicle};
use crate::app::{Error, Problem};
use crate::catalog::{self, NewStaging};
use crate::envelope::key::RecipientKey;
use crate::model::{
    MAX_ROOT_BYTES, RepositorySide, RoleKind, RoleName, Sha256Digest, SupplierName, Timestamp,
};
use crate::uptane::key::PublicKey;
use crate::uptane::metadata::root::{self, RoleChange};
use crate::uptane::metadata::{self, RoleKeys, Root};

/// What the next root is to say otherwise than the published one.
#[derive(Debug, Clone, Default)]
pub struct StageRequest {
    /// For how many days it is valid; as the policy says without it.
    pub expires_days: Option<u16>,
    /// The roles that change.
    pub roles: Vec<RoleRequest>,
}

/// How a role is to change.
#[derive(Debug, Clone)]
pub struct RoleRequest {
    /// The role.
    pub role: RoleName,
    /// How many keys have to sign, if that changes.
    pub threshold: Option<u64>,
    /// Public keys that it gets: PEM, or a key object.
    pub add: Vec<String>,
    /// Ids of keys that it loses.
    pub remove: Vec<Sha256Digest>,
}

impl Ceremony {
    /// Makes the next root's content and keeps it until it is signed, in place of the staging that
    /// `expected` names. Without a word on that, nothing must be staged.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] if something else is staged, with what that is; [`Error::Unprocessable`]
    /// for a change that can't be signed or that no client could follow, and for keys of ML-DSA-65
    /// that the policy does not want; [`Error::Refused`] for keys
    /// that have another use; [`Error::Unavailable`] while the time isn't known.
    pub async fn stage(
        &self,
        side: RepositorySide,
        request: &StageRequest,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<CeremonyState, Error> {
        let now = self.publisher.signing_time()?;
        let _turn = self.turn.lock().await;
        let state = self.state(side).await?;
        state.check(expected)?;
        if expected.matches.is_none() && state.staged.is_some() {
            return Err(state.unexpected());
        }
        let content = self.next_content(side, &state.published, request, now).await?;
        let base = state.published.version;
        let (role, version) = (RoleName::Root, base + 1);
        let new = NewStaging { side, role, base, version, changes: 0, content };
        let replaced = state.staged.as_ref().map(StagedRoot::revision);
        match self.catalog.stage(&new, replaced, &by.author(self.clock.now())).await {
            Err(catalog::Error::Overtaken) => return Err(self.unexpected(side).await),
            staged => {
                tracing::info!(%side, version = new.version, revision = staged?, "root staged")
            }
        }
        self.state(side).await
    }

    async fn next_content(
        &self,
        side: RepositorySide,
        published: &PublishedRoot,
        request: &StageRequest,
        now: Timestamp,
    ) -> Result<Vec<u8>, Error> {
        let mut policy = self.director.repository.policy().role(side, RoleKind::Root);
        policy.expires_days = request.expires_days.unwrap_or(policy.expires_days);
        if !(1..=MAX_EXPIRES_DAYS).contains(&policy.expires_days) {
            let detail = format!("`expires_days` must be 1 to {MAX_EXPIRES_DAYS}");
            return Err(Error::Invalid { code: "bad_expiry", detail });
        }
        let mut changes: Vec<RoleChange> = Vec::new();
        for role in &request.roles {
            if changes.iter().any(|change| change.role == role.role) {
                let detail = format!("the role {} is named twice", role.role);
                return Err(Error::Invalid { code: "role_twice", detail });
            }
            changes.push(change(&published.root, role).await?);
        }
        hybrid::check(self.director.repository.policy(), side, &changes)?;
        let other = match side {
            RepositorySide::Image => RepositorySide::Director,
            RepositorySide::Director => RepositorySide::Image,
        };
        let new: Vec<&PublicKey> = changes.iter().flat_map(|change| &change.keys).collect();
        self.refuse_used_keys(&[other], &new, None).await?;
        // One that is there already stays: whoever registers it in a vehicle can't stop the
        // ceremonies by that.
        let is_added = |key: &&PublicKey| !published.root.keys.contains_key(&key.id());
        let added: Vec<&PublicKey> = new.into_iter().filter(is_added).collect();
        self.refuse_keys_of_ecus(&added).await?;
        let version = metadata::version(&RoleName::Root, published.version + 1).map_err(unfit)?;
        let expires = policy.expiry(now);
        let (unsigned, _) =
            root::changed(&published.bytes, version, expires, &changes).map_err(unfit)?;
        // With room for the signatures: vehicles take no longer root.
        let content = unsigned.text().to_vec();
        if content.len() as u64 > MAX_ROOT_BYTES / 2 {
            let detail = format!(
                "the root would have {} bytes, and vehicles take {MAX_ROOT_BYTES} with its signatures",
                content.len()
            );
            return Err(Error::Unprocessable { code: "root_too_large", detail });
        }
        Ok(content)
    }

    /// No key serves two roles, in either repository, nor signs and opens images: new ones of a
    /// root, if `roots` is the other repository, or of the supplier `own`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] names each that is in use; [`Error::Corrupt`], [`Error::Internal`].
    pub(in crate::app) async fn refuse_used_keys(
        &self,
        roots: &[RepositorySide],
        new: &[&PublicKey],
        own: Option<&SupplierName>,
    ) -> Result<(), Error> {
        let (mut problems, mut refused) = (Vec::new(), BTreeSet::new());
        let mut refuse = |key: &PublicKey, use_: &str| {
            if refused.insert(key.id()) {
                problems.push(used(key, use_));
            }
        };
        for &side in roots {
            for object in self.published(side).await?.root.keys.values() {
                let Ok(used) = PublicKey::from_object(object.clone()) else { continue };
                new.iter().filter(|key| key.is_same_key(&used)).for_each(|key| {
                    refuse(key, &format!("signs a role of the {side}"));
                });
            }
        }
        let suppliers = self.catalog.list_suppliers().await?.into_iter();
        for supplier in suppliers.filter(|supplier| own != Some(&supplier.name)) {
            for object in supplier.keys {
                let Ok(used) = PublicKey::from_object(object) else { continue };
                let same = new.iter().filter(|key| key.is_same_key(&used));
                same.for_each(|key| refuse(key, "signs a supplier's folder"));
            }
        }
        self.refuse_former_keys(new, own, &mut refuse).await?;
        let keyring = self.keyring();
        for (kind, use_) in [
            (RoleKind::Bins, "signs the hash bins"),
            (RoleKind::Suppliers, "signs a supplier's folder"),
        ] {
            for used in keyring.public(RepositorySide::Image, kind) {
                let same = new.iter().filter(|key| key.is_same_key(used));
                same.for_each(|key| refuse(key, use_));
            }
        }
        for recipient in self.catalog.list_recipients().await? {
            let pem = stored_recipient(&recipient.jwk)?.to_public_pem();
            new.iter().filter(|key| key.is_same_as_pem(&pem)).for_each(|key| {
                refuse(key, &format!("is a recipient of {}", recipient.hardware_id));
            });
        }
        for key in new {
            // PEM, but for kinds of keys that no recipient has.
            let pem = key.object()["keyval"]["public"].as_str().unwrap_or_default();
            let Ok(recipient) = RecipientKey::parse(pem) else { continue };
            if self.catalog.find_retired(recipient.kid().as_str()).await?.is_some() {
                refuse(key, "was a recipient of images");
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Refused { problems }) }
    }
}

impl Ceremony {
    /// No key comes back that a supplier had and lost, since it may be somebody else's; but for those
    /// with which the supplier `own` still signs, until others have.
    async fn refuse_former_keys(
        &self,
        new: &[&PublicKey],
        own: Option<&SupplierName>,
        refuse: &mut impl FnMut(&PublicKey, &str),
    ) -> Result<(), Error> {
        let signing = match own {
            Some(own) => self.handovers.delegated(&RoleName::of_supplier(own)).await?,
            None => None,
        };
        let signs = |key: &PublicKey| {
            signing.as_ref().is_some_and(|signing| signing.key_ids.contains(&key.id()))
        };
        for object in self.catalog.list_former_supplier_keys().await? {
            let Ok(former) = PublicKey::from_object(object) else { continue };
            let same = new.iter().filter(|key| key.is_same_key(&former) && !signs(key));
            same.for_each(|key| refuse(key, "was a supplier's, and was replaced or removed"));
        }
        Ok(())
    }

    /// No ECU's key comes into a root or a delegation.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] names each; [`Error::Internal`].
    pub(in crate::app) async fn refuse_keys_of_ecus(
        &self,
        new: &[&PublicKey],
    ) -> Result<(), Error> {
        let mut problems = Vec::new();
        for key in new {
            if let Some(use_) = use_in_a_vehicle(&self.catalog, key).await? {
                problems.push(used(key, &use_));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Refused { problems }) }
    }
}

fn used(key: &PublicKey, use_: &str) -> Problem {
    let detail = format!("the key {} {use_}: each key has one use; make another one", key.id());
    Problem { code: "key_in_use", detail }
}

/// All that the next root says of a role.
async fn change(published: &Root, request: &RoleRequest) -> Result<RoleChange, Error> {
    let RoleRequest { role, threshold, add, remove } = request;
    let found = published.roles.get(role).filter(|_| !matches!(role, RoleName::Delegated(_)));
    let Some(RoleKeys { keyids, threshold: old }) = found else {
        let detail =
            format!("{role} is no role of a root: name root, targets, snapshot or timestamp");
        return Err(Error::Invalid { code: "no_such_role", detail });
    };
    if let Some(unknown) = remove.iter().find(|id| !keyids.contains(id)) {
        let detail =
            format!("the key {unknown} is none of the role {role}, which has {}", join(keyids));
        return Err(Error::Unprocessable { code: "key_not_in_role", detail });
    }
    let mut keys = Vec::new();
    for id in keyids.iter().filter(|id| !remove.contains(id)) {
        let object = published.keys.get(id).cloned().unwrap_or_default();
        let key = PublicKey::from_object(object);
        keys.push(key.map_err(Error::internal("read a key of the published root"))?);
    }
    keys.extend(read_keys(add.clone()).await?);
    let threshold = match threshold {
        None => *old,
        Some(threshold) => (*threshold).try_into().map_err(|_| Error::Unprocessable {
            code: "threshold_zero",
            detail: format!("a threshold of 0 would let everybody sign {role} (TUF 1.0.34, 4.3)"),
        })?,
    };
    Ok(RoleChange { role: role.clone(), keys, threshold })
}

/// Reads and checks public keys where it holds nobody up.
///
/// # Errors
///
/// [`Error::Unprocessable`] for what is no key to rely on, or too many of them.
pub(in crate::app) async fn read_keys(texts: Vec<String>) -> Result<Vec<PublicKey>, Error> {
    if texts.len() > MAX_KEYS {
        let detail = format!("a role has at most {MAX_KEYS} keys");
        return Err(Error::Unprocessable { code: "too_many_keys", detail });
    }
    let read = move || {
        texts.iter().map(|text| PublicKey::parse(text)?.as_named()).collect::<Result<_, _>>()
    };
    let keys: Result<Vec<PublicKey>, _> = check_keys(Door::Staff, read).await?;
    keys.map_err(|refused| Error::Unprocessable {
        code: "key_refused",
        detail: refused.to_string(),
    })
}

fn join(ids: &[Sha256Digest]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A change that no root can have.
fn unfit(error: metadata::Error) -> Error {
    let code = match &error {
        metadata::Error::Threshold { .. } => "threshold_not_possible",
        metadata::Error::SharedKey { .. } => "key_shared",
        _ => return Error::internal("make the next root")(error),
    };
    Error::Unprocessable { code, detail: error.to_string() }
}

const MAX_EXPIRES_DAYS: u16 = 3650;
const MAX_KEYS: usize = 16;
