//! Files that change while the server runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Tls;
use super::files::Fingerprint;

impl Tls {
    /// Looks for changed files every few seconds and reads them again, keeps the secret of tickets
    /// stored, and says once a day what expires. Runs for ever.
    pub(in crate::server) async fn watch(self: Arc<Self>) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused: Option<(Fingerprint, Instant)> = None;
        let mut warned = Instant::now();
        loop {
            ticks.tick().await;
            let found = Fingerprint::of(&self.config);
            let was_refused = refused
                .as_ref()
                .is_some_and(|(files, at)| *files == found && at.elapsed() < RETRY_INTERVAL);
            if found != self.read().fingerprint && !was_refused {
                refused = (!self.reload_and_tell("changed")).then(|| (found, Instant::now()));
            }
            if let Some(keys) = self.ticket_keys.get() {
                keys.store();
            }
            if warned.elapsed() >= WARN_INTERVAL {
                warned = Instant::now();
                self.warn_of_expiries();
            }
        }
    }

    /// Reads the files again and logs what came of it; returns whether they are in force.
    pub(in crate::server) fn reload_and_tell(&self, why: &'static str) -> bool {
        match self.reload() {
            Ok(()) => tracing::info!(
                why,
                "TLS files read again; connections that were there end with their request"
            ),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    why,
                    error,
                    "TLS files can't be used; what was read before stays in force"
                );
                return false;
            }
        }
        true
    }
}

const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_secs(10 * 60); // what can't be read now may be readable then
const WARN_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
