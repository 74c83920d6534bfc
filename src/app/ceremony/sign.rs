//! Signatures of a staged root, as people bring them, or as this server makes them itself.

use super::offered::{Offer, Signable, keep, note_refused, take};
use super::{Ceremony, CeremonyState, StagedRoot};
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::images::precondition::Precondition;
use crate::app::signing::signing_failed;
use crate::keys;
use crate::model::{RepositorySide, RoleName};

impl Ceremony {
    /// Keeps the signatures that are good, and writes down the others in the audit log.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] names each one that isn't, and says how many were kept;
    /// [`Error::Conflict`] if something else was signed, or what is staged is outdated;
    /// [`Error::NotFound`], [`Error::Unexpected`] as for any change of what is staged.
    pub async fn sign(
        &self,
        side: RepositorySide,
        offer: &Offer,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<CeremonyState, Error> {
        let (state, staged) = self.staged(side, expected).await?;
        let author = by.author(self.clock.now());
        if let Err(error) = staged.refuse_outdated(&state) {
            let code = "staging_outdated";
            note_refused(&self.catalog, &staged.staging, offer, code, &author).await?;
            return Err(error);
        }
        let signable = Signable {
            staging: &staged.staging,
            keys: staged.keys().collect(),
            foreign: "is no root key, neither of the published root nor of the staged one".into(),
        };
        if take(&self.catalog, &signable, offer, &author).await?.is_none() {
            return Err(self.unexpected(side).await);
        }
        self.state(side).await
    }

    /// Signs with each root key that this server has and that has not signed yet.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if it has none that may sign, or what is staged is outdated;
    /// [`Error::NotFound`]; [`Error::Unexpected`], also if somebody else has staged it and the caller
    /// does not say that it is meant; [`Error::Unavailable`] if a signer fails; [`Error::Internal`].
    pub async fn sign_here(
        &self,
        side: RepositorySide,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<CeremonyState, Error> {
        const OP: &str = "sign what is staged";
        let (state, staged) = self.staged(side, expected).await?;
        staged.refuse_unseen(&state, expected, by)?;
        staged.refuse_outdated(&state)?;
        let (either, author) = (staged.succession.either(), by.author(self.clock.now()));
        self.handovers.reload().await?; // a root key that was put back for it
        let keyring = self.keyring();
        let usable = keyring.named(&either.key_ids);
        if usable.is_empty() {
            let detail = format!(
                "this server has no key that may sign root {} of the {side}: sign it with `motorcade root sign` where the keys are",
                staged.staging.staged.version
            );
            return Err(Error::Conflict { code: "no_key_here", detail });
        }
        for key in usable.into_iter().filter(|key| !staged.staging.signers().contains(&key.id())) {
            let authorized = staged.staging.unsigned()?.authorize(&either, [key.id()]);
            let authorized = authorized.map_err(Error::internal(OP))?;
            let signature = key.sign(authorized.message()).await;
            let failed = |source| keys::Error::Sign { role: RoleName::Root.to_string(), source };
            let signature = signature.map_err(failed).map_err(signing_failed(OP))?;
            // One that came in meanwhile is as good.
            if keep(&self.catalog, &staged.staging, key.id(), &signature, &author).await?.is_none()
            {
                return Err(self.unexpected(side).await);
            }
        }
        self.state(side).await
    }
}

impl StagedRoot {
    /// What is staged follows a root that isn't the last one any more.
    pub(super) fn refuse_outdated(&self, state: &CeremonyState) -> Result<(), Error> {
        if !self.is_outdated {
            return Ok(());
        }
        let detail = format!(
            "another root was published since this was staged, so that nobody can take it any more: stage the change again; {}",
            state.described()
        );
        Err(Error::Conflict { code: "staging_outdated", detail })
    }
}
