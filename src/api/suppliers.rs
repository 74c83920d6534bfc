//! `/api/v1/suppliers`

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::model::{KeyInput, SupplierRecord};

/// A supplier that is about to be added: who signs for a folder with keys of its own.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSupplierBody {
    /// Its name.
    pub supplier: String,
    /// Whose images it speaks for; the folder of its name without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The hardware that it speaks for; any without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_ids: Option<Vec<String>>,
    /// How many of its keys have to sign; as the metadata policy says without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u8>,
    /// How many keys the server makes for it; as the metadata policy says without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u8>,
    /// Public keys, PEM text or TUF key objects, of which the private halves stay with the supplier,
    /// who signs what it lists itself: the server makes none then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Value>)]
    pub public_keys: Vec<KeyInput>,
    /// Whether nobody else is asked for what lies in the folder.
    #[serde(default = "yes")]
    pub terminating: bool,
}

/// A supplier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SupplierBody {
    /// Its name.
    pub supplier: String,
    /// The role that lists its images.
    pub delegated_role: String,
    /// Whose images it speaks for.
    pub folder: String,
    /// The hardware that it speaks for; any, if it isn't there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_ids: Option<Vec<String>>,
    /// Key objects of its keys (TUF 1.0.34, 4.2.2).
    pub keys: Vec<Value>,
    /// Whether these are with the supplier, who signs what it lists itself.
    pub offline: bool,
    /// How many of them have to sign.
    pub threshold: u8,
    /// Whether nobody else is asked for what lies in the folder.
    pub terminating: bool,
    /// RFC 3339.
    pub created_at: String,
    /// Id of the token that added it.
    pub created_by: String,
}

/// The keys with which a supplier signs from its next file on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SupplierKeys {
    /// Public keys, PEM text or TUF key objects.
    #[schema(value_type = Vec<Value>)]
    pub public_keys: Vec<KeyInput>,
    /// How many of them have to sign; as many as before without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u8>,
}

/// The suppliers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SupplierList {
    /// By name.
    pub suppliers: Vec<SupplierBody>,
}

/// What went with a supplier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedSupplierBody {
    /// Images that were yanked.
    pub images: u64,
    /// Ids of the tokens that were revoked.
    pub tokens: Vec<String>,
}

fn yes() -> bool {
    true
}

impl From<SupplierRecord> for SupplierBody {
    fn from(supplier: SupplierRecord) -> Self {
        let hardware_ids: Vec<String> =
            supplier.hardware_ids.iter().map(ToString::to_string).collect();
        Self {
            delegated_role: supplier.role().to_string(),
            supplier: supplier.name.into(),
            folder: supplier.folder.into(),
            hardware_ids: Some(hardware_ids).filter(|ids| !ids.is_empty()),
            keys: supplier.keys,
            offline: supplier.offline,
            threshold: supplier.threshold,
            terminating: supplier.terminating,
            created_at: supplier.created_at.to_string(),
            created_by: supplier.created_by,
        }
    }
}
