//! The published roots of either repository: the Image repository's are blobs, the Director's are
//! in the catalog.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::{Ceremony, PublishedRoot};
use crate::app::Error;
use crate::app::trust::{read_published, read_root};
use crate::catalog::Author;
use crate::model::{RepositorySide, RoleName};
use crate::uptane::metadata::SignedFile;
use crate::uptane::metadata::root;

impl Ceremony {
    /// The root that is published last.
    pub(in crate::app) async fn published(
        &self,
        side: RepositorySide,
    ) -> Result<PublishedRoot, Error> {
        let (version, bytes) = match side {
            RepositorySide::Image => self.newest_image_root().await?,
            RepositorySide::Director => {
                let newest = self.catalog.find_director_root(None).await?;
                let newest = newest.ok_or_else(|| corrupt(side, 1, "is missing"))?;
                (newest.version, Bytes::from(newest.body))
            }
        };
        let root =
            root::parse(&bytes).map_err(|fault| corrupt(side, version, &fault.to_string()))?;
        Ok(PublishedRoot { version, bytes, root })
    }

    async fn newest_image_root(&self) -> Result<(u64, Bytes), Error> {
        const SIDE: RepositorySide = RepositorySide::Image;
        let state = self.catalog.find_role(&RoleName::Root).await?;
        let state = state.ok_or_else(|| corrupt(SIDE, 1, "is missing"))?;
        let read = read_published(self.blobs.as_ref(), &state).await?;
        Ok((state.version, read.map_err(|fault| corrupt(SIDE, state.version, &fault))?))
    }

    /// Every root that was ever published, by version, from 1 to `newest`.
    pub(super) async fn all_roots(
        &self,
        side: RepositorySide,
        newest: u64,
    ) -> Result<Vec<Bytes>, Error> {
        let mut roots = Vec::new();
        for version in 1..=newest {
            let root = read_root(&self.catalog, self.blobs.as_ref(), side, version).await?;
            roots.push(root.ok_or_else(|| corrupt(side, version, "is missing"))?);
        }
        Ok(roots)
    }

    /// Hands the next version to the one writer of its chain, which goes on if the caller goes away:
    /// a file that was stored and not recorded could be fetched, and its staging be cancelled.
    pub(super) async fn add(
        &self,
        side: RepositorySide,
        file: SignedFile,
        staging: u64,
        author: Author,
        turn: OwnedMutexGuard<()>,
    ) -> Result<(), Error> {
        let (publisher, director) = (self.publisher.clone(), Arc::clone(&self.director));
        let adding = tokio::spawn(async move {
            let _turn = turn;
            match side {
                RepositorySide::Image => publisher.publish_root(&file, staging, &author).await,
                RepositorySide::Director => director.roots.publish(&file, staging, &author).await,
            }
        });
        adding.await.map_err(Error::internal("publish a root"))?
    }
}

fn corrupt(side: RepositorySide, version: u64, fault: &str) -> Error {
    Error::Corrupt {
        detail: format!("root {version} of the {side} {fault}: restore it from a backup"),
    }
}
