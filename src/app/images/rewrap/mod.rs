//! Re-wrapping: every envelope in which a key has an entry is changed, in batches, while everything
//! else goes on.
//!
//! An image's sealed bytes, their digest and names stay as they are. A batch is on the disk, in the
//! catalog with its audit entries, and published before it counts as done. The next one is prepared
//! meanwhile, on cores that nobody else wants. What is done has no entry of the key any more, so a
//! walk that begins anew does what is left.

mod batch;
mod change;
mod cores;
mod superseded;
mod uploads;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

use self::batch::{Batch, prepare, record};
pub(in crate::app) use self::change::Change;
use self::uploads::Uploads;
use super::Images;
use crate::app::Error;
use crate::catalog::{EnvelopePosition, Who};

/// Whether envelopes change, or are only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewrapMode {
    /// They change.
    Record,
    /// Nothing changes: it is found out what could be changed.
    DryRun,
}

/// How far a walk through all envelopes is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::app) struct Walk {
    position: EnvelopePosition,
    /// How often it went through all of them before.
    passes: u32,
    /// Envelopes that are concerned, as counted at the start.
    pub(in crate::app) concerned: u64,
    /// Envelopes that were changed, or could be.
    pub(in crate::app) changed: u64,
    /// Envelopes that can't be.
    pub(in crate::app) failed: u64,
    /// Why not, for the first of them, a line each.
    pub(in crate::app) problems: Vec<String>,
}

/// Changes envelopes, one batch a step.
pub(in crate::app) struct Rewrap {
    images: Arc<Images>,
    change: Arc<Change>,
    /// Who has asked for it.
    who: Who,
    mode: RewrapMode,
    uploads: Uploads,
    /// The next batch, and from where it is.
    ahead: Option<(EnvelopePosition, AbortOnDropHandle<Result<Batch, Error>>)>,
}

impl Walk {
    /// Whether all is done.
    pub(in crate::app) fn is_over(&self) -> bool {
        self.position == EnvelopePosition::End
    }

    /// The same from the start, for what has come in behind it; what was done counts on.
    pub(in crate::app) fn again(&self) -> Self {
        let (passes, failed, problems) = (0, 0, Vec::new());
        Self { position: EnvelopePosition::start(), passes, failed, problems, ..self.clone() }
    }

    fn note(&mut self, problems: Vec<String>) {
        self.failed += problems.len() as u64;
        let room = MOST_LINES.saturating_sub(self.problems.len());
        self.problems.extend(problems.into_iter().take(room));
    }
}

impl Rewrap {
    pub(in crate::app) fn new(
        images: Arc<Images>,
        change: Change,
        who: Who,
        mode: RewrapMode,
    ) -> Self {
        Self {
            images,
            change: Arc::new(change),
            who,
            mode,
            uploads: Uploads::default(),
            ahead: None,
        }
    }

    /// What is to be done.
    pub(in crate::app) fn change(&self) -> &Change {
        &self.change
    }

    /// A walk from the start.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub(in crate::app) async fn begin(&self) -> Result<Walk, Error> {
        let concerned = self.count().await?;
        Ok(Walk {
            position: EnvelopePosition::start(),
            passes: 0,
            concerned,
            changed: 0,
            failed: 0,
            problems: Vec::new(),
        })
    }

    /// Does the next batch.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]; [`Error::Unavailable`] while nothing can be signed; [`Error::Internal`].
    pub(in crate::app) async fn step(&mut self, walk: &mut Walk) -> Result<(), Error> {
        let Batch { changed, problems, next } = self.batch(&walk.position).await?;
        self.look_ahead(&next);
        walk.note(problems);
        walk.changed += match self.mode {
            RewrapMode::DryRun => changed.len() as u64,
            RewrapMode::Record if changed.is_empty() => 0,
            RewrapMode::Record => self.record(changed).await?,
        };
        walk.position = next;
        if walk.is_over() {
            self.begin_again(walk).await?;
        }
        Ok(())
    }

    async fn batch(&mut self, from: &EnvelopePosition) -> Result<Batch, Error> {
        match self.ahead.take() {
            Some((position, ahead)) if position == *from => {
                ahead.await.map_err(Error::internal("prepare envelopes"))?
            }
            _ => prepare(Arc::clone(&self.images), Arc::clone(&self.change), from.clone()).await,
        }
    }

    /// Prepares a batch while the one before is stored.
    fn look_ahead(&mut self, next: &EnvelopePosition) {
        if *next == EnvelopePosition::End {
            return;
        }
        let batch = prepare(Arc::clone(&self.images), Arc::clone(&self.change), next.clone());
        let batch = AbortOnDropHandle::new(self.images.runtime.spawn(batch));
        self.ahead = Some((next.clone(), batch));
    }

    /// Goes on to its end if the job is cancelled or the server stops.
    async fn record(&mut self, changed: Vec<batch::Changed>) -> Result<u64, Error> {
        self.uploads.let_pass(&self.images).await;
        let record =
            record(Arc::clone(&self.images), Arc::clone(&self.change), self.who.clone(), changed);
        let recorded = self.images.tasks.spawn_on(record, &self.images.runtime).await;
        self.uploads.note(&self.images);
        Ok(recorded.map_err(Error::internal("record envelopes"))?? as u64)
    }

    /// What somebody else has changed meanwhile was left as it was.
    async fn begin_again(&self, walk: &mut Walk) -> Result<(), Error> {
        let is_done = self.mode == RewrapMode::DryRun || walk.passes == MOST_PASSES;
        if is_done || self.count().await? <= walk.failed {
            return Ok(());
        }
        walk.position = EnvelopePosition::start();
        walk.passes += 1;
        walk.failed = 0;
        walk.problems.clear();
        Ok(())
    }

    async fn count(&self) -> Result<u64, Error> {
        Ok(self.images.catalog.count_envelopes_for(self.change.old().as_str()).await?)
    }
}

/// Most problems that are kept: each image of a catalog under another escrow key has one.
const MOST_LINES: usize = 1000;
const MOST_PASSES: u32 = 8;
