//! The numbers that this process was given last, of each sequence. A database that hands out lower
//! ones has lost what it had committed: a standby that lagged has taken over, or somebody has put an
//! older state in its place. What is signed with such a number is signed with it a second time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The highest number of each sequence.
#[derive(Debug, Default)]
pub(super) struct Numbers(Mutex<HashMap<String, u64>>);

impl Numbers {
    /// Whether a number is above all before it. **Must be asked in the transaction** that hands it
    /// out, which no other overtakes.
    pub(super) fn is_new(&self, sequence: &str, number: u64) -> bool {
        self.lock().get(sequence).is_none_or(|known| number > *known)
    }

    /// Notes the last number of those that a transaction has handed out, once it is committed.
    pub(super) fn note(&self, sequence: &str, last: u64) {
        let mut numbers = self.lock();
        let known = numbers.entry(sequence.to_owned()).or_default();
        *known = last.max(*known);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
