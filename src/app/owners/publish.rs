//! From what is staged and signed to what clients fetch: all checks first, then one publication.

use std::collections::BTreeSet;

use super::{OwnedState, Owner, Owners, StagedTargets};
use crate::app::access::Principal;
use crate::app::images::precondition::Precondition;
use crate::app::{Error, Problem};
use crate::catalog::Author;
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
        let version = staged.staging.staged.version;
        let author = by.author(self.parts.clock.now());
        let (mut signed, mut leaving) = (Vec::new(), BTreeSet::new());
        for (owner, staged) in self.fit(state.owner, staged, now).await? {
            signed.push(staged.signed(&owner, author.clone())?);
            let before = self.delegated(&owner.role).await?;
            leaving.extend(before.difference(&owner.authority().key_ids));
        }
        self.parts.publisher.publish_signed(signed).await?;
        let published = self.state(role, by).await?;
        if published.role.version != version {
            return Err(published.unexpected());
        }
        tracing::info!(%role, version, "signed targets published");
        self.retire(&leaving, &author).await?;
        self.parts.handovers.look_after().await; // targets may have named other keys for the bins
        Ok(published)
    }

    /// What is published together: a file, with those that have to come with it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] names all that speaks against it.
    async fn fit(
        &self,
        owner: Owner,
        staged: StagedTargets,
        now: Timestamp,
    ) -> Result<Vec<(Owner, StagedTargets)>, Error> {
        let mut problems = self.unfit(&owner, &staged, now).await?;
        let mut files = Vec::new();
        if owner.supplier.is_none() {
            let (together, stale) = self.with_targets(&staged.listing, now).await?;
            files.extend(together);
            problems.extend(stale);
        } else if self.parts.publisher.policy().has_offline_targets() {
            problems.extend(self.undelegated(&owner).await?);
        }
        files.push((owner, staged));
        if problems.is_empty() { Ok(files) } else { Err(Error::Refused { problems }) }
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

    /// Moves the files of keys away that this server had for suppliers, before these had their own.
    async fn retire(&self, leaving: &BTreeSet<KeyId>, author: &Author) -> Result<(), Error> {
        let keyring = self.parts.handovers.keyring();
        let files = keyring.named(leaving);
        if files.is_empty() {
            return Ok(());
        }
        self.parts.handovers.remove(files.into_iter(), author).await?;
        self.parts.handovers.reload().await
    }
}
