//! Export: a static TUF repository in a folder, for any file server.

mod destination;

use std::path::Path;

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};

use super::Error;
use super::listing::{self, ListedTarget};
use super::state_dir::StateDir;
use crate::blob::{self, BlobKey, BlobStore, LocalBlobStore, SecondName};
use crate::model::Sha256Digest;

/// What an export has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Metadata files.
    pub metadata_files: usize,
    /// Target files that were copied.
    pub copied: usize,
    /// Target files that were there already.
    pub kept: usize,
    /// Bytes that were copied.
    pub bytes: u64,
}

/// Writes what was published last in `state` to `folder`, which may hold an earlier export: what is
/// there with the right name and length is kept. Safe beside a running server; a client that reads
/// `folder` meanwhile sees the earlier export or this one. `progress` is told of bytes copied.
///
/// # Errors
///
/// [`Error::Conflict`] if `folder` belongs to a state directory, holds a later export or that of
/// another repository, or if the catalog is older than what `repo/` shows; [`Error::Corrupt`] if a
/// file isn't what its metadata says; [`Error::Full`]; [`Error::Internal`].
pub async fn export(
    state: &StateDir,
    folder: &Path,
    progress: impl Fn(u64, u64),
) -> Result<Exported, Error> {
    let catalog = state.open_catalog().await?; // refuses a folder that is no state directory before anything is written
    destination::check_folder(state.path(), folder)?;
    let source = state.blobs_to_read().await?;
    let listing = listing::read(source.as_ref(), &catalog).await?;
    catalog.close().await;
    if let Some(problem) = listing.shown.problem().filter(|_| listing.shown.is_newer()) {
        return Err(Error::Conflict {
            code: "catalog_is_older",
            detail: format!("nothing was exported: {problem}"),
        });
    }
    if let Some(problem) = listing.problems.first() {
        return Err(Error::Corrupt {
            detail: format!("nothing was exported: {problem}; run `motorcade fsck`"),
        });
    }
    let staging = folder.join(".staging");
    if folder.exists() {
        let earlier = LocalBlobStore::open_to_read_at(folder.to_owned(), staging.clone())?;
        destination::check_earlier(&listing, folder, &earlier).await?;
    }
    let destination = LocalBlobStore::open_at(folder.to_owned(), staging.clone())?;
    destination.sweep().await?; // of an export that was killed
    let total = listing.targets.iter().map(|target| target.length).sum();
    let mut exported =
        Exported { metadata_files: listing.metadata.len() + 1, ..Exported::default() };
    for target in &listing.targets {
        if is_there(&destination, target).await {
            exported.kept += 1;
        } else {
            copy(source.as_ref(), &destination, target).await?;
            exported.copied += 1;
            exported.bytes += target.length;
        }
        progress(target.length, total);
    }
    for (key, bytes) in listing.metadata {
        destination.put(&key, bytes).await?;
    }
    destination.replace(&BlobKey::Timestamp, listing.timestamp).await?;
    destination.sweep().await?;
    std::fs::remove_dir(staging).map_err(Error::internal("remove the staging folder"))?;
    Ok(exported)
}

async fn is_there(store: &LocalBlobStore, target: &ListedTarget) -> bool {
    let is_whole = store.open(&target.key).await.is_ok_and(|blob| blob.length == target.length);
    is_whole && store.second_name(&target.key).await.is_ok_and(|name| name == SecondName::Same)
}

async fn copy(
    source: &dyn BlobStore,
    destination: &LocalBlobStore,
    target: &ListedTarget,
) -> Result<(), Error> {
    let blob = source.open(&target.key).await?;
    let mut upload = destination.begin(0)?;
    let mut hasher = Sha256::new();
    let mut pieces = blob.read(0..blob.length);
    let read = |source| Error::from(blob::Error::reading(target.key.name(), source));
    while let Some(piece) = pieces.try_next().await.map_err(read)? {
        hasher.update(&piece);
        upload.write(&piece)?;
    }
    if Sha256Digest::from_bytes(hasher.finalize().into()) != target.sha256 {
        return Err(Error::Corrupt {
            detail: format!("{} is damaged; run `motorcade fsck`", target.key),
        });
    }
    let staged = upload.finish()?;
    destination.delete(&target.key).await?; // what is there has the wrong length
    Ok(destination.promote_all(vec![(staged, target.key.clone())]).await?)
}
