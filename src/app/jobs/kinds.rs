//! The kinds of jobs, and who does the work of each.

use std::sync::Arc;

use super::work::Job;
use super::{collection, escrow, fsck, reseal, rotation};
use crate::app::Error;
use crate::app::director::Director;
use crate::app::escrow::Escrows;
use crate::app::images::Images;
use crate::app::state_dir::StateDir;
use crate::catalog::{Catalog, JobRecord};
use crate::model::JobKind;

/// What jobs work on.
pub(super) struct Context {
    pub(super) state: StateDir,
    pub(super) catalog: Catalog,
    pub(super) images: Arc<Images>,
    pub(super) director: Arc<Director>,
    pub(super) escrows: Arc<Escrows>,
}

/// The work of a kind, for one run of a job.
///
/// # Errors
///
/// [`Error::Internal`] if its parameters are none of this version's.
pub(super) fn make(
    kind: JobKind,
    job: &JobRecord,
    context: &Context,
) -> Result<Box<dyn Job>, Error> {
    let Context { state, catalog, images, director, escrows } = context;
    Ok(match kind {
        JobKind::Fsck => Box::new(fsck::FsckJob::new(state.clone())),
        JobKind::RecipientRotation | JobKind::RecipientRevocation => {
            Box::new(rotation::RotationJob::new(job, Arc::clone(images))?)
        }
        JobKind::EscrowRotation => {
            let (images, escrows) = (Arc::clone(images), Arc::clone(escrows));
            Box::new(escrow::EscrowRotationJob::new(job, images, escrows)?)
        }
        JobKind::ImageCollection => {
            Box::new(collection::CollectionJob::new(job, Arc::clone(images))?)
        }
        JobKind::ImageReseal => {
            let (images, director) = (Arc::clone(images), Arc::clone(director));
            Box::new(reseal::ResealJob::new(job, catalog.clone(), images, director)?)
        }
    })
}
