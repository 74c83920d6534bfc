//! `/api/v1/doctor`

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the doctor has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorBody {
    /// The worst that was found: `ok`, `note`, `warning` or `error`.
    pub status: String,
    /// When; RFC 3339.
    pub at: String,
    /// Everything that was looked at, in order.
    pub checks: Vec<CheckBody>,
}

/// One of the things that are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckBody {
    /// `clock`, `root_chain`, `policy`, `keys`, `expiry`, `versions`, `blobs`, `disk`,
    /// `certificates`, `limits` or `service`.
    pub check: String,
    /// The worst of its findings, or `ok`.
    pub status: String,
    /// What was looked at, for people.
    pub looked_at: String,
    /// What there is to say.
    pub findings: Vec<FindingBody>,
}

/// Something that is wrong, or will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingBody {
    /// `note`: good to know; `warning`: somebody has to do something in time; `error`: vehicles or
    /// uploads are refused, or will be very soon.
    pub severity: String,
    /// What is wrong with what.
    pub problem: String,
    /// What to do about it.
    pub action: String,
}
