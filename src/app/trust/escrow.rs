//! The escrow key against what only it opens.
//!
//! A wrong escrow key is noticed by nobody when an image is uploaded, and lets the Director open
//! none of the images that were sealed under it once the right one is back. So an installation
//! remembers its escrow key by an envelope that is for this key alone; one of a version that did
//! not is asked by the images that it has.

use std::sync::Arc;

use super::refuse;
use crate::app::Error;
use crate::app::keys::escrow_failed;
use crate::catalog::{Age, Author, Catalog, EscrowKeyAdded, StoredEnvelope};
use crate::envelope::jwe::{Envelope, EnvelopeError};
use crate::envelope::key::Kid;
use crate::keys::escrow::{self, EscrowError};
use crate::keys::{Escrow, EscrowRing};
use crate::model::{SealAlgorithm, Sha256Digest};
use crate::telemetry::Chain;

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
    /// It is bound to another image.
    #[error("{0}")]
    OtherImage(EnvelopeError),
    /// It names the key's id, and the key does not open it.
    #[error("the escrow key of that id does not open it")]
    DoesNotOpen,
}

/// Opens the envelope of the image with that SHA-256, when sealed, and says for which way of
/// sealing its key is.
pub(in crate::app) async fn check_envelope(
    envelope: &str,
    escrow: &EscrowRing,
    image: &Sha256Digest,
) -> Result<(Envelope, SealAlgorithm), EscrowFault> {
    let envelope = Envelope::parse(envelope.as_bytes()).map_err(EscrowFault::Unreadable)?;
    match escrow::open(&escrow.keys(), &envelope, image).await {
        Ok((_, algorithm)) => Ok((envelope, algorithm)),
        Err(error) => Err(fault_of(error, &envelope)),
    }
}

async fn open_proof(proof: &str, key: &dyn Escrow) -> Result<(), EscrowFault> {
    let proof = Envelope::parse(proof.as_bytes()).map_err(EscrowFault::Unreadable)?;
    escrow::open_proof(key, &proof).await.map_err(|error| fault_of(error, &proof))
}

fn fault_of(error: EscrowError, envelope: &Envelope) -> EscrowFault {
    match error {
        EscrowError::Envelope(EnvelopeError::NoEscrowEntry { .. }) => {
            let expected =
                envelope.escrow_kid().map_or_else(|| "of no id".into(), |kid| kid.to_string());
            EscrowFault::OtherKey { expected }
        }
        EscrowError::Envelope(fault @ EnvelopeError::OtherImage { .. }) => {
            EscrowFault::OtherImage(fault)
        }
        EscrowError::Envelope(_) => EscrowFault::DoesNotOpen,
        error @ (EscrowError::Backend(_) | EscrowError::CutOff(_)) => EscrowFault::Unusable(error),
    }
}

/// What the installation remembers of its escrow keys; nothing if it remembers none.
///
/// Each key has an envelope of its own to be known by. A key that has none is taken if another one
/// of the ring is known: the ring was changed, and the server ended before it had made one.
pub(in crate::app) async fn check_proof(
    catalog: &Catalog,
    escrow: &EscrowRing,
) -> Result<Remembered, Error> {
    let keys = escrow.keys();
    let first = catalog.find_installed(PROOF).await?;
    let (mut known, mut unknown) = (0, Vec::new());
    for key in keys.all() {
        let own = catalog.find_installed(&proof_name(key.kid())).await?;
        let checked = match (&own, &first) {
            (Some(own), _) => open_proof(own, key.as_ref()).await,
            (None, Some(first)) => open_proof(first, key.as_ref()).await,
            (None, None) => {
                unknown.push((Arc::clone(key), None));
                continue;
            }
        };
        match checked {
            Ok(()) => known += 1,
            Err(EscrowFault::Unusable(error)) => {
                // What it has wrapped waits for it; what is signed is served.
                tracing::error!(key = key.place(), error = %Chain(&error), "an escrow key can't be used");
                known += 1;
            }
            Err(fault @ EscrowFault::OtherKey { .. }) if own.is_none() => {
                unknown.push((Arc::clone(key), Some(fault)));
            }
            Err(fault) => return Ok(another(key.as_ref(), &fault)),
        }
    }
    Ok(match unknown.first() {
        None => Remembered::These,
        Some(_) if known > 0 => {
            Remembered::AllBut { unknown: unknown.into_iter().map(|(key, _)| key).collect() }
        }
        Some((key, Some(fault))) => another(key.as_ref(), fault),
        Some((_, None)) => Remembered::Nothing,
    })
}

fn another(key: &dyn Escrow, fault: &EscrowFault) -> Remembered {
    Remembered::Another(describe(key, fault, "this installation goes by"))
}

/// What an installation remembers of its escrow keys.
pub(in crate::app) enum Remembered {
    Nothing,
    /// All that are in the ring.
    These,
    /// All but these.
    AllBut {
        unknown: Vec<Arc<dyn Escrow>>,
    },
    /// With what is wrong.
    Another(String),
}

fn describe(key: &dyn Escrow, fault: &EscrowFault, what: &str) -> String {
    let (file, kid) = (key.place(), key.kid());
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
            format!("{file} can't be asked about the one that {what}: {}", Chain(error))
        }
        EscrowFault::Unreadable(error) | EscrowFault::OtherImage(error) => {
            format!(
                "what tells the escrow key that {what} from others is damaged in the catalog ({error})"
            )
        }
    }
}

/// Makes an envelope by which a key is known from now on.
///
/// # Errors
///
/// [`Error::Unavailable`] if the key can't be used; [`Error::Full`]; [`Error::Internal`].
pub(super) async fn remember(catalog: &Catalog, key: &dyn Escrow) -> Result<(), Error> {
    let proof = escrow::seal_proof(key).await;
    let proof = proof.map_err(escrow_failed("make an envelope for the escrow key"))?;
    let name = match catalog.find_installed(PROOF).await? {
        None => PROOF.to_owned(),
        Some(_) => proof_name(key.kid()),
    };
    Ok(catalog.insert_installed(&name, &proof.to_json_with_escrow()).await?)
}

/// Whether there is an envelope by which a key is known.
///
/// # Errors
///
/// [`Error::Internal`].
pub(super) async fn is_known(catalog: &Catalog, kid: &Kid) -> Result<bool, Error> {
    if catalog.find_installed(&proof_name(kid)).await?.is_some() {
        return Ok(true);
    }
    let first = catalog.find_installed(PROOF).await?.unwrap_or_default();
    let first = Envelope::parse(first.as_bytes()).ok();
    Ok(first.and_then(|proof| proof.escrow_kid()).as_ref() == Some(kid))
}

/// Writes down that another key than `after` wraps from now on, at all servers, and makes an
/// envelope by which it is known.
///
/// # Errors
///
/// As [`remember`]; [`Error::Unavailable`] if another one than `after` has wrapped.
pub(in crate::app) async fn add_key(
    catalog: &Catalog,
    key: &dyn Escrow,
    source: &str,
    after: &str,
    author: &Author,
) -> Result<(), Error> {
    let proof = escrow::seal_proof(key).await;
    let proof = proof.map_err(escrow_failed("make an envelope for the escrow key"))?;
    let (name, proof) = (proof_name(key.kid()), proof.to_json_with_escrow());
    let added = EscrowKeyAdded { kid: key.kid().as_str(), source, after };
    Ok(catalog.add_escrow_key(&name, &proof, added, author).await?)
}

/// Writes down that a former key is not taken any more, so that it is refused if it comes back
/// alone. Doing it again changes nothing.
///
/// # Errors
///
/// [`Error::Full`]; [`Error::Internal`].
pub(in crate::app) async fn retire_key(
    catalog: &Catalog,
    former: &Kid,
    wrapping: &Kid,
    author: &Author,
) -> Result<(), Error> {
    let proofs = [&proof_name(wrapping), PROOF];
    Ok(catalog.retire_escrow_key(former.as_str(), proofs, author).await?)
}

/// Refuses a key that isn't one that the installation goes by, and remembers those that are
/// not remembered yet.
///
/// # Errors
///
/// [`Error::Conflict`]; [`Error::Full`]; [`Error::Internal`].
pub(in crate::app) async fn check_escrow(
    catalog: &Catalog,
    escrow: &EscrowRing,
) -> Result<(), Error> {
    let newest = catalog.list_envelopes(Age::Newest, ENVELOPES_AT_START).await?;
    match check_proof(catalog, escrow).await? {
        Remembered::These => {}
        Remembered::Another(problem) => return refuse(&[problem]),
        Remembered::AllBut { unknown } => remember_former(catalog, escrow, &unknown).await?,
        Remembered::Nothing => {
            let oldest = catalog.list_envelopes(Age::Oldest, ENVELOPES_AT_START).await?;
            if let Some(problem) = compare_with_images(&oldest, &newest, escrow).await {
                return refuse(&[problem]);
            }
            for key in escrow.keys().all() {
                remember(catalog, key.as_ref()).await?;
            }
        }
    }
    for StoredEnvelope { path, sealed_sha256, envelope } in newest {
        if let Err(fault) = check_envelope(&envelope, escrow, &sealed_sha256).await {
            tracing::error!(
                image.path = %path, %fault,
                "an image can't be assigned to vehicles that registered after its upload: upload it again; `motorcade fsck` lists all"
            );
        }
    }
    Ok(())
}

/// Remembers keys that have come into the ring by hand, as for a catalog from before a rotation. Of
/// the one that wraps, see [`super::settle_wrapping`]; one that was taken back stays so.
async fn remember_former(
    catalog: &Catalog,
    escrow: &EscrowRing,
    unknown: &[Arc<dyn Escrow>],
) -> Result<(), Error> {
    let keys = escrow.keys();
    for key in unknown.iter().filter(|key| key.kid() != keys.wrapping.kid()) {
        if !catalog.is_escrow_retired(key.kid().as_str()).await? {
            remember(catalog, key.as_ref()).await?;
        }
    }
    Ok(())
}

/// What speaks against the keys as far as images tell. The oldest one was sealed under the key that
/// the installation was made with; if that had another id, it may have been replaced, and then the
/// newest images open.
async fn compare_with_images(
    oldest: &[StoredEnvelope],
    newest: &[StoredEnvelope],
    escrow: &EscrowRing,
) -> Option<String> {
    for StoredEnvelope { path, sealed_sha256, envelope } in oldest {
        let fault = match check_envelope(envelope, escrow, sealed_sha256).await {
            Ok(_) => return None,
            // These say nothing of the key.
            Err(EscrowFault::Unreadable(_) | EscrowFault::OtherImage(_)) => continue,
            Err(fault) => fault,
        };
        if matches!(fault, EscrowFault::OtherKey { .. }) {
            for StoredEnvelope { envelope, sealed_sha256, .. } in newest {
                if check_envelope(envelope, escrow, sealed_sha256).await.is_ok() {
                    return None;
                }
            }
        }
        let key = &escrow.keys().wrapping;
        return Some(describe(key.as_ref(), &fault, &format!("opens the envelope of {path}")));
    }
    None
}

fn proof_name(kid: &Kid) -> String {
    format!("{PROOF}.{kid}")
}

/// The envelope by which the first key is known; with a dot and a key's id, that of another one.
const PROOF: &str = "escrow_proof";
