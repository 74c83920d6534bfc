//! Blobs on their way to their names: small ones in memory, large ones under a name of their own,
//! from which the store copies them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::fault::Fault;
use super::objects::{Described, Objects};
use crate::blob::{BlobKey, Error, StagedBlob};

/// A whole blob that has no key yet.
pub(super) struct Staged {
    objects: Arc<Objects>,
    content: Content,
}

enum Content {
    /// Sent when it gets its name.
    Bytes(Bytes),
    /// An object; removed with this if it is of nobody else.
    Object { name: String, length: u64, is_own: bool },
}

impl Staged {
    pub(super) fn bytes(objects: &Arc<Objects>, bytes: Bytes) -> Self {
        Self { objects: Arc::clone(objects), content: Content::Bytes(bytes) }
    }

    /// An object that goes once it has its names, or is dropped.
    pub(super) fn own(objects: &Arc<Objects>, name: String, length: u64) -> Self {
        let content = Content::Object { name, length, is_own: true };
        Self { objects: Arc::clone(objects), content }
    }

    /// An object that stays.
    pub(super) fn lent(objects: &Arc<Objects>, name: String, length: u64) -> Self {
        let content = Content::Object { name, length, is_own: false };
        Self { objects: Arc::clone(objects), content }
    }

    /// Gives it a name. Both names of a target are objects: a bucket has no links, and a repository in
    /// it is read without this server.
    async fn promote(mut self, key: &BlobKey) -> Result<(), Error> {
        if key.is_immutable() && self.is_there(key).await? {
            return Err(Error::AlreadyExists(key.name()));
        }
        let described = Described::as_blob(key);
        let names = key.alias().into_iter().chain([key.name()]);
        let staged = &self;
        let given = names.map(|name| async move {
            let given = staged.give(&name, described).await;
            given.map_err(|fault| fault.into_error("store", &name))
        });
        futures_util::future::try_join_all(given).await?;
        if let Some(name) = self.take_own() {
            discard(&self.objects, &name).await;
        }
        Ok(())
    }

    /// The object that goes with this, which is then no more looked after here.
    fn take_own(&mut self) -> Option<String> {
        match &mut self.content {
            Content::Object { name, is_own, .. } if *is_own => {
                *is_own = false;
                Some(std::mem::take(name))
            }
            _ => None,
        }
    }

    async fn is_there(&self, key: &BlobKey) -> Result<bool, Error> {
        let name = key.name();
        let found = self.objects.head(&name).await;
        found.map(|found| found.is_some()).map_err(|fault| fault.into_error("look at", &name))
    }

    async fn give(&self, name: &str, described: Described) -> Result<(), Fault> {
        match &self.content {
            Content::Bytes(bytes) => self.objects.put(name, bytes.clone(), described).await,
            Content::Object { name: from, length, .. } => {
                self.objects.copy(from, name, *length, described).await
            }
        }
    }
}

impl StagedBlob for Staged {}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some(name) = self.take_own() else { return };
        let objects = Arc::clone(&self.objects);
        self.objects.runtime.spawn(async move { discard(&objects, &name).await });
    }
}

async fn discard(objects: &Objects, name: &str) {
    if let Err(fault) = objects.delete(name).await {
        let reason = fault.reason();
        tracing::warn!(object = name, reason, "what was staged is left for the next start");
    }
}

/// Gives all their names, many at a time, and the timestamp its name last.
pub(super) async fn promote_all(blobs: Vec<(Staged, BlobKey)>) -> Result<(), Error> {
    let (last, first): (Vec<_>, Vec<_>) =
        blobs.into_iter().partition(|(_, key)| !key.is_immutable());
    for blobs in [first, last] {
        stream::iter(blobs)
            .map(|(staged, key)| async move { staged.promote(&key).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}

const AT_ONCE: usize = 32;
