//! What clients will make of a root before any of them sees it: strict ones walk the chain from
//! every version that was ever published, with our verifier and with another implementation's. Where
//! that one can't read a root, because it names a key of ML-DSA-65, ours walks alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::app::Error;
use crate::blob::{self, BlobKey, BlobStore};
use crate::keys::hybrid::readers;
use crate::model::{RepositorySide, RoleName, Timestamp};
use crate::uptane::client::{ClientError, MetadataFiles, VerifiedRepository, walk_roots};
use crate::uptane::metadata::{SignedFile, root};
use crate::uptane::verify::{Rules, TrustedSet, VerifyError};

/// Walks from each of `roots`, which are all from version 1 on, to `next`; returns what a client
/// would refuse.
///
/// # Errors
///
/// [`Error::Internal`] if the walk could not be made.
pub(super) async fn walk(
    roots: &[Bytes],
    next: &SignedFile,
    now: Timestamp,
) -> Result<Option<String>, Error> {
    let chain: Vec<Bytes> = roots.iter().cloned().chain([next.bytes.clone()]).collect();
    let ours = {
        let chain = chain.clone();
        tokio::task::spawn_blocking(move || walk_ours(&chain, now))
    };
    if let Err(refusal) = ours.await.map_err(Error::internal("walk the root chain"))? {
        return Ok(Some(refusal));
    }
    if is_ours_alone(&chain) {
        return Ok(None);
    }
    let names = (1..).map(|version: u64| format!("{version}.root.json"));
    let files: Arc<dyn MetadataFiles> =
        Arc::new(Files { roots: names.zip(chain.iter().cloned()).collect(), blobs: None });
    for (root, version) in roots.iter().zip(1..) {
        if let Err(error) = walk_roots(root, Arc::clone(&files)).await {
            return Ok(Some(format!(
                "a stock TUF client that trusts root {version} fails: {error}"
            )));
        }
    }
    Ok(None)
}

/// Whether the other implementation can't read a root of these: those who signed it were told.
fn is_ours_alone(chain: &[Bytes]) -> bool {
    let names_ml_dsa = |root: &Bytes| root::parse(root).ok().as_ref().and_then(readers).is_some();
    chain.iter().any(names_ml_dsa)
}

fn walk_ours(chain: &[Bytes], now: Timestamp) -> Result<(), String> {
    for (start, version) in (0..chain.len() - 1).zip(1..) {
        walk_from(&chain[start..], now)
            .map_err(|error| format!("a vehicle that trusts root {version} refuses it: {error}"))?;
    }
    Ok(())
}

fn walk_from(chain: &[Bytes], now: Timestamp) -> Result<TrustedSet, VerifyError> {
    let mut chain = chain.iter();
    let trusted = chain.next().map_or(&[][..], |root| root);
    let mut set = TrustedSet::new(trusted, Rules::Image, now)?;
    chain.try_for_each(|root| set.update_root(root))?;
    set.finish_root()?;
    Ok(set)
}

/// What of the Image repository's other metadata a client would refuse that has taken `next`. What
/// is published, it has to be able to use at once.
///
/// # Errors
///
/// [`Error::Internal`] if the files can't be read.
pub(super) async fn check_published(
    current: &Bytes,
    next: &SignedFile,
    blobs: &Arc<dyn BlobStore>,
    now: Timestamp,
) -> Result<Option<String>, Error> {
    let files = Files {
        roots: BTreeMap::from([(format!("{}.root.json", next.version), next.bytes.clone())]),
        blobs: Some(Arc::clone(blobs)),
    };
    let read = |name: String| {
        let files = &files;
        async move {
            let read = files.read(&name).await.map_err(Error::Internal)?;
            Ok::<_, Error>(read.unwrap_or_default())
        }
    };
    let refused = |role: &str, error: VerifyError| {
        Ok(Some(format!("a vehicle that has it refuses the published {role}: {error}")))
    };
    let mut set = match walk_from(&[current.clone(), next.bytes.clone()], now) {
        Ok(set) => set,
        Err(error) => return refused("root", error),
    };
    if let Err(error) = set.update_timestamp(&read("timestamp.json".to_owned()).await?) {
        return refused("timestamp", error);
    }
    let (version, _) = set.expected_snapshot().map_err(Error::internal(CHECK))?;
    if let Err(error) = set.update_snapshot(&read(format!("{version}.snapshot.json")).await?) {
        return refused("snapshot", error);
    }
    let (version, _) = set.expected_targets(&RoleName::Targets).map_err(Error::internal(CHECK))?;
    if let Err(error) = set.update_targets(&read(format!("{version}.targets.json")).await?) {
        return refused("targets", error);
    }
    if is_ours_alone(&[current.clone(), next.bytes.clone()]) {
        return Ok(None);
    }
    let loaded = VerifiedRepository::load_from(current, Arc::new(files)).await;
    Ok(loaded.err().map(|error| format!("a stock TUF client fails: {error}")))
}

/// Metadata as clients would find it.
struct Files {
    /// Roots by name, and no others: the chain ends with the last of them.
    roots: BTreeMap<String, Bytes>,
    blobs: Option<Arc<dyn BlobStore>>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

#[async_trait]
impl MetadataFiles for Files {
    async fn read(&self, name: &str) -> Result<Option<Bytes>, ClientError> {
        if name.ends_with(".root.json") {
            return Ok(self.roots.get(name).cloned());
        }
        let Some(blobs) = &self.blobs else { return Ok(None) };
        for key in BlobKey::candidates(name) {
            match blobs.open(&key).await {
                Err(blob::Error::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(blob) => return Ok(Some(blob.read_all(MAX_METADATA_BYTES).await?)),
            }
        }
        Ok(None)
    }
}

/// What the side of a root asks of the metadata beside it: the Director's is signed for each vehicle
/// as it asks.
pub(super) fn has_published_metadata(side: RepositorySide) -> bool {
    match side {
        RepositorySide::Image => true,
        RepositorySide::Director => false,
    }
}

const CHECK: &str = "look at the published metadata as a client does";
const MAX_METADATA_BYTES: u64 = 16 * 1024 * 1024; // 16 MiB, far above what is ever written
