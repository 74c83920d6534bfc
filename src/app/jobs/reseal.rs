//! Reseal of an image: sealed again at another path, then its assignments move there, then it is
//! yanked. If somebody yanks it or its copy before that, the job ends. A job that ends before it is
//! done is taken back: assignments move to where they were, and the copy is yanked if the job has made
//! it. So before it seals anything it notes whether there is a copy.
//!
//! A copy that others have to sign for, such as a supplier who keeps its keys, is all that is made: no
//! vehicle could have it yet. Another job for the same two paths does the rest once it is published.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::work::{Job, JobProgress, Step};
use crate::app::Error;
use crate::app::access::check_token_still_valid;
use crate::app::director::{Director, MovedAssignments};
use crate::app::images::Images;
use crate::app::images::precondition::Precondition;
use crate::app::principal::Principal;
use crate::catalog::{Catalog, JobRecord};
use crate::model::{ImagePath, RoleName};

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
    /// Whether nothing was at the copy's path when the job began: what its token has sealed there
    /// since is the job's own. Of jobs that are older than this every copy was.
    #[serde(default = "yes")]
    makes_copy: bool,
    /// Whether the copy is there: before that no assignment moves.
    #[serde(default = "yes")]
    is_sealed: bool,
}

fn yes() -> bool {
    true
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

    /// The same, for as long as the token is good: whoever took it away wants nothing of this done.
    async fn valid_principal(&self) -> Result<Principal, Error> {
        let by = self.principal().await?;
        match check_token_still_valid(&self.catalog, &by.id, self.images.now()).await {
            Err(Error::Unauthenticated { detail }) => {
                let token = &by.id;
                let detail =
                    format!("the token {token} that asked for it is no longer good: {detail}");
                Err(Error::Forbidden { detail })
            }
            checked => checked.map(|()| by),
        }
    }

    async fn begin(&self) -> Result<Checkpoint, Error> {
        let makes_copy = self.catalog.find_image(&self.parameters.to).await?.is_none();
        Ok(Checkpoint { makes_copy, ..Checkpoint::default() })
    }

    async fn seal(&self, begun: Checkpoint, by: &Principal) -> Result<Checkpoint, Error> {
        let Parameters { path, to } = &self.parameters;
        let (images, from, target, by) =
            (Arc::clone(&self.images), path.clone(), to.clone(), by.clone());
        let seal = async move |wanted| images.reseal(&from, &target, &by, wanted).await;
        on_one_thread(seal).await??;
        tracing::info!(image.path = %path, resealed.path = %to, "image resealed");
        Ok(Checkpoint { is_sealed: true, ..begun })
    }

    /// Moves the assignments of some vehicles.
    async fn move_on(
        &self,
        mut checkpoint: Checkpoint,
        by: &Principal,
    ) -> Result<Checkpoint, Error> {
        let Parameters { path, to } = &self.parameters;
        let outcome = self.move_some(path, to, &checkpoint.after, by).await?;
        checkpoint.moved += outcome.moved;
        let room = MOST_LINES.saturating_sub(checkpoint.problems.len());
        checkpoint.left_out += outcome.problems.len().saturating_sub(room) as u64;
        checkpoint.problems.extend(outcome.problems.into_iter().take(room));
        checkpoint.all_moved = outcome.next.is_none();
        checkpoint.after = outcome.next.unwrap_or_default();
        Ok(checkpoint)
    }

    async fn move_some(
        &self,
        from: &ImagePath,
        to: &ImagePath,
        after: &str,
        by: &Principal,
    ) -> Result<MovedAssignments, Error> {
        let (director, from, to) = (Arc::clone(&self.director), from.clone(), to.clone());
        let (after, by) = (after.to_owned(), by.clone());
        on_one_thread(async move |_| director.move_assignments(&from, &to, &after, &by).await)
            .await?
    }

    /// Ends the job if somebody has yanked the image, for whatever reason, as its copy has the same
    /// bytes; or the copy, which nobody is to install then.
    async fn check_not_yanked(&self, makes_copy: bool) -> Result<(), Error> {
        let Parameters { path, to } = &self.parameters;
        if self.images.show(path).await?.yanked_at.is_some() {
            let copy = if makes_copy {
                format!("what was sealed at {to} is yanked too")
            } else {
                format!("this job has sealed nothing at {to}: yank it too if its bytes are bad")
            };
            let detail =
                format!("image_yanked: {path} was yanked while it was sealed again; {copy}");
            return Err(Error::Conflict { code: "image_yanked", detail });
        }
        self.check_copy().await
    }

    async fn check_copy(&self) -> Result<(), Error> {
        let Parameters { path, to } = &self.parameters;
        match self.catalog.find_image(to).await? {
            Some(copy) if copy.yanked_at.is_some() => {
                let detail = format!(
                    "copy_yanked: {to}, where {path} was sealed again, was yanked; assignments stay with {path}, which is not \
                     yanked"
                );
                Err(Error::Conflict { code: "copy_yanked", detail })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Yanks the image, which is the last thing to do. A second time it is found done.
    async fn finish(&self, moved: &Checkpoint, by: &Principal) -> Result<Step, Error> {
        let path = &self.parameters.path;
        if self.images.show(path).await?.yanked_at.is_none() {
            self.check_copy().await?;
        }
        self.images.yank(path, &Precondition::default(), by).await?;
        Ok(Step::Done { result: self.result(moved) })
    }

    /// Moves all assignments back that were moved.
    async fn move_back(&self, by: &Principal) -> Result<(), Error> {
        let Parameters { path, to } = &self.parameters;
        let mut after = String::new();
        loop {
            let outcome = self.move_some(to, path, &after, by).await?;
            for problem in outcome.problems {
                tracing::warn!(image.path = %path, problem, "an assignment could not be moved back");
            }
            let Some(next) = outcome.next else { return Ok(()) };
            after = next;
        }
    }
}

#[async_trait]
impl Job for ResealJob {
    async fn step(&mut self, checkpoint: Value) -> Result<Step, Error> {
        let by = self.valid_principal().await?;
        let stored: Option<Checkpoint> =
            serde_json::from_value(checkpoint).map_err(Error::internal("read a checkpoint"))?;
        if let Some(moved) = stored.as_ref().filter(|stored| stored.all_moved) {
            return self.finish(moved, &by).await;
        }
        let makes_copy = stored.as_ref().is_some_and(|stored| stored.makes_copy);
        self.check_not_yanked(makes_copy).await?;
        let seals = stored.as_ref().is_some_and(|stored| !stored.is_sealed);
        let stepped = match stored {
            None => self.begin().await,
            Some(begun) if seals => self.seal(begun, &by).await,
            Some(sealed) => self.move_on(sealed, &by).await,
        };
        self.check_not_yanked(makes_copy).await?; // it takes a while
        let checkpoint = stepped?;
        if seals && let Some(role) = self.images.awaited_role(&self.parameters.to).await? {
            return Ok(Step::Done { result: self.waits(&role) });
        }
        let phase = match &checkpoint {
            Checkpoint { is_sealed: false, .. } => "seals the image again",
            Checkpoint { all_moved: false, .. } => "moves assignments",
            Checkpoint { .. } => "yanks the old image",
        };
        let progress = JobProgress { phase: phase.into(), done: checkpoint.moved, total: 0 };
        let checkpoint =
            serde_json::to_value(&checkpoint).map_err(Error::internal("write a checkpoint"))?;
        Ok(Step::Next { checkpoint, progress })
    }

    async fn undo(&mut self, checkpoint: Value) -> Result<(), Error> {
        let stored: Option<Checkpoint> =
            serde_json::from_value(checkpoint).map_err(Error::internal("read a checkpoint"))?;
        let Some(stored) = stored else { return Ok(()) }; // it has looked, and no more
        let by = self.principal().await?;
        let Parameters { path, to } = &self.parameters;
        let image = self.images.show(path).await?;
        let Some(copy) = self.images.find_copy(&image, to).await? else { return Ok(()) };
        if image.yanked_at.is_some() && stored.all_moved {
            return Ok(()); // it was done, but for saying so
        }
        if image.yanked_at.is_none() && stored.is_sealed {
            self.move_back(&by).await?;
        }
        let is_own = stored.makes_copy && copy.created_by == by.id;
        if !is_own || copy.yanked_at.is_some() {
            return Ok(());
        }
        self.images.yank(to, &Precondition::default(), &by).await
    }
}

impl ResealJob {
    /// What comes of it while a role has to sign for the copy.
    fn waits(&self, role: &RoleName) -> Value {
        let Parameters { path, to } = &self.parameters;
        json!({
            "image": to, "yanked": null, "assignments_moved": 0, "problems": [], "left_out": 0,
            "awaits_signature_of": role.to_string(),
            "note": format!(
                "{path} stays as it is until {role} is signed and published: then `motorcade image reseal {path} --to {to}` \
                 moves its assignments and yanks it"
            ),
        })
    }

    fn result(&self, checkpoint: &Checkpoint) -> Value {
        let Checkpoint { moved, problems, left_out, .. } = checkpoint;
        json!({
            "image": self.parameters.to, "yanked": self.parameters.path, "assignments_moved": moved,
            "problems": problems, "left_out": left_out, "note": NOT_TAKEN_BACK,
        })
    }
}

/// Does work that is never sent on to another thread, as requests are done. It ends when this is
/// dropped, and the token that it gets is cancelled then.
async fn on_one_thread<T: Send + 'static>(
    work: impl AsyncFnOnce(CancellationToken) -> T + Send + 'static,
) -> Result<T, Error> {
    let stop = CancellationToken::new();
    let _ends = stop.clone().drop_guard();
    let wanted = stop.clone();
    let work = move || Handle::current().block_on(stop.run_until_cancelled(work(wanted)));
    let done = tokio::task::spawn_blocking(work).await.map_err(Error::internal("reseal"))?;
    done.ok_or_else(|| Error::internal("reseal")(std::io::Error::other("it was cancelled")))
}

/// What the answer has to say plainly (docs/FORMAT.md, 6.7).
const NOT_TAKEN_BACK: &str = "whoever could open the yanked image and has kept a copy of it still can, and what was read of it \
     stays read: only what is fetched from now on is out of reach of the old keys";
const MOST_LINES: usize = 1000;
