//! Tasks that go on for as long as the server does, and without which it is not what it seems.
//!
//! Whoever runs the server is told when one of them ends, whatever the reason, and readiness asks
//! for their pulse.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The background tasks of one server.
#[derive(Clone, Default)]
pub struct Watch(Arc<Watched>);

#[derive(Default)]
struct Watched {
    tasks: Mutex<Vec<(&'static str, Pulse)>>,
    first_end: Mutex<Option<Ended>>,
    has_ended: Notify,
}

/// A task that should have gone on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task that {name} has {}", if *.has_panicked { "panicked" } else { "ended" })]
pub struct Ended {
    /// What the task does, as in "publishes metadata".
    pub name: &'static str,
    /// Whether it panicked; the log has the reason.
    pub has_panicked: bool,
}

impl Watch {
    /// Runs a task and watches it from now on. `name` says what the task does, as in "publishes
    /// metadata".
    pub fn spawn<F>(
        &self,
        name: &'static str,
        pulse: Pulse,
        runtime: &Handle,
        task: F,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        locked(&self.0.tasks).push((name, pulse));
        let end = End { watch: self.clone(), name };
        runtime.spawn(async move {
            let _end = end; // dropped by a panic, too
            task.await;
        })
    }

    /// Waits until one of the tasks has ended.
    pub async fn ended(&self) -> Ended {
        loop {
            let notified = self.0.has_ended.notified();
            if let Some(ended) = *locked(&self.0.first_end) {
                return ended;
            }
            notified.await;
        }
    }

    /// A task that has ended, or that has given no sign of life when it should have.
    pub fn lifeless(&self) -> Option<&'static str> {
        if let Some(ended) = *locked(&self.0.first_end) {
            return Some(ended.name);
        }
        locked(&self.0.tasks).iter().find(|(_, pulse)| pulse.is_overdue()).map(|(name, _)| *name)
    }
}

struct End {
    watch: Watch,
    name: &'static str,
}

impl Drop for End {
    fn drop(&mut self) {
        let ended = Ended { name: self.name, has_panicked: std::thread::panicking() };
        locked(&self.watch.0.first_end).get_or_insert(ended);
        self.watch.0.has_ended.notify_waiters();
    }
}

/// When a task has to give its next sign of life; each of its signs says so.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    /// Milliseconds since [`START`]; 0 for never.
    due: Arc<AtomicU64>,
}

impl Pulse {
    /// The task is alive, and will be heard of again within `at_most`.
    pub fn beat(&self, at_most: Duration) {
        let due = START.elapsed().saturating_add(at_most).as_millis();
        self.due.store(u64::try_from(due).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// The task waits for somebody, for however long that takes.
    pub fn rest(&self) {
        self.due.store(0, Ordering::Relaxed);
    }

    fn is_overdue(&self) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        due != 0 && START.elapsed().as_millis() > u128::from(due)
    }
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn an_end_is_told_of_whatever_the_reason() {
        let watch = Watch::default();
        watch.spawn("waits", Pulse::default(), &Handle::current(), pending());
        assert_eq!(watch.lifeless(), None);
        let returning = watch.spawn("returns", Pulse::default(), &Handle::current(), async {});
        let ended = tokio::time::timeout(Duration::from_secs(20), watch.ended()).await.unwrap();
        assert_eq!(ended, Ended { name: "returns", has_panicked: false });
        returning.await.unwrap();
        assert_eq!(watch.lifeless(), Some("returns"));

        let watch = Watch::default();
        let panicking = async {
            tokio::task::yield_now().await;
            panic!("on purpose");
        };
        watch.spawn("panics", Pulse::default(), &Handle::current(), panicking);
        let ended = tokio::time::timeout(Duration::from_secs(20), watch.ended()).await.unwrap();
        assert_eq!(ended.to_string(), "the task that panics has panicked");
    }

    #[tokio::test]
    async fn a_task_that_hangs_is_noticed() {
        let (watch, pulse) = (Watch::default(), Pulse::default());
        watch.spawn("hangs", pulse.clone(), &Handle::current(), pending());
        pulse.beat(Duration::from_secs(600));
        assert_eq!(watch.lifeless(), None);
        pulse.beat(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(watch.lifeless(), Some("hangs"));
        pulse.rest();
        assert_eq!(watch.lifeless(), None);
    }
}
