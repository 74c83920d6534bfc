//! The escrow key that all servers wrap to: whether this server's is that one, and how its keys are
//! read again once somebody has put that one here.
//!
//! Which keys there are, the files in `keys/` say. What the catalog says refuses, and chooses none.

use std::sync::Arc;

use super::Escrows;
use crate::app::{Error, trust};
use crate::catalog::Author;
use crate::keys::EscrowRing;

impl Escrows {
    /// Refuses to go on with another key than the one that all servers wrap to, as after a rotation
    /// at another server. If the file of that one is here by now, it is used from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] says which key is missing, also if the catalog can't be reached;
    /// [`Error::Internal`].
    pub(in crate::app) async fn check_current(&self) -> Result<(), Error> {
        if self.is_current().await? {
            return Ok(());
        }
        let _one = self.changing.lock().await; // a rotation here is about to use it
        if self.is_current().await? { Ok(()) } else { self.read_again().await }
    }

    /// Nothing may be noted, as by servers of a version before this one.
    async fn is_current(&self) -> Result<bool, Error> {
        let wanted = self.catalog.find_escrow_kid().await?;
        Ok(wanted.is_none_or(|wanted| wanted == self.ring.keys().wrapping.kid().as_str()))
    }

    /// Reads the keys again, and uses them if the one that wraps is the right one. **Must be called by
    /// the holder of `changing`.**
    pub(super) async fn read_again(&self) -> Result<(), Error> {
        let wanted = self.catalog.find_escrow_kid().await?.unwrap_or_default();
        let unusable = |error: Error| Error::other_escrow_key(&wanted, Some(&error.reason()));
        let written = self.written().map_err(unusable)?;
        if !written.entries().iter().any(|entry| entry.kid() == wanted) {
            return Err(Error::other_escrow_key(&wanted, None));
        }
        let keys = self.open(&written).map_err(unusable)?;
        let ring = EscrowRing::new(keys);
        trust::check_wrapping(&self.catalog, &ring).await?;
        let author = Author::server(self.clock.now());
        if let Some(wanted) = trust::settle_wrapping(&self.catalog, &ring, &author).await? {
            return Err(Error::other_escrow_key(&wanted, None));
        }
        let keys = Arc::unwrap_or_clone(ring.keys());
        tracing::info!(key = keys.wrapping.place(), "another escrow key wraps from now on");
        self.use_from_now(keys);
        Ok(())
    }
}
