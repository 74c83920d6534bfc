//! All connections of the server: how many there may be, what each is waiting for, and which have
//! waited too long.
//!
//! A connection writes down what it waits for in its [`Watch`]; one task looks at all of them twice
//! a second and ends those that take too long. When there is no room for a new one, those that have
//! waited longest for their client make it: so a client that only holds connections keeps nobody
//! out.

mod watch;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::model::Network;
use crate::telemetry::Metrics;
pub(super) use watch::{Ending, Phase, Watch};

/// How many connections there may be.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// In all.
    pub(super) total: usize,
    /// From one address; an IPv6 client has 2^64 of them, which count as one.
    pub(super) per_address: usize,
    /// That are in their TLS handshake.
    pub(super) handshakes: usize,
    /// Where many clients come from one address.
    pub(super) proxies: Vec<Network>,
    /// How long a connection may wait for its client.
    pub(super) patience: Patience,
}

/// How long a connection may wait for its client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// To finish the handshake.
    pub(super) handshake: Duration,
    /// To finish a head that was begun, or to send the first one.
    pub(super) head: Duration,
    /// To begin the next head.
    pub(super) idle: Duration,
    /// To send the next [`MILESTONE`](watch::MILESTONE) of a body.
    pub(super) body: Duration,
    /// To take the next bytes of a response.
    pub(super) response: Duration,
    /// To close its side, after ours is closed; to send the next milestone of a body that is thrown
    /// away, if its length is known.
    pub(super) linger: Duration,
}

/// All connections of the server.
pub(super) struct Connections {
    bounds: Bounds,
    origin: Instant,
    next_id: AtomicU64,
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Table {
    watches: HashMap<u64, Arc<Watch>>,
    by_address: HashMap<IpAddr, usize>,
}

/// What a new connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A head.
    Plain,
    /// A handshake.
    Tls,
}

/// A connection that was let in; it leaves when this is dropped.
pub(super) struct Admitted {
    id: u64,
    watch: Arc<Watch>,
    connections: Arc<Connections>,
}

impl Admitted {
    /// Where the connection writes down what it waits for.
    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.table().remove(self.id);
    }
}

impl Connections {
    pub(super) fn new(bounds: Bounds, metrics: Arc<Metrics>) -> Arc<Self> {
        metrics.connections().show_endings(&Ending::ALL.map(Ending::label));
        metrics.connections().show_refused_heads(&[MALFORMED, TOO_LARGE]);
        Arc::new(Self {
            bounds,
            origin: Instant::now(),
            next_id: AtomicU64::new(0),
            table: Mutex::default(),
            metrics,
        })
    }

    /// Lets a connection in, and ends others if there is no room; `None` if all of them are busy.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr, kind: Kind) -> Option<Admitted> {
        let client = client.to_canonical();
        let is_proxy = self.bounds.proxies.iter().any(|network| network.contains(client));
        let address = (!is_proxy).then(|| prefix(client));
        let mut table = self.table();
        if let Some(address) = address {
            let here = table.by_address.get(&address).copied().unwrap_or(0);
            if here >= self.bounds.per_address {
                self.make_room(&mut table, here, |watch| watch.address() == Some(address))?;
            }
        }
        if kind == Kind::Tls && table.count(Phase::Handshake) >= self.bounds.handshakes {
            self.make_room(&mut table, self.bounds.handshakes, |watch| {
                watch.phase() == Phase::Handshake
            })?;
        }
        if table.watches.len() >= self.bounds.total {
            self.make_room(&mut table, self.bounds.total, |_| true)?;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let phase = if kind == Kind::Tls { Phase::Handshake } else { Phase::Head };
        let watch = Arc::new(Watch::new(self.origin, address, phase));
        table.insert(id, Arc::clone(&watch));
        drop(table);
        Some(Admitted { id, watch, connections: Arc::clone(self) })
    }

    /// Ends a few of `among` connections that fit: those that have waited longest for their client.
    fn make_room(
        &self,
        table: &mut Table,
        among: usize,
        fits: impl Fn(&Watch) -> bool,
    ) -> Option<()> {
        let mut waiting: Vec<(Duration, u64)> = table
            .watches
            .iter()
            .filter(|(_, watch)| fits(watch))
            .filter_map(|(id, watch)| Some((watch.waits_for_its_client()?, *id)))
            .collect();
        // Several at once: looking through all of them takes a moment.
        let count = (among / 64).max(1).min(waiting.len());
        if count < waiting.len() {
            waiting.select_nth_unstable_by(count, |a, b| b.cmp(a));
        }
        for (_, id) in waiting.iter().take(count) {
            if let Some(watch) = table.remove(*id) {
                self.end(&watch, Ending::Shed);
            }
        }
        (count > 0).then_some(())
    }

    /// Counts a connection that found no room.
    pub(super) fn count_refused(&self) {
        self.metrics.connections().add_ended_connection(Ending::Refused.label());
    }

    /// Counts a head that hyper has refused by itself, if that is why a connection broke off.
    pub(super) fn count_refused_head(&self, error: &hyper::Error) {
        if error.is_parse_too_large() {
            self.metrics.connections().add_refused_head(TOO_LARGE);
        } else if error.is_parse() {
            self.metrics.connections().add_refused_head(MALFORMED);
        }
    }

    fn end(&self, watch: &Watch, ending: Ending) {
        watch.end();
        self.metrics.connections().add_ended_connection(ending.label());
    }

    /// Ends connections that have waited too long for their client. Runs for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look_around();
        }
    }

    fn look_around(&self) {
        let mut counts = [0; Phase::ALL.len()];
        for watch in self.table().watches.values() {
            let phase = watch.phase();
            counts[phase as usize] += 1;
            let waited = watch.waits_for_its_client().unwrap_or_default();
            if let Some((patience, ending)) = self.bounds.patience.with(phase)
                && waited >= patience
                && watch.may_end()
            {
                self.end(watch, ending);
            }
        }
        for phase in Phase::ALL {
            self.metrics.connections().set_connections(phase.label(), counts[phase as usize]);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, id: u64, watch: Arc<Watch>) {
        if let Some(address) = watch.address() {
            *self.by_address.entry(address).or_default() += 1;
        }
        self.watches.insert(id, watch);
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Watch>> {
        let watch = self.watches.remove(&id)?;
        if let Some(address) = watch.address()
            && let Some(count) = self.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(watch)
    }

    fn count(&self, phase: Phase) -> usize {
        self.watches.values().filter(|watch| watch.phase() == phase).count()
    }
}

impl Patience {
    fn with(&self, phase: Phase) -> Option<(Duration, Ending)> {
        match phase {
            Phase::Handshake => Some((self.handshake, Ending::Handshake)),
            Phase::Head => Some((self.head, Ending::Head)),
            Phase::Idle => Some((self.idle, Ending::Idle)),
            Phase::Receiving => Some((self.body, Ending::Body)),
            Phase::Sending => Some((self.response, Ending::Response)),
            Phase::Lingering => Some((self.linger, Ending::Linger)),
            Phase::Serving => None,
        }
    }
}

/// What counts as one client.
fn prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const MALFORMED: &str = "malformed";
const TOO_LARGE: &str = "too_large";

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
