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
        id: &str,
        secret: (DataKey, SealAlgorithm),
    ) -> Result<String, Error> {
        let sealed = escrow::seal(&self.escrow.keys(), secret, binding(id), Vec::new()).await;
        Ok(sealed.map_err(escrow_failed("wrap the key of an upload"))?.to_json_with_escrow())
    }

    /// Unwraps the data key of an upload.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if the escrow key was rotated since; [`Error::Unavailable`] if it can't be
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
                let detail = "the escrow key was rotated while this upload waited, and nothing opens its key any more: \
                              begin another one";
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
