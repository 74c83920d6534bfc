//! The audit log: who changed what and when, in a chain of rows of which none can be changed, left
//! out or moved without a trace.
//!
//! A row is written in the transaction of its change, as the last thing in it. Changes that are
//! made beside each other wait for each other at the row `audit_head`; it is taken last, so that no
//! two of them wait for each other in a circle.
//!
//! The chain proves nothing against somebody who can write the whole catalog and computes all
//! hashes anew: what does is a head that is remembered elsewhere.

mod chain;
mod entry;
mod fleet;
mod table;

pub use chain::{AuditHead, entry_hash};
pub use entry::{AuditEntry, Author, NewAuditEntry, Who};
pub(super) use fleet::{quarantined, registered};
pub use table::AuditFilter;
pub(super) use table::{append, append_events};
