//! From what waits to what is to be signed.

use super::{OwnedState, Owner, Owners, StagedTargets};
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::images::precondition::Precondition;
use crate::catalog::{self, NewStaging};
use crate::model::{RepositorySide, RoleName, Timestamp};
use crate::uptane::metadata::image::Entries;
use crate::uptane::metadata::version;

/// How the next file is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct StageTargets {
    /// For how many days it is valid; as the policy says without it.
    pub expires_days: Option<u16>,
}

impl Owners {
    /// Makes the role's next file of all that it is to list, and keeps it until it is signed, in
    /// place of the staging that `expected` names. Without a word on that, nothing must be staged.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] if something else is staged, with what that is; [`Error::Conflict`] for a
    /// supplier whose file waits for people to sign the targets; [`Error::NotFound`],
    /// [`Error::Forbidden`], [`Error::Invalid`]; [`Error::Unavailable`] while the time isn't known.
    pub async fn stage(
        &self,
        role: &RoleName,
        request: &StageTargets,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<OwnedState, Error> {
        let now = self.parts.publisher.signing_time()?;
        let _turn = self.turn.lock().await;
        let owner = self.owner(role, by).await?;
        owner.check_may_change(by)?;
        let state = self.state_of(owner).await?;
        state.check(expected)?;
        if expected.matches.is_none() && state.staged.is_some() {
            return Err(state.unexpected());
        }
        self.refuse_while_targets_wait(&state, by).await?;
        let expires = self.expiry(role, request, now)?;
        // Each staging has a number of its own: what was signed and not published is never mixed up
        // with what is.
        let reserved = self.parts.catalog.reserve_versions(std::slice::from_ref(role)).await?;
        let Some(reserved) = reserved.into_iter().next() else { return Err(state.unexpected()) };
        let content = self.content(&state.owner, reserved.version, expires).await?;
        let new = NewStaging {
            side: RepositorySide::Image,
            role: role.clone(),
            base: state.role.version,
            version: reserved.version,
            changes: reserved.changes,
            content,
        };
        let replaced = state.staged.as_ref().map(StagedTargets::revision);
        let author = by.author(self.parts.clock.now());
        match self.parts.catalog.stage(&new, replaced, &author).await {
            Err(catalog::Error::Overtaken) => return Err(self.unexpected(role, by).await),
            staged => {
                tracing::info!(%role, version = new.version, revision = staged?, "targets staged");
            }
        }
        self.state(role, by).await
    }

    fn expiry(
        &self,
        role: &RoleName,
        request: &StageTargets,
        now: Timestamp,
    ) -> Result<Timestamp, Error> {
        let mut policy = self.parts.publisher.policy().role(RepositorySide::Image, role.kind());
        policy.expires_days = request.expires_days.unwrap_or(policy.expires_days);
        if (1..=MAX_EXPIRES_DAYS).contains(&policy.expires_days) {
            return Ok(policy.expiry(now));
        }
        let detail = format!("`expires_days` must be 1 to {MAX_EXPIRES_DAYS}");
        Err(Error::Invalid { code: "bad_expiry", detail })
    }

    /// What is read here has at least the changes that were counted as its number was reserved.
    async fn content(
        &self,
        owner: &Owner,
        number: u64,
        expires: Timestamp,
    ) -> Result<Vec<u8>, Error> {
        const OP: &str = "make a file to be signed";
        let role = &owner.role;
        let version = version(role, number).map_err(Error::internal(OP))?;
        if owner.supplier.is_none() {
            return Ok(self.next_targets(version, expires).await?.text().to_vec());
        }
        let mut entries = Entries::default();
        for entry in self.parts.catalog.list_targets(role).await? {
            entries.put(&entry).map_err(Error::internal(OP))?;
        }
        let unsigned = entries.into_bin(role.clone(), version, expires);
        Ok(unsigned.map_err(Error::internal(OP))?.text().to_vec())
    }
}

const MAX_EXPIRES_DAYS: u16 = 3650;
