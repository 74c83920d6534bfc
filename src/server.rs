//! The composition root: opens a state directory, mends it, and serves it until told to stop.

mod tls;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_server::Server as ActixServer;
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::App as ActixApp;
use actix_web::dev::AppConfig;
use actix_web::http::KeepAlive;
use anyhow::{Context, bail};
use tokio::runtime::Handle;

use crate::app::Limits;
use crate::app::footing::StateLock;
use crate::app::setup::{Opened, StateDir};
use crate::app::watch::Pulse;
use crate::config::{RepoAccess, ServeConfig, VehicleConfig, VehicleIdFrom};
use crate::http::observe::Observe;
use crate::http::{self, Carrier, CertificateField, HttpState, IdentityConfig, ReadAccess, RepoConfig, TrustedProxy};
use crate::model::{Clock, SystemClock};
use crate::telemetry::{Metrics, TraceExport};

/// A server that listens and does not serve yet.
pub struct Server {
    config: ServeConfig,
    listener: TcpListener,
    tls: Option<(TcpListener, rustls::ServerConfig)>,
    identity: IdentityConfig,
    opened: Opened,
    trace_export: TraceExport,
}

impl Server {
    /// Opens the state directory, mends what a crash left, and binds the address.
    ///
    /// # Errors
    ///
    /// If the directory can't be opened or the address is taken.
    pub async fn bind(config: ServeConfig, trace_export: TraceExport) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let state = StateDir::new(&config.data_dir);
        let opened = state.open(limits(&config), clock, metrics, Handle::current()).await?;
        opened.app.recover().await.context("failed to bring the state directory back in order")?;
        let listener = listen(config.listen)?;
        let tls = match &config.vehicles.tls {
            Some(tls) => Some((listen(tls.listen)?, tls::load(tls)?)),
            None => None,
        };
        let identity = identity_config(&config.vehicles)?;
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
    pub fn run_beside(&self, name: &'static str, pulse: Pulse, task: impl Future<Output = ()> + Send + 'static) {
        self.opened.app.watch().spawn(name, pulse, &Handle::current(), task);
    }

    /// Serves until `stop` is ready, then lets running requests end, for as long as the configuration says.
    ///
    /// # Errors
    ///
    /// If the HTTP server fails, or if a background task ends: nothing would be published, or nobody looked after.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { config, listener, tls, identity, opened, trace_export } = self;
        let Opened { app, publisher_task, lock } = opened;
        let (watch, runtime) = (app.watch().clone(), Handle::current());
        let publishing =
            watch.spawn("publishes metadata", publisher_task.pulse(), &runtime, publisher_task.run(RESIGN_INTERVAL));
        let maintaining = Arc::clone(&app).maintain(MAINTENANCE_INTERVAL);
        let maintaining =
            watch.spawn("looks after the state directory", app.maintenance_pulse(), &runtime, maintaining);
        let state = HttpState { app: Arc::clone(&app), repo: repo_config(&config), identity };
        let server = build_http_server(&config, listener, tls, state, trace_export)?;
        let handle = server.handle();
        let mut serving = tokio::spawn(server);
        let (mut served, mut task_ended) = (None, None);
        tokio::select! {
            () = lost(&lock) => {
                // Another server may have the directory by now: nothing more is written to it, and nobody waits.
                bail!("{} is not the directory that was locked any more: it was moved or replaced", config.data_dir.display());
            }
            ended = &mut serving => served = Some(ended),
            ended = watch.ended() => {
                tracing::error!(reason = %ended, "stopping, since this server can't do its work");
                task_ended = Some(ended);
            }
            () = stop => {
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
        maintaining.abort();
        app.drain().await;
        drop(app);
        // The last publisher went with the application, if no worker thread is still letting go of it.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, publishing).await;
        drop(lock);
        tracing::info!("stopped");
        task_ended.map_or(Ok(()), |ended| Err(ended.into()))
    }
}

/// Waits until the state directory is not this server's any more.
async fn lost(lock: &StateLock) {
    while lock.is_held() {
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("failed to listen on {address}"))?;
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
        let header = header.parse().with_context(|| format!("{header:?} is no name of a header"))?;
        anyhow::Ok(TrustedProxy { header, addresses: addresses.clone() })
    });
    Ok(IdentityConfig { certificate_field, proxy: proxy.transpose()? })
}

fn limits(config: &ServeConfig) -> Limits {
    let default = Limits::default();
    Limits {
        max_image_size: config.max_image_size.unwrap_or(default.max_image_size),
        idle_timeout: config.idle_timeout.unwrap_or(default.idle_timeout),
        max_uploads: config.max_uploads.unwrap_or(default.max_uploads),
        reserved_space: config.reserved_space.unwrap_or(default.reserved_space),
        vehicles_in_memory: config.vehicles.vehicles_in_memory.unwrap_or(default.vehicles_in_memory),
        silent_after: config.vehicles.silent_after.unwrap_or(default.silent_after),
    }
}

fn repo_config(config: &ServeConfig) -> RepoConfig {
    let access = match config.repo_access {
        RepoAccess::Public => ReadAccess::Public,
        RepoAccess::Token => ReadAccess::Token,
    };
    let carrier = match (&config.targets_url, &config.targets_accel) {
        (Some(url), _) => Carrier::Redirect(url.as_str().into()),
        (None, Some(location)) => Carrier::Accel(location.as_str().into()),
        (None, None) => Carrier::Direct,
    };
    RepoConfig { access, carrier }
}

/// What `actix_web::HttpServer` would build, and an answer of our own to `Expect: 100-continue`, for which it has no
/// setting.
fn build_http_server(
    config: &ServeConfig,
    listener: TcpListener,
    tls: Option<(TcpListener, rustls::ServerConfig)>,
    state: HttpState,
    trace_export: TraceExport,
) -> anyhow::Result<ActixServer> {
    let builder = ActixServer::build()
        .max_concurrent_connections(MAX_CONNECTIONS)
        .disable_signals()
        .shutdown_timeout(config.shutdown_timeout.as_secs());
    let shared = (state, builder.graceful_shutdown_signal());
    // The two services differ in the type of their connections, and in nothing else.
    macro_rules! http_service {
        ($shared:expr, $builder:expr, $address:expr) => {{
            let (state, stopping) = $shared.clone();
            let app = ActixApp::new()
                .wrap(Observe::new(Arc::clone(state.app.metrics()), trace_export))
                .configure(http::configure(&state));
            let app = actix_service::IntoServiceFactory::into_factory(app)
                .map_err(|error: actix_web::Error| error.error_response());
            $builder
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
                .client_request_timeout(HEAD_TIMEOUT)
                .client_disconnect_timeout(LINGER_TIMEOUT)
                .tcp_nodelay(true)
                .local_addr($address)
                .expect(fn_service(move |request| http::preflight(state.clone(), request)))
                .finish(map_config(app, |()| AppConfig::default()))
        }};
    }
    let address = listener.local_addr()?;
    let plain = {
        let shared = shared.clone();
        move || http_service!(shared, HttpService::build(), address).tcp()
    };
    let mut builder = builder.listen("motorcade", listener, plain).context("failed to start the HTTP server")?;
    if let Some((listener, tls)) = tls {
        let address = listener.local_addr()?;
        let secure = move || {
            let builder = HttpService::build().secure().on_connect_ext(http::remember_certificate);
            http_service!(shared, builder, address).rustls_0_23(tls.clone())
        };
        builder = builder.listen("motorcade-tls", listener, secure).context("failed to start the HTTPS server")?;
    }
    Ok(builder.run())
}

const LOCK_INTERVAL: Duration = Duration::from_secs(5);
const RESIGN_INTERVAL: Duration = Duration::from_secs(60);
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60 * 60);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10); // for a connection's first head, drop by drop; docs/OPERATIONS.md
const MAX_CONNECTIONS: usize = 4096; // a worker thread; what a client can make one hold is at most about 2 MiB
const LINGER_TIMEOUT: Duration = Duration::from_secs(5); // lets a client that still sends read why it was refused
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
