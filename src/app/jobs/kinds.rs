//! The kinds of jobs, and who does the work of each.

use super::fsck;
use super::work::Job;
use crate::app::state_dir::StateDir;
use crate::model::JobKind;

/// What jobs work on.
pub(super) struct Context {
    pub(super) state: StateDir,
}

/// The work of a kind, for one run.
pub(super) fn make(kind: JobKind, context: &Context) -> Box<dyn Job> {
    match kind {
        JobKind::Fsck => Box::new(fsck::FsckJob::new(context.state.clone())),
    }
}
