//! `/api/v1/rotations` and `/api/v1/images/{path}/reseal`

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EscrowRotation;
use crate::model::KeyInput;

/// A key that is to go, on every image concerned. Exactly one of the members but `dry_run` is given.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRotation {
    /// A recipient's key that is replaced by another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<RecipientRotation>,
    /// A recipient's key that is taken off every image, and never is a recipient again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<RecipientRevocation>,
    /// The escrow key is replaced by another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow: Option<EscrowRotation>,
    /// Only find out on how many images, and on which ones it can't be done.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub dry_run: bool,
}

/// A recipient's key and the one that takes its place.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipientRotation {
    /// RFC 7638 thumbprint of the key that goes.
    pub kid: String,
    /// The public key that comes: PEM text, or a JWK object.
    #[schema(value_type = Value)]
    pub public_key: KeyInput,
}

/// A recipient's key that is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipientRevocation {
    /// RFC 7638 thumbprint of the key.
    pub kid: String,
}

/// Where an image is sealed again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReseal {
    /// Target path of the new image; by default in a folder `resealed-1` beside the old one, or the
    /// next such number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
