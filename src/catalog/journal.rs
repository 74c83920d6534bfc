//! What was changed of the roles' entries and is not published yet, as far as this process did it:
//! a role that lists hundreds of entries is signed with one more without reading all of them.
//!
//! It is an account beside the tables and never instead of them. Each change has its number among
//! those of its role, given by the transaction that made it, so that whoever asks knows whether one
//! is missing: another process made it, or this one before it was restarted. All entries are read
//! then.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{RoleName, TargetEntry};

/// A change of what a role lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryChange {
    /// There is a new entry.
    Added(TargetEntry),
    /// The entry of this path is gone.
    Removed(String),
}

/// A change that a transaction makes, with its number.
#[derive(Debug)]
pub(super) struct NumberedChange {
    pub(super) role: RoleName,
    pub(super) number: u64,
    pub(super) change: EntryChange,
}

/// The changes of each role, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<HashMap<RoleName, BTreeMap<u64, EntryChange>>>);

impl Journal {
    pub(super) fn between(
        &self,
        role: &RoleName,
        after: u64,
        last: u64,
    ) -> Option<Vec<EntryChange>> {
        let wanted = last.checked_sub(after)?;
        if wanted == 0 {
            return Some(Vec::new());
        }
        let journal = self.lock();
        let known = journal.get(role)?.range(after + 1..=last);
        let changes: Vec<_> = known.map(|(_, change)| change.clone()).collect();
        (changes.len() as u64 == wanted).then_some(changes)
    }

    /// Notes changes that are committed.
    pub(super) fn note(&self, changes: Vec<NumberedChange>) {
        let mut journal = self.lock();
        for NumberedChange { role, number, change } in changes {
            let of_role = journal.entry(role).or_default();
            of_role.insert(number, change);
            while of_role.len() > KEPT {
                of_role.pop_first();
            }
        }
    }

    /// Forgets what is published.
    pub(super) fn forget(&self, role: &RoleName, published: u64) {
        if let Some(of_role) = self.lock().get_mut(role) {
            *of_role = of_role.split_off(&(published + 1));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoleName, BTreeMap<u64, EntryChange>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes that are kept of a role; each takes less than a kilobyte as a rule.
const KEPT: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn note(journal: &Journal, numbers: impl IntoIterator<Item = u64>) {
        let change = |number: u64| NumberedChange {
            role: RoleName::Targets,
            number,
            change: EntryChange::Removed(number.to_string()),
        };
        journal.note(numbers.into_iter().map(change).collect());
    }

    fn kept(journal: &Journal) -> Vec<u64> {
        journal.lock()[&RoleName::Targets].keys().copied().collect()
    }

    #[test]
    fn changes_are_in_the_order_of_their_numbers_and_go_once_published() {
        let journal = Journal::default();
        note(&journal, [3, 2, 5]);
        assert_eq!(kept(&journal), [2, 3, 5]);
        journal.forget(&RoleName::Targets, 3);
        assert_eq!(kept(&journal), [5]);
        journal.forget(&RoleName::Snapshot, 3);
    }

    #[test]
    fn changes_are_told_of_only_if_none_is_missing() {
        let journal = Journal::default();
        note(&journal, [3, 4, 6]);
        let between = |after, last| {
            journal.between(&RoleName::Targets, after, last).map(|changes| changes.len())
        };
        assert_eq!(between(2, 4), Some(2));
        assert_eq!(between(4, 4), Some(0));
        assert_eq!(between(4, 3), None, "the catalog was put back");
        assert_eq!([(1, 4), (2, 6), (4, 6), (5, 7)].map(|(a, b)| between(a, b)), [None; 4]);
        assert_eq!(journal.between(&RoleName::Snapshot, 0, 1), None);
    }

    #[test]
    fn a_role_that_is_never_published_takes_bounded_memory() {
        let journal = Journal::default();
        note(&journal, 1..=1000);
        assert_eq!(kept(&journal).len(), KEPT);
        assert_eq!(kept(&journal).last(), Some(&1000));
    }
}
