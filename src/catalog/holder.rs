//! Leases: what a server has taken is its own until then, or until it says more.
//!
//! A lease that ends further ahead than any is taken for was taken by a clock that had jumped. It is
//! over: nobody waits for a month for a server that was killed. Who holds it all the same, since it
//! lives, loses it to the next taker, as it would after a pause.

use std::time::Duration;

use super::Catalog;
use crate::model::Timestamp;
use crate::model::clock::later;

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

/// What leases are taken for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held {
    /// A turn, or a server's presence.
    Turn,
    /// A job, or an upload.
    Work,
    /// Blobs that are announced, or are being removed.
    Blobs,
    /// Files that a backup copies.
    Files,
}

impl Held {
    /// Longer than such a lease is ever taken for.
    fn longest(self) -> Duration {
        Duration::from_secs(match self {
            Self::Turn => 60,
            Self::Work => 2 * 60,
            Self::Blobs | Self::Files => 2 * 60 * 60,
        })
    }

    /// Whether a lease that ends at `lease_until` still holds.
    pub(super) fn holds(self, lease_until: Timestamp, now: Timestamp) -> bool {
        lease_until > now && lease_until <= later(now, self.longest())
    }
}

impl Catalog {
    /// A lease that holds at `now` ends after the first of these and no later than the second, as
    /// leases are stored.
    pub(super) fn while_held(&self, held: Held, now: Timestamp) -> (i64, i64) {
        (self.leased_until(now), self.leased_until(later(now, held.longest())))
    }
}
