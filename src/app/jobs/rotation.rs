//! Rotation and revocation of a recipient's key, on every image concerned.
//!
//! First the registrations change, so that nothing is sealed for the old key any more; then the
//! envelopes do, one batch a step. The same request again, after a cancellation too, does what is
//! left.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::work::{Job, JobProgress, Step};
use crate::app::Error;
use crate::app::images::Images;
use crate::app::images::rewrap::{Change, Rewrap, RewrapMode, Walk};
use crate::catalog::{Author, JobRecord, Who};
use crate::envelope::key::{Kid, RecipientKey};

/// What a job was asked for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    /// The key that goes.
    pub(super) kid: Kid,
    /// The public key that comes, as a JWK; none if the other one is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) successor: Option<Value>,
    pub(super) mode: RewrapMode,
}

pub(super) struct RotationJob {
    images: Arc<Images>,
    rewrap: Rewrap,
    who: Who,
    mode: RewrapMode,
}

impl RotationJob {
    pub(super) fn new(job: &JobRecord, images: Arc<Images>) -> Result<Self, Error> {
        const OP: &str = "read the parameters of a job";
        let Parameters { kid, successor, mode } =
            serde_json::from_value(job.parameters.clone()).map_err(Error::internal(OP))?;
        let change = match successor {
            Some(jwk) => {
                let new = RecipientKey::from_jwk(&jwk).map_err(Error::internal(OP))?;
                Change::Replace { old: kid, new: Box::new(new) }
            }
            None => Change::Remove { old: kid },
        };
        let who = Who::Token { id: job.created_by.clone(), role: None };
        let rewrap = Rewrap::new(Arc::clone(&images), change, who.clone(), mode);
        Ok(Self { images, rewrap, who, mode })
    }

    async fn begin(&self) -> Result<Walk, Error> {
        if self.mode == RewrapMode::Record {
            let at = self.images.now();
            let author = Author { who: self.who.clone(), at, request_id: None };
            self.images.retire(self.rewrap.change(), &author).await?;
        }
        self.rewrap.begin().await
    }
}

#[async_trait]
impl Job for RotationJob {
    async fn step(&mut self, checkpoint: Value) -> Result<Step, Error> {
        let walk = match checkpoint {
            Value::Null => self.begin().await?,
            stored => {
                let mut walk: Walk =
                    serde_json::from_value(stored).map_err(Error::internal("read a checkpoint"))?;
                self.rewrap.step(&mut walk).await?;
                walk
            }
        };
        if walk.is_over() {
            return Ok(Step::Done { result: result(&walk, self.mode) });
        }
        let phase = match self.mode {
            RewrapMode::Record => "wraps envelopes again",
            RewrapMode::DryRun => "opens envelopes",
        };
        let progress = JobProgress {
            phase: phase.to_owned(),
            done: walk.changed + walk.failed,
            total: walk.concerned,
        };
        let checkpoint =
            serde_json::to_value(&walk).map_err(Error::internal("write a checkpoint"))?;
        Ok(Step::Next { checkpoint, progress })
    }
}

fn result(walk: &Walk, mode: RewrapMode) -> Value {
    let left_out = walk.failed - walk.problems.len() as u64;
    let common = json!({ "problems": walk.problems, "left_out": left_out });
    let (images, note) = match mode {
        RewrapMode::Record => ("rewrapped", NOT_TAKEN_BACK),
        RewrapMode::DryRun => ("would_be_rewrapped", "nothing was changed"),
    };
    let mut result = common;
    result[images] = walk.changed.into();
    result["note"] = note.into();
    result
}

/// What the answer has to say plainly (docs/FORMAT.md, 6.7).
const NOT_TAKEN_BACK: &str = "whoever has the old key can still open every image whose envelope was fetched before: \
     re-wrapping does not take a data key back; reseal the images if the key is compromised";
