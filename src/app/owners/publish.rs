//! From what is staged and signed to what clients fetch: all checks first, then one publication.

use std::collections::BTreeSet;

use super::{OwnedState, Owner, Owners, StagedTargets};
use crate::app::access::Principal;
use crate::app::images::precondition::Precondition;
use crate::app::{Error, Problem};
use crate::model::{RoleName, Timestamp};
use crate::uptane::key::KeyId;

impl Owners {
    /// Publishes what is staged, once enough of its owner's keys have signed it; the delegation to
    /// these keys with it, if it is new.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] names what speaks against it: signatures that are missing, an image that
    /// was yanked since; [`Error::Conflict`] if it is outdated; [`Error::NotFound`],
    /// [`Error::Forbidden`], [`Error::Unexpected`]; [`Error::Unavailable`] while the time isn't
    /// known; [`Error::Full`].
    pub async fn publish(
        &self,
        role: &RoleName,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<OwnedState, Error> {
        let now = self.parts.publisher.signing_time()?;
        let _turn = self.turn.lock().await;
        let (state, staged) = self.staged(role, expected, by).await?;
        staged.refuse_outdated(&state)?;
        let mut problems = self.unfit(&state.owner, &staged, now).await?;
        let author = by.author(self.parts.clock.now());
        let mut signed = Vec::new();
        if state.owner.supplier.is_none() {
            let (together, stale) = self.with_targets(&staged.listing, &author).await?;
            signed.extend(together);
            problems.extend(stale);
        } else if self.parts.publisher.policy().has_offline_targets() {
            problems.extend(self.undelegated(&state.owner).await?);
        }
        if !problems.is_empty() {
            return Err(Error::Refused { problems });
        }
        signed.push(staged.signed(&state.owner, author)?);
        let before = self.delegated(role).await?;
        self.parts.publisher.publish_signed(signed).await?;
        let published = self.state(role, by).await?;
        if published.role.version != staged.staging.staged.version {
            return Err(published.unexpected());
        }
        tracing::info!(%role, version = published.role.version, "signed targets published");
        self.retire(before, &published.owner).await?;
        Ok(published)
    }

    /// What speaks against publishing it.
    async fn unfit(
        &self,
        owner: &Owner,
        staged: &StagedTargets,
        now: Timestamp,
    ) -> Result<Vec<Problem>, Error> {
        let mut problems = Vec::new();
        if staged.missing > 0 {
            let (missing, role) = (staged.missing, &owner.role);
            let detail = format!("{missing} more signatures are needed by keys of {role}");
            problems.push(Problem { code: "signatures_missing", detail });
        }
        let expires = staged.listing.expires;
        if expires <= now {
            let detail = format!("it expired at {expires}: stage it again");
            problems.push(Problem { code: "staging_expired", detail });
        }
        let wanted = self.parts.catalog.list_targets(&owner.role).await?;
        let wanted: BTreeSet<&str> = wanted.iter().map(|entry| entry.path.as_str()).collect();
        let gone = staged.listing.targets.keys().filter(|path| !wanted.contains(path.as_str()));
        problems.extend(gone.map(|path| Problem {
            code: "image_yanked",
            detail: format!("it lists {path}, which was yanked since: stage it again"),
        }));
        Ok(problems)
    }

    /// Targets that people sign have to name a supplier's keys before these can sign anything.
    async fn undelegated(&self, owner: &Owner) -> Result<Option<Problem>, Error> {
        if self.is_delegated(owner).await? {
            return Ok(None);
        }
        let detail = format!(
            "the top-level targets, which people sign, don't name these keys of {} yet: once enough of them have signed \
             this file, stage the targets, which are published together with it (`motorcade targets stage`)",
            owner.role
        );
        Ok(Some(Problem { code: "targets_unsigned", detail }))
    }

    /// The keys that the published targets delegate to.
    async fn delegated(&self, role: &RoleName) -> Result<BTreeSet<KeyId>, Error> {
        let named = self.parts.handovers.delegated(role).await?;
        Ok(named.map(|authority| authority.key_ids).unwrap_or_default())
    }

    /// Moves the files of keys away that this server had for the role, before the supplier had its
    /// own.
    async fn retire(&self, before: BTreeSet<KeyId>, owner: &Owner) -> Result<(), Error> {
        let left: BTreeSet<KeyId> =
            before.difference(&owner.authority().key_ids).copied().collect();
        let keyring = self.parts.handovers.keyring();
        let files = keyring.named(&left);
        if files.is_empty() {
            return Ok(());
        }
        self.parts.handovers.remove(files.into_iter())?;
        self.parts.handovers.reload().await
    }
}
