//! A real server in this process, with everything a test asks of it.

use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use motorcade::api::ImageBody;
use motorcade::config::{ServeConfig, ServeSettings};
use motorcade::model::AccessRole;
use motorcade::server::Server;
use motorcade::telemetry::TraceExport;
use motorcade::uptane::client::VerifiedRepository;
use reqwest::{Body, Method, RequestBuilder};
use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::client::Raw;
use crate::documented::assert_documented;
use crate::state::TestState;

/// A server on a port of its own; stopped when dropped.
pub(crate) struct TestServer {
    running: Running, // is dropped first
    pub(crate) state: TestState,
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
}

struct Running {
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.serving.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking(), "the server panicked");
    }
}

impl TestServer {
    /// Starts with the default configuration.
    pub(crate) async fn start() -> Self {
        Self::configured(|_| ()).await
    }

    /// Starts with some settings changed.
    pub(crate) async fn configured(change: impl FnOnce(&mut ServeConfig)) -> Self {
        Self::on(TestState::new(), change).await
    }

    /// Starts on a state directory that is there.
    pub(crate) async fn on(state: TestState, change: impl FnOnce(&mut ServeConfig)) -> Self {
        Log::install();
        let mut config = ServeConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: state.path().to_owned(),
            shutdown_timeout: Duration::from_secs(1),
            ..ServeSettings::default().resolve().unwrap()
        };
        change(&mut config);
        let (ready, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        // A runtime of its own, as in the binary: a server that blocks does not block its test.
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let bind = async || Server::bind(config.clone(), TraceExport::Off).await;
                let server = once_unlocked(bind).await;
                ready.send(server.address().unwrap()).unwrap();
                server.run(async { drop(stopped.await) }).await.unwrap();
            });
        });
        let address = address.await.expect("the server starts");
        let redirect = reqwest::redirect::Policy::none();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect)
            .timeout(TIMEOUT)
            .build()
            .unwrap();
        Self { running: Running { stop: Some(stop), serving: Some(serving) }, state, address, http }
    }

    /// Stops the server and returns its state directory.
    pub(crate) fn stop(self) -> TestState {
        drop(self.running);
        self.state
    }

    /// Tells the server to stop, and does not wait for it.
    pub(crate) fn begin_to_stop(&mut self) {
        drop(self.running.stop.take());
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request without a token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// A request from somebody who has `role`.
    pub(crate) fn request_as(
        &self,
        role: AccessRole,
        method: Method,
        path: &str,
    ) -> RequestBuilder {
        self.request(method, path).bearer_auth(self.state.tokens.of(role))
    }

    /// What a viewer gets.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request_as(AccessRole::Viewer, Method::GET, path)).await
    }

    /// Uploads an image for gw-mk3 as CI does.
    pub(crate) async fn upload(&self, path: &str, body: impl Into<Body>) -> Answer {
        send(self.upload_request(path, "").body(body)).await
    }

    /// An upload for gw-mk3 without its body; `more` is added to the query.
    pub(crate) fn upload_request(&self, path: &str, more: &str) -> RequestBuilder {
        let path = format!("/api/v1/images/{path}?{DESCRIPTION}{more}");
        self.request_as(AccessRole::Uploader, Method::PUT, &path)
    }

    /// A file below /repo/, which must be there.
    pub(crate) async fn download(&self, name: &str) -> Vec<u8> {
        send(self.request(Method::GET, &format!("/repo/{name}"))).await.expect(200).to_vec()
    }

    /// The image's record in the API.
    pub(crate) async fn image(&self, path: &str) -> ImageBody {
        let answer = self.get(&format!("/api/v1/images/{path}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body()
    }

    /// A connection of its own, for what no client would send.
    pub(crate) async fn connect(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// The repository as a stock TUF client has verified it, from root version 1.
    pub(crate) async fn repository(&self) -> VerifiedRepository {
        VerifiedRepository::load(&self.state.first_root(), &self.url("/repo")).await.unwrap()
    }

    pub(crate) async fn metrics(&self) -> String {
        let text = send(self.request(Method::GET, "/metrics")).await.expect(200);
        String::from_utf8(text.to_vec()).unwrap()
    }
}

/// Sends a request and reads the whole answer, which has to be one that the OpenAPI document knows.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let (client, request) = request.build_split();
    let request = request.unwrap();
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let answer = Answer::of(client.execute(request).await.unwrap()).await;
    assert_documented(&method, &path, answer.status);
    answer
}

/// Waits until `check` is true, and fails if it never is.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(TIMEOUT, waiting).await.is_ok(), "it never happened that {what}");
}

/// Opens a state directory whose lock was just let go: a program that another test starts has this
/// process's files, and so its locks, until it runs.
pub(crate) async fn once_unlocked<T, E: Debug + Display>(
    open: impl AsyncFn() -> Result<T, E>,
) -> T {
    let started = Instant::now();
    loop {
        match open().await {
            Err(error)
                if format!("{error:#}").contains("another server runs on")
                    && started.elapsed() < TIMEOUT =>
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

/// The SHA-256 of `bytes` in hexadecimal digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// The log lines of all servers of this process.
pub(crate) struct Log;

static LINES: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

impl Log {
    fn install() {
        static INSTALLED: LazyLock<()> = LazyLock::new(|| {
            let filter = "motorcade=trace,actix_http=debug,actix_web=debug,sqlx=debug,info";
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(false)
                .with_writer(|| Log);
            tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
        });
        LazyLock::force(&INSTALLED);
    }

    /// How much is logged by now.
    pub(crate) fn mark() -> usize {
        Self::lines().len()
    }

    /// What was logged after `mark`.
    pub(crate) fn since(mark: usize) -> String {
        String::from_utf8_lossy(&Self::lines()[mark..]).into_owned()
    }

    pub(crate) fn text() -> String {
        String::from_utf8_lossy(&Self::lines()).into_owned()
    }

    fn lines() -> MutexGuard<'static, Vec<u8>> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Self::lines().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The query of an upload for gw-mk3.
pub(crate) const DESCRIPTION: &str = "hardware_id=gw-mk3&version=1.0.0&release_counter=1";
/// Far longer than anything here takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
