//! The escrow keys of an installation: one that wraps, and former ones that still open what was
//! wrapped before.

use std::sync::{Arc, PoisonError, RwLock};

use super::Escrow;

/// The escrow keys that can be used, while a rotation goes on more than one. Which they are changes
/// while a server runs.
#[derive(Debug)]
pub struct EscrowRing {
    keys: RwLock<Arc<EscrowKeys>>,
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
        Self { keys: RwLock::new(Arc::new(keys)) }
    }

    /// A ring of one key.
    pub fn of(key: Arc<dyn Escrow>) -> Self {
        Self::new(EscrowKeys { wrapping: key, former: Vec::new() })
    }

    /// The keys as they are now.
    pub fn keys(&self) -> Arc<EscrowKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses other keys from now on. Work that has begun ends with those that it began with.
    pub fn replace(&self, keys: EscrowKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}
