//! `/api/v1/images`

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::default_limit;
use crate::model::ImageRecord;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageBody {
    /// Target path in both repositories.
    pub path: String,
    /// Name of the software.
    pub name: String,
    /// Version of the software.
    pub version: String,
    /// Hardware that may run it.
    pub hardware_ids: Vec<String>,
    /// Raised with each release.
    pub release_counter: u64,
    /// `BINARY` or `OSTREE`.
    pub target_format: String,
    /// What has to be in the same vehicle.
    pub requires: Vec<String>,
    /// What must not be in the same vehicle.
    pub conflicts: Vec<String>,
    /// What is stored and served.
    pub sealed: SealedBody,
    /// What comes out when it is opened.
    pub plaintext: FileBody,
    /// RFC 3339.
    pub created_at: String,
    /// Id of the token that uploaded it.
    pub created_by: String,
    /// RFC 3339; null while it is published.
    pub yanked_at: Option<String>,
    /// The role whose owner has to sign for the image before anybody gets it. It isn't there for an
    /// image that is published, nor in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits_signature_of: Option<String>,
}

/// A file's length and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileBody {
    /// In bytes.
    pub length: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// A sealed image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SealedBody {
    /// Tink key template.
    pub alg: String,
    /// In bytes.
    pub length: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// Where it is served.
    pub url: String,
}

/// Some images, and where the next ones are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageList {
    /// In the order of their paths.
    pub images: Vec<ImageBody>,
    /// Pass it as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Which images to list.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImageQuery {
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: String,
    /// Images a page, 1 to 1000.
    #[serde(default = "default_limit")]
    pub limit: u32,
}

/// For whom to show an envelope.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EnvelopeQuery {
    /// RFC 7638 thumbprint of a recipient's key: the answer is then flattened, for this one alone.
    pub kid: Option<String>,
}

impl ImageBody {
    /// An image whose sealed bytes are served at `url`.
    pub fn new(image: ImageRecord, url: String) -> Self {
        let ImageRecord { path, description, sealed, created_at, created_by, yanked_at } = image;
        Self {
            path: path.into(),
            name: description.name.into(),
            version: description.version.into(),
            hardware_ids: description.hardware_ids.into_iter().map(String::from).collect(),
            release_counter: description.release_counter.value(),
            target_format: description.target_format.as_str().to_owned(),
            requires: description.requires.into_iter().map(String::from).collect(),
            conflicts: description.conflicts.into_iter().map(String::from).collect(),
            sealed: SealedBody {
                alg: sealed.algorithm.as_str().to_owned(),
                length: sealed.length,
                sha256: sealed.sha256.into(),
                url,
            },
            plaintext: FileBody {
                length: sealed.plaintext_length,
                sha256: sealed.plaintext_sha256.into(),
            },
            created_at: created_at.to_string(),
            created_by,
            yanked_at: yanked_at.map(|time| time.to_string()),
            awaits_signature_of: None,
        }
    }
}
