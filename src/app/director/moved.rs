//! Assignments of an image that is replaced by another one of the same content: they move along.

use super::Director;
use super::assign::{AssignmentRequest, EcuAssignment};
use crate::app::Error;
use crate::app::principal::Principal;
use crate::catalog::VehicleFilter;
use crate::model::{EcuSerial, EcuStatus, ImagePath, VehicleRecord};

/// What came of some vehicles' assignments.
#[derive(Debug, Default)]
pub(in crate::app) struct MovedAssignments {
    /// ECUs that are to install the other image now.
    pub(in crate::app) moved: u64,
    /// Those that are not, with the reason, a line a vehicle.
    pub(in crate::app) problems: Vec<String>,
    /// After which vehicle to go on, if there are more.
    pub(in crate::app) next: Option<String>,
}

impl Director {
    /// Assigns `to` in the place of `from`, in some of the vehicles after `after`.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Unavailable`] or [`Error::Internal`]. What speaks against one vehicle is told of it, and the
    /// others go on.
    pub(in crate::app) async fn move_assignments(
        &self,
        from: &ImagePath,
        to: &ImagePath,
        after: &str,
        by: &Principal,
    ) -> Result<MovedAssignments, Error> {
        let filter = VehicleFilter { assigned: Some(from.clone()), ..VehicleFilter::default() };
        let page = self.catalog.list_vehicles(after, VEHICLES, filter).await?;
        let mut outcome = MovedAssignments { next: page.next, ..MovedAssignments::default() };
        for vehicle in page.items {
            let request = moved(&vehicle, from, to);
            if request.assignments.is_empty() {
                continue; // it has just installed it
            }
            match self.assign(&vehicle.vin, &request, by).await {
                Ok(assigned) => outcome.moved += assigned.len() as u64,
                Err(error @ (Error::Full { .. } | Error::Internal(_))) => return Err(error),
                Err(error) if error.is_unreachable() => return Err(error),
                Err(refused) => outcome.problems.push(format!("{}: {refused}", vehicle.vin)),
            }
        }
        Ok(outcome)
    }
}

/// Where a release counter was allowed to go down, a person has to say so once more.
fn moved(vehicle: &VehicleRecord, from: &ImagePath, to: &ImagePath) -> AssignmentRequest {
    let is_assigned = |ecu: &EcuStatus| ecu.assigned.as_ref().is_some_and(|one| one.path == *from);
    let serials = vehicle.status.ecus.iter().filter(|(_, ecu)| is_assigned(ecu));
    let assignment =
        |serial: &EcuSerial| EcuAssignment { ecu_serial: serial.clone(), image: to.clone() };
    AssignmentRequest {
        assignments: serials.map(|(serial, _)| assignment(serial)).collect(),
        rollback_reason: None,
    }
}

const VEHICLES: u32 = 100;
