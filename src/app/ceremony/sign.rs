//! Signatures as they arrive: each is checked before it is kept, and each that isn't kept is named.

use super::{Ceremony, CeremonyState, StagedRoot};
use crate::app::access::Principal;
use crate::app::images::precondition::Precondition;
use crate::app::{Error, Problem};
use crate::catalog::{self, Author};
use crate::model::{RepositorySide, Sha256Digest};

/// Signatures that somebody brings.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Digest of what was signed, as the signer has seen it.
    pub payload: Option<Sha256Digest>,
    /// The signatures.
    pub signatures: Vec<OfferedSignature>,
}

/// A signature that nobody has looked at.
#[derive(Debug, Clone)]
pub struct OfferedSignature {
    /// Id of the key, as it came.
    pub key_id: String,
    /// The signature in hexadecimal, as it came.
    pub signature: String,
}

impl Ceremony {
    /// Keeps the signatures that are good.
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
        staged.refuse_outdated(&state)?;
        if let Some(signed) = offer.payload.filter(|payload| *payload != staged.payload) {
            let detail = format!(
                "what was signed has the digest {signed}, and what is staged as revision {} has {}: sign that one",
                staged.revision(),
                staged.payload
            );
            return Err(Error::Conflict { code: "wrong_payload", detail });
        }
        if offer.signatures.is_empty() || offer.signatures.len() > MAX_SIGNATURES {
            let detail = format!("send 1 to {MAX_SIGNATURES} signatures");
            return Err(Error::Invalid { code: "bad_signatures", detail });
        }
        let author = by.author(self.clock.now());
        let mut problems = Vec::new();
        for offered in &offer.signatures {
            match staged.check_signature(offered)? {
                Ok((key_id, signature)) => {
                    let kept = self.keep(side, &staged, key_id, &signature, &author).await?;
                    problems.extend(kept.err());
                }
                Err(problem) => problems.push(problem),
            }
        }
        let kept = offer.signatures.len() - problems.len();
        if let Some(last) = problems.last_mut() {
            last.detail
                .push_str(&format!(" ({kept} of {} signatures were kept)", offer.signatures.len()));
            return Err(Error::Refused { problems });
        }
        self.state(side).await
    }

    /// Signs with each root key that this server has and that has not signed yet.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if it has none that may sign, or what is staged is outdated;
    /// [`Error::NotFound`], [`Error::Unexpected`]; [`Error::Internal`] if a signer fails.
    pub async fn sign_here(
        &self,
        side: RepositorySide,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<CeremonyState, Error> {
        const OP: &str = "sign what is staged";
        let (state, staged) = self.staged(side, expected).await?;
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
        for key in usable.into_iter().filter(|key| !staged.signers().contains(&key.id())) {
            let authorized = staged.unsigned()?.authorize(&either, [key.id()]);
            let authorized = authorized.map_err(Error::internal(OP))?;
            let signature = key.sign(authorized.message()).await;
            let signature = signature.map_err(Error::Internal)?;
            // One that came in meanwhile is as good.
            let _ = self.keep(side, &staged, key.id(), &signature, &author).await?;
        }
        self.state(side).await
    }

    async fn keep(
        &self,
        side: RepositorySide,
        staged: &StagedRoot,
        key_id: Sha256Digest,
        signature: &[u8],
        author: &Author,
    ) -> Result<Result<(), Problem>, Error> {
        match self.catalog.add_staged_signature(&staged.staging, key_id, signature, author).await {
            Err(catalog::Error::Overtaken) => Err(self.unexpected(side).await),
            Ok(false) => Ok(Err(already_signed(&key_id.to_string()))),
            kept => {
                kept?;
                tracing::info!(%side, %key_id, version = staged.staging.staged.version, "staged root signed");
                Ok(Ok(()))
            }
        }
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

    /// Looks at a signature. The outer error is the server's own.
    fn check_signature(
        &self,
        offered: &OfferedSignature,
    ) -> Result<Result<(Sha256Digest, Vec<u8>), Problem>, Error> {
        let OfferedSignature { key_id, signature } = offered;
        let refuse = |code, detail| Ok(Err(Problem { code, detail }));
        let Some(key) = self.key(key_id) else {
            let detail = format!(
                "the key {key_id:.64} is no root key, neither of the published root nor of the staged one"
            );
            return refuse("unknown_key", detail);
        };
        if self.signers().contains(&key.id()) {
            return Ok(Err(already_signed(key_id)));
        }
        match hex::decode(signature) {
            Ok(signature) if self.unsigned()?.is_signed_by(key, &signature) => {
                Ok(Ok((key.id(), signature)))
            }
            _ => refuse(
                "bad_signature",
                format!(
                    "the signature of {key_id} is not one of what is staged (revision {})",
                    self.revision()
                ),
            ),
        }
    }
}

fn already_signed(key_id: &str) -> Problem {
    let detail = format!("the key {key_id} has signed this already: one key counts once");
    Problem { code: "already_signed", detail }
}

/// As many keys as two roots can have.
const MAX_SIGNATURES: usize = 32;
