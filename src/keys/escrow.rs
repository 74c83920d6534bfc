//! The escrow key: one more recipient of every envelope, so that the server can wrap a data key
//! again for somebody else.
//!
//! Only the wrapping of content encryption keys is the backend's. What is heavy besides, RSA and
//! ECDH for the recipients, runs here where it holds no executor up.

use std::fmt;

use async_trait::async_trait;
use serde_json::Value;
use tokio::task::{JoinError, spawn_blocking};

use super::BackendError;
use crate::envelope::jwe::{Envelope, EnvelopeError};
use crate::envelope::key::{Cek, DataKey, Kid, RecipientKey};
use crate::envelope::wrap::EscrowedKey;
use crate::model::SealAlgorithm;

/// The key that opens every envelope for the server itself, wherever it is.
#[async_trait]
pub trait Escrow: fmt::Debug + Send + Sync {
    /// Where it is, for messages: its file, say.
    fn place(&self) -> String;

    /// Its id.
    fn kid(&self) -> &Kid;

    /// Wraps a content encryption key. **Must not** hold the executor up.
    ///
    /// # Errors
    ///
    /// Whatever the backend says.
    async fn wrap_key(&self, cek: &Cek) -> Result<EscrowedKey, BackendError>;

    /// Unwraps a content encryption key; gives nothing if it was wrapped by another key. **Must
    /// not** hold the executor up.
    ///
    /// # Errors
    ///
    /// Whatever the backend says.
    async fn unwrap_key(&self, escrowed: &EscrowedKey) -> Result<Option<Cek>, BackendError>;
}

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

/// Seals an envelope for recipients and the escrow key.
///
/// # Errors
///
/// [`EscrowError`].
pub async fn seal(
    escrow: &dyn Escrow,
    data_key: DataKey,
    algorithm: SealAlgorithm,
    recipients: Vec<RecipientKey>,
) -> Result<Envelope, EscrowError> {
    let cek = Cek::generate();
    let escrowed = escrow.wrap_key(&cek).await.map_err(EscrowError::Backend)?;
    let kid = escrow.kid().clone();
    let seal = move || {
        let recipients: Vec<&RecipientKey> = recipients.iter().collect();
        Envelope::seal_with(&cek, &data_key, algorithm, &recipients, Some((kid, escrowed)))
    };
    Ok(spawn_blocking(seal).await??)
}

/// Opens an envelope with the escrow key.
///
/// # Errors
///
/// [`EscrowError`].
pub async fn open(
    escrow: &dyn Escrow,
    envelope: &Envelope,
) -> Result<(DataKey, SealAlgorithm), EscrowError> {
    Ok(envelope.open_with(&recover(escrow, envelope).await?)?)
}

/// Wraps an envelope's data key for somebody who is not in it.
///
/// # Errors
///
/// [`EscrowError`].
pub async fn wrap_for(
    escrow: &dyn Escrow,
    envelope: Envelope,
    recipient: RecipientKey,
) -> Result<Value, EscrowError> {
    let cek = recover(escrow, &envelope).await?;
    Ok(spawn_blocking(move || envelope.for_recipient(&cek, &recipient)).await??)
}

/// The content encryption key of an envelope; what is done with it proves it on the content.
async fn recover(escrow: &dyn Escrow, envelope: &Envelope) -> Result<Cek, EscrowError> {
    let escrowed = envelope.escrowed(escrow.kid())?;
    let cek = escrow.unwrap_key(escrowed).await.map_err(EscrowError::Backend)?;
    Ok(cek.ok_or(EnvelopeError::DoesNotOpen)?)
}
