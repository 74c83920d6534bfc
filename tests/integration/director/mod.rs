//! The Director: what vehicles send and get, and what engineers do with them.

mod assignments;
mod fallbacks;
mod identity;
mod inventory;
mod key_changes;
mod manifests;
mod metadata;
mod polls;
mod quarantine;
mod releases;
mod renewals;
mod resealed;
mod unexpected;
mod used_keys;
pub(crate) mod vehicle;
