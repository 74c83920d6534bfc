//! Fsck: reads every stored byte and compares it with what was signed, and everything that was
//! signed with the keys that may.
//!
//! Each file here looks at one thing, and says what is wrong with it in lines that name the image,
//! the vehicle or the file.

mod director;
mod envelopes;
mod keys;
mod metadata;
mod modes;
mod strays;
mod targets;

use super::Error;
use super::listing;
use super::setup::StateDir;
use crate::blob::{BlobKey, BlobStore, LocalBlobStore};
use crate::catalog::Catalog;
use crate::model::ENVELOPE_SUFFIX;

/// What is done about what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// It is only reported.
    Report,
    /// Damaged blobs are moved to `quarantine/` in the state directory, where nothing serves them.
    Quarantine,
    /// A blob that has lost one of its two names, or has two copies of which one is damaged, gets
    /// both from the good one.
    Repair,
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
    /// What was wrong and is not any more, a line each.
    pub repaired: Vec<String>,
    /// What could not be looked at, and why, a line each.
    pub skipped: Vec<String>,
}

/// What the checks work on.
struct Check<'a> {
    state: &'a StateDir,
    catalog: Catalog,
    store: LocalBlobStore,
    damaged: Damaged,
    findings: Findings,
}

/// Checks an installation: its keys; both root chains, and every signature below them; the
/// Director's metadata that is kept for vehicles; every envelope; every target's bytes; and that
/// nothing else lies about. Safe beside a running server. `progress` is told of bytes read, and of
/// all there are.
///
/// # Errors
///
/// [`Error::NotFound`] if nothing is published, [`Error::Internal`]; what is wrong with the files
/// is in the findings.
pub async fn check(
    state: &StateDir,
    damaged: Damaged,
    progress: impl Fn(u64, u64),
) -> Result<Findings, Error> {
    let catalog = state.open_catalog().await?;
    // Only what mends writes, so that a read-only copy can be looked at.
    let store = if damaged == Damaged::Report { state.blobs_to_read()? } else { state.blobs()? };
    let files = store.list().await?; // before the metadata: what is published meanwhile is not taken for a stray
    let listing = listing::read(&store, &catalog).await?;
    let mut check = Check { state, catalog, store, damaged, findings: Findings::default() };
    check.findings.files = listing.metadata.len() + 1;
    let damage = check.catalog.find_damage().await?;
    check
        .findings
        .problems
        .extend(damage.into_iter().map(|line| format!("catalog.sqlite is damaged: {line}")));
    check.findings.problems.extend(listing.problems.iter().cloned());
    check.findings.problems.extend(listing.shown.problem());
    let image = check.metadata(&listing, &files).await?;
    let director = check.director().await?;
    check.keys(image.as_ref(), director.as_ref()).await?;
    let weak = super::keys::check_stored_keys(&check.catalog).await?;
    check.findings.problems.extend(weak);
    check.envelopes().await?;
    check.targets(&listing.targets, progress).await?;
    check.strays(&listing.targets, &files).await?;
    check.modes();
    check.catalog.close().await;
    Ok(check.findings)
}

impl Check<'_> {
    fn problem(&mut self, problem: impl Into<String>) {
        self.findings.problems.push(problem.into());
    }
}

/// A target's blob as a person knows it: with the image that it belongs to.
fn named(key: &BlobKey) -> String {
    match key {
        BlobKey::Target { path, .. } => match path.strip_suffix(ENVELOPE_SUFFIX) {
            Some(image) => format!("envelope of {image}: {key}"),
            None => format!("image {path}: {key}"),
        },
        BlobKey::Timestamp | BlobKey::Metadata { .. } => key.to_string(),
    }
}
