//! What the HTTP API sends and takes as JSON, described once: for the server, which renders and
//! parses it, for the command line, for tests, and for the OpenAPI document.
//!
//! One file a resource. Ids, paths and times are texts here, since a client has to be able to show
//! what it doesn't know yet; the server parses what it is sent. The names of the types are the
//! names of the schemas in the document, and with those a part of the contract.

mod assignments;
mod audit;
mod doctor;
mod escrow;
mod images;
mod jobs;
mod problem;
mod quarantine;
mod recipients;
mod retention;
mod roles;
mod roots;
mod rotations;
mod signatures;
mod suppliers;
mod targets;
mod upload;
mod vehicle;
mod vehicles;

pub use assignments::{
    AssignmentBody, AssignmentList, AssignmentQuery, NewAssignment, NewAssignments,
};
pub use audit::{AuditEntryBody, AuditPage, AuditQuery};
pub use doctor::{CheckBody, DoctorBody, FindingBody};
pub use escrow::{EscrowBody, EscrowKeyBody, EscrowRotation};
pub use images::{EnvelopeQuery, FileBody, ImageBody, ImageList, ImageQuery, SealedBody};
pub use jobs::{JobBody, JobList, JobQuery, NewJob, ProgressBody};
pub use problem::{Problem, ProblemItem};
pub use quarantine::{ClearBody, ClearManyBody, ClearedBody};
pub use recipients::{
    NewRecipient, RecipientBody, RecipientList, RecipientQuery, RegisteredRecipient,
};
pub use retention::{NewCollection, NewRetention, RetentionBody};
pub use roles::{NewRoleRotation, RoleBody, RoleKeyBody, RoleList, RoleRotationBody};
pub use roots::{
    CeremonyFile, NewRoot, NewRootRole, PublishRootQuery, RootBody, RootKeyBody, RootRoleBody,
    StagedRootBody,
};
pub use rotations::{NewReseal, NewRotation, RecipientRevocation, RecipientRotation};
pub use signatures::{NewSignature, NewSignatures, SignatureBody};
pub use suppliers::{
    NewSupplierBody, RemovedSupplierBody, SupplierBody, SupplierKeys, SupplierList,
};
pub use targets::{NewTargets, StagedTargetsBody, TargetsBody, TargetsFile};
pub use upload::UploadQuery;
pub use vehicle::{
    AcceptBody, ApprovalBody, Approved, EventBody, History, HistoryQuery, IssuedToken,
    KeyApprovalBody, ReEnrolmentBody, RemovalQuery,
};
pub use vehicles::{
    BulkBody, EcuBody, FallenBody, FaultBody, InstalledBody, NewEcuBody, NewVehicleBody,
    QuarantineBody, Registered, VehicleBody, VehicleList, VehicleQuery,
};

/// Entries a page, where a request doesn't say.
fn default_limit() -> u32 {
    100
}

fn is_false(flag: &bool) -> bool {
    !flag
}
