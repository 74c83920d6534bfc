//! Reseal of an image: sealed again at another path, then its assignments move there, then it is
//! yanked. If somebody else yanks it before that, the job ends, and what was sealed again is yanked
//! too.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::work::{Job, JobProgress, Step};
use crate::app::Error;
use crate::app::director::Director;
use crate::app::images::Images;
use crate::app::images::precondition::Precondition;
use crate::app::principal::Principal;
use crate::catalog::{Catalog, JobRecord};
use crate::model::ImagePath;

/// What a job was asked for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    pub(super) path: ImagePath,
    pub(super) to: ImagePath,
}

/// What is done of it.
#[derive(Default, Serialize, Deserialize)]
struct Checkpoint {
    /// After which vehicle to go on.
    after: String,
    moved: u64,
    problems: Vec<String>,
    left_out: u64,
    /// Whether no assignment is left to be moved: from then on it is this job that yanks the image.
    #[serde(default)]
    all_moved: bool,
}

pub(super) struct ResealJob {
    parameters: Parameters,
    created_by: String,
    catalog: Catalog,
    images: Arc<Images>,
    director: Arc<Director>,
}

impl ResealJob {
    pub(super) fn new(
        job: &JobRecord,
        catalog: Catalog,
        images: Arc<Images>,
        director: Arc<Director>,
    ) -> Result<Self, Error> {
        let parameters = serde_json::from_value(job.parameters.clone())
            .map_err(Error::internal("read the parameters of a job"))?;
        Ok(Self { parameters, created_by: job.created_by.clone(), catalog, images, director })
    }

    /// Who has asked for it: what is done counts as done by the holder of that token.
    async fn principal(&self) -> Result<Principal, Error> {
        let id = self.created_by.clone();
        let token = self.catalog.find_token_by_id(&id).await?;
        let missing = || Error::Forbidden { detail: format!("the token {id} is gone") };
        let role = token.ok_or_else(missing)?.role;
        Ok(Principal { id, role, path_prefix: None, request_id: None })
    }

    async fn seal(&self, by: &Principal) -> Result<Checkpoint, Error> {
        let Parameters { path, to } = &self.parameters;
        let (images, from, target, by) =
            (Arc::clone(&self.images), path.clone(), to.clone(), by.clone());
        on_one_thread(async move || images.reseal(&from, &target, &by).await).await??;
        tracing::info!(image.path = %path, resealed.path = %to, "image resealed");
        Ok(Checkpoint::default())
    }

    /// Moves the assignments of some vehicles.
    async fn move_on(
        &self,
        mut checkpoint: Checkpoint,
        by: &Principal,
    ) -> Result<Checkpoint, Error> {
        let Parameters { path, to } = &self.parameters;
        let (director, from, target) = (Arc::clone(&self.director), path.clone(), to.clone());
        let (after, author) = (checkpoint.after.clone(), by.clone());
        let moving = async move || director.move_assignments(&from, &target, &after, &author).await;
        let outcome = on_one_thread(moving).await??;
        checkpoint.moved += outcome.moved;
        let room = MOST_LINES.saturating_sub(checkpoint.problems.len());
        checkpoint.left_out += outcome.problems.len().saturating_sub(room) as u64;
        checkpoint.problems.extend(outcome.problems.into_iter().take(room));
        checkpoint.all_moved = outcome.next.is_none();
        checkpoint.after = outcome.next.unwrap_or_default();
        Ok(checkpoint)
    }

    /// Ends the job if somebody has yanked the image, for whatever reason: its copy has the same
    /// bytes.
    async fn check_not_yanked(&self, by: &Principal) -> Result<(), Error> {
        let Parameters { path, to } = &self.parameters;
        let image = self.images.show(path).await?;
        if image.yanked_at.is_none() {
            return Ok(());
        }
        let copy = match self.images.yank_copy(&image, to, by).await {
            Ok(()) => format!("what it had sealed at {to}, if anything, is yanked too"),
            Err(error) => format!("{to} could not be yanked yet, look at it: {}", error.reason()),
        };
        let detail = format!("image_yanked: {path} was yanked while it was sealed again; {copy}");
        Err(Error::Conflict { code: "image_yanked", detail })
    }
}

#[async_trait]
impl Job for ResealJob {
    async fn step(&mut self, checkpoint: Value) -> Result<Step, Error> {
        let by = self.principal().await?;
        let stored: Option<Checkpoint> =
            serde_json::from_value(checkpoint).map_err(Error::internal("read a checkpoint"))?;
        if let Some(moved) = stored.as_ref().filter(|stored| stored.all_moved) {
            self.images.yank(&self.parameters.path, &Precondition::default(), &by).await?;
            return Ok(Step::Done { result: self.result(moved) });
        }
        self.check_not_yanked(&by).await?;
        let stepped = match stored {
            None => self.seal(&by).await,
            Some(stored) => self.move_on(stored, &by).await,
        };
        self.check_not_yanked(&by).await?; // it takes a while
        let checkpoint = stepped?;
        let phase = if checkpoint.all_moved { "yanks the old image" } else { "moves assignments" };
        let progress = JobProgress { phase: phase.into(), done: checkpoint.moved, total: 0 };
        let checkpoint =
            serde_json::to_value(&checkpoint).map_err(Error::internal("write a checkpoint"))?;
        Ok(Step::Next { checkpoint, progress })
    }
}

impl ResealJob {
    fn result(&self, checkpoint: &Checkpoint) -> Value {
        let Checkpoint { moved, problems, left_out, .. } = checkpoint;
        json!({
            "image": self.parameters.to, "yanked": self.parameters.path, "assignments_moved": moved,
            "problems": problems, "left_out": left_out, "note": NOT_TAKEN_BACK,
        })
    }
}

/// Does work that is never sent on to another thread, as requests are done. It ends when this is
/// dropped.
async fn on_one_thread<T: Send + 'static>(
    work: impl AsyncFnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let stop = CancellationToken::new();
    let _ends = stop.clone().drop_guard();
    let work = move || Handle::current().block_on(stop.run_until_cancelled(work()));
    let done = tokio::task::spawn_blocking(work).await.map_err(Error::internal("reseal"))?;
    done.ok_or_else(|| Error::internal("reseal")(std::io::Error::other("it was cancelled")))
}

/// What the answer has to say plainly (docs/FORMAT.md, 6.7).
const NOT_TAKEN_BACK: &str = "whoever could open the yanked image and has kept a copy of it still can, and what was read of it \
     stays read: only what is fetched from now on is out of reach of the old keys";
const MOST_LINES: usize = 1000;
