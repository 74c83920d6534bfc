//! The nouns of Motorcade: those that both sides share, of `motorcade-model`, and those that only
//! the server has.
//!
//! Everything here is plain data with its parser: no I/O, no clock.

mod audit;
mod bucket;
mod change;
mod database_url;
mod ecu_map;
mod event;
mod fleet;
mod job;
mod key_input;
mod key_object;
mod network;
mod retention;
mod supplier;
mod token;

pub use motorcade_model::*;

pub use audit::AuditKind;
pub use bucket::{Addressing, Bucket, BucketUrl, ParseBucketUrlError, StoreEncryption};
pub use change::VehicleChange;
pub use database_url::{DatabaseUrl, ParseDatabaseUrlError};
pub use ecu_map::EcuMap;
pub use event::{Actor, EventKind, NewEvent, VehicleEvent};
pub use fleet::{
    AssignmentOutcome, AssignmentRecord, Bundle, CounterReset, CurrentAssignment, EcuRecord,
    EcuStatus, FallenFrom, Listing, NewVehicle, Offer, Quarantine, VehicleRecord, VehicleStatus,
    VerifiedUnder,
};
pub use job::JobKind;
pub use key_input::KeyInput;
pub use key_object::KeyObject;
pub use network::{Network, NetworkError};
pub use retention::ImageRetention;
pub use supplier::SupplierRecord;
pub use token::{AccessRole, ParseAccessRoleError};
