//! What the tests of the real `motorcade` process share: running it, talking to it over loopback,
//! and Python beside it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::{Body, Response, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Longest that anything local is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The hardware id of every image in these tests.
pub(crate) const HARDWARE: &str = "gw-mk3";

/// A free port of the loopback interface that nobody else is given while this lives: bound, and
/// nobody listens. A server that asks for it by number gets it.
pub(crate) struct FreePort(tokio::net::TcpSocket);

impl FreePort {
    pub(crate) fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("there are sockets");
        socket.set_reuseaddr(true).expect("an address can be reused");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port is free");
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }
}

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// One of the key files in `tests/vectors/keys/`.
pub(crate) fn snakeoil(file: &str) -> PathBuf {
    project("tests/vectors/keys").join(file)
}

/// The `motorcade-vehicle` binary. Another package makes it, so that it is beside the server's when
/// all packages are tested, and cargo knows nothing of it here.
pub(crate) fn vehicle_binary() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_motorcade")).with_file_name("motorcade-vehicle");
    assert!(binary.exists(), "scripts/test builds it, and `cargo build --bins` does");
    binary
}

/// The `motorcade` binary, without whatever the environment would set.
pub(crate) fn motorcade<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorcade"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MOTORCADE_"))
    {
        command.env_remove(name);
    }
    command
}

/// Runs a command that has to succeed, and returns its stdout.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("stdout is text")
}

/// Runs a command that has to fail with exit code 1, and returns its stderr.
pub(crate) fn refused(command: &mut Command) -> String {
    let output = output(command);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stderr).expect("stderr is text")
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} can't be run: {error}"))
}

/// The Python that `scripts/venv` prepares, once for a test binary.
pub(crate) fn python() -> Command {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let path = PYTHON
        .get_or_init(|| PathBuf::from(run(&mut Command::new(project("scripts/venv"))).trim()));
    let mut command = Command::new(path);
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command
}

/// A Python program of the project with its arguments.
pub(crate) fn program<S: AsRef<OsStr>>(path: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = python();
    command.arg(project(path)).args(args);
    command
}

/// A JavaScript program of the project with its arguments; `scripts/node-modules` installs what it
/// imports.
pub(crate) fn node<S: AsRef<OsStr>>(path: &str, args: impl IntoIterator<Item = S>) -> Command {
    static MODULES: OnceLock<String> = OnceLock::new();
    let modules = MODULES.get_or_init(|| run(&mut Command::new(project("scripts/node-modules"))));
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules.trim()).arg(project(path)).args(args).stdin(Stdio::null());
    command
}

/// Runs a Python program that prints one line of JSON.
pub(crate) fn json<S: AsRef<OsStr>>(path: &str, args: impl IntoIterator<Item = S>) -> Value {
    serde_json::from_str(&run(&mut program(path, args))).expect("the program prints JSON")
}

/// Bytes that look random and are the same for the same seed.
pub(crate) fn noise(seed: &str, length: usize) -> Vec<u8> {
    let blocks =
        (0u64..).map(|number| Sha256::digest([seed.as_bytes(), &number.to_be_bytes()].concat()));
    let mut bytes: Vec<u8> = blocks.take(length.div_ceil(32)).flatten().collect();
    bytes.truncate(length);
    bytes
}

/// SHA-256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Asks `ready` again and again, for as long as [`PATIENCE`] lasts.
pub(crate) async fn wait_until(what: &str, mut ready: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !ready().await {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Names of all files below `folder`.
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder can be listed") {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(
                    path.strip_prefix(folder).expect("it is below").to_string_lossy().into_owned(),
                );
            }
        }
    }
    files.sort();
    files
}

/// A state directory that `motorcade init` has made.
pub(crate) fn init(data_dir: &Path) {
    run(motorcade(["init", "--data-dir"]).arg(data_dir));
}

/// Has a state directory that is not initialized yet get few bins, so that there are few files beside
/// images, and more publishing than looking at what was published.
pub(crate) fn choose_few_bins(data_dir: &Path) {
    let policy = std::fs::read_to_string(project("metadata/policy.toml")).expect("it is there");
    let policy = policy.replace("prefix_digits = 2", "prefix_digits = 1");
    let metadata = data_dir.join("metadata");
    std::fs::create_dir_all(&metadata).expect("a folder can be made");
    std::fs::write(metadata.join("policy.toml"), policy).expect("a file can be written");
}

/// Makes a token of `role` with the command line.
pub(crate) fn create_token(data_dir: &Path, role: &str) -> String {
    run(motorcade(["token", "create", "--role", role, "--data-dir"]).arg(data_dir))
        .trim()
        .to_owned()
}

/// What `motorcade fsck --json` finds.
pub(crate) fn fsck(data_dir: &Path) -> Vec<String> {
    let output = output(motorcade(["fsck", "--json", "--data-dir"]).arg(data_dir));
    let findings: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("fsck failed: {}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_value(findings["problems"].clone()).expect("problems are texts")
}

/// A process that is killed when it is forgotten.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?} can't be run: {error}")))
    }

    /// Its id.
    pub(crate) fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid =
            i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        let _ = kill_process(pid, signal); // it may have ended
    }

    /// What it writes to its standard output, which is piped.
    pub(crate) fn lines(&mut self) -> Lines<BufReader<ChildStdout>> {
        BufReader::new(self.0.stdout.take().expect("it is piped, and read once")).lines()
    }

    /// How it has ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child can be waited for")
    }

    /// Waits until it has ended by itself or by a signal.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process has ended", async || {
            status = self.has_ended();
            status.is_some()
        })
        .await;
        status.expect("it has ended")
    }

    /// SIGKILL: what was not written to a file by now is lost.
    pub(crate) fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `motorcade serve` process on a free port of the loopback interface.
pub(crate) struct Server {
    pub(crate) process: Process,
    address: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts it and waits until it listens.
    pub(crate) fn start(data_dir: &Path, args: &[&str]) -> Self {
        Self::launch(data_dir, args).listening()
    }

    /// The same in an environment with more in it.
    pub(crate) fn start_in(environment: &[(&str, &str)], data_dir: &Path) -> Self {
        Self::launch_in(environment, data_dir, &[]).listening()
    }

    /// Starts it and waits for nothing.
    pub(crate) fn launch(data_dir: &Path, args: &[&str]) -> Launched {
        Self::launch_in(&[], data_dir, args)
    }

    /// The same in an environment with more in it, of which the last word counts.
    pub(crate) fn launch_in(
        environment: &[(&str, &str)],
        data_dir: &Path,
        args: &[&str],
    ) -> Launched {
        let mut command =
            motorcade(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"]);
        command.envs(environment.iter().copied());
        let mut process = Process::spawn(
            command.arg(data_dir).args(args).stdout(Stdio::null()).stderr(Stdio::piped()),
        );
        let stderr = process.0.stderr.take().expect("stderr is piped");
        let log = Arc::new(Mutex::new(String::new()));
        let (tell, address) = mpsc::channel();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(address) = address_in(&line) {
                    let _ = tell.send(address);
                }
                let mut log = kept.lock().expect("no thread panics with the log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Launched { process, address, log }
    }

    /// Base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Base URL of the repository.
    pub(crate) fn repo_url(&self) -> String {
        format!("http://{}/repo", self.address)
    }

    /// The lines that it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no thread panics with the log").clone()
    }

    /// Someone who has a token and talks to this server.
    pub(crate) fn client(&self, token: &str) -> Client {
        Client { http: http(), url: self.url(), token: token.to_owned() }
    }
}

/// A server that may not listen yet.
pub(crate) struct Launched {
    pub(crate) process: Process,
    address: mpsc::Receiver<String>,
    log: Arc<Mutex<String>>,
}

impl Launched {
    /// The lines that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no thread panics with the log").clone()
    }

    /// Waits until it listens.
    pub(crate) fn listening(self) -> Server {
        let Self { process, address, log } = self;
        let address = address.recv_timeout(PATIENCE);
        let address =
            address.unwrap_or_else(|_| panic!("it does not listen: {}", log.lock().expect("log")));
        Server { process, address, log }
    }
}

fn address_in(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    if event["message"] != "motorcade listens" {
        return None;
    }
    Some(event["address"].as_str()?.to_owned())
}

/// An HTTP client without proxies.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client can be made")
}

/// Someone with a token.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Client {
    /// Uploads an image with a body of any kind; `query` is added to what each image has.
    pub(crate) async fn put(
        &self,
        path: &str,
        query: &str,
        body: impl Into<Body>,
    ) -> reqwest::Result<Response> {
        let url = format!(
            "{}/api/v1/images/{path}?hardware_id={HARDWARE}&version=1.0.0&release_counter=1{query}",
            self.url
        );
        self.http.put(url).bearer_auth(&self.token).body(body).send().await
    }

    /// Uploads an image that has to be new.
    pub(crate) async fn upload(&self, path: &str, query: &str, image: &[u8]) -> Value {
        let response = self.put(path, query, image.to_vec()).await.expect("the server answers");
        let status = response.status();
        let body: Value = response.json().await.expect("the answer is JSON");
        assert_eq!(status, StatusCode::CREATED, "{path}: {body}");
        body
    }

    /// Registers a public key for [`HARDWARE`] and returns its id.
    pub(crate) async fn register(&self, public_key: &Path) -> String {
        let key = std::fs::read_to_string(public_key).expect("a key file is there");
        let body = serde_json::json!({ "hardware_ids": [HARDWARE], "public_key": key });
        let url = format!("{}/api/v1/recipients", self.url);
        let response = self
            .http
            .post(url)
            .bearer_auth(&self.token)
            .json(&body)
            .send()
            .await
            .expect("it answers");
        let registered: Value = response.json().await.expect("the answer is JSON");
        registered["kid"]
            .as_str()
            .unwrap_or_else(|| panic!("not registered: {registered}"))
            .to_owned()
    }

    /// Fetches what has to be there.
    pub(crate) async fn get(&self, path: &str) -> Bytes {
        let response =
            self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token).send().await;
        let response = response.and_then(Response::error_for_status).expect("it is there");
        response.bytes().await.expect("it comes whole")
    }
}
