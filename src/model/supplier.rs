//! Suppliers as the server knows them.

use motorcade_model::{Folder, HardwareId, RoleName, SupplierName, Timestamp};
use serde_json::Value;

/// A supplier: who signs for a folder with keys of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupplierRecord {
    /// Its name.
    pub name: SupplierName,
    /// Whose images it speaks for.
    pub folder: Folder,
    /// The hardware that it speaks for; any, if none is named.
    pub hardware_ids: Vec<HardwareId>,
    /// Key objects of its keys (TUF 1.0.34, 4.2.2).
    pub keys: Vec<Value>,
    /// Whether these are with the supplier, who signs each file of its role: then what is published
    /// goes by them from the first file on that they have signed.
    pub offline: bool,
    /// How many of them have to sign.
    pub threshold: u8,
    /// Whether nobody else is asked for what lies in the folder.
    pub terminating: bool,
    /// When it was added.
    pub created_at: Timestamp,
    /// Id of the token that added it.
    pub created_by: String,
}

impl SupplierRecord {
    /// The role that lists its images.
    pub fn role(&self) -> RoleName {
        RoleName::of_supplier(&self.name)
    }

    /// Whether it speaks for all of this hardware.
    pub fn has_hardware(&self, ids: &[HardwareId]) -> bool {
        self.hardware_ids.is_empty() || ids.iter().all(|id| self.hardware_ids.contains(id))
    }
}
