//! What a rotation would do, before anything is done.

use std::path::Component;
use std::sync::Arc;

use super::Roles;
use crate::app::ceremony::Gap;
use crate::app::handover::{GRACE, KeyChange};
use crate::app::keys::{stored_recipient, use_in_a_vehicle};
use crate::app::{Error, Problem};
use crate::keys::policy::{Policy, RolePolicy, key_name};
use crate::keys::source::{KeySource, ParseKeySourceError};
use crate::keys::{self, Signer, file, hybrid};
use crate::model::{RepositorySide, RoleKind, RoleName};
use crate::uptane::key::{KeyId, PublicKey};
use crate::uptane::metadata::Authority;

/// Other keys for a role that is signed online.
#[derive(Debug, Clone)]
pub struct RotationRequest {
    /// Of which repository.
    pub(super) side: RepositorySide,
    /// Which role; the bins are one.
    pub(super) kind: RoleKind,
    /// All keys that it is to have. Without one, those that the policy names, or new ones.
    keys: Vec<KeySource>,
    /// What becomes of it if what is published can't be signed by the keys that leave, too.
    pub(super) gap: Gap,
}

impl RotationRequest {
    /// Reads where the keys are.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] names what is no source of a key.
    pub fn new(
        side: RepositorySide,
        kind: RoleKind,
        keys: &[String],
        gap: Gap,
    ) -> Result<Self, Error> {
        let parsed: Result<Vec<KeySource>, _> = keys.iter().map(|key| key.parse()).collect();
        let keys = parsed.map_err(|fault: ParseKeySourceError| Error::Invalid {
            code: "bad_key_source",
            detail: fault.to_string(),
        })?;
        Ok(Self { side, kind, keys, gap })
    }
}

/// What a rotation comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Of which repository.
    pub side: RepositorySide,
    /// Which role.
    pub kind: RoleKind,
    /// Who signs before.
    pub before: Authority,
    /// Ids of those who sign after, as far as they are known.
    pub after: Vec<KeyId>,
    /// How many of them have to.
    pub threshold: u64,
    /// How many keys are made.
    pub made: u8,
    /// The version of root that says so; none for the bins, whose keys the targets name.
    pub root_version: Option<u64>,
    /// How many files are signed again.
    pub files: usize,
    /// The role whose people have to sign a file that names the new keys, before these sign.
    pub awaits_signature_of: Option<RoleName>,
    /// For how many seconds the keys that leave sign on.
    pub grace_s: u64,
    /// Which clients can read it and which can't, if keys of ML-DSA-65 sign after.
    pub readers: Option<&'static str>,
}

impl Rotation {
    /// Ids of those that sign no more.
    pub fn leaving(&self) -> Vec<KeyId> {
        let stays = |id: &&KeyId| self.after.contains(id);
        self.before.key_ids.iter().filter(|id| !stays(id)).copied().collect()
    }
}

/// A rotation, and the keys for it.
pub(super) struct Plan {
    pub(super) rotation: Rotation,
    pub(super) policy: RolePolicy,
    pub(super) named: Vec<Arc<dyn Signer>>,
}

impl Plan {
    /// How the role changes, with the keys that were made for it.
    pub(super) fn change(&self, made: &[Arc<dyn Signer>]) -> Option<KeyChange> {
        let Rotation { kind, before, threshold, .. } = &self.rotation;
        let key_ids = self.named.iter().chain(made).map(|key| key.id()).collect();
        KeyChange::between(*kind, before, Authority { key_ids, threshold: *threshold })
    }
}

impl Roles {
    /// What a rotation would do. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] for a role or keys with which it can't be done; [`Error::Refused`]
    /// names the keys that have another use; [`Error::Conflict`] if there is nothing to do, or whoever
    /// has to sign it isn't here; [`Error::Internal`].
    pub(super) async fn plan(&self, request: &RotationRequest) -> Result<Plan, Error> {
        let (side, kind) = (request.side, request.kind);
        refuse_ceremonial(side, kind)?;
        let policy = self.parts.state.policy()?;
        refuse_offline(side, kind, &policy)?;
        let role = policy.role(side, kind);
        let named = self.open_named(request, &policy).await?;
        if !named.is_empty() && named.len() < usize::from(role.threshold) {
            let detail = format!(
                "metadata/policy.toml asks for {} signatures of {}, and {} keys are named: name as many or more (TUF 1.0.34, 4.3)",
                role.threshold,
                key_name(side, kind),
                named.len()
            );
            return Err(Error::Unprocessable { code: "threshold_not_possible", detail });
        }
        let public: Vec<&PublicKey> = named.iter().map(|key| key.public()).collect();
        if !named.is_empty()
            && let Some(fault) = hybrid::fault_of_keys(role.hybrid, role.threshold, &public)
        {
            let detail = format!("the role {} {fault}", key_name(side, kind));
            return Err(Error::Unprocessable { code: "key_kinds", detail });
        }
        self.refuse_used(side, kind, &named).await?;
        let before = self.parts.handovers.signers(side, kind).await?;
        let awaits_people = kind == RoleKind::Bins && policy.has_offline_targets();
        let root_version = match awaits_people {
            true => None,
            false => self.check_signers(side, kind).await?,
        };
        let made = if named.is_empty() { role.keys() } else { 0 };
        let rotation = Rotation {
            side,
            kind,
            after: named.iter().map(|key| key.id()).collect(),
            threshold: role.threshold.into(),
            made,
            root_version,
            files: self.files(side, kind).await?,
            awaits_signature_of: awaits_people.then_some(RoleName::Targets),
            grace_s: if kind == RoleKind::Bins { 0 } else { GRACE.as_secs() },
            readers: role.hybrid.then_some(hybrid::READERS),
            before,
        };
        let plan = Plan { rotation, policy: role, named };
        if made == 0 && plan.change(&[]).is_none() {
            let detail =
                format!("{} has these keys already: nothing was changed", key_name(side, kind));
            return Err(Error::Conflict { code: "nothing_to_rotate", detail });
        }
        Ok(plan)
    }

    /// Opens the keys that the request or the policy names.
    async fn open_named(
        &self,
        request: &RotationRequest,
        policy: &Policy,
    ) -> Result<Vec<Arc<dyn Signer>>, Error> {
        let declared = policy.sources(request.side, request.kind);
        let sources = if request.keys.is_empty() { declared } else { &request.keys };
        let mut named: Vec<Arc<dyn Signer>> = Vec::new();
        for source in sources {
            if !declared.contains(source) && !is_name(source) {
                let detail = format!(
                    "{source} is no file in keys/ and not among the keys of {} in metadata/policy.toml: add it there first",
                    key_name(request.side, request.kind)
                );
                return Err(Error::Unprocessable { code: "unknown_key_source", detail });
            }
            let key = keys::open(&self.parts.state.keys(), source).await.map_err(|error| {
                let reason = Error::internal("open a key")(error).reason();
                Error::Unprocessable { code: "key_unusable", detail: format!("{source}: {reason}") }
            })?;
            if let Some(same) = named.iter().find(|other| other.public().is_same_key(key.public()))
            {
                let detail =
                    format!("{source} and {} are one key, which counts once", same.place());
                return Err(Error::Unprocessable { code: "key_twice", detail });
            }
            named.push(key);
        }
        if named.is_empty() && request.gap == Gap::Accepted {
            return self.spare_keys(request.side, request.kind, policy).await;
        }
        Ok(named)
    }

    /// Keys that were made in the place of lost ones, if there are as many as the policy asks for.
    async fn spare_keys(
        &self,
        side: RepositorySide,
        kind: RoleKind,
        policy: &Policy,
    ) -> Result<Vec<Arc<dyn Signer>>, Error> {
        let mut taken = self.parts.handovers.signers(side, kind).await?.key_ids;
        for handover in self.parts.catalog.list_handovers().await? {
            taken.extend(handover.leaving);
        }
        let keyring = self.parts.handovers.keyring();
        let spare = keyring.keys(side, kind).iter().filter(|key| !taken.contains(&key.id()));
        let wanted = usize::from(policy.role(side, kind).keys());
        let spare: Vec<Arc<dyn Signer>> = spare.take(wanted).cloned().collect();
        Ok(if spare.len() == wanted { spare } else { Vec::new() })
    }

    /// No key serves two roles, in either repository, nor signs and opens images.
    async fn refuse_used(
        &self,
        side: RepositorySide,
        kind: RoleKind,
        named: &[Arc<dyn Signer>],
    ) -> Result<(), Error> {
        // As they are now: a file may have come since the keys were read.
        let files = file::read_all(&self.parts.state.keys());
        let files = files.map_err(Error::internal("read the role keys"))?;
        let keyring = self.parts.handovers.keyring();
        let mut problems = Vec::new();
        for key in named.iter().map(|key| key.public()) {
            let mut refuse = |used: String| {
                let detail =
                    format!("the key {} {used}: each key has one use; name another one", key.id());
                problems.push(Problem { code: "key_in_use", detail });
            };
            for other in RepositorySide::ALL {
                for &other_kind in other.kinds() {
                    let role = (other, other_kind);
                    let is_other = role != (side, kind);
                    let files = files.get(&role).into_iter().flatten();
                    let mut declared = keyring.keys(other, other_kind).iter().chain(files);
                    let is_declared = declared.any(|used| used.public().is_same_key(key));
                    let published = self.parts.handovers.signers(other, other_kind).await?;
                    if is_other && (is_declared || published.key_ids.contains(&key.id())) {
                        refuse(format!("is one of {}", key_name(other, other_kind)));
                    }
                }
            }
            if let Some(hardware_id) = self.opens_images_of(key).await? {
                refuse(format!("is a recipient of {hardware_id}"));
            }
            if let Some(used) = use_in_a_vehicle(&self.parts.catalog, key).await? {
                refuse(used);
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Refused { problems }) }
    }

    async fn opens_images_of(&self, key: &PublicKey) -> Result<Option<String>, Error> {
        for recipient in self.parts.catalog.list_recipients().await? {
            let pem = stored_recipient(&recipient.jwk)?.to_public_pem();
            if key.is_same_as_pem(&pem) {
                return Ok(Some(recipient.hardware_id.to_string()));
            }
        }
        Ok(None)
    }

    /// Whether whoever has to sign the change is here; returns the version of root that it takes.
    async fn check_signers(
        &self,
        side: RepositorySide,
        kind: RoleKind,
    ) -> Result<Option<u64>, Error> {
        let needed = if kind == RoleKind::Bins { RoleKind::Targets } else { RoleKind::Root };
        let signers = self.parts.handovers.signers(side, needed).await?;
        let found = self.parts.handovers.keyring().named(&signers.key_ids).len() as u64;
        if found < signers.threshold {
            let detail = format!(
                "{found} keys of {} are on this server, and {} have to sign this: stage it with `motorcade root stage \
                 --repository {}` for the people who have them",
                key_name(side, needed),
                signers.threshold,
                side.as_str()
            );
            return Err(Error::Conflict { code: "signers_elsewhere", detail });
        }
        if kind == RoleKind::Bins {
            return Ok(None);
        }
        Ok(Some(self.parts.ceremony.state(side).await?.published.version + 1))
    }

    /// How many files of the Image repository are signed again.
    async fn files(&self, side: RepositorySide, kind: RoleKind) -> Result<usize, Error> {
        if side == RepositorySide::Director {
            return Ok(0);
        }
        let states = self.parts.catalog.list_roles().await?;
        let is_signed = |role: &RoleName| match kind {
            RoleKind::Root | RoleKind::Suppliers => false,
            RoleKind::Bins => !matches!(role.kind(), RoleKind::Root | RoleKind::Suppliers),
            RoleKind::Targets => {
                matches!(role, RoleName::Targets | RoleName::Snapshot | RoleName::Timestamp)
            }
            RoleKind::Snapshot => matches!(role, RoleName::Snapshot | RoleName::Timestamp),
            RoleKind::Timestamp => *role == RoleName::Timestamp,
        };
        Ok(states.iter().filter(|state| is_signed(&state.name)).count())
    }
}

/// A file in `keys/`, by its name alone: a request names no other file of the server.
fn is_name(source: &KeySource) -> bool {
    let KeySource::File(path) = source else { return false };
    let mut parts = path.components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// Who signs targets that people sign is said by a root, in a ceremony.
fn refuse_offline(side: RepositorySide, kind: RoleKind, policy: &Policy) -> Result<(), Error> {
    if (side, kind) != (RepositorySide::Image, RoleKind::Targets) || !policy.has_offline_targets() {
        return Ok(());
    }
    let detail = "people sign the targets: name their keys in a root, with `motorcade root stage --add targets=FILE`, then have \
                  them sign the targets";
    Err(Error::Conflict { code: "targets_offline", detail: detail.into() })
}

fn refuse_ceremonial(side: RepositorySide, kind: RoleKind) -> Result<(), Error> {
    if kind == RoleKind::Root {
        let detail = format!(
            "the keys of root are changed by the people who have them: `motorcade root stage --repository {}`",
            side.as_str()
        );
        return Err(Error::Unprocessable { code: "not_online", detail });
    }
    if !side.kinds().contains(&kind) {
        let detail = format!("the {side} has no {kind}: it never delegates");
        return Err(Error::Unprocessable { code: "no_such_role", detail });
    }
    Ok(())
}
