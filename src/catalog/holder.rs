//! Leases: what a server has taken is its own until then, or until it says more.

use crate::model::Timestamp;

/// A server that takes something, and until when it may keep that without a word.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Id of the server.
    pub owner: &'a str,
    /// Now.
    pub now: Timestamp,
    /// The end of the lease.
    pub lease_until: Timestamp,
}
