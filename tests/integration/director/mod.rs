//! The Director: what vehicles send and get, and what engineers do with them.

mod assignments;
mod identity;
mod inventory;
mod manifests;
mod metadata;
pub(crate) mod vehicle;
