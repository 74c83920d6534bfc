//! The data key of an upload that waits: wrapped to the escrow key, and bound to the upload.
//!
//! Who can write to the catalog, and has no key, must not have an image sealed under the data key of
//! another one by putting that one's envelope here (docs/FORMAT.md, 6.8).

use sha2::{Digest, Sha256};

use crate::app::Error;
use crate::app::images::Images;
use crate::app::keys::escrow_failed;
use crate::catalog::UploadRecord;
use crate::envelope::jwe::{Envelope, EnvelopeError};
use crate::envelope::key::DataKey;
use crate::keys::EscrowKeys;
use crate::keys::escrow::{self, EscrowError};
use crate::model::{SealAlgorithm, Sha256Digest};

impl Images {
    /// Wraps the data key of an upload.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the escrow key can't be used; [`Error::Internal`].
    pub(super) async fn wrap_upload_key(
        &self,
        keys: &EscrowKeys,
        id: &str,
        secret: (DataKey, SealAlgorithm),
    ) -> Result<String, Error> {
        let sealed = escrow::seal(keys, secret, binding(id), Vec::new()).await;
        Ok(sealed.map_err(escrow_failed("wrap the key of an upload"))?.to_json_with_escrow())
    }

    /// Wraps the keys of all uploads that wait for the key that wraps now, before another one is
    /// taken out. One that does not open is left: its upload has to begin again.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if an escrow key can't be used; [`Error::Full`];
    /// [`Error::Internal`].
    pub(in crate::app) async fn rewrap_upload_keys(&self) -> Result<(), Error> {
        let keys = self.escrow.keys();
        for (id, wrapped) in self.catalog.open_upload_keys().await? {
            let Ok(envelope) = Envelope::parse(wrapped.as_bytes()) else { continue };
            if envelope.escrow_kid().as_ref() == Some(keys.wrapping.kid()) {
                continue;
            }
            let secret = match escrow::open(&keys, &envelope, &binding(&id)).await {
                Err(EscrowError::Envelope(error)) => {
                    tracing::warn!(upload.id = id, %error, "the key of an upload does not open");
                    continue;
                }
                opened => opened.map_err(escrow_failed("open the key of an upload"))?,
            };
            let again = self.wrap_upload_key(&keys, &id, secret).await?;
            self.catalog.replace_upload_key(&id, &wrapped, &again).await?;
        }
        Ok(())
    }

    /// Unwraps the data key of an upload.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if the escrow key that it was wrapped for is not there any more; [`Error::Unavailable`] if it can't be
    /// used; [`Error::Corrupt`] if it is another upload's, or an image's.
    pub(super) async fn unwrap_upload_key(&self, record: &UploadRecord) -> Result<DataKey, Error> {
        const OP: &str = "open the key of an upload";
        let upload = &record.upload;
        let envelope =
            Envelope::parse(upload.wrapped_key.as_bytes()).map_err(Error::internal(OP))?;
        let expected = binding(&upload.id);
        if envelope.image() != Some(expected) {
            return Err(not_its_key(&upload.id));
        }
        match escrow::open(&self.escrow.keys(), &envelope, &expected).await {
            Ok((data_key, _)) => Ok(data_key),
            Err(EscrowError::Envelope(EnvelopeError::NoEscrowEntry { .. })) => {
                let detail =
                    "no escrow key that is here opens the key of this upload: begin another one";
                Err(Error::Gone { code: "upload_key_gone", detail: detail.into() })
            }
            Err(error) => Err(escrow_failed(OP)(error)),
        }
    }
}

/// What the envelope of an upload's key is bound to, in place of a sealed image: the hash of a text
/// that begins as no sealed image does.
fn binding(id: &str) -> Sha256Digest {
    let text = format!("motorcade upload {id}");
    Sha256Digest::from_bytes(Sha256::digest(text).into())
}

fn not_its_key(id: &str) -> Error {
    Error::Corrupt {
        detail: format!("what the catalog has as the key of the upload {id} is not its key"),
    }
}
