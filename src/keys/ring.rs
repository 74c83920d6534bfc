//! The escrow keys of an installation: one that wraps, and former ones that still open what was
//! wrapped before.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use super::Escrow;

/// The escrow keys that can be used, while a rotation goes on more than one. Which they are changes
/// while a server runs.
#[derive(Debug)]
pub struct EscrowRing {
    keys: RwLock<Arc<EscrowKeys>>,
    /// Those from before, as long as somebody uses them.
    superseded: Mutex<Vec<Weak<EscrowKeys>>>,
}

/// The keys of a ring at one moment.
#[derive(Debug, Clone)]
pub struct EscrowKeys {
    /// The key that wraps.
    pub wrapping: Arc<dyn Escrow>,
    /// Those that still open what they have wrapped, the newest first.
    pub former: Vec<Arc<dyn Escrow>>,
}

impl EscrowKeys {
    /// All of them, the one that wraps first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Escrow>> {
        std::iter::once(&self.wrapping).chain(&self.former)
    }
}

impl EscrowRing {
    /// A ring of these keys.
    pub fn new(keys: EscrowKeys) -> Self {
        Self { keys: RwLock::new(Arc::new(keys)), superseded: Mutex::default() }
    }

    /// A ring of one key.
    pub fn of(key: Arc<dyn Escrow>) -> Self {
        Self::new(EscrowKeys { wrapping: key, former: Vec::new() })
    }

    /// The keys as they are now, for work that **must** hold them until what it has wrapped is where a
    /// rotation finds it.
    pub fn keys(&self) -> Arc<EscrowKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses other keys from now on. Work that has begun ends with those that it began with.
    pub fn replace(&self, keys: EscrowKeys) {
        let mut current = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, Arc::new(keys));
        let mut superseded = self.superseded.lock().unwrap_or_else(PoisonError::into_inner);
        superseded.push(Arc::downgrade(&before));
    }

    /// Whether all work has ended that began before the keys were replaced.
    pub fn is_settled(&self) -> bool {
        let mut superseded = self.superseded.lock().unwrap_or_else(PoisonError::into_inner);
        superseded.retain(|keys| keys.strong_count() > 0);
        superseded.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::file::FileEscrow;

    fn key(folder: &std::path::Path, name: &str) -> Arc<dyn Escrow> {
        FileEscrow::create(&folder.join(name)).unwrap();
        Arc::new(FileEscrow::read(&folder.join(name)).unwrap())
    }

    #[test]
    fn a_ring_is_settled_once_nobody_holds_the_keys_from_before() {
        let folder = tempfile::tempdir().unwrap();
        let ring = EscrowRing::of(key(folder.path(), "a"));
        let held = ring.keys();
        assert!(ring.is_settled());
        ring.replace(EscrowKeys { wrapping: key(folder.path(), "b"), former: vec![] });
        assert!(!ring.is_settled());
        assert_ne!(ring.keys().wrapping.kid(), held.wrapping.kid());
        drop(held);
        assert!(ring.is_settled());
    }
}
