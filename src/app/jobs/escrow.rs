//! Rotation of the escrow key: every envelope is wrapped again for the key that wraps from now on,
//! and bound to its image if it was not; then the former key is taken out.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::work::{Job, JobProgress, Step};
use crate::app::Error;
use crate::app::escrow::{Escrows, SETTLING};
use crate::app::images::Images;
use crate::app::images::rewrap::{Change, Rewrap, RewrapMode, Walk};
use crate::catalog::{Author, JobRecord, Who};
use crate::envelope::key::Kid;

/// What a job was asked for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    /// The key that goes.
    pub(super) kid: Kid,
    pub(super) mode: RewrapMode,
}

pub(super) struct EscrowRotationJob {
    images: Arc<Images>,
    escrows: Arc<Escrows>,
    rewrap: Rewrap,
    who: Who,
    old: Kid,
    mode: RewrapMode,
}

impl EscrowRotationJob {
    pub(super) fn new(
        job: &JobRecord,
        images: Arc<Images>,
        escrows: Arc<Escrows>,
    ) -> Result<Self, Error> {
        let Parameters { kid: old, mode } = serde_json::from_value(job.parameters.clone())
            .map_err(Error::internal("read the parameters of a job"))?;
        let who = Who::Token { id: job.created_by.clone(), role: None };
        let new = escrows.wrapping();
        let change = Change::Escrow { old: old.clone(), new };
        let rewrap = Rewrap::new(Arc::clone(&images), change, who.clone(), mode);
        Ok(Self { images, escrows, rewrap, who, old, mode })
    }

    /// Refuses to take out the key that wraps here. Where another server has begun the rotation, the
    /// new one may not be here yet.
    async fn check_begun(&self) -> Result<(), Error> {
        self.escrows.check_current().await?;
        if self.mode == RewrapMode::DryRun || *self.escrows.wrapping().kid() != self.old {
            return Ok(());
        }
        let detail = format!(
            "the escrow key {} wraps, and was to be taken out: begin the rotation again",
            self.old
        );
        Err(Error::Conflict { code: "rotation_not_begun", detail })
    }

    /// Ends a walk that has come to its end; or has it begin anew, as long as something is left that
    /// was sealed with the former key meanwhile.
    async fn end(&self, walk: &Walk) -> Result<Option<Value>, Error> {
        let mut result = json!({ "problems": walk.problems });
        if self.mode == RewrapMode::DryRun {
            result["would_be_rewrapped"] = walk.changed.into();
            result["note"] = "nothing was changed".into();
            return Ok(Some(result));
        }
        result["rewrapped"] = walk.changed.into();
        let left = self.escrows.count(&self.old).await?;
        // What can't be opened and is yanked is nothing to keep a key for.
        if walk.failed > 0 && left.listed > 0 {
            result["note"] = KEPT.into();
            return Ok(Some(result));
        }
        if !self.escrows.is_settled() || left.all > walk.failed {
            tokio::time::sleep(SETTLING).await;
            return Ok(None);
        }
        self.images.rewrap_upload_keys().await?;
        let author = Author { who: self.who.clone(), at: self.images.now(), request_id: None };
        self.escrows.retire(&self.old, &author).await?;
        result["retired"] = self.old.as_str().into();
        result["note"] = RETIRED.into();
        Ok(Some(result))
    }
}

#[async_trait]
impl Job for EscrowRotationJob {
    async fn step(&mut self, checkpoint: Value) -> Result<Step, Error> {
        self.check_begun().await?;
        let walk = match checkpoint {
            Value::Null => self.rewrap.begin().await?,
            stored => {
                let mut walk: Walk =
                    serde_json::from_value(stored).map_err(Error::internal("read a checkpoint"))?;
                if !walk.is_over() {
                    self.rewrap.step(&mut walk).await?;
                }
                walk
            }
        };
        let walk = if walk.is_over() {
            match self.end(&walk).await? {
                Some(result) => return Ok(Step::Done { result }),
                None => walk.again(),
            }
        } else {
            walk
        };
        let phase = match self.mode {
            RewrapMode::Record => "wraps envelopes again",
            RewrapMode::DryRun => "opens envelopes",
        };
        let (done, total) = (walk.changed + walk.failed, walk.concerned);
        let progress = JobProgress { phase: phase.to_owned(), done, total };
        let checkpoint =
            serde_json::to_value(&walk).map_err(Error::internal("write a checkpoint"))?;
        Ok(Step::Next { checkpoint, progress })
    }
}

const RETIRED: &str = "the former key opens nothing any more: keep it for as long as a backup from before may be restored, then destroy it";
const KEPT: &str = "the former key is kept, since some envelopes can't be wrapped again: see `problems`, yank these images, and upload them \
     again under other paths; then begin the rotation again without a key";
