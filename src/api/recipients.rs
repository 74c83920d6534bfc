//! `/api/v1/recipients`

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::model::{KeyInput, RecipientRecord};

/// A public key and the hardware that has its private half.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRecipient {
    /// Hardware ids that the key belongs to.
    pub hardware_ids: Vec<String>,
    /// The public key: PEM text, or a JWK object.
    #[schema(value_type = Value)]
    pub public_key: KeyInput,
}

/// A registered key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegisteredRecipient {
    /// RFC 7638 thumbprint.
    pub kid: String,
}

/// A registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecipientBody {
    /// The hardware id.
    pub hardware_id: String,
    /// RFC 7638 thumbprint of the key.
    pub kid: String,
    /// The public key as a JWK.
    pub public_key: Value,
    /// RFC 3339.
    pub created_at: String,
    /// Id of the token that registered it.
    pub created_by: String,
}

/// All registrations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecipientList {
    /// By hardware id.
    pub recipients: Vec<RecipientBody>,
}

/// From where to remove a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecipientQuery {
    /// The hardware id; from all without it.
    pub hardware_id: Option<String>,
}

impl From<RecipientRecord> for RecipientBody {
    fn from(recipient: RecipientRecord) -> Self {
        Self {
            hardware_id: recipient.hardware_id.into(),
            kid: recipient.kid,
            public_key: serde_json::from_str(&recipient.jwk).unwrap_or_default(),
            created_at: recipient.created_at.to_string(),
            created_by: recipient.created_by,
        }
    }
}
