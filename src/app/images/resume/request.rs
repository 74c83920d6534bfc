//! What is said of an image when its upload begins, as it is kept until the image is there.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::ingest::{EmptyImage, UploadRequest};
use super::super::precondition::Precondition;
use crate::app::Error;
use crate::app::access::Principal;
use crate::model::{ImageDescription, ImagePath, SealAlgorithm, Sha256Digest};

/// The parts of an [`UploadRequest`] that last.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredRequest {
    description: ImageDescription,
    algorithm: SealAlgorithm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipients: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256Digest>,
    /// None if it is always true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    precondition: Option<Precondition>,
    /// In the words of the client, to be shown to it again.
    pub(super) metadata: String,
}

impl StoredRequest {
    pub(super) fn of(request: &UploadRequest, metadata: String) -> Self {
        let precondition = Some(&request.precondition);
        Self {
            description: request.description.clone(),
            algorithm: request.algorithm,
            recipients: request.recipients.clone(),
            sha256: request.expected_sha256,
            precondition: precondition.filter(|said| **said != Precondition::default()).cloned(),
            metadata,
        }
    }

    pub(super) fn to_json(&self) -> Result<Value, Error> {
        serde_json::to_value(self).map_err(Error::internal("write an upload's request"))
    }

    pub(super) fn from_json(stored: &Value) -> Result<Self, Error> {
        Self::deserialize(stored).map_err(Error::internal("read an upload's request"))
    }

    /// The request again, by whoever brings the rest of the image.
    pub(super) fn into_request(
        self,
        path: ImagePath,
        length: u64,
        by: &Principal,
    ) -> UploadRequest {
        UploadRequest {
            path,
            description: self.description,
            algorithm: self.algorithm,
            recipients: self.recipients,
            expected_sha256: self.sha256,
            empty: EmptyImage::Allowed, // refused when it began, unless it was asked for
            precondition: self.precondition.unwrap_or_default(),
            content_length: Some(length),
            copy_of: None,
            by: by.clone(),
        }
    }

    pub(super) fn algorithm(&self) -> SealAlgorithm {
        self.algorithm
    }
}
