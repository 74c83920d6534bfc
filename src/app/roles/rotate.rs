//! Gives a role that is signed online other keys, in one call.
//!
//! The keys are made or opened; all that is published is signed by them too; then root, or the
//! targets for the bins, name them. What is cut off before that leaves the former keys in charge, and
//! what is cut off after it is ended by `handover`.

use std::sync::Arc;

use super::Roles;
use super::plan::{Plan, Rotation, RotationRequest};
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::ceremony::{Gap, RoleRequest, StageRequest};
use crate::app::handover::KeyChange;
use crate::app::images::precondition::{Precondition, Tags};
use crate::app::trust::top_level;
use crate::keys::file::{self, FileSigner};
use crate::keys::policy::key_name;
use crate::keys::{Signer, hybrid};
use crate::model::{RepositorySide, RoleKind, RoleName};
use crate::telemetry::Chain;
use crate::uptane::key::Scheme;

impl Roles {
    /// What [`Self::rotate`] would do. Changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::rotate`], as far as it can be told before.
    pub async fn plan_rotation(&self, request: &RotationRequest) -> Result<Rotation, Error> {
        Ok(self.plan(request).await?.rotation)
    }

    /// Gives a role other keys. Clients take what is published before, meanwhile and after; the
    /// keys that leave sign on for an hour. Of keys that are lost that can't be, and is accepted if
    /// the request says so.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] for root, whose keys are changed in a ceremony, and for keys with
    /// which it can't be done; [`Error::Refused`] names keys that have another use;
    /// [`Error::Conflict`] if there is nothing to do, or whoever has to sign it isn't here;
    /// [`Error::Unexpected`] if another root is staged; [`Error::Unavailable`] while the time isn't
    /// known; [`Error::Full`]; [`Error::Internal`].
    pub async fn rotate(
        self: &Arc<Self>,
        request: RotationRequest,
        by: Principal,
    ) -> Result<Rotation, Error> {
        // It goes on if whoever asked is gone.
        let roles = Arc::clone(self);
        let rotation =
            self.parts.runtime.spawn(async move { roles.rotate_now(&request, &by).await });
        rotation.await.map_err(Error::internal("give a role other keys"))?
    }

    async fn rotate_now(
        &self,
        request: &RotationRequest,
        by: &Principal,
    ) -> Result<Rotation, Error> {
        let _turn = self.turn.lock().await;
        let plan = self.plan(request).await?;
        let made = self.make(&plan)?;
        let rotated = self.hand_over(&plan, &made, request.gap, by).await;
        let (side, kind) = (request.side, request.kind);
        if rotated.is_err() {
            self.parts.handovers.abandon(side, &[kind]).await;
            if let Err(error) = self.give_up(side, kind, &made, by).await {
                tracing::warn!(error = %Chain(&error), "failed to remove keys that were made for nothing");
            }
        }
        rotated?;
        self.parts.handovers.settle().await?;
        let after = plan.named.iter().chain(&made).map(|key| key.id()).collect();
        tracing::info!(role = key_name(side, kind), "a role has other keys");
        Ok(Rotation { after, ..plan.rotation })
    }

    /// Makes the keys that are to be made.
    fn make(&self, plan: &Plan) -> Result<Vec<Arc<dyn Signer>>, Error> {
        const OP: &str = "make a key";
        let role = key_name(plan.rotation.side, plan.rotation.kind);
        let mut made: Vec<Arc<dyn Signer>> = Vec::new();
        for number in 1..=plan.rotation.made {
            let scheme = scheme(plan, number);
            let path =
                file::add(&self.parts.state.keys(), &role, scheme).map_err(Error::internal(OP))?;
            made.push(Arc::new(FileSigner::read(&path).map_err(Error::internal(OP))?));
        }
        Ok(made)
    }

    async fn hand_over(
        &self,
        plan: &Plan,
        made: &[Arc<dyn Signer>],
        gap: Gap,
        by: &Principal,
    ) -> Result<(), Error> {
        self.parts.handovers.reload().await?;
        let Some(change) = plan.change(made) else { return Ok(()) };
        let (side, kind) = (plan.rotation.side, plan.rotation.kind);
        match top_level(kind) {
            Some(role) => {
                let keys: Vec<&Arc<dyn Signer>> = plan.named.iter().chain(made).collect();
                let staged =
                    self.stage_root(side, role, &change, &keys, &plan.rotation, by).await?;
                self.publish_root(side, &staged, gap, by).await
            }
            // The very targets that are published with them say who signs the bins.
            None => {
                let author = by.author(self.parts.clock.now());
                if plan.rotation.awaits_signature_of.is_some() {
                    return self.parts.handovers.propose(side, &change, &author).await;
                }
                self.parts.handovers.begin(side, std::slice::from_ref(&change), &author).await?;
                let signers = self.parts.handovers.signers(side, kind).await?;
                if signers == change.after {
                    return self.parts.handovers.note_published().await.map(drop);
                }
                Err(Error::internal("hand the bins over")(std::io::Error::other(
                    "the published targets name other keys: see the log of their round",
                )))
            }
        }
    }

    /// Stages a root that names the new keys, and returns which staging it is.
    async fn stage_root(
        &self,
        side: RepositorySide,
        role: RoleName,
        change: &KeyChange,
        keys: &[&Arc<dyn Signer>],
        rotation: &Rotation,
        by: &Principal,
    ) -> Result<Precondition, Error> {
        let is_new = |key: &&&Arc<dyn Signer>| !rotation.before.key_ids.contains(&key.id());
        let add = keys.iter().filter(is_new).map(|key| key.public().object().to_string());
        let request = StageRequest {
            roles: vec![RoleRequest {
                role,
                threshold: Some(change.after.threshold),
                add: add.collect(),
                remove: change.leaving.iter().copied().collect(),
            }],
            ..StageRequest::default()
        };
        let state = self.parts.ceremony.stage(side, &request, &Precondition::default(), by).await?;
        let tag = state.staged.map(|staged| staged.staging.tag()).unwrap_or_default();
        Ok(Precondition { matches: Some(Tags::Of(vec![tag])), matches_none: None })
    }

    /// Signs and publishes a root that was staged.
    async fn publish_root(
        &self,
        side: RepositorySide,
        ours: &Precondition,
        gap: Gap,
        by: &Principal,
    ) -> Result<(), Error> {
        let published = async {
            self.parts.ceremony.sign_here(side, ours, by).await?;
            self.parts.ceremony.publish(side, gap, ours, by).await
        };
        let published = published.await;
        if published.is_err()
            && let Err(error) = self.parts.ceremony.cancel(side, ours, by).await
        {
            tracing::warn!(error = %Chain(&error), "failed to cancel the root that was staged for a rotation");
        }
        published.map(drop)
    }

    /// Moves keys away that were made and that nothing names after all.
    async fn give_up(
        &self,
        side: RepositorySide,
        kind: RoleKind,
        made: &[Arc<dyn Signer>],
        by: &Principal,
    ) -> Result<(), Error> {
        let named = self.parts.handovers.signers(side, kind).await?;
        let unused = made.iter().filter(|key| !named.key_ids.contains(&key.id()));
        let author = by.author(self.parts.clock.now());
        self.parts.handovers.remove(unused, &author).await?;
        self.parts.handovers.reload().await
    }
}

fn scheme(plan: &Plan, number: u8) -> Scheme {
    if plan.policy.hybrid { hybrid::scheme(number) } else { Scheme::Ed25519 }
}
