//! The fleet: the inventory of vehicles, and the status that changes as they are served.
//!
//! - `inventory` is what people see of it, `bulk` and `register` are how vehicles get into it,
//!   `enrol` how they do by themselves;
//! - `replace` and `renew` are the ways back that a person approves: another ECU, or all anew;
//! - `change_key` is another encryption key of an ECU that stays, and `revoked` says which none can
//!   have;
//! - `quarantine` says what a vehicle has to be looked at for, and `clear` ends that;
//! - `identity` is who a vehicle is;
//! - `memory` is the one way to a vehicle's status, and `writer` writes it.

mod bounded;
mod bulk;
mod change_key;
mod clear;
mod enrol;
mod identity;
mod input;
mod inventory;
pub mod lines;
mod memory;
mod quarantine;
mod register;
mod renew;
mod replace;
mod revoked;
mod writer;

use std::sync::Arc;

pub use bulk::{BulkFormat, BulkReport, LineFault, LineSink};
pub use change_key::{KeyChangePolicy, MAX_KEY_CHANGE_SIZE, ParseKeyChangePolicyError};
pub use clear::{ClearReport, ClearSelection, MAX_CLEARED};
pub use enrol::{EnrolledEcu, Enroller, Enrolment};
pub use identity::IdentityClaims;
pub use input::{EcuInput, VehicleInput};
pub(super) use inventory::{HOUR, check_reason};
pub(super) use memory::{ChangedBy, KEPT_BY_DEFAULT, Vehicle, Vehicles, not_registered};
pub use quarantine::{ParsePolicyError, QuarantinePolicy, Suspicion};

use super::publish::Publisher;
use crate::catalog::Catalog;
use crate::model::{Actor, Clock, EventKind, NewEvent, VehicleId};

/// The inventory of vehicles, and what people and the vehicles themselves change of it.
pub struct Fleet {
    catalog: Catalog,
    vehicles: Arc<Vehicles>,
    /// Knows the keys of the roles, none of which can be an ECU's.
    publisher: Publisher,
    clock: Arc<dyn Clock>,
    key_changes: KeyChangePolicy,
}

impl Fleet {
    pub(super) fn new(
        catalog: Catalog,
        vehicles: Arc<Vehicles>,
        publisher: Publisher,
        clock: Arc<dyn Clock>,
        key_changes: KeyChangePolicy,
    ) -> Self {
        Self { catalog, vehicles, publisher, clock, key_changes }
    }

    /// Something that happens to a vehicle now.
    fn event(&self, vin: &VehicleId, kind: EventKind, by: &Actor) -> NewEvent {
        NewEvent::new(vin, kind, self.clock.now(), by)
    }
}
