//! The composition root: opens a state directory, mends it, and serves it until told to stop.

mod bridge;
mod connections;
mod descriptors;
mod notify;
mod serve;
mod stream;
mod tls;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_server::Server as ActixServer;
use actix_service::{ServiceFactory, fn_factory, fn_service, map_config};
use actix_web::App as ActixApp;
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use anyhow::{Context, bail, ensure};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::app::doctor::Certificates;
use crate::app::footing::StateLock;
use crate::app::publish::PublisherTask;
use crate::app::setup::{Opened, StateDir};
use crate::app::watch::{Pulse, Watch};
use crate::app::{App, Limits};
use crate::config::{RepoAccess, ServeConfig, VehicleConfig, VehicleIdFrom};
use crate::environment::notify_socket;
use crate::http::observe::Observe;
use crate::http::{
    self, Carrier, CertificateField, HttpState, IdentityConfig, ReadAccess, RepoConfig,
    TrustedProxy,
};
use crate::model::{Clock, SystemClock};
use crate::telemetry::{Metrics, TraceExport};
use connections::{Bounds, Connections, Patience};
use notify::Manager;
use serve::Port;
pub(crate) use tls::inspect as inspect_tls;
use tls::{Refusals, Tls};

/// A server that listens and does not serve yet.
pub struct Server {
    config: ServeConfig,
    listener: TcpListener,
    tls: Option<(TcpListener, Arc<Tls>)>,
    identity: IdentityConfig,
    opened: Opened,
    trace_export: TraceExport,
}

impl Server {
    /// Opens the state directory, binds the address, and mends what a crash left.
    ///
    /// # Errors
    ///
    /// If the directory can't be opened or the address is taken.
    pub async fn bind(config: ServeConfig, trace_export: TraceExport) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let state = StateDir::new(&config.data_dir).with_catalog(config.catalog.clone());
        let state = state.with_shared_blobs(config.shared_blobs.clone());
        let state = state.with_bucket(config.bucket.clone());
        // First, since they are what an operator changes most: nothing is touched if they can't be
        // used.
        let tls = match &config.vehicles.tls {
            Some(tls) => {
                Some((tls.listen, Tls::load(tls, Arc::clone(&clock), Arc::clone(&metrics))?))
            }
            None => None,
        };
        let opened = state.open(limits(&config)?, clock, metrics, Handle::current()).await?;
        if let Some((_, tls)) = &tls {
            tls.give_tickets(state.ticket_file());
            let tls = Arc::clone(tls);
            opened.app.doctor().look_at_certificates(Certificates::new(move || tls.certificates()));
        }
        // Whatever can fail without touching the directory comes before what changes it.
        let identity = identity_config(&config.vehicles)?;
        let listener = listen(config.listen)?;
        let tls = match tls {
            Some((address, tls)) => Some((listen(address)?, tls)),
            None => None,
        };
        opened
            .app
            .upkeep()
            .recover()
            .await
            .context("failed to bring the state directory back in order")?;
        Ok(Self { config, listener, tls, identity, opened, trace_export })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// If the system can't tell.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("failed to look at the listener")
    }

    /// The address that is listened on for TLS, if there is one.
    ///
    /// # Errors
    ///
    /// If the system can't tell.
    pub fn tls_address(&self) -> anyhow::Result<Option<SocketAddr>> {
        let address = self.tls.as_ref().map(|(listener, _)| listener.local_addr()).transpose();
        address.context("failed to look at the TLS listener")
    }

    /// Runs a task beside the server, which stops when the task ends.
    pub fn run_beside(
        &self,
        name: &'static str,
        pulse: Pulse,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.opened.app.watch().spawn(name, pulse, &Handle::current(), task);
    }

    /// Reads certificates, keys and revocation lists again when called, and logs what came of it.
    pub fn reloader(&self) -> impl Fn() + Send + Sync + use<> {
        let tls = self.tls.as_ref().map(|(_, tls)| Arc::clone(tls));
        move || match &tls {
            Some(tls) => drop(tls.reload_and_tell("SIGHUP")),
            None => tracing::info!("SIGHUP ignored: there are no TLS files to read again"),
        }
    }

    /// Serves until `stop` is ready, then lets running requests end, for as long as the
    /// configuration says.
    ///
    /// # Errors
    ///
    /// If the HTTP server fails, or if a background task ends: nothing would be published, or
    /// nobody looked after.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { config, listener, tls, identity, opened, trace_export } = self;
        let Opened { app, publisher_task, lock } = opened;
        let tasks = Tasks::start(&app, publisher_task);
        // Whoever is let in finds what is due published: connections wait meanwhile.
        app.upkeep().publish_first(FIRST_PUBLICATION).await;
        let state = HttpState { app: Arc::clone(&app), repo: repo_config(&config), identity };
        let connections = Connections::new(bounds(&config)?, Arc::clone(app.metrics()));
        let looking_after =
            looking_after(&connections, tls.as_ref().map(|(_, tls)| tls), app.watch());
        let server = build_http_server(&config, listener, tls, state, trace_export, connections)?;
        let handle = server.handle();
        let mut serving = tokio::spawn(server);
        let (mut served, mut task_ended) = (None, None);
        let manager =
            Manager::at(notify_socket().as_deref()).context("NOTIFY_SOCKET can't be used")?;
        manager.ready();
        tokio::select! {
            () = lost(&lock) => {
                // Another server may have the directory by now: nothing more is written to it, and
                // nobody waits.
                bail!("{} is not the directory that was locked any more: it was moved or replaced", config.data_dir.display());
            }
            ended = &mut serving => served = Some(ended),
            ended = app.watch().ended() => {
                tracing::error!(reason = %ended, "stopping, since this server can't do its work");
                task_ended = Some(ended);
            }
            () = stop => {
                manager.stopping();
                tracing::info!(seconds = config.shutdown_timeout.as_secs(), "stopping once running requests have ended");
            }
        }
        let served = match served {
            Some(served) => served,
            None => {
                handle.stop(true).await;
                serving.await
            }
        };
        served.context("the HTTP server panicked")?.context("the HTTP server failed")?;
        tasks.maintaining.abort();
        tasks.running_jobs.abort();
        looking_after.iter().for_each(JoinHandle::abort);
        app.images().drain().await;
        let leave = app.leave();
        drop(app);
        // The last publisher went with the application, if no worker thread is still letting go of
        // it.
        let mut publishing = tasks.publishing;
        if tokio::time::timeout(DRAIN_TIMEOUT, &mut publishing).await.is_err() {
            publishing.abort();
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, publishing).await;
        }
        leave.await; // the next server publishes from here on
        drop(lock);
        tracing::info!("stopped");
        task_ended.map_or(Ok(()), |ended| Err(ended.into()))
    }
}

/// What a server does beside answering requests.
struct Tasks {
    publishing: JoinHandle<()>,
    maintaining: JoinHandle<()>,
    running_jobs: JoinHandle<()>,
}

impl Tasks {
    fn start(app: &Arc<App>, publisher_task: PublisherTask) -> Self {
        let (watch, runtime) = (app.watch().clone(), Handle::current());
        let publishing = watch.spawn(
            "publishes metadata",
            publisher_task.pulse(),
            &runtime,
            publisher_task.run(RESIGN_INTERVAL),
        );
        let maintaining = Arc::clone(app.upkeep()).maintain(MAINTENANCE_INTERVAL);
        let maintaining = watch.spawn(
            "looks after the state directory",
            app.upkeep().pulse(),
            &runtime,
            maintaining,
        );
        let jobs = Arc::clone(app.jobs());
        let running_jobs = watch.spawn("runs jobs", jobs.pulse(), &runtime, jobs.run());
        Self { publishing, maintaining, running_jobs }
    }
}

/// Waits until the state directory is not this server's any more.
async fn lost(lock: &StateLock) {
    while lock.is_held() {
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("failed to listen on {address}"))?;
    listener.set_nonblocking(true).context("failed to prepare the listener")?;
    Ok(listener)
}

fn identity_config(config: &VehicleConfig) -> anyhow::Result<IdentityConfig> {
    let certificate_field = match config.id_from {
        VehicleIdFrom::Cn => CertificateField::CommonName,
        VehicleIdFrom::Dns => CertificateField::DnsName,
        VehicleIdFrom::Uri => CertificateField::Uri,
    };
    let proxy = config.proxy.as_ref().map(|(header, addresses)| {
        let header =
            header.parse().with_context(|| format!("{header:?} is no name of a header"))?;
        anyhow::Ok(TrustedProxy { header, addresses: addresses.clone() })
    });
    Ok(IdentityConfig { certificate_field, proxy: proxy.transpose()? })
}

fn limits(config: &ServeConfig) -> anyhow::Result<Limits> {
    let default = Limits::default();
    let silent_after = config.vehicles.silent_after.unwrap_or(default.silent_after);
    let report_every = config.vehicles.report_every;
    let report_every = report_every.unwrap_or(default.report_every.min(silent_after / 2));
    // Nothing is wrong with a vehicle that is silent because it was told to be.
    ensure!(report_every < silent_after, "report-every has to be less than silent-after");
    let quarantine_on = config.vehicles.quarantine_on.as_deref().map(str::parse).transpose();
    let key_changes = config.vehicles.ecu_key_changes.as_deref().map(str::parse).transpose();
    Ok(Limits {
        key_changes: key_changes.context("ecu-key-changes can't be used")?.unwrap_or_default(),
        quarantine_on: quarantine_on
            .context("quarantine-on can't be used")?
            .unwrap_or(default.quarantine_on),
        max_image_size: config.max_image_size.unwrap_or(default.max_image_size),
        idle_timeout: config.idle_timeout.unwrap_or(default.idle_timeout),
        max_uploads: config.max_uploads.unwrap_or(default.max_uploads),
        upload_expiry: config.upload_expiry.unwrap_or(default.upload_expiry),
        reserved_space: config.reserved_space,
        vehicles_in_memory: config
            .vehicles
            .vehicles_in_memory
            .unwrap_or(default.vehicles_in_memory),
        silent_after,
        report_every,
    })
}

fn repo_config(config: &ServeConfig) -> RepoConfig {
    let access = match config.repo_access {
        RepoAccess::Public => ReadAccess::Public,
        RepoAccess::Token => ReadAccess::Token,
    };
    let carrier = match (&config.targets_url, &config.targets_accel, config.targets_presigned) {
        (Some(url), _, _) => Carrier::Redirect(url.as_str().into()),
        (None, Some(location), _) => Carrier::Accel(location.as_str().into()),
        (None, None, Some(valid_for)) => Carrier::Presigned(valid_for),
        (None, None, None) => Carrier::Direct,
    };
    RepoConfig { access, carrier }
}

fn bounds(config: &ServeConfig) -> anyhow::Result<Bounds> {
    let descriptors = descriptors::raise_limit()?;
    // One for the connection, one for the file that it is sent.
    let possible = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_BESIDES) / 2)
        .unwrap_or(usize::MAX)
        .max(16);
    let wanted = config.connections.max_connections;
    let total = wanted.unwrap_or(MAX_CONNECTIONS).min(possible);
    if wanted.is_some_and(|wanted| wanted > total) {
        tracing::warn!(
            descriptors,
            "max-connections is {total}: more open files are not allowed (LimitNOFILE)"
        );
    }
    Ok(Bounds {
        total,
        per_address: config.connections.max_connections_per_address.unwrap_or(total / 2),
        handshakes: total / 8,
        proxies: config
            .vehicles
            .proxy
            .iter()
            .flat_map(|(_, addresses)| addresses.iter().copied())
            .collect(),
        patience: Patience {
            handshake: HANDSHAKE_TIMEOUT,
            head: HEAD_TIMEOUT,
            idle: KEEP_ALIVE,
            // The handler answers 408 before.
            body: config.idle_timeout.unwrap_or(Limits::default().idle_timeout) + LINGER_TIMEOUT,
            response: READER_TIMEOUT,
            linger: LINGER_TIMEOUT,
        },
    })
}

/// Starts what looks after connections and TLS files.
fn looking_after(
    connections: &Arc<Connections>,
    tls: Option<&Arc<Tls>>,
    watch: &Watch,
) -> Vec<JoinHandle<()>> {
    let runtime = Handle::current();
    let looking = Arc::clone(connections).watch();
    let mut tasks =
        vec![watch.spawn("looks after connections", Pulse::default(), &runtime, looking)];
    if let Some(tls) = tls {
        let looking = Arc::clone(tls).watch();
        tasks.push(watch.spawn("looks after TLS files", Pulse::default(), &runtime, looking));
    }
    tasks
}

/// Threads that take connections from the listeners, each with the routes of its own.
fn build_http_server(
    config: &ServeConfig,
    listener: TcpListener,
    tls: Option<(TcpListener, Arc<Tls>)>,
    state: HttpState,
    trace_export: TraceExport,
    connections: Arc<Connections>,
) -> anyhow::Result<ActixServer> {
    let builder = ActixServer::build()
        .max_concurrent_connections(usize::MAX >> 1) // `Connections` is what bounds them
        .backlog(BACKLOG)
        .disable_signals()
        .shutdown_timeout(config.shutdown_timeout.as_secs());
    let refusals = Arc::new(Refusals::new(Arc::clone(state.app.metrics())));
    let stopping = builder.graceful_shutdown_signal();
    let plain = Port { connections, tls: None, stopping };
    let secure = |tls| Port { tls: Some((tls, refusals)), ..plain.clone() };
    let tls = tls.map(|(listener, tls)| (listener, secure(tls)));
    let worker = |port: Port| {
        let state = state.clone();
        move || worker(state.clone(), trace_export, port.clone())
    };
    let mut builder = builder
        .listen("motorcade", listener, worker(plain))
        .context("failed to start the HTTP server")?;
    if let Some((listener, port)) = tls {
        builder = builder
            .listen("motorcade-tls", listener, worker(port))
            .context("failed to start the HTTPS server")?;
    }
    Ok(builder.run())
}

/// What one thread does with the connections of one port.
fn worker(
    state: HttpState,
    trace_export: TraceExport,
    port: Port,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()> {
    fn_factory(move || {
        let observe = Observe::new(Arc::clone(state.app.metrics()), trace_export);
        let routes = ActixApp::new()
            .wrap(from_fn(http::head::check))
            .wrap(observe)
            .configure(http::configure(&state));
        let routes = map_config(routes, |()| AppConfig::default()).new_service(());
        let port = port.clone();
        async move {
            let routes = Rc::new(routes.await?);
            Ok(fn_service(move |stream: TcpStream| {
                let serving = serve::serve(port.clone(), Rc::clone(&routes), stream);
                async move {
                    serving.await;
                    Ok(())
                }
            }))
        }
    })
}

const LOCK_INTERVAL: Duration = Duration::from_secs(5);
const RESIGN_INTERVAL: Duration = Duration::from_secs(60);
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60 * 60);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10); // for each head, drop by drop; docs/OPERATIONS.md
const READER_TIMEOUT: Duration = Duration::from_secs(180); // without room for one more byte; a slow line takes a while
const LINGER_TIMEOUT: Duration = Duration::from_secs(5); // for the next 16 KiB of a client that still sends, and may read then why it was refused
/// Longest that a start waits for what it publishes before it lets anybody in.
const FIRST_PUBLICATION: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: usize = 16_384; // some 20 KiB each, and more while a file is sent
const DESCRIPTORS_BESIDES: u64 = 256; // of the catalog, of uploads, of logs
const BACKLOG: u32 = 4096;
