//! The nouns of Motorcade: ids, names, digests and limits, as types that can't hold a bad value.
//!
//! Everything here is plain data with its parser. Nothing in this module does I/O, reads a clock or
//! knows how a value is stored, signed or served. Each parser names the field and the rule that the
//! value broke.

mod base_url;
pub mod clock;
mod constraint;
mod digest;
mod image;
mod image_path;
mod name;
mod public_key;
mod recipient;
mod release_counter;
mod role;
mod seal_algorithm;
mod sealed_image;
pub mod strict_json;
mod supplier;
mod vehicle;

pub use base_url::{BaseUrl, ParseBaseUrlError};
pub use clock::{Clock, SystemClock, Timestamp};
pub use constraint::{Candidate, Constraint, ParseConstraintError, Violation, violations};
pub use digest::{ParseDigestError, Sha256Digest};
pub use image::{ImageDescription, TargetFormat};
pub use image_path::{ENVELOPE_SUFFIX, ImagePath, ParseImagePathError, published_names};
pub use name::{HardwareId, ImageName, ImageVersion, ParseFieldError};
pub use public_key::{WeakKey, check_ed25519, check_ml_dsa_65, check_rsa};
pub use recipient::RecipientRecord;
pub use release_counter::ReleaseCounter;
pub use role::{
    DelegatedName, MAX_ROOT_BYTES, ParseRoleNameError, RepositorySide, RoleKind, RoleName,
};
pub use seal_algorithm::{ParseSealAlgorithmError, SealAlgorithm};
pub use sealed_image::{ImageRecord, MAX_BIN_BYTES, SealedImage, TargetEntry};
pub use supplier::{Folder, ParseSupplierError, SupplierName};
pub use vehicle::{EcuRole, EcuSerial, InstalledImage, VehicleId};
