//! The escrow key: one more recipient of every envelope, so that the server can wrap a data key
//! again for somebody else.
//!
//! There may be more than one, in a ring: one that wraps, and former ones that open what they have
//! wrapped. Each envelope is bound to its sealed image, and is opened for that one alone. Only the
//! wrapping of content encryption keys is the backend's. What is heavy besides, RSA and
//! ECDH for the recipients, runs here where it holds no executor up.

use std::sync::Arc;

use serde_json::Value;
use tokio::task::{JoinError, spawn_blocking};

use super::{BackendError, Escrow, EscrowKeys};
use crate::envelope::jwe::{Envelope, EnvelopeError};
use crate::envelope::key::{Cek, DataKey, RecipientKey};
use crate::model::{SealAlgorithm, Sha256Digest};

/// Why the escrow key did not do something with an envelope.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// The envelope is not for it, or damaged.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Its backend refused.
    #[error("the escrow key can't be used")]
    Backend(#[source] BackendError),
    /// The work was cut off.
    #[error("the work on an envelope was cut off")]
    CutOff(#[from] JoinError),
}

/// Seals an envelope for recipients and the escrow key that wraps, bound to the sealed image with
/// the SHA-256 `image`.
///
/// # Errors
///
/// [`EscrowError`].
pub async fn seal(
    keys: &EscrowKeys,
    secret: (Arc<DataKey>, SealAlgorithm),
    image: Sha256Digest,
    recipients: Vec<RecipientKey>,
) -> Result<Envelope, EscrowError> {
    seal_for(keys.wrapping.as_ref(), secret, Some(image), recipients).await
}

/// Seals an envelope for one escrow key alone and for no image, to know the key by.
///
/// # Errors
///
/// [`EscrowError`].
pub async fn seal_proof(escrow: &dyn Escrow) -> Result<Envelope, EscrowError> {
    let secret = (Arc::new(DataKey::generate()), SealAlgorithm::default());
    seal_for(escrow, secret, None, Vec::new()).await
}

/// Opens what [`seal_proof`] has sealed.
///
/// # Errors
///
/// [`EscrowError`].
pub async fn open_proof(escrow: &dyn Escrow, proof: &Envelope) -> Result<(), EscrowError> {
    let cek = unwrap_key(escrow, proof).await?;
    Ok(proof.open_with(&cek).map(drop)?)
}

async fn seal_for(
    escrow: &dyn Escrow,
    (data_key, algorithm): (Arc<DataKey>, SealAlgorithm),
    image: Option<Sha256Digest>,
    recipients: Vec<RecipientKey>,
) -> Result<Envelope, EscrowError> {
    let cek = Cek::generate();
    let escrowed = escrow.wrap_key(&cek).await.map_err(EscrowError::Backend)?;
    let kid = escrow.kid().clone();
    let seal = move || {
        let recipients: Vec<&RecipientKey> = recipients.iter().collect();
        let escrowed = Some((kid, escrowed));
        Envelope::seal_with(&cek, (&data_key, algorithm), image, &recipients, escrowed)
    };
    Ok(spawn_blocking(seal).await??)
}

/// Opens an image's envelope with the escrow key that it is for.
///
/// # Errors
///
/// [`EscrowError`], also for an envelope that is bound to another image.
pub async fn open(
    keys: &EscrowKeys,
    envelope: &Envelope,
    image: &Sha256Digest,
) -> Result<(DataKey, SealAlgorithm), EscrowError> {
    Ok(envelope.open_with(&recover(keys, envelope, image).await?)?)
}

/// Wraps the data key of an image for somebody who is not in its envelope.
///
/// # Errors
///
/// [`EscrowError`], also for an envelope that is bound to another image.
pub async fn wrap_for(
    keys: &EscrowKeys,
    envelope: Envelope,
    image: &Sha256Digest,
    recipient: RecipientKey,
) -> Result<Value, EscrowError> {
    let cek = recover(keys, &envelope, image).await?;
    Ok(spawn_blocking(move || envelope.for_recipient(&cek, &recipient)).await??)
}

/// The content encryption key of the envelope of the image with that SHA-256, when sealed; what is
/// done with it proves it on the content, and the binding with it.
///
/// # Errors
///
/// [`EscrowError`], also for an envelope that is bound to another image.
pub async fn recover(
    keys: &EscrowKeys,
    envelope: &Envelope,
    image: &Sha256Digest,
) -> Result<Cek, EscrowError> {
    envelope.check_image(image)?;
    let is_its_own = |key: &&Arc<dyn Escrow>| envelope.escrowed(key.kid()).is_ok();
    let escrow = keys.all().find(is_its_own).unwrap_or(&keys.wrapping);
    unwrap_key(escrow.as_ref(), envelope).await
}

async fn unwrap_key(escrow: &dyn Escrow, envelope: &Envelope) -> Result<Cek, EscrowError> {
    let escrowed = envelope.escrowed(escrow.kid())?;
    let cek = escrow.unwrap_key(escrowed).await.map_err(EscrowError::Backend)?;
    Ok(cek.ok_or(EnvelopeError::DoesNotOpen)?)
}
