//! Signatures that somebody brings, of whatever is staged: each is checked before it is kept, and
//! each that isn't kept is named.

use crate::app::{Error, Problem};
use crate::catalog::{self, Author, Catalog, RefusedSignature, StagedSignature, Staging};
use crate::model::Sha256Digest;
use crate::uptane::key::{KeyId, PublicKey};
use crate::uptane::metadata::Unsigned;

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

/// What is staged, as whoever takes signatures in looks at it.
pub(in crate::app) struct Signable<'a> {
    /// As it is kept.
    pub(in crate::app) staging: &'a Staging,
    /// The keys that may sign it.
    pub(in crate::app) keys: Vec<&'a PublicKey>,
    /// Why another key may not: `is no root key`, say.
    pub(in crate::app) foreign: String,
}

/// Keeps the signatures that are good, and writes down the others in the audit log.
///
/// # Errors
///
/// [`Error::Refused`] names each one that isn't, and says how many were kept; [`Error::Conflict`] if
/// something else was signed; [`Error::Invalid`] for none or too many. None if what is staged was
/// replaced meanwhile.
pub(in crate::app) async fn take(
    catalog: &Catalog,
    signable: &Signable<'_>,
    offer: &Offer,
    author: &Author,
) -> Result<Option<()>, Error> {
    let unsigned = signable.staging.unsigned()?;
    let (revision, payload) = (signable.staging.revision, unsigned.digest());
    if let Some(signed) = offer.payload.filter(|signed| *signed != payload) {
        let detail = format!(
            "what was signed has the digest {signed}, and what is staged as revision {revision} has {payload}: sign that one"
        );
        note_refused(catalog, signable.staging, offer, "wrong_payload", author).await?;
        return Err(Error::Conflict { code: "wrong_payload", detail });
    }
    if offer.signatures.is_empty() || offer.signatures.len() > MAX_SIGNATURES {
        let detail = format!("send 1 to {MAX_SIGNATURES} signatures");
        return Err(Error::Invalid { code: "bad_signatures", detail });
    }
    let (mut problems, mut refused) = (Vec::new(), Vec::new());
    for offered in &offer.signatures {
        let kept = match signable.check(&unsigned, offered) {
            Err(problem) => Err(problem),
            Ok((key_id, signature)) => {
                let kept = keep(catalog, signable.staging, key_id, &signature, author).await?;
                let Some(kept) = kept else { return Ok(None) };
                kept
            }
        };
        if let Err(problem) = kept {
            refused.push(refusal(offered, problem.code));
            problems.push(problem);
        }
    }
    if !refused.is_empty() {
        catalog.note_refused_signatures(signable.staging, &refused, author).await?;
    }
    let kept = offer.signatures.len() - problems.len();
    if let Some(last) = problems.last_mut() {
        last.detail
            .push_str(&format!(" ({kept} of {} signatures were kept)", offer.signatures.len()));
        return Err(Error::Refused { problems });
    }
    Ok(Some(()))
}

/// Writes down that all signatures are refused, for a reason that they have in common.
///
/// # Errors
///
/// [`Error::Full`]; [`Error::Internal`].
pub(in crate::app) async fn note_refused(
    catalog: &Catalog,
    staging: &Staging,
    offer: &Offer,
    code: &'static str,
    author: &Author,
) -> Result<(), Error> {
    let refused: Vec<RefusedSignature> = offer
        .signatures
        .iter()
        .take(MAX_SIGNATURES)
        .map(|offered| refusal(offered, code))
        .collect();
    Ok(catalog.note_refused_signatures(staging, &refused, author).await?)
}

/// Keeps a signature that is good; the problem is that the key has signed before. None if what is
/// staged was replaced meanwhile.
pub(in crate::app) async fn keep(
    catalog: &Catalog,
    staging: &Staging,
    key_id: KeyId,
    signature: &[u8],
    author: &Author,
) -> Result<Option<Result<(), Problem>>, Error> {
    match catalog.add_staged_signature(staging, key_id, signature, author).await {
        Err(catalog::Error::Overtaken) => Ok(None),
        Ok(false) => Ok(Some(Err(already_signed(&key_id.to_string())))),
        kept => {
            kept?;
            let new = &staging.staged;
            tracing::info!(side = %new.side, role = %new.role, %key_id, version = new.version, "staged metadata signed");
            Ok(Some(Ok(())))
        }
    }
}

impl Signable<'_> {
    fn check(
        &self,
        unsigned: &Unsigned,
        offered: &OfferedSignature,
    ) -> Result<(KeyId, Vec<u8>), Problem> {
        let OfferedSignature { key_id, signature } = offered;
        let Some(key) = self.keys.iter().find(|key| key.id().to_string() == *key_id) else {
            let detail = format!("the key {key_id:.64} {}", self.foreign);
            return Err(Problem { code: "unknown_key", detail });
        };
        let has_signed = |signature: &StagedSignature| signature.key_id == key.id();
        if self.staging.signatures.iter().any(has_signed) {
            return Err(already_signed(key_id));
        }
        match hex::decode(signature) {
            Ok(signature) if unsigned.is_signed_by(key, &signature) => Ok((key.id(), signature)),
            _ => {
                let revision = self.staging.revision;
                let detail = format!(
                    "the signature of {key_id} is not one of what is staged (revision {revision})"
                );
                Err(Problem { code: "bad_signature", detail })
            }
        }
    }
}

fn refusal(offered: &OfferedSignature, code: &'static str) -> RefusedSignature {
    RefusedSignature { key_id: offered.key_id.clone(), code }
}

fn already_signed(key_id: &str) -> Problem {
    let detail = format!("the key {key_id} has signed this already: one key counts once");
    Problem { code: "already_signed", detail }
}

/// As many keys as two roots can have.
const MAX_SIGNATURES: usize = 32;
