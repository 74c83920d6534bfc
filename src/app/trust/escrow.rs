//! The escrow key against what only it opens.
//!
//! A wrong escrow key is noticed by nobody when an image is uploaded, and lets the Director open
//! none of the images that were sealed under it once the right one is back. So an installation
//! remembers its escrow key by an envelope that is for this key alone; one of a version that did
//! not is asked by the images that it has.

use super::refuse;
use crate::app::Error;
use crate::catalog::{Age, Catalog, StoredEnvelope};
use crate::envelope::jwe::{Envelope, EnvelopeError};
use crate::envelope::key::DataKey;
use crate::keys::Escrow;
use crate::keys::escrow::{self, EscrowError};
use crate::model::SealAlgorithm;

/// Of how many of the oldest, and of the newest, images the envelopes are opened when a server
/// starts.
const ENVELOPES_AT_START: u32 = 8;

/// Why an envelope is not this escrow key's.
#[derive(Debug, thiserror::Error)]
pub(in crate::app) enum EscrowFault {
    /// It can't be read.
    #[error("it can't be read: {0}")]
    Unreadable(EnvelopeError),
    /// It is for a key of another id.
    #[error("it is for the escrow key {expected}")]
    OtherKey {
        /// That id.
        expected: String,
    },
    /// The key can't be asked.
    #[error("{0}")]
    Unusable(#[source] EscrowError),
    /// It names the key's id, and the key does not open it.
    #[error("the escrow key of that id does not open it")]
    DoesNotOpen,
}

/// Opens an envelope with `escrow`, and says for which way of sealing its key is.
pub(in crate::app) async fn check_envelope(
    envelope: &str,
    escrow: &dyn Escrow,
) -> Result<(Envelope, SealAlgorithm), EscrowFault> {
    let envelope = Envelope::parse(envelope.as_bytes()).map_err(EscrowFault::Unreadable)?;
    match escrow::open(escrow, &envelope).await {
        Ok((_, algorithm)) => Ok((envelope, algorithm)),
        Err(EscrowError::Envelope(EnvelopeError::NoEscrowEntry { .. })) => {
            let expected =
                envelope.escrow_kid().map_or_else(|| "of no id".into(), |kid| kid.to_string());
            Err(EscrowFault::OtherKey { expected })
        }
        Err(EscrowError::Envelope(_)) => Err(EscrowFault::DoesNotOpen),
        Err(error @ (EscrowError::Backend(_) | EscrowError::CutOff(_))) => {
            Err(EscrowFault::Unusable(error))
        }
    }
}

/// What is wrong with the key in `file`, as the installation remembers it; nothing if it remembers
/// none.
pub(in crate::app) async fn check_proof(
    catalog: &Catalog,
    escrow: &dyn Escrow,
) -> Result<Remembered, Error> {
    let Some(proof) = catalog.find_installed(PROOF).await? else { return Ok(Remembered::Nothing) };
    Ok(match check_envelope(&proof, escrow).await {
        Ok(_) => Remembered::This,
        Err(fault) => {
            Remembered::Another(describe(escrow, &fault, "this installation was made with"))
        }
    })
}

/// What an installation remembers of its escrow key.
pub(in crate::app) enum Remembered {
    Nothing,
    This,
    /// With what is wrong.
    Another(String),
}

fn describe(escrow: &dyn Escrow, fault: &EscrowFault, what: &str) -> String {
    let (file, kid) = (escrow.place(), escrow.kid());
    match fault {
        EscrowFault::OtherKey { expected } => {
            format!("{file} holds the escrow key {kid}, where the one that {what} is {expected}")
        }
        EscrowFault::DoesNotOpen => {
            format!(
                "{file} holds a damaged escrow key: its id is {kid}, as of the one that {what}, and its bytes are others"
            )
        }
        EscrowFault::Unusable(error) => {
            format!("{file} can't be asked about the one that {what}: {error}")
        }
        EscrowFault::Unreadable(error) => {
            format!(
                "what tells the escrow key that {what} from others is damaged in the catalog ({error})"
            )
        }
    }
}

/// Refuses a key that isn't the one that the installation was made with, and remembers it if no key
/// was remembered yet.
///
/// # Errors
///
/// [`Error::Conflict`]; [`Error::Full`]; [`Error::Internal`].
pub(in crate::app) async fn check_escrow(
    catalog: &Catalog,
    escrow: &dyn Escrow,
) -> Result<(), Error> {
    let newest = catalog.list_envelopes(Age::Newest, ENVELOPES_AT_START).await?;
    match check_proof(catalog, escrow).await? {
        Remembered::This => {}
        Remembered::Another(problem) => return refuse(&[problem]),
        Remembered::Nothing => {
            let oldest = catalog.list_envelopes(Age::Oldest, ENVELOPES_AT_START).await?;
            if let Some(problem) = compare_with_images(&oldest, &newest, escrow).await {
                return refuse(&[problem]);
            }
            let nobody = Vec::new();
            let proof =
                escrow::seal(escrow, DataKey::generate(), SealAlgorithm::default(), nobody).await;
            let proof = proof.map_err(Error::internal("make an envelope for the escrow key"))?;
            catalog.insert_installed(PROOF, &proof.to_json_with_escrow()).await?;
        }
    }
    for StoredEnvelope { path, envelope } in newest {
        if let Err(fault) = check_envelope(&envelope, escrow).await {
            tracing::error!(
                image.path = %path, %fault,
                "an image can't be assigned to vehicles that registered after its upload: upload it again; `motorcade fsck` lists all"
            );
        }
    }
    Ok(())
}

/// What speaks against the key as far as images tell. The oldest one was sealed under the key that
/// the installation was made with; if that had another id, it may have been replaced, and then the
/// newest images open.
async fn compare_with_images(
    oldest: &[StoredEnvelope],
    newest: &[StoredEnvelope],
    escrow: &dyn Escrow,
) -> Option<String> {
    for StoredEnvelope { path, envelope } in oldest {
        let fault = match check_envelope(envelope, escrow).await {
            Ok(_) => return None,
            Err(EscrowFault::Unreadable(_)) => continue, // says nothing of the key
            Err(fault) => fault,
        };
        if matches!(fault, EscrowFault::OtherKey { .. }) {
            for StoredEnvelope { envelope, .. } in newest {
                if check_envelope(envelope, escrow).await.is_ok() {
                    return None;
                }
            }
        }
        return Some(describe(escrow, &fault, &format!("opens the envelope of {path}")));
    }
    None
}

const PROOF: &str = "escrow_proof";
