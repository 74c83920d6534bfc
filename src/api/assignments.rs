//! `/api/v1/vehicles/{vin}/assignments`

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::default_limit;
use crate::model::{AssignmentRecord, EcuSerial, ImagePath};

/// Images for some of a vehicle's ECUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAssignments {
    /// Each ECU at most once; they are to be installed together.
    pub assignments: Vec<NewAssignment>,
    /// Lets release counters go down, and says why.
    pub rollback_reason: Option<String>,
}

/// An image for an ECU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAssignment {
    /// The ECU.
    #[schema(value_type = String)]
    pub ecu_serial: EcuSerial,
    /// Target path of the image.
    #[schema(value_type = String)]
    pub image: ImagePath,
}

/// An assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssignmentBody {
    /// Its id.
    pub id: String,
    /// The ECU.
    pub ecu_serial: String,
    /// Target path of the image.
    pub image: String,
    /// Why the release counter was allowed to go down.
    pub rollback_reason: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// Id of the token that made it.
    pub created_by: String,
    /// RFC 3339; null while it stands.
    pub ended_at: Option<String>,
    /// `installed`, `cancelled`, `superseded` or `withdrawn`; null while it stands.
    pub outcome: Option<String>,
}

/// Assignments of a vehicle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssignmentList {
    /// The newest first.
    pub assignments: Vec<AssignmentBody>,
}

/// How many assignments to list.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AssignmentQuery {
    /// 1 to 1000.
    #[serde(default = "default_limit")]
    pub limit: u32,
}

impl From<AssignmentRecord> for AssignmentBody {
    fn from(assignment: AssignmentRecord) -> Self {
        Self {
            id: assignment.id,
            ecu_serial: assignment.ecu_serial.into(),
            image: assignment.image_path.into(),
            rollback_reason: assignment.rollback_reason,
            created_at: assignment.created_at.to_string(),
            created_by: assignment.created_by,
            ended_at: assignment.ended_at.map(|time| time.to_string()),
            outcome: assignment.outcome.map(|outcome| outcome.as_str().to_owned()),
        }
    }
}
