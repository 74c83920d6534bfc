//! Fsck: reads every stored byte and compares it with what was signed, and everything that was
//! signed with the keys that may.
//!
//! Each file here looks at one thing, and says what is wrong with it in lines that name the image,
//! the vehicle or the file.

mod audit;
mod director;
mod envelopes;
mod keys;
mod metadata;
mod modes;
mod strays;
mod targets;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Error;
use super::listing::{self, Files, Listing};
use super::state_dir::StateDir;
use crate::blob::{BlobKey, BlobStore};
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
struct Check {
    state: StateDir,
    catalog: Catalog,
    store: Arc<dyn BlobStore>,
    damaged: Damaged,
    findings: Findings,
}

/// A check of an installation, in steps: its keys; both root chains, and every signature below
/// them; the Director's metadata that is kept for vehicles; every envelope; every target's bytes;
/// that nothing else lies about; and the audit log. Safe beside a running server.
pub(in crate::app) struct Fsck {
    check: Check,
    files: Files,
    listing: Listing,
    /// Bytes of the targets before each, and of all.
    bytes_before: Vec<u64>,
    position: Position,
}

/// Where a check goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::app) enum Position {
    /// With the metadata and the keys, which is the beginning.
    Metadata,
    /// With the envelope of the first image after this one.
    Envelopes {
        /// Its path.
        after: String,
    },
    /// With the first target after this one.
    Targets {
        /// Name of its blob.
        after: String,
    },
    /// With what lies about, modes, and the audit log.
    Rest,
    /// Nothing is left.
    End,
}

impl Fsck {
    /// Reads what is published, for a check that goes on at `position` with what it has found so
    /// far.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if nothing is published, [`Error::Internal`].
    pub(in crate::app) async fn open(
        state: &StateDir,
        damaged: Damaged,
        position: Position,
        findings: Findings,
    ) -> Result<Self, Error> {
        let (state, catalog) = (state.clone(), state.open_catalog().await?);
        // Only what mends writes, so that a read-only copy can be looked at.
        let store = match damaged {
            Damaged::Report => state.blobs_to_read().await?,
            Damaged::Quarantine | Damaged::Repair => state.blobs().await?,
        };
        let files = store.list().await?; // before the metadata: what is published meanwhile is not taken for a stray
        let mut listing = listing::read(store.as_ref(), &catalog).await?;
        listing.targets.sort_by_cached_key(|target| target.key.name());
        let lengths = listing.targets.iter().map(|target| target.length);
        let mut bytes_before = vec![0];
        bytes_before.extend(lengths.scan(0, |sum, length| {
            *sum += length;
            Some(*sum)
        }));
        let check = Check { state, catalog, store, damaged, findings };
        Ok(Self { check, files, listing, bytes_before, position })
    }

    /// Does a piece of the work: some envelopes, or some tens of megabytes.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`]; what is wrong with the files is in the findings.
    pub(in crate::app) async fn step(&mut self) -> Result<(), Error> {
        self.position = match &self.position {
            Position::Metadata => {
                self.check.published(&self.listing, &self.files).await?;
                Position::Envelopes { after: String::new() }
            }
            Position::Envelopes { after } => match self.check.envelopes(after).await? {
                Some(after) => Position::Envelopes { after },
                None => Position::Targets { after: String::new() },
            },
            Position::Targets { after } => {
                match self.check.targets(&self.listing.targets, after).await? {
                    Some(after) => Position::Targets { after },
                    None => Position::Rest,
                }
            }
            Position::Rest => {
                self.check.strays(&self.listing.targets, &self.files).await?;
                self.check.modes();
                self.check.audit().await;
                self.check.catalog.close().await;
                Position::End
            }
            Position::End => Position::End,
        };
        Ok(())
    }

    pub(in crate::app) fn position(&self) -> &Position {
        &self.position
    }

    /// What was found so far.
    pub(in crate::app) fn findings(&mut self) -> &mut Findings {
        &mut self.check.findings
    }

    /// Bytes of targets that were looked at, and of all.
    pub(in crate::app) fn progress(&self) -> (u64, u64) {
        let total = self.bytes_before.last().copied().unwrap_or(0);
        let done = match &self.position {
            Position::Metadata | Position::Envelopes { .. } => 0,
            Position::Targets { after } => {
                let targets = &self.listing.targets;
                let next = targets.partition_point(|target| target.key.name() <= *after);
                self.bytes_before.get(next).copied().unwrap_or(total)
            }
            Position::Rest | Position::End => total,
        };
        (done, total)
    }
}

/// Checks an installation in one go. `progress` is told of bytes read, and of all
/// there are.
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
    let mut fsck = Fsck::open(state, damaged, Position::Metadata, Findings::default()).await?;
    let mut before = 0;
    while fsck.position != Position::End {
        fsck.step().await?;
        let (done, total) = fsck.progress();
        progress(done - before, total);
        before = done;
    }
    Ok(fsck.check.findings)
}

impl Check {
    /// Metadata, keys, and whatever else is no file of an image.
    async fn published(&mut self, listing: &Listing, files: &Files) -> Result<(), Error> {
        self.findings.files = listing.metadata.len() + 1;
        let damage = self.catalog.find_damage().await?;
        let damage = damage.into_iter().map(|line| format!("catalog.sqlite is damaged: {line}"));
        self.findings.problems.extend(damage);
        self.findings.problems.extend(listing.problems.iter().cloned());
        self.findings.problems.extend(listing.shown.problem());
        let image = self.metadata(listing, files).await?;
        let director = self.director().await?;
        self.keys(image.as_ref(), director.as_ref()).await?;
        let weak = super::keys::check_stored_keys(&self.catalog).await?;
        self.findings.problems.extend(weak);
        Ok(())
    }

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
