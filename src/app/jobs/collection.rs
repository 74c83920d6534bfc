//! Collection of yanked images, some a step.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::work::{Job, JobProgress, Step};
use crate::app::Error;
use crate::app::images::Images;
use crate::app::images::collect::CollectMode;
use crate::catalog::{Author, JobRecord, Who};

/// What a job was asked for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    /// For how long an image has been yanked.
    pub(super) grace_seconds: u64,
    pub(super) mode: CollectMode,
}

/// What is done of it.
#[derive(Default, Serialize, Deserialize)]
struct Checkpoint {
    /// After which image to go on.
    after: String,
    images: u64,
    bytes: u64,
    kept: u64,
    /// The first of those that are collected, and of those that are kept with the reason.
    collected: Vec<String>,
    reasons: Vec<String>,
}

pub(super) struct CollectionJob {
    parameters: Parameters,
    who: Who,
    images: Arc<Images>,
}

impl CollectionJob {
    pub(super) fn new(job: &JobRecord, images: Arc<Images>) -> Result<Self, Error> {
        let parameters = serde_json::from_value(job.parameters.clone())
            .map_err(Error::internal("read the parameters of a job"))?;
        let who = Who::Token { id: job.created_by.clone(), role: None };
        Ok(Self { parameters, who, images })
    }

    fn result(&self, checkpoint: Checkpoint) -> Value {
        let Checkpoint { images, bytes, kept, collected, reasons, after: _ } = checkpoint;
        let (what, note) = match self.parameters.mode {
            CollectMode::Remove => ("collected", "what the catalog knows of them stays"),
            CollectMode::DryRun => ("would_be_collected", "nothing was changed"),
        };
        let mut result = json!({ "bytes": bytes, "kept": kept, "reasons": reasons, "note": note });
        result[what] = images.into();
        result["images"] = collected.into();
        result
    }
}

#[async_trait]
impl Job for CollectionJob {
    async fn step(&mut self, checkpoint: Value) -> Result<Step, Error> {
        let mut done: Checkpoint = match checkpoint {
            Value::Null => Checkpoint::default(),
            stored => {
                serde_json::from_value(stored).map_err(Error::internal("read a checkpoint"))?
            }
        };
        let author = Author { who: self.who.clone(), at: self.images.now(), request_id: None };
        let (grace, mode) =
            (Duration::from_secs(self.parameters.grace_seconds), self.parameters.mode);
        let step = self.images.collect(grace, &done.after, mode, &author).await?;
        done.images += step.images.len() as u64;
        done.bytes += step.bytes;
        done.kept += step.kept.len() as u64;
        let room = MOST_LINES.saturating_sub(done.collected.len());
        done.collected.extend(step.images.iter().take(room).map(ToString::to_string));
        let room = MOST_LINES.saturating_sub(done.reasons.len());
        let reasons = step.kept.into_iter().map(|(path, reason)| format!("{path}: {reason}"));
        done.reasons.extend(reasons.take(room));
        let Some(next) = step.next else { return Ok(Step::Done { result: self.result(done) }) };
        done.after = next;
        let progress =
            JobProgress { phase: "collects yanked images".into(), done: done.images, total: 0 };
        let checkpoint =
            serde_json::to_value(&done).map_err(Error::internal("write a checkpoint"))?;
        Ok(Step::Next { checkpoint, progress })
    }
}

const MOST_LINES: usize = 1000;
