//! Use cases: each method of one of the services is something that a person, a CI job or a vehicle
//! asks for. [`App`] puts the services together, and that is all it does.
//!
//! Nothing here knows HTTP or SQL. The blob store and the catalog come in from outside; what is
//! signed is made in [`crate::uptane`], what is sealed in [`crate::envelope`].

pub mod access;
mod apart;
pub mod audit;
pub mod backup;
mod ballast;
mod blobs;
pub mod ceremony;
pub mod director;
pub mod doctor;
pub mod error;
pub mod escrow;
pub mod expiry;
pub mod export;
pub mod fleet;
pub mod footing;
pub mod fsck;
mod handover;
pub mod images;
mod installation;
pub mod jobs;
mod keys;
mod limits;
mod listing;
pub mod lost_escrow;
pub mod lost_keys;
mod moved;
pub mod moving;
mod other_catalog;
pub mod owners;
mod principal;
pub mod publish;
mod random;
pub mod recovery;
mod remembered;
mod removed;
mod replicas;
pub mod roles;
mod server_id;
pub mod setup;
pub mod signing;
pub mod staging;
pub mod state_dir;
pub mod suppliers;
mod trust;
pub mod upkeep;
mod waiting;
pub mod watch;
mod whereabouts;

use std::sync::Arc;

use tokio::runtime::Handle;

pub use error::{Error, Problem};
pub use limits::Limits;

use crate::blob::BlobStore;
use crate::catalog::Catalog;
pub use crate::catalog::{EcuFilter, VehicleFilter};
use crate::keys::EscrowRing;
use crate::model::Clock;
use crate::telemetry::Metrics;
use crate::uptane::director::DirectorRepository;
use access::Tokens;
use audit::AuditLog;
use ceremony::Ceremony;
use director::{Director, DirectorRoots, ListedImages};
use doctor::Doctor;
use escrow::Escrows;
use fleet::{ChangedBy, Fleet, Vehicles};
use handover::Handovers;
use images::Images;
use jobs::{Jobs, JobsParts};
use owners::Owners;
use publish::Publisher;
use replicas::Replica;
use replicas::keys::KeyReload;
use replicas::presence::Presence;
use roles::Roles;
use signing::Signing;
use state_dir::StateDir;
use suppliers::Suppliers;
use upkeep::Upkeep;
use watch::{Pulse, Watch};

/// The services of a server, and what they have in common.
pub struct App {
    tokens: Arc<Tokens>,
    images: Arc<Images>,
    suppliers: Arc<Suppliers>,
    owners: Arc<Owners>,
    fleet: Arc<Fleet>,
    director: Arc<Director>,
    ceremony: Arc<Ceremony>,
    roles: Arc<Roles>,
    jobs: Arc<Jobs>,
    audit: Arc<AuditLog>,
    escrows: Arc<Escrows>,
    upkeep: Arc<Upkeep>,
    doctor: Arc<Doctor>,
    metrics: Arc<Metrics>,
    limits: Limits,
    watch: Watch,
    presence: Option<Arc<Presence>>,
}

/// What [`App`] is made of.
pub struct Parts {
    /// What the server knows.
    pub catalog: Catalog,
    /// Where blobs are.
    pub blobs: Arc<dyn BlobStore>,
    /// The keys that open every envelope for the server itself.
    pub escrow: Arc<EscrowRing>,
    /// Publishes what has changed.
    pub publisher: Publisher,
    /// Signs for vehicles.
    pub director: DirectorRepository,
    /// Which of the keys that sign can be used.
    pub signing: Arc<Signing>,
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
    /// Reads the role keys again.
    keys: Arc<KeyReload>,
    /// That this server is there, for others that use its database.
    presence: Option<Arc<Presence>>,
    /// What this server has in common with others, if there may be any.
    replica: Option<Arc<Replica>>,
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
            signing,
            clock,
            metrics,
            limits,
            runtime,
            state,
            server_id,
            keys,
            presence,
            replica,
        } = parts;
        let handovers = Arc::new(Handovers::new(handover::Parts {
            state: state.clone(),
            catalog: catalog.clone(),
            blobs: Arc::clone(&blobs),
            publisher: publisher.clone(),
            keyring: director.shared_keyring().clone(),
            keys,
            clock: Arc::clone(&clock),
        }));
        let escrows = Arc::new(Escrows::new(
            catalog.clone(),
            state.clone(),
            escrow,
            Arc::clone(&metrics),
            Arc::clone(&clock),
        ));
        let watch = Watch::default();
        let kept = limits.vehicles_in_memory;
        let changed_by = replica.as_ref().map_or(ChangedBy::This, |_| ChangedBy::Others);
        let vehicles = Vehicles::new(catalog.clone(), kept, changed_by, (&watch, &runtime));
        let vehicles = Arc::new(vehicles);
        let fleet = Fleet::new(
            catalog.clone(),
            Arc::clone(&vehicles),
            publisher.clone(),
            Arc::clone(&clock),
            limits.key_changes,
        );
        let director = Director {
            catalog: catalog.clone(),
            vehicles,
            roots: DirectorRoots::new(catalog.clone(), director.clone(), Arc::clone(&metrics)),
            repository: director.asking_for_reports_every(limits.report_every),
            listed: ListedImages::new(catalog.clone(), Arc::clone(&blobs), publisher.clone()),
            escrow: Arc::clone(&escrows),
            publisher: publisher.clone(),
            signing: Arc::clone(&signing),
            quarantine_on: limits.quarantine_on.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            replica: replica.clone(),
        };
        let (fleet, director) = (Arc::new(fleet), Arc::new(director));
        if let Some(presence) = &presence {
            let pulse = Pulse::default();
            let shows = Arc::clone(presence).go_on(pulse.clone());
            watch.spawn("shows that this server is there", pulse, &runtime, shows);
        }
        let ceremony = Arc::new(Ceremony::new(
            catalog.clone(),
            Arc::clone(&blobs),
            publisher.clone(),
            Arc::clone(&director),
            Arc::clone(&handovers),
            Arc::clone(&clock),
        ));
        let roles = Roles::new(roles::Parts {
            state: state.clone(),
            catalog: catalog.clone(),
            handovers: Arc::clone(&handovers),
            ceremony: Arc::clone(&ceremony),
            clock: Arc::clone(&clock),
            runtime: runtime.clone(),
        });
        let images = Arc::new(Images::new(images::Parts {
            catalog: catalog.clone(),
            blobs: Arc::clone(&blobs),
            escrow: Arc::clone(&escrows),
            publisher: publisher.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            limits: limits.clone(),
            runtime,
            server_id: server_id.clone(),
            presence: presence.clone(),
        }));
        let jobs = Jobs::new(JobsParts {
            catalog: catalog.clone(),
            clock: Arc::clone(&clock),
            state: state.clone(),
            images: Arc::clone(&images),
            director: Arc::clone(&director),
            escrows: Arc::clone(&escrows),
            owner: server_id,
        });
        let suppliers = Suppliers::new(suppliers::Parts {
            catalog: catalog.clone(),
            publisher: publisher.clone(),
            images: Arc::clone(&images),
            ceremony: Arc::clone(&ceremony),
            handovers: Arc::clone(&handovers),
            state: state.clone(),
            clock: Arc::clone(&clock),
        });
        let owners = Owners::new(owners::Parts {
            catalog: catalog.clone(),
            blobs: Arc::clone(&blobs),
            publisher: publisher.clone(),
            ceremony: Arc::clone(&ceremony),
            handovers: Arc::clone(&handovers),
            clock: Arc::clone(&clock),
        });
        let audit = Arc::new(AuditLog::new(catalog.clone()));
        let upkeep = Upkeep::new(upkeep::Parts {
            catalog: catalog.clone(),
            blobs,
            publisher,
            images: Arc::clone(&images),
            fleet: Arc::clone(&fleet),
            director: Arc::clone(&director),
            audit: Arc::clone(&audit),
            handovers,
            escrows: Arc::clone(&escrows),
            signing,
            metrics: Arc::clone(&metrics),
            watch: watch.clone(),
            silent_after: limits.silent_after,
            state: state.clone(),
            presence: presence.clone(),
            replica,
        });
        let upkeep = Arc::new(upkeep);
        let doctor = Doctor::new(state, Arc::clone(&clock), Arc::clone(&upkeep), &limits);
        Self {
            tokens: Arc::new(Tokens::new(catalog, clock)),
            images,
            suppliers: Arc::new(suppliers),
            owners: Arc::new(owners),
            fleet,
            director,
            ceremony,
            roles: Arc::new(roles),
            jobs: Arc::new(jobs),
            audit,
            escrows,
            upkeep,
            doctor: Arc::new(doctor),
            metrics,
            limits,
            watch,
            presence,
        }
    }

    /// Shows the other servers of the database that this one has ended, once it is polled: when
    /// nothing is published any more.
    pub fn leave(&self) -> impl Future<Output = ()> + use<> {
        let presence = self.presence.clone();
        async move {
            if let Some(presence) = presence {
                presence.leave().await;
            }
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

    /// Who signs for folders of their own.
    pub fn suppliers(&self) -> &Arc<Suppliers> {
        &self.suppliers
    }

    /// Targets files that their owners sign.
    pub fn owners(&self) -> &Arc<Owners> {
        &self.owners
    }

    /// The inventory of vehicles.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// What vehicles report and get.
    pub fn director(&self) -> &Arc<Director> {
        &self.director
    }

    /// Changes of the roots, which people sign.
    pub fn ceremony(&self) -> &Arc<Ceremony> {
        &self.ceremony
    }

    /// The keys of all roles.
    pub fn roles(&self) -> &Arc<Roles> {
        &self.roles
    }

    /// Work that takes longer than a request may.
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    /// Who changed what.
    pub fn audit(&self) -> &Arc<AuditLog> {
        &self.audit
    }

    /// The escrow keys.
    pub fn escrows(&self) -> &Arc<Escrows> {
        &self.escrows
    }

    /// What the server does by itself, and how it is.
    pub fn upkeep(&self) -> &Arc<Upkeep> {
        &self.upkeep
    }

    /// What is wrong with all this, and what to do about it.
    pub fn doctor(&self) -> &Arc<Doctor> {
        &self.doctor
    }

    /// What bounds the work.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The background tasks of this server. Whoever runs it **must** end it when one of them ends.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }
}
