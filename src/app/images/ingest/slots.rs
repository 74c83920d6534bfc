//! Upload slots: how many uploads are sealed at one time, and how many of one token.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::Error;

/// The slots that uploads are sealed in.
#[derive(Debug)]
pub(in crate::app) struct UploadSlots {
    slots: Arc<Semaphore>,
    count: usize,
    given: AtomicUsize,
    /// So many of the slots a token can have: some are left for the others, whatever it does.
    per_token: usize,
    tokens: Mutex<HashMap<String, Arc<Semaphore>>>,
    waiting: AtomicUsize,
}

/// A slot that is taken; it is free again when this is dropped.
#[derive(Debug)]
pub(in crate::app::images) struct UploadSlot {
    _slot: OwnedSemaphorePermit,
    _of_token: OwnedSemaphorePermit,
}

impl UploadSlots {
    pub(in crate::app) fn new(count: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(count)),
            count,
            given: AtomicUsize::new(0),
            per_token: (count * 3 / 4).max(1),
            tokens: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a slot.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if there is none for as long as `patience`.
    pub(super) async fn take(&self, token: &str, patience: Duration) -> Result<UploadSlot, Error> {
        let of_token = self.of_token(token);
        let taking = async {
            // Of the token first: who waits for its own uploads makes nobody hurry.
            let of_token = of_token.acquire_owned().await;
            let of_token = of_token.map_err(Error::internal("take an upload slot"))?;
            let waiting = Waiting::among(&self.waiting);
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            drop(waiting);
            let slot = slot.map_err(Error::internal("take an upload slot"))?;
            self.given.fetch_add(1, Ordering::Relaxed);
            Ok(UploadSlot { _slot: slot, _of_token: of_token })
        };
        tokio::time::timeout(patience, taking).await.map_err(|_| Error::Busy)?
    }

    /// Whether somebody waits for a slot that another one has.
    pub(super) fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How many were given so far, to be told apart from how many that are later.
    pub(in crate::app) fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    /// Whether some are in use, or were since so many had been given.
    pub(in crate::app) fn were_used_since(&self, given: usize) -> bool {
        self.given() != given || self.slots.available_permits() < self.count
    }

    fn of_token(&self, token: &str) -> Arc<Semaphore> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else has those that are not in use.
        tokens.retain(|_, slots| Arc::strong_count(slots) > 1);
        let slots = tokens
            .entry(token.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(self.per_token)));
        Arc::clone(slots)
    }
}

/// One more that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_token_leaves_slots_for_others() {
        let slots = UploadSlots::new(4);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(slots.take("greedy", SOON).await.unwrap());
        }
        assert!(matches!(slots.take("greedy", SOON).await, Err(Error::Busy)));
        assert!(!slots.are_wanted(), "there is one for whoever else comes");
        let other = slots.take("other", SOON).await.unwrap();
        assert!(matches!(slots.take("third", SOON).await, Err(Error::Busy)));
        drop(held.pop());
        held.push(slots.take("greedy", SOON).await.unwrap());
        drop((held, other));
        drop(slots.take("third", SOON).await.unwrap());
        assert_eq!(slots.tokens.lock().unwrap().len(), 1, "tokens that hold nothing are forgotten");
    }

    #[tokio::test]
    async fn it_is_known_whether_slots_were_used() {
        let slots = UploadSlots::new(2);
        let given = slots.given();
        assert!(!slots.were_used_since(given));
        let held = slots.take("one", SOON).await.unwrap();
        assert!(slots.were_used_since(slots.given()), "one is in use");
        drop(held);
        assert!(slots.were_used_since(given), "one was");
        assert!(!slots.were_used_since(slots.given()));
    }

    #[tokio::test]
    async fn it_is_known_when_somebody_waits() {
        let slots = UploadSlots::new(1);
        let held = slots.take("one", SOON).await.unwrap();
        let wanted = tokio::join!(slots.take("other", SOON), async {
            tokio::task::yield_now().await;
            slots.are_wanted()
        });
        assert!(wanted.0.is_err() && wanted.1);
        assert!(!slots.are_wanted());
        drop(held);
    }
}
