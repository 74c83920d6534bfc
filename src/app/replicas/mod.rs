//! Replicas: servers that have one catalog and one blob store, and nothing else, in common.
//!
//! What the catalog serialises needs none of this: reserved versions, revisions, approvals, the
//! audit log, leases of jobs and uploads. Here is what is left: whose [`turn`] it is to publish,
//! whether what is kept in memory is still so ([`latest`]), which role keys there are now
//! ([`keys`]), by how much the clocks differ ([`clock`]), and which other servers there are
//! ([`presence`]).
//!
//! A server whose blobs are in its own state directory is alone: it has that locked, and is refused
//! beside others on one database. It asks for none of the rest.

pub(super) mod clock;
pub(super) mod keys;
pub(super) mod latest;
pub(super) mod presence;
pub(super) mod turn;

use std::sync::Arc;

use super::Error;
use crate::catalog::Catalog;
use crate::model::Clock;
use keys::KeyReload;
use latest::Latest;
use turn::Turn;

/// A server among others.
pub(super) struct Replica {
    catalog: Catalog,
    /// Id of this server.
    owner: String,
    clock: Arc<dyn Clock>,
    /// The right to publish.
    pub(super) turn: Turn,
    /// Whether the timestamp is the one that was published last.
    pub(super) timestamp: Latest,
    /// Whether the Director's root is.
    pub(super) director_root: Latest,
    /// The role keys.
    pub(super) keys: Arc<KeyReload>,
}

impl Replica {
    /// `owner` is the id of this server.
    pub(super) fn new(
        catalog: Catalog,
        owner: String,
        clock: Arc<dyn Clock>,
        keys: Arc<KeyReload>,
    ) -> Self {
        Self {
            turn: Turn::new(catalog.clone(), owner.clone(), Arc::clone(&clock)),
            timestamp: Latest::default(),
            director_root: Latest::default(),
            keys,
            catalog,
            owner,
            clock,
        }
    }

    /// The ids of the other servers that are there.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the catalog can't be reached; [`Error::Internal`].
    pub(super) async fn others(&self) -> Result<Vec<String>, Error> {
        presence::others(&self.catalog, &self.owner, self.clock.now()).await
    }

    /// Compares this server's clock with the database's.
    ///
    /// # Errors
    ///
    /// As of [`clock::compare`].
    pub(super) async fn compare_clocks(&self) -> Result<(), Error> {
        clock::compare(&self.catalog, &self.clock).await
    }
}
