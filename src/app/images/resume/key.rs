//! The data key of an upload that waits: of two halves, one in the catalog and one with its sealed
//! bytes.
//!
//! The first is wrapped to the escrow key, and bound to the upload: who can write to the catalog, and
//! has no key, must not have an image sealed under the data key of another one by putting that one's
//! envelope here, nor have this one sealed for somebody else (docs/FORMAT.md, 6.8). The second goes
//! with the upload, so that its row alone is no upload that can be gone on with (6.9).

use std::sync::Arc;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::app::Error;
use crate::app::images::Images;
use crate::app::keys::escrow_failed;
use crate::blob::{Parts, PartsSecret};
use crate::catalog::NewUpload;
use crate::envelope::halves;
use crate::envelope::jwe::{Envelope, EnvelopeError};
use crate::envelope::key::DataKey;
use crate::keys::EscrowKeys;
use crate::keys::escrow::{self, EscrowError};
use crate::model::{SealAlgorithm, Sha256Digest};

/// The data key of an upload that begins.
pub(super) struct NewKey {
    pub(super) data_key: DataKey,
    /// To be wrapped.
    pub(super) wrapped_half: DataKey,
    /// To be kept with the sealed bytes.
    pub(super) kept_half: PartsSecret,
}

impl NewKey {
    pub(super) fn generate() -> Result<Self, Error> {
        let mut kept = Zeroizing::new([0; 32]);
        getrandom::fill(kept.as_mut()).map_err(Error::internal("make the key of an upload"))?;
        let wrapped_half = DataKey::generate();
        let data_key = halves::join(&wrapped_half, &kept);
        Ok(Self { data_key, wrapped_half, kept_half: PartsSecret::from_bytes(&kept) })
    }
}

impl Images {
    /// Wraps the half of an upload's data key that its row has, bound to what else the row says.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the escrow key can't be used; [`Error::Internal`].
    pub(super) async fn wrap_upload_key(
        &self,
        keys: &EscrowKeys,
        upload: &NewUpload,
        half: (DataKey, SealAlgorithm),
    ) -> Result<String, Error> {
        wrap(keys, half, binding(upload)).await
    }

    /// Wraps the keys of all uploads that wait for the key that wraps now, before another one is
    /// taken out. One that does not open is left: its upload has to begin again.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if an escrow key can't be used, or another server has put another one in
    /// its place; [`Error::Full`]; [`Error::Internal`].
    pub(in crate::app) async fn rewrap_upload_keys(&self) -> Result<(), Error> {
        let keys = self.escrow.keys();
        for (id, wrapped) in self.catalog.open_upload_keys().await? {
            let Ok(envelope) = Envelope::parse(wrapped.as_bytes()) else { continue };
            if envelope.escrow_kid().as_ref() == Some(keys.wrapping.kid()) {
                continue;
            }
            let Some(bound) = envelope.image() else { continue }; // no upload's
            let half = match escrow::open(&keys, &envelope, &bound).await {
                Err(EscrowError::Envelope(error)) => {
                    tracing::warn!(upload.id = id, %error, "the key of an upload does not open");
                    continue;
                }
                opened => opened.map_err(escrow_failed("open the key of an upload"))?,
            };
            let again = wrap(&keys, half, bound).await?;
            let kid = keys.wrapping.kid().as_str();
            self.catalog.replace_upload_key(&id, (&wrapped, &again), kid).await?;
        }
        Ok(())
    }

    /// Joins the data key of an upload.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if the escrow key that its one half was wrapped for is not there any more, or
    /// the other half is not; [`Error::Unavailable`] if the escrow key can't be used, or is not here
    /// yet;
    /// [`Error::Corrupt`] if the one half is another upload's, or an image's.
    pub(super) async fn open_upload_key(&self, upload: &NewUpload) -> Result<DataKey, Error> {
        let kept = self.blobs.parts_secret(&Parts::from_text(upload.parts.clone())).await?;
        let kept = kept.ok_or_else(lost)?;
        Ok(halves::join(&self.unwrap_half(upload).await?, kept.as_bytes()))
    }

    async fn unwrap_half(&self, upload: &NewUpload) -> Result<DataKey, Error> {
        const OP: &str = "open the key of an upload";
        let envelope =
            Envelope::parse(upload.wrapped_key.as_bytes()).map_err(Error::internal(OP))?;
        let expected = binding(upload);
        if envelope.image() != Some(expected) {
            return Err(not_its_own(&upload.id, "key"));
        }
        let mut opened = escrow::open(&self.escrow.keys(), &envelope, &expected).await;
        if matches!(opened, Err(EscrowError::Envelope(EnvelopeError::NoEscrowEntry { .. }))) {
            // The key may have come meanwhile, or be at the others, where the upload goes on.
            self.escrow.check_current().await?;
            opened = escrow::open(&self.escrow.keys(), &envelope, &expected).await;
        }
        match opened {
            Ok((half, _)) => Ok(half),
            Err(EscrowError::Envelope(EnvelopeError::NoEscrowEntry { .. })) => {
                let detail =
                    "no escrow key that is here opens the key of this upload: begin another one";
                Err(Error::Gone { code: "upload_key_gone", detail: detail.into() })
            }
            Err(error) => Err(escrow_failed(OP)(error)),
        }
    }
}

async fn wrap(
    keys: &EscrowKeys,
    half: (DataKey, SealAlgorithm),
    bound: Sha256Digest,
) -> Result<String, Error> {
    let (half, algorithm) = half;
    let sealed = escrow::seal(keys, (Arc::new(half), algorithm), bound, Vec::new()).await;
    Ok(sealed.map_err(escrow_failed("wrap the key of an upload"))?.to_json_with_escrow())
}

/// What the envelope of an upload's key is bound to, in place of a sealed image: the hash of a text
/// that begins as no sealed image does, and says all that stays as it was when the upload began.
fn binding(upload: &NewUpload) -> Sha256Digest {
    let (length, request) = (upload.length.to_string(), upload.request.to_string());
    let mut hash = Sha256::new_with_prefix("motorcade upload\n");
    for said in [&upload.id, upload.path.as_str(), &upload.created_by, &length, &request] {
        hash.update(format!("{}:{said},", said.len()));
    }
    Sha256Digest::from_bytes(hash.finalize().into())
}

/// For an upload whose sealed bytes are not what the catalog knows of them.
pub(super) fn lost() -> Error {
    let detail = "what is stored of this upload is not what the catalog knows of it, as after a restored backup: begin \
                  another one";
    Error::Gone { code: "upload_lost", detail: detail.into() }
}

/// For what has come into an upload's row in place of its own.
pub(super) fn not_its_own(id: &str, what: &str) -> Error {
    Error::Corrupt {
        detail: format!("what the catalog has as the {what} of the upload {id} is not its own"),
    }
}
