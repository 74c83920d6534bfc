//! `fsck` through the server: the same check as the command's, which changes nothing.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::work::{Job, JobProgress, Step};
use crate::app::Error;
use crate::app::fsck::{Damaged, Findings, Fsck, Position};
use crate::app::state_dir::StateDir;

pub(super) struct FsckJob {
    state: StateDir,
    /// The check, once it is open.
    fsck: Option<Fsck>,
}

/// From where a check goes on, and what it has found before that.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    position: Position,
    findings: Findings,
    /// Lines that were left out of the findings.
    left_out: usize,
}

impl FsckJob {
    pub(super) fn new(state: StateDir) -> Self {
        Self { state, fsck: None }
    }

    async fn open(&mut self, checkpoint: &Checkpoint) -> Result<&mut Fsck, Error> {
        let fsck = match self.fsck.take() {
            Some(fsck) => fsck,
            None => {
                let Checkpoint { position, findings, .. } = checkpoint;
                Fsck::open(&self.state, Damaged::Report, position.clone(), findings.clone()).await?
            }
        };
        Ok(self.fsck.insert(fsck))
    }
}

#[async_trait]
impl Job for FsckJob {
    async fn step(&mut self, checkpoint: Value) -> Result<Step, Error> {
        let mut checkpoint = match checkpoint {
            Value::Null => Checkpoint {
                position: Position::Metadata,
                findings: Findings::default(),
                left_out: 0,
            },
            stored => {
                serde_json::from_value(stored).map_err(Error::internal("read a checkpoint"))?
            }
        };
        let fsck = self.open(&checkpoint).await?;
        fsck.step().await?;
        let findings = fsck.findings();
        for lines in [&mut findings.problems, &mut findings.skipped] {
            checkpoint.left_out += lines.len().saturating_sub(MOST_LINES);
            lines.truncate(MOST_LINES);
        }
        checkpoint.findings.clone_from(findings);
        checkpoint.position.clone_from(fsck.position());
        if checkpoint.position == Position::End {
            let Findings { files, bytes, problems, skipped, .. } = &checkpoint.findings;
            let result = json!({
                "files": files, "bytes": bytes, "problems": problems, "skipped": skipped,
                "left_out": checkpoint.left_out,
            });
            return Ok(Step::Done { result });
        }
        let phase = match &checkpoint.position {
            Position::Metadata => "reads metadata",
            Position::Envelopes { .. } => "opens envelopes",
            Position::Targets { .. } => "reads images, in bytes",
            Position::Rest | Position::End => "looks for what lies about",
        };
        let (done, total) = fsck.progress();
        let progress = JobProgress { phase: phase.to_owned(), done, total };
        let checkpoint =
            serde_json::to_value(&checkpoint).map_err(Error::internal("write a checkpoint"))?;
        Ok(Step::Next { checkpoint, progress })
    }
}

/// Most lines of one kind that are kept: each image of a disk that is lost would have one.
const MOST_LINES: usize = 1000;
