//! `/api/v1`: what engineers and CI do with images, keys and vehicles.

pub(super) mod assignments;
pub(super) mod audit;
pub(super) mod doctor;
pub(super) mod escrow;
pub(super) mod images;
pub(super) mod jobs;
mod path;
pub(super) mod quarantine;
mod query;
pub(super) mod recipients;
pub(super) mod retention;
pub(super) mod roles;
pub(super) mod roots;
pub(super) mod rotations;
mod staged;
pub(super) mod suppliers;
pub(super) mod targets;
mod tus;
mod upload_body;
mod upload_head;
mod upload_metadata;
pub(super) mod uploads;
pub(super) mod vehicle;
pub(super) mod vehicles;
