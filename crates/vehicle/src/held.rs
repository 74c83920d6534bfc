//! Hosts that want to be left alone, each for itself (RFC 9110, 10.2.3).
//!
//! What a content delivery network asks for is no wish of the Director's: only who has asked is
//! left alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use url::Url;

/// Until when each host is left alone.
#[derive(Debug, Default)]
pub(super) struct Held(RefCell<BTreeMap<String, Duration>>);

impl Held {
    /// Leaves the host of a URL alone for as long as it asks for.
    pub(super) fn hold(&self, url: &str, time: Duration) {
        let Some(host) = host(url) else { return };
        let now = since_boot();
        let mut held = self.0.borrow_mut();
        held.retain(|_, until| *until > now); // redirections could lead to ever more
        held.insert(host, now + time);
    }

    /// How long the host of a URL still wants to be left alone, if it does.
    pub(super) fn left(&self, url: &str) -> Option<Duration> {
        let until = *self.0.borrow().get(&host(url)?)?;
        until.checked_sub(since_boot()).filter(|left| !left.is_zero())
    }
}

/// Whether two URLs are of one host.
pub(super) fn is_same_host(one: &str, other: &str) -> bool {
    host(one).is_some_and(|host_of| Some(host_of) == host(other))
}

fn host(url: &str) -> Option<String> {
    Url::parse(url).ok().map(|url| url.origin().ascii_serialization())
}

/// How long the machine has been up, with the time for which it was suspended.
pub(super) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}
