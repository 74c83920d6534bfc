//! Session tickets (RFC 8446, 4.6.1; RFC 5077): what a client needs to come back without a full
//! handshake is with the client, and the server keeps nothing.
//!
//! A ticket says who the client was, not that it still may come: see `standing`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustls::server::ProducesTickets;

use super::ticket_keys::{Binding, PERIOD, TicketKeys};
use crate::model::Clock;

/// The tickets of one connection: each handshake has its own, so that the ticket that it ends with
/// is as old as the one that it began with.
#[derive(Debug)]
pub(super) struct Tickets {
    keys: Arc<TicketKeys>,
    binding: Binding,
    clock: Shown,
    /// When the client last proved that it has its key, in seconds since 1970; 0 if it does so now.
    proved_at: AtomicU64,
}

/// A clock that can be shown.
struct Shown(Arc<dyn Clock>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Tickets {
    pub(super) fn new(keys: Arc<TicketKeys>, binding: Binding, clock: Arc<dyn Clock>) -> Self {
        Self { keys, binding, clock: Shown(clock), proved_at: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.0.now().as_second()).unwrap_or(0)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        PERIOD.as_secs().try_into().unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let proved_at = match self.proved_at.load(Relaxed) {
            0 => self.now(),
            proved_at => proved_at,
        };
        let mut plain = zeroize::Zeroizing::new(proved_at.to_be_bytes().to_vec());
        plain.extend_from_slice(session);
        self.keys.seal(&self.binding, &plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = self.keys.open_ticket(&self.binding, ticket)?;
        let (proved_at, session) = plain.split_first_chunk::<8>()?;
        let proved_at = u64::from_be_bytes(*proved_at);
        if self.now().abs_diff(proved_at) > LONGEST.as_secs() {
            return None;
        }
        self.proved_at.store(proved_at, Relaxed);
        Some(session.to_vec())
    }
}

/// How long a client may come back with tickets alone, each got with the one before (RFC 8446,
/// 4.6.1, gives no ticket more): then it has to prove again that it has its key.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
