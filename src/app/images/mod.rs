//! Images: uploads that are sealed and published, the keys that they are sealed for, what of them is
//! served, how they are wrapped again, and yanks.

mod announced;
pub mod collect;
pub mod deliver;
pub mod ingest;
pub mod precondition;
mod recipients;
mod reseal;
pub mod resume;
pub mod rewrap;
mod rotation;
mod show;
mod yank;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::RwLock;
use tokio_util::task::TaskTracker;

use super::escrow::Escrows;
use super::publish::Publisher;
use super::replicas::presence::Presence;
use super::{Error, Limits};
use crate::blob::BlobStore;
use crate::catalog::{Catalog, Holder};
use crate::model::clock::later;
use crate::model::{Clock, Timestamp};
use crate::telemetry::Metrics;
use deliver::{CompressedFiles, SharedFiles};
use ingest::UploadSlots;
use resume::SmallParts;
pub(super) use show::no_image;

/// The images, and the work on them that is going on.
pub struct Images {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    escrow: Arc<Escrows>,
    publisher: Publisher,
    compressed: CompressedFiles,
    shared: SharedFiles,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    limits: Limits,
    upload_slots: UploadSlots,
    small_parts: SmallParts,
    /// Shared by commits from the choice of recipients to the catalog. Who looks for a copy takes it
    /// once alone: one that was on its way is in the catalog then.
    sealing: RwLock<()>,
    published: AtomicI64,
    /// Work that goes on when the request that started it is gone runs on this runtime, and is
    /// waited for.
    runtime: Handle,
    tasks: TaskTracker,
    /// Uploads whose staged bytes may still be on the disk.
    uploads: TaskTracker,
    /// Id of this server, whose uploads these are.
    server_id: String,
    /// That this server is there, for others that use its database.
    presence: Option<Arc<Presence>>,
}

/// What [`Images`] is made of.
pub(super) struct Parts {
    pub(super) catalog: Catalog,
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) escrow: Arc<Escrows>,
    pub(super) publisher: Publisher,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    pub(super) runtime: Handle,
    pub(super) server_id: String,
    pub(super) presence: Option<Arc<Presence>>,
}

impl Images {
    /// Puts the parts together.
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            catalog,
            blobs,
            escrow,
            publisher,
            clock,
            metrics,
            limits,
            runtime,
            server_id,
            presence,
        } = parts;
        Self {
            catalog,
            blobs,
            escrow,
            publisher,
            compressed: CompressedFiles::new(MAX_COMPRESSED),
            shared: SharedFiles::default(),
            clock,
            metrics,
            upload_slots: UploadSlots::new(limits.max_uploads),
            small_parts: SmallParts::default(),
            sealing: RwLock::default(),
            limits,
            published: AtomicI64::new(0),
            runtime,
            tasks: TaskTracker::new(),
            uploads: TaskTracker::new(),
            server_id,
            presence,
        }
    }

    /// Waits for work that goes on without its request, at the end of the server's life; and, not
    /// for ever, until what was staged of uploads that were cut off is removed.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.uploads.close();
        if tokio::time::timeout(REMOVAL_TIMEOUT, self.uploads.wait()).await.is_err() {
            tracing::warn!("what was staged of an upload is left for the next start");
        }
    }

    /// Counts the published images, once: counting them in the catalog takes longer the more there
    /// are.
    pub(super) async fn count(&self) -> Result<(), Error> {
        let images = self.catalog.count_images().await?;
        let known = self.published.load(Ordering::Relaxed); // none at the start
        self.count_published(i64::try_from(images).unwrap_or(i64::MAX) - known);
        Ok(())
    }

    /// The time now.
    pub(in crate::app) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// This server, for as long as an upload may take from the first of its blobs to the catalog.
    pub(super) fn upload_holder(&self) -> Holder<'_> {
        let now = self.clock.now();
        Holder { owner: &self.server_id, now, lease_until: later(now, UPLOAD_LEASE) }
    }

    /// Counts images that were yanked with what listed them.
    pub(super) fn count_yanked(&self, images: u64) {
        self.count_published(-i64::try_from(images).unwrap_or(i64::MAX));
    }

    fn count_published(&self, change: i64) {
        let images = self.published.fetch_add(change, Ordering::Relaxed) + change;
        self.metrics.set_published_images(u64::try_from(images).unwrap_or(0));
    }
}

const REMOVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Far longer than it takes to name two blobs and insert a row, on any disk that still works.
const UPLOAD_LEASE: Duration = Duration::from_secs(60 * 60);
const MAX_COMPRESSED: usize = 16 * 1024 * 1024; // 16 MiB: all metadata of some 50,000 images
