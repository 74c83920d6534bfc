//! Fsck: reads every stored byte and compares it with what was signed.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};

use super::listing::{self, ListedTarget};
use super::{Error, setup::StateDir};
use crate::blob::{self, BlobKey, BlobStore, LocalBlobStore};
use crate::catalog::Catalog;
use crate::model::{ENVELOPE_SUFFIX, Sha256Digest};

/// Whether damaged blobs are moved to where nothing serves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// They are only reported.
    Report,
    /// They are moved to `quarantine/` in the state directory.
    Quarantine,
}

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Files that were read.
    pub files: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
}

/// Checks what `state` has published: every metadata file, every target's bytes, and that nothing else lies about.
/// Safe beside a running server. `progress` is told of bytes read.
///
/// # Errors
///
/// [`Error::NotFound`] if nothing is published, [`Error::Internal`]; what is wrong with the files is in the findings.
pub async fn check(state: &StateDir, damaged: Damaged, progress: impl Fn(u64, u64)) -> Result<Findings, Error> {
    let catalog = state.open_catalog().await?;
    let store = state.blobs()?;
    let files = store.list().await?; // before the metadata: what is published meanwhile is not taken for a stray
    let listing = listing::read(&store).await?;
    let total = listing.targets.iter().map(|target| target.length).sum();
    let mut findings = Findings { files: listing.metadata.len() + 1, bytes: 0, problems: listing.problems };
    for target in &listing.targets {
        match check_target(&store, target).await? {
            None => findings.bytes += target.length,
            Some(problem) => findings.problems.push(set_aside(&store, target, problem, damaged)?),
        }
        findings.files += 1;
        progress(target.length, total);
    }
    let listed: HashSet<&BlobKey> = listing.targets.iter().map(|target| &target.key).collect();
    for (name, key) in &files {
        if let Some(problem) = check_stray(&catalog, &listed, name, key.as_ref()).await? {
            findings.problems.push(problem);
        }
    }
    Ok(findings)
}

async fn check_target(store: &LocalBlobStore, target: &ListedTarget) -> Result<Option<&'static str>, Error> {
    let blob = match store.open(&target.key).await {
        Err(blob::Error::NotFound(_)) => return Ok(Some("is missing")),
        opened => opened?,
    };
    if blob.length != target.length {
        return Ok(Some("has the wrong length"));
    }
    let mut hasher = Sha256::new();
    let mut pieces = blob.read(0..blob.length);
    loop {
        match pieces.try_next().await {
            Ok(Some(piece)) => hasher.update(&piece),
            Ok(None) => break,
            Err(_) => return Ok(Some("can't be read")),
        }
    }
    if Sha256Digest::from_bytes(hasher.finalize().into()) != target.sha256 {
        return Ok(Some("is damaged"));
    }
    Ok((!store.has_both_names(&target.key)?).then_some(WITHOUT_ALIAS))
}

fn set_aside(
    store: &LocalBlobStore,
    target: &ListedTarget,
    problem: &'static str,
    damaged: Damaged,
) -> Result<String, Error> {
    let key = &target.key;
    if problem == WITHOUT_ALIAS {
        return Ok(format!("{key} {problem} {}", key.alias().unwrap_or_default()));
    }
    if damaged == Damaged::Report || problem == "is missing" {
        return Ok(format!("{key} {problem}"));
    }
    let moved_to = store.quarantine(key)?;
    Ok(format!("{key} {problem}; moved to {}", moved_to.display()))
}

/// A file that nothing lists: metadata that was superseded and targets of yanked images are meant to be there.
async fn check_stray(
    catalog: &Catalog,
    listed: &HashSet<&BlobKey>,
    name: &str,
    key: Option<&BlobKey>,
) -> Result<Option<String>, Error> {
    let Some(key) = key else { return Ok(Some(format!("{name} has no business in the repository"))) };
    let BlobKey::Target { path, .. } = key else { return Ok(None) };
    if listed.contains(key) {
        return Ok(None);
    }
    let image = path.strip_suffix(ENVELOPE_SUFFIX).unwrap_or(path).parse().ok();
    let known = match image {
        Some(image) => catalog.find_image(&image).await?.is_some(),
        None => false,
    };
    let is_pending = catalog.pending_blobs().await?.contains(&key.name());
    Ok((!known && !is_pending).then(|| format!("{name} belongs to no image")))
}

const WITHOUT_ALIAS: &str = "is intact, but some clients won't find it: link it again as";
