//! The keyring of a running server, which is exchanged when a role is handed over.

use std::sync::{Arc, PoisonError, RwLock};

use super::Keyring;

/// A keyring that all who sign have in common. Who takes [`Self::current`] keeps that one: a file
/// is signed by one keyring.
#[derive(Debug, Clone)]
pub struct SharedKeyring(Arc<RwLock<Arc<Keyring>>>);

impl SharedKeyring {
    /// The keyring as it is now.
    pub fn current(&self) -> Arc<Keyring> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exchanges it, for everybody.
    pub fn replace(&self, keyring: Keyring) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring);
    }
}

impl From<Arc<Keyring>> for SharedKeyring {
    fn from(keyring: Arc<Keyring>) -> Self {
        Self(Arc::new(RwLock::new(keyring)))
    }
}
