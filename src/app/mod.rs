//! Use cases: each method of [`App`] is something that a person, a CI job or a vehicle asks for.
//!
//! Nothing here knows HTTP or SQL. The blob store and the catalog come in from outside; what is
//! signed is made in
//! [`crate::uptane`], what is sealed in [`crate::envelope`].

pub mod access;
pub mod audit;
pub mod director;
pub mod error;
pub mod export;
pub mod fleet;
pub mod footing;
pub mod fsck;
pub mod images;
pub mod jobs;
mod keys;
mod listing;
pub mod maintain;
pub mod publish;
pub mod recovery;
mod server_id;
pub mod setup;
mod trust;
pub mod watch;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

pub use error::{Error, Problem};

use crate::blob::BlobStore;
use crate::catalog::{self, Catalog};
pub use crate::catalog::{EcuFilter, VehicleFilter};
use crate::envelope::key::EscrowKey;
use crate::model::{Clock, RoleName};
use crate::telemetry::Metrics;
use crate::uptane::director::DirectorRepository;
use access::Tokens;
use director::{Director, DirectorRoots, ListedImages};
use fleet::{Fleet, QuarantinePolicy, Vehicles};
use images::Images;
use jobs::{Jobs, JobsParts};
use publish::Publisher;
use setup::StateDir;
use watch::{Pulse, Watch};

/// Everything that the use cases work on.
pub struct App {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    publisher: Publisher,
    tokens: Arc<Tokens>,
    images: Arc<Images>,
    fleet: Arc<Fleet>,
    director: Arc<Director>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    limits: Limits,
    watch: Watch,
    maintenance: Pulse,
    jobs: Arc<Jobs>,
}

/// What bounds the work that one request can cause.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest image in bytes of plaintext; stops an upload from filling the disk.
    pub max_image_size: u64,
    /// Longest pause between two pieces of an upload; stops dead clients from holding memory. There
    /// is no limit on an upload's whole time.
    pub idle_timeout: Duration,
    /// Uploads that are sealed at one time; each holds about 8 MiB. Others wait for as long as the
    /// idle timeout.
    pub max_uploads: usize,
    /// Free space that uploads leave on the disk, in bytes, so that metadata can still be signed;
    /// if none is said, what that takes (`Images::reserved_space`).
    pub reserved_space: Option<u64>,
    /// How long a vehicle that was heard of may say nothing before it counts as silent (AT-4).
    pub silent_after: Duration,
    /// Vehicles whose status stays in memory, up to 4 KiB each: the requests of their polls read
    /// the catalog no more.
    pub vehicles_in_memory: NonZeroUsize,
    /// What puts a vehicle into quarantine.
    pub quarantine_on: QuarantinePolicy,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_image_size: 16 * 1024 * 1024 * 1024, // 16 GiB
            idle_timeout: Duration::from_secs(60),
            max_uploads: 16,
            reserved_space: None,
            silent_after: Duration::from_secs(7 * 24 * 60 * 60),
            vehicles_in_memory: fleet::KEPT_BY_DEFAULT,
            quarantine_on: QuarantinePolicy::default(),
        }
    }
}

/// What [`App`] is made of.
pub struct Parts {
    /// What the server knows.
    pub catalog: Catalog,
    /// Where blobs are.
    pub blobs: Arc<dyn BlobStore>,
    /// The key that opens every envelope for the server itself.
    pub escrow: EscrowKey,
    /// Publishes what has changed.
    pub publisher: Publisher,
    /// Signs for vehicles.
    pub director: DirectorRepository,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What bounds the work.
    pub limits: Limits,
    /// Where work goes on when its request is gone.
    pub runtime: Handle,
    /// Where all this is on the disk, for jobs that look at it.
    pub state: StateDir,
    /// Id of this server.
    pub server_id: String,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            catalog,
            blobs,
            escrow,
            publisher,
            director,
            clock,
            metrics,
            limits,
            runtime,
            state,
            server_id,
        } = parts;
        let jobs = Jobs::new(JobsParts {
            catalog: catalog.clone(),
            clock: Arc::clone(&clock),
            state,
            owner: server_id.clone(),
        });
        let watch = Watch::default();
        let escrow = Arc::new(escrow);
        let kept = limits.vehicles_in_memory;
        let vehicles = Arc::new(Vehicles::new(catalog.clone(), kept, &watch, &runtime));
        let fleet = Fleet::new(
            catalog.clone(),
            Arc::clone(&vehicles),
            publisher.clone(),
            Arc::clone(&clock),
        );
        let director = Director {
            catalog: catalog.clone(),
            vehicles,
            roots: DirectorRoots::new(catalog.clone(), director.clone(), Arc::clone(&metrics)),
            repository: director,
            listed: ListedImages::new(catalog.clone(), Arc::clone(&blobs), publisher.clone()),
            escrow: Arc::clone(&escrow),
            publisher: publisher.clone(),
            quarantine_on: limits.quarantine_on.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
        };
        let tokens = Tokens::new(catalog.clone(), Arc::clone(&clock));
        let images = Images::new(images::Parts {
            catalog: catalog.clone(),
            blobs: Arc::clone(&blobs),
            escrow,
            publisher: publisher.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            limits: limits.clone(),
            runtime,
            server_id,
        });
        Self {
            catalog,
            blobs,
            publisher,
            tokens: Arc::new(tokens),
            images: Arc::new(images),
            fleet: Arc::new(fleet),
            director: Arc::new(director),
            clock,
            metrics,
            limits,
            watch,
            maintenance: Pulse::default(),
            jobs: Arc::new(jobs),
        }
    }

    /// API tokens.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// The images.
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// The inventory of vehicles.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// What vehicles report and get.
    pub fn director(&self) -> &Arc<Director> {
        &self.director
    }

    /// What bounds the work.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Brings up to date what is measured rather than counted as it happens, for a scrape.
    pub fn measure(&self) {
        let [database, log] = self.catalog.file_sizes();
        self.metrics.set_catalog_size(database, log);
    }

    /// The background tasks of this server. Whoever runs it **must** end it when one of them ends.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Takes jobs and does them, forever; with the pulse of that.
    pub fn run_jobs(&self) -> (Pulse, impl Future<Output = ()> + Send + use<>) {
        (self.jobs.pulse(), Arc::clone(&self.jobs).run())
    }

    /// Whether requests can be answered: the catalog is reachable, every background task is alive,
    /// and all that is due has been published.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`], [`Error::Unavailable`], [`Error::Internal`] or [`Error::Full`].
    pub async fn check_ready(&self) -> Result<(), Error> {
        if let Some(name) = self.watch.lifeless() {
            return Err(Error::NotReady {
                detail: format!("the task that {name} gives no sign of life"),
            });
        }
        self.catalog.ping().await?;
        if self.director.roots.is_failing() {
            let detail = "the Director's root is due and can't be signed: the log says why".into();
            return Err(Error::Unavailable { code: "not_published", detail });
        }
        self.publisher.check()
    }
}

fn no_room(role: &RoleName, folder: Option<&str>) -> Error {
    let whose = folder.map_or_else(String::new, |folder| format!("the share of {folder} in "));
    let detail = format!(
        "{whose}{role}, the metadata file that would list this, is full: more would be refused by vehicles; have images \
         yanked that nobody needs, or use another path, which another file lists"
    );
    Error::Conflict { code: "metadata_full", detail }
}

impl From<catalog::Error> for Error {
    fn from(error: catalog::Error) -> Self {
        match error {
            catalog::Error::Full { .. } => {
                Self::Full { detail: "no space is left for the catalog".into() }
            }
            catalog::Error::AlreadyExists(what) => Self::Conflict {
                code: "already_exists",
                detail: format!("{what} is there already"),
            },
            catalog::Error::Unusable { path, fault } => {
                Self::Unusable { detail: format!("{} {fault}", path.display()) }
            }
            catalog::Error::RoleFull { role, folder } => no_room(&role, folder.as_deref()),
            other @ (catalog::Error::Overtaken
            | catalog::Error::Migrate(_)
            | catalog::Error::Backend { .. }) => Self::Internal(Box::new(other)),
        }
    }
}
