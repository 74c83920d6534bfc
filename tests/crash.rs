//! What is left when the real process is killed at any moment, is told to stop, or has no disk
//! space left.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[cfg(feature = "s3")]
#[path = "support/bucket.rs"]
mod bucket;
#[path = "crash/ceremony.rs"]
mod ceremony;
#[path = "crash/chaos.rs"]
mod chaos;
#[path = "crash/continued.rs"]
mod continued;
#[path = "support/cutting_proxy.rs"]
mod cutting_proxy;
#[path = "crash/escrow.rs"]
mod escrow;
#[path = "support/faulty_line.rs"]
mod faulty_line;
#[cfg(feature = "s3")]
#[path = "support/faulty_proxy.rs"]
mod faulty_proxy;
#[path = "crash/jobs.rs"]
mod jobs;
#[cfg(feature = "s3")]
#[path = "support/object_store.rs"]
mod object_store;
#[path = "crash/owners.rs"]
mod owners;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "crash/replicas.rs"]
mod replicas;
#[path = "crash/roles.rs"]
mod roles;
#[path = "crash/rotation.rs"]
mod rotation;
#[path = "support/script.rs"]
mod script;
#[path = "support/replicas.rs"]
mod shared;
#[path = "crash/shared_disk.rs"]
mod shared_disk;
#[path = "support/small_disk.rs"]
mod small_disk;
#[cfg(feature = "s3")]
#[path = "crash/store.rs"]
mod store;
mod support;
#[path = "support/tus.rs"]
mod tus;
#[path = "crash/uploads.rs"]
mod uploads;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Cursor;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::RecipientPrivateKey;
use motorcade::envelope::stream::SegmentReader;
use motorcade::uptane::client::VerifiedRepository;
use reqwest::{Body, StatusCode};
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};
use shared::Replicas;
use small_disk::SmallDisk;
use tempfile::TempDir;
use tokio::sync::mpsc;

use support::{
    Client, Process, Server, choose_few_bins, create_token, files_below, fsck, http, init,
    motorcade, noise, run, sha256, snakeoil, wait_until,
};

const KILLS: usize = 40;
const UPLOADERS: u64 = 4;

/// Where a server runs, what opens its images, and who uploads them.
struct Site {
    dir: TempDir,
    token: String,
    /// The first root, as a vehicle got it at the factory.
    trusted: Vec<u8>,
}

impl Site {
    /// A state directory with few bins.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::in_folder(dir).await
    }

    async fn in_folder(dir: TempDir) -> Self {
        let data_dir = dir.path().join("state");
        choose_few_bins(&data_dir);
        init(&data_dir);
        let token = create_token(&data_dir, "engineer");
        let trusted = fs::read(data_dir.join("repo/1.root.json")).unwrap();
        let site = Self { dir, token, trusted };
        let server = site.serve(&[]);
        server.client(&site.token).register(&snakeoil("snakeoil_p256.pub.pem")).await;
        site
    }

    /// What opens the images of replicas, and verifies them from a root of theirs.
    fn of(replicas: &Replicas, trusted: Vec<u8>) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), token: replicas.token.clone(), trusted }
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn serve(&self, args: &[&str]) -> Server {
        Server::start(&self.data_dir(), args)
    }

    fn staged(&self) -> Vec<String> {
        files_below(&self.data_dir().join("staging"))
    }

    fn target_files(&self) -> Vec<String> {
        let targets = self.data_dir().join("repo/targets");
        if targets.exists() { files_below(&targets) } else { Vec::new() }
    }

    async fn verify(&self, server: &Server) -> VerifiedRepository {
        let loaded = VerifiedRepository::load(&self.trusted, &server.repo_url()).await;
        loaded.unwrap_or_else(|error| {
            panic!("the repository does not verify: {error:?}\n{}", server.log())
        })
    }

    /// Downloads an image as a vehicle does and opens it; returns the SHA-256 of what comes out.
    async fn open(&self, repository: &VerifiedRepository, path: &str) -> String {
        self.open_with(repository, path, "snakeoil_p256.pem").await
    }

    /// The same with a key of one's choice.
    async fn open_with(&self, repository: &VerifiedRepository, path: &str, key: &str) -> String {
        let (sealed, envelope) = (self.dir.path().join("sealed"), self.dir.path().join("envelope"));
        repository.download(path, &sealed).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        repository.download(&format!("{path}.jwe"), &envelope).await.unwrap();
        let key = fs::read_to_string(snakeoil(key)).unwrap();
        let key = RecipientPrivateKey::parse(&key).unwrap();
        let (data_key, algorithm) =
            Envelope::parse(&fs::read(&envelope).unwrap()).unwrap().open(&key).unwrap();
        let mut reader =
            SegmentReader::new(Cursor::new(fs::read(&sealed).unwrap()), &data_key, algorithm)
                .unwrap();
        let (mut hasher, mut segment) = (Sha256::new(), Vec::new());
        while reader.next_segment(&mut segment).unwrap().is_some() {
            hasher.update(&segment);
        }
        hex::encode(hasher.finalize())
    }

    /// What holds after every start, before anything else happens: no orphan, and metadata that
    /// verifies.
    async fn check_after_start(&self, server: &Server) -> VerifiedRepository {
        let ready = http().get(format!("{}/readyz", server.url())).send().await.unwrap();
        assert_eq!(ready.status(), StatusCode::OK);
        // A server that has found changes to publish stages files of its own; those of a dead
        // process never go.
        wait_until("no half-written file is left", async || self.staged().is_empty()).await;
        assert_eq!(fsck(&self.data_dir()), [""; 0], "{}", server.log());
        self.verify(server).await
    }
}

/// SplitMix64: the same numbers for the same seed, on every machine.
#[derive(Clone)]
struct Rng(u64);

impl Rng {
    /// From `MOTORCADE_TEST_SEED`, to repeat a run, or from the system; printed.
    fn new(test: &str) -> Self {
        let seed = std::env::var("MOTORCADE_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            u64::from_le_bytes(bytes)
        });
        println!("{test}: MOTORCADE_TEST_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn duration(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(longest.as_micros() as u64 + 1))
    }
}

/// An image whose bytes follow from its path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Image {
    path: String,
    blocks: usize,
}

impl Image {
    fn bytes(&self) -> Vec<u8> {
        noise(&self.path, 8 * 1024).repeat(self.blocks)
    }

    fn query(&self) -> &'static str {
        if self.blocks.is_multiple_of(2) { "" } else { "&algorithm=AES256_GCM_HKDF_4KB" }
    }

    /// The status of the answer, or nothing if the server was gone before it.
    async fn send(&self, client: &Client) -> Option<StatusCode> {
        let bytes = Bytes::from(self.bytes());
        let pieces = (0..bytes.len().div_ceil(PIECE)).map(move |number| {
            Ok::<_, std::io::Error>(
                bytes.slice(number * PIECE..bytes.len().min((number + 1) * PIECE)),
            )
        });
        let body = Body::wrap_stream(stream::iter(pieces));
        client.put(&self.path, self.query(), body).await.ok().map(|response| response.status())
    }
}

const PIECE: usize = 64 * 1024;

/// What clients were told, and what therefore has to stay true.
#[derive(Default)]
struct Ledger {
    /// Digests of files that never change, by name. A timestamp counts as one file a version.
    files: HashMap<String, String>,
    /// The highest versions of root, timestamp and snapshot that were seen.
    versions: [u64; 3],
    accepted: BTreeMap<String, Image>,
    interrupted: Vec<Image>,
}

impl Ledger {
    fn saw_file(&mut self, name: &str, bytes: &[u8]) {
        let digest = sha256(bytes);
        let known = self.files.entry(name.to_owned()).or_insert_with(|| digest.clone());
        assert_eq!(*known, digest, "{name} stands for two contents");
    }

    fn saw_timestamp(&mut self, bytes: &[u8]) -> u64 {
        let version = signed(bytes)["version"].as_u64().unwrap();
        self.saw_file(&format!("version {version} of timestamp.json"), bytes);
        self.versions[1] = self.versions[1].max(version);
        version
    }

    fn saw_versions(&mut self, versions: [u64; 3]) {
        let went_down = versions.iter().zip(self.versions).any(|(now, before)| *now < before);
        assert!(
            !went_down,
            "root, timestamp and snapshot were {:?} and are {versions:?}",
            self.versions
        );
        self.versions = versions;
    }

    /// Looks at every metadata file in the directory.
    fn saw_directory(&mut self, repo: &Path) {
        for entry in fs::read_dir(repo).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            match name.as_str() {
                "timestamp.json" => drop(self.saw_timestamp(&fs::read(entry.path()).unwrap())),
                name if name.ends_with(".json") => {
                    self.saw_file(name, &fs::read(entry.path()).unwrap())
                }
                name => assert_eq!(name, "targets"),
            }
        }
    }
}

fn signed(bytes: &[u8]) -> Value {
    serde_json::from_slice::<Value>(bytes).unwrap()["signed"].take()
}

/// Uploads one image after the other until the server is gone.
async fn upload_until_killed(
    client: Client,
    ledger: Arc<Mutex<Ledger>>,
    mut rng: Rng,
    largest: u64,
    wave: String,
) {
    for number in 0.. {
        let blocks = 1 + rng.below(largest) as usize;
        let image = Image { path: format!("gw/{wave}/{number}.bin"), blocks };
        match image.send(&client).await {
            Some(StatusCode::CREATED) => {
                drop(ledger.lock().unwrap().accepted.insert(image.path.clone(), image))
            }
            Some(status) => panic!("{} got {status}", image.path),
            None => return ledger.lock().unwrap().interrupted.push(image),
        }
    }
}

/// Follows the metadata as a client does until the server is gone, and notes every file.
async fn read_until_killed(client: Client, ledger: Arc<Mutex<Ledger>>) {
    while follow_metadata(&client, &ledger).await.is_some() {}
}

/// `None` if the server is gone; a file that is missing while it is not fails the test.
async fn follow_metadata(client: &Client, ledger: &Mutex<Ledger>) -> Option<()> {
    let before = ledger.lock().unwrap().versions[1];
    let timestamp = fetch(client, "timestamp.json").await?;
    let version = ledger.lock().unwrap().saw_timestamp(&timestamp);
    assert!(version >= before, "the timestamp went from {before} to {version}");
    let snapshot =
        format!("{}.snapshot.json", signed(&timestamp)["meta"]["snapshot.json"]["version"]);
    let listed = fetch(client, &snapshot).await?;
    ledger.lock().unwrap().saw_file(&snapshot, &listed);
    for (file, meta) in signed(&listed)["meta"].as_object().unwrap() {
        let name = format!("{}.{file}", meta["version"]);
        if !ledger.lock().unwrap().files.contains_key(&name) {
            let bytes = fetch(client, &name).await?;
            assert_eq!(meta["hashes"]["sha256"], sha256(&bytes), "{name}");
            ledger.lock().unwrap().saw_file(&name, &bytes);
        }
    }
    Some(())
}

async fn fetch(client: &Client, name: &str) -> Option<Bytes> {
    let response = client.http.get(format!("{}/repo/{name}", client.url)).send().await.ok()?;
    assert_eq!(response.status(), StatusCode::OK, "{name}");
    response.bytes().await.ok()
}

/// When a server is killed.
#[derive(Debug)]
enum Moment {
    /// While it starts and mends what the last kill left.
    Start,
    /// While large images come in.
    LargeUploads,
    /// While small images come in, so that it publishes most of the time.
    SmallUploads,
    /// Shortly after a round of publication has stored a snapshot.
    Publication,
}

impl Moment {
    fn any(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 => Self::Start,
            1 | 2 => Self::LargeUploads,
            3 | 4 => Self::SmallUploads,
            _ => Self::Publication,
        }
    }

    /// The size of images in blocks.
    fn largest(&self) -> u64 {
        if matches!(self, Self::LargeUploads) { 1024 } else { 4 }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_killed_at_any_moment_goes_on_where_its_clients_were_told_that_it_is() {
    let mut rng = Rng::new("kill -9 of serve");
    let site = Site::new().await;
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let repo = site.data_dir().join("repo");
    let (started, mut retried) = (Instant::now(), 0);
    for round in 0..KILLS {
        let moment = Moment::any(&mut rng);
        println!("{:?}: kill {round}, {moment:?}", started.elapsed());
        if matches!(moment, Moment::Start) {
            let launched = Server::launch(&site.data_dir(), &[]);
            tokio::time::sleep(rng.duration(Duration::from_millis(120))).await;
            launched.process.kill();
            ledger.lock().unwrap().saw_directory(&repo);
            continue;
        }
        let server = site.serve(&[]);
        retried += check_promises(&site, &server, &ledger).await;
        crash(&site, server, &ledger, &mut rng, &moment, round).await;
        ledger.lock().unwrap().saw_directory(&repo);
    }
    let server = site.serve(&[]);
    retried += check_promises(&site, &server, &ledger).await;
    let repository = site.verify(&server).await;
    let accepted = ledger.lock().unwrap().accepted.clone();
    let audited = audited_images(&server.client(&site.token)).await;
    assert_eq!(audited, accepted.keys().cloned().collect::<Vec<_>>(), "each once");
    for image in accepted.values() {
        assert_eq!(
            site.open(&repository, &image.path).await,
            sha256(&image.bytes()),
            "{}",
            image.path
        );
    }
    println!(
        "{:?}: {KILLS} kills, {} images, {retried} retries",
        started.elapsed(),
        accepted.len()
    );
    assert!(retried > 0, "some kills interrupt an upload");
}

/// Lets clients work and kills the server under them.
async fn crash(
    site: &Site,
    server: Server,
    ledger: &Arc<Mutex<Ledger>>,
    rng: &mut Rng,
    moment: &Moment,
    round: usize,
) {
    let client = server.client(&site.token);
    let mut clients = vec![tokio::spawn(read_until_killed(client.clone(), Arc::clone(ledger)))];
    for worker in 0..UPLOADERS {
        let (wave, rng) = (format!("{round}/{worker}"), Rng(rng.next()));
        let uploads =
            upload_until_killed(client.clone(), Arc::clone(ledger), rng, moment.largest(), wave);
        clients.push(tokio::spawn(uploads));
    }
    if matches!(moment, Moment::Publication) {
        let rounds = 1 + rng.below(4) as usize;
        let (before, repo) = (snapshots(site), site.data_dir().join("repo"));
        wait_until("something is published", async || {
            snapshots(site) >= before + rounds || !repo.exists()
        })
        .await;
        tokio::time::sleep(rng.duration(Duration::from_millis(8))).await;
    } else {
        tokio::time::sleep(rng.duration(Duration::from_millis(400))).await;
    }
    server.process.kill();
    for client in clients {
        client.await.unwrap();
    }
}

/// Paths of all images that the audit log says were published, in their order.
async fn audited_images(client: &Client) -> Vec<String> {
    let (mut paths, mut before) = (Vec::new(), i64::MAX);
    loop {
        let url =
            format!("{}/api/v1/audit?kind=image_published&limit=1000&before={before}", client.url);
        let request = client.http.get(url).bearer_auth(&client.token);
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        let entries = page["entries"].as_array().unwrap();
        paths.extend(entries.iter().map(|entry| entry["subject"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_before"].as_i64() else { break };
        before = next;
    }
    paths.sort();
    paths
}

fn snapshots(site: &Site) -> usize {
    let names =
        fs::read_dir(site.data_dir().join("repo")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".snapshot.json")).count()
}

/// After a restart: all that clients were told is still so, and what was interrupted succeeds when
/// it is repeated. Returns how many uploads that were.
async fn check_promises(site: &Site, server: &Server, ledger: &Arc<Mutex<Ledger>>) -> usize {
    let repository = site.check_after_start(server).await;
    for mended in ["removed what unfinished uploads had left", "timestamp.json was not the one"] {
        if server.log().contains(mended) {
            println!("    {mended}");
        }
    }
    // Noted at once: images that were accepted and not yet published are published while this goes
    // on.
    ledger.lock().unwrap().saw_versions(repository.versions());
    let client = server.client(&site.token);
    follow_metadata(&client, ledger).await.expect("the server is there");
    let interrupted = {
        let mut ledger = ledger.lock().unwrap();
        ledger.saw_directory(&site.data_dir().join("repo"));
        for path in ledger.accepted.keys() {
            assert!(repository.find(path).is_some(), "{path} was answered with 201 and is gone");
            assert!(repository.find(&format!("{path}.jwe")).is_some(), "{path} has no envelope");
        }
        std::mem::take(&mut ledger.interrupted)
    };
    for image in &interrupted {
        let status = image.send(&client).await.expect("the server is there");
        assert!(
            [StatusCode::OK, StatusCode::CREATED].contains(&status),
            "{} got {status}",
            image.path
        );
        ledger.lock().unwrap().accepted.insert(image.path.clone(), image.clone());
    }
    interrupted.len()
}

/// A check of some hundred images takes several steps; each is done once, whenever its server is
/// killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_goes_on_where_its_server_was_killed() {
    let mut rng = Rng::new("kill -9 of a server with a job");
    let site = Site::new().await;
    let server = site.serve(&[]);
    upload_many(&server.client(&site.token), 320).await;
    server.process.kill();
    let mut check = motorcade(["--json", "fsck", "--data-dir"]);
    let found: Value = serde_json::from_str(&run(check.arg(site.data_dir()))).unwrap();
    let mut id: Option<String> = None;
    let (mut before, mut interrupted, mut ended) = (0, 0, 0);
    for round in 0..60 {
        let server = site.serve(&[]);
        let client = server.client(&site.token);
        let job = match &id {
            Some(id) => show_job(&client, id).await,
            None => start_check(&client).await,
        };
        let done = job["progress"]["done"].as_u64().unwrap();
        assert!(done >= before, "round {round}: it went back from {before} to {job}");
        before = done;
        id = Some(job["id"].as_str().unwrap().to_owned());
        if interrupted < 4 {
            tokio::time::sleep(rng.duration(Duration::from_millis(1200))).await;
        } else {
            let id = id.clone().unwrap();
            wait_until("the job ends", async || {
                !show_job(&client, &id).await["ended_at"].is_null()
            })
            .await;
        }
        let job = show_job(&client, id.as_ref().unwrap()).await;
        server.process.kill();
        if job["ended_at"].is_null() {
            interrupted += usize::from(job["progress"]["phase"] != "");
            continue;
        }
        assert_eq!(job["state"], "done", "{job}");
        for what in ["files", "bytes", "problems"] {
            assert_eq!(job["result"][what], found[what], "{what} after {interrupted} kills: {job}");
        }
        ended += 1;
        if interrupted >= 4 {
            println!(
                "{round} rounds, {interrupted} kills of a check that was on its way, {ended} ended"
            );
            return;
        }
        (id, before) = (None, 0);
    }
    panic!("only {interrupted} kills came while a check was on its way");
}

async fn upload_many(client: &Client, images: usize) {
    let uploads = (0..images).map(|number| {
        let image = Image { path: format!("gw/{number}/a.bin"), blocks: 2 };
        let client = client.clone();
        async move { assert_eq!(image.send(&client).await, Some(StatusCode::CREATED)) }
    });
    futures_util::StreamExt::for_each_concurrent(stream::iter(uploads), 12, |upload| upload).await;
}

async fn start_check(client: &Client) -> Value {
    let request = client.http.post(format!("{}/api/v1/jobs", client.url));
    let request = request.bearer_auth(&client.token).json(&serde_json::json!({ "kind": "fsck" }));
    request.send().await.unwrap().json().await.unwrap()
}

async fn show_job(client: &Client, id: &str) -> Value {
    let request = client.http.get(format!("{}/api/v1/jobs/{id}", client.url));
    request.bearer_auth(&client.token).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn an_init_killed_at_any_moment_can_be_repeated() {
    let mut rng = Rng::new("kill -9 of init");
    let whole = tempfile::tempdir().unwrap();
    let started = Instant::now();
    init(&whole.path().join("state"));
    let longest = started.elapsed();
    for round in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("state");
        // Keys, policy and catalog are made in a small part of the time, so half of the kills go
        // there.
        let longest = if round % 2 == 0 { longest } else { longest.min(Duration::from_millis(80)) };
        for _ in 0..2 {
            let process = Process::spawn(
                motorcade(["init", "--data-dir"])
                    .arg(&data_dir)
                    .stderr(std::process::Stdio::null()),
            );
            tokio::time::sleep(rng.duration(longest)).await;
            process.kill();
        }
        let output = motorcade(["init", "--data-dir"]).arg(&data_dir).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let was_complete = said.contains("is initialized already; nothing was changed");
        assert!(output.status.success() || was_complete, "round {round}: {said}");
        let server = Server::start(&data_dir, &[]);
        let trusted = fs::read(data_dir.join("repo/1.root.json")).unwrap();
        VerifiedRepository::load(&trusted, &server.repo_url()).await.unwrap();
        assert_eq!(fsck(&data_dir), [""; 0]);
    }
}

/// Ends the process at its first write to a file: the file is there by then, and empty.
fn init_without_writing(data_dir: &Path) {
    let mut command = Command::new("bash");
    command.args([
        "-c",
        "ulimit -f 0 -c 0; exec \"$0\" init --data-dir \"$1\"",
        env!("CARGO_BIN_EXE_motorcade"),
    ]);
    let output = command.arg(data_dir).output().unwrap();
    assert_eq!(
        output.status.signal(),
        Some(Signal::XFSZ.as_raw()),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn an_init_killed_between_making_a_file_and_filling_it_can_be_repeated() {
    let complete = tempfile::tempdir().unwrap();
    init(complete.path());
    let files = [
        "metadata/policy.toml",
        "keys/root.pem",
        "keys/targets.pem",
        "keys/timestamp.pem",
        "keys/escrow.jwk",
    ];
    let made = files_below(complete.path());
    assert!(files.iter().all(|file| made.contains(&(*file).to_owned())), "{made:?}");
    let mut wrong = Vec::new();
    for missing in files {
        let dir = tempfile::tempdir().unwrap();
        for file in made.iter().filter(|file| *file != missing) {
            if file.starts_with("keys/") || file.starts_with("metadata/") {
                fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
                fs::copy(complete.path().join(file), dir.path().join(file)).unwrap();
            }
        }
        init_without_writing(dir.path());
        let output = motorcade(["init", "--data-dir"]).arg(dir.path()).output().unwrap();
        if !output.status.success() {
            wrong.push(format!("killed at {missing}: {}", String::from_utf8_lossy(&output.stderr)));
        } else if !fsck(dir.path()).is_empty() {
            wrong.push(format!("killed at {missing}: {:?}", fsck(dir.path())));
        } else {
            Server::start(dir.path(), &[]);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An upload whose body comes when the test says so.
struct SlowUpload {
    pieces: mpsc::Sender<Bytes>,
    answer: tokio::task::JoinHandle<reqwest::Result<reqwest::Response>>,
}

impl SlowUpload {
    /// Sends `first` and waits until the server has begun to write.
    async fn begin(site: &Site, server: &Server, path: &'static str, first: Vec<u8>) -> Self {
        let (pieces, mut waiting) = mpsc::channel(1);
        let body = stream::poll_fn(move |context| {
            waiting.poll_recv(context).map(|piece| piece.map(Ok::<_, std::io::Error>))
        });
        let client = server.client(&site.token);
        let answer =
            tokio::spawn(async move { client.put(path, "", Body::wrap_stream(body)).await });
        pieces.send(first.into()).await.unwrap();
        wait_until("the upload is on the disk", async || !site.staged().is_empty()).await;
        Self { pieces, answer }
    }
}

#[tokio::test]
async fn a_stop_that_does_not_wait_keeps_nothing_of_an_unfinished_upload() {
    let site = Site::new().await;
    let mut server = site.serve(&["--shutdown-timeout", "1"]);
    let image = Image { path: "gw/1/gateway.bin".into(), blocks: 512 };
    let upload =
        SlowUpload::begin(&site, &server, "gw/1/gateway.bin", image.bytes()[..2_500_000].to_vec())
            .await;
    server.process.signal(Signal::TERM);
    let status = server.process.ended().await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    let answered = upload.answer.await.unwrap().map(|response| response.status());
    assert!(!answered.as_ref().is_ok_and(StatusCode::is_success), "{answered:?}");
    drop(upload.pieces);
    assert_eq!((site.staged(), site.target_files()), (vec![], vec![]), "{}", server.log());

    let server = site.serve(&[]);
    let repository = site.check_after_start(&server).await;
    assert_eq!(repository.find(&image.path), None);
    assert_eq!(image.send(&server.client(&site.token)).await, Some(StatusCode::CREATED));
    let repository = site.verify(&server).await;
    assert_eq!(site.open(&repository, &image.path).await, sha256(&image.bytes()));
}

#[tokio::test]
async fn a_stop_that_waits_lets_an_upload_end() {
    let site = Site::new().await;
    let mut server = site.serve(&["--shutdown-timeout", "60"]);
    let image = noise("a patient stop", 5_000_000);
    let (first, rest) = image.split_at(2_500_000);
    let upload = SlowUpload::begin(&site, &server, "gw/1/gateway.bin", first.to_vec()).await;
    server.process.signal(Signal::TERM);
    let url = format!("{}/healthz", server.url());
    wait_until("new clients are turned away", async || http().get(&url).send().await.is_err())
        .await;
    upload.pieces.send(Bytes::copy_from_slice(rest)).await.unwrap();
    drop(upload.pieces);
    let answer = upload.answer.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED, "{}", server.log());
    let status = server.process.ended().await;
    assert_eq!(status.code(), Some(0), "{}", server.log());

    let server = site.serve(&[]);
    let repository = site.check_after_start(&server).await;
    assert_eq!(site.open(&repository, "gw/1/gateway.bin").await, sha256(&image));
}

#[tokio::test]
async fn an_image_that_the_disk_has_no_room_for_is_refused_and_nothing_of_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path(), "64m") else { return };
    let site = Site::in_folder(tempfile::tempdir_in(folder.path()).unwrap()).await;
    let server = site.serve(&["--reserved-space", "0"]);
    let client = server.client(&site.token);
    let before = site.verify(&server).await.versions();
    let image = noise("too large", 1024 * 1024).repeat(100);
    let length = Body::from(image.clone()); // is announced, so that it is refused from the head
    let pieces: Vec<_> =
        image.chunks(PIECE).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    for (name, body) in
        [("announced", length), ("streamed", Body::wrap_stream(stream::iter(pieces)))]
    {
        let answer = client.put(&format!("large/{name}.bin"), "", body).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INSUFFICIENT_STORAGE, "{name}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "storage_full", "{name}");
        wait_until("nothing is staged", async || site.staged().is_empty()).await;
        let repository = site.check_after_start(&server).await;
        assert_eq!((repository.versions(), repository.find("large")), (before, None), "{name}");
        assert_eq!(site.target_files(), [""; 0], "{name}");
    }
    let small = Image { path: "small/gateway.bin".into(), blocks: 100 };
    assert_eq!(small.send(&client).await, Some(StatusCode::CREATED));
    let repository = site.check_after_start(&server).await;
    assert_eq!(site.open(&repository, &small.path).await, sha256(&small.bytes()));
}

#[tokio::test]
async fn a_disk_that_fills_up_at_any_step_of_a_publication_stops_it_whole() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), "16m") else { return };
    let site = Site::in_folder(tempfile::tempdir_in(folder.path()).unwrap()).await;
    let server = site.serve(&["--reserved-space", "0"]);
    let client = server.client(&site.token);
    let mut refused = 0;
    for free in (0..60).map(|pages| pages * 4096) {
        let filler = disk.fill(free);
        let image = Image { path: format!("gw/{free}/gateway.bin"), blocks: 2 };
        let status = image.send(&client).await;
        let status =
            status.unwrap_or_else(|| panic!("{free} bytes free: no answer\n{}", server.log()));
        let expected = [StatusCode::INSUFFICIENT_STORAGE, StatusCode::CREATED];
        assert!(expected.contains(&status), "{free} bytes free: {status}\n{}", server.log());
        refused += usize::from(status == StatusCode::INSUFFICIENT_STORAGE);
        site.verify(&server).await; // as it was or with the image, but whole
        fs::remove_file(filler).unwrap();
        let again = image.send(&client).await;
        let again = again.unwrap_or_else(|| {
            panic!("{free} bytes free: {status}, then no answer\n{}", server.log())
        });
        assert!(
            [StatusCode::OK, StatusCode::CREATED].contains(&again),
            "{free} bytes free: {status}, then {again}\n{}",
            server.log()
        );
        let repository = site.check_after_start(&server).await;
        let is_there = repository.find(&image.path).is_some();
        assert!(
            is_there,
            "{free} bytes free: {status}, then {again}, but it is not published\n{}",
            server.log()
        );
        assert_eq!(
            site.open(&repository, &image.path).await,
            sha256(&image.bytes()),
            "{free} bytes free"
        );
    }
    assert!((1..60).contains(&refused), "some fit and some do not: {refused} were refused");
    let mut server = server;
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.ended().await.code(), Some(0));
    site.check_after_start(&site.serve(&[])).await;
    run(motorcade(["fsck", "--data-dir"]).arg(site.data_dir()));
}

/// When each sync of `trace`, strace's, began and ended, in seconds.
fn syncs(trace: &str) -> Vec<(f64, f64)> {
    let mut begun = HashMap::new();
    let mut all = Vec::new();
    for line in trace.lines().filter(|line| line.contains("sync")) {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(at)) =
            (words.next(), words.next().and_then(|at| at.parse::<f64>().ok()))
        else {
            continue;
        };
        if line.contains("<unfinished") {
            begun.insert(thread.to_owned(), at);
        } else if line.contains("resumed>") {
            all.extend(begun.remove(thread).map(|start| (start, at)));
        } else if let Some(took) =
            line.rsplit('<').next().and_then(|took| took.trim_end_matches('>').parse::<f64>().ok())
        {
            all.push((at, at + took));
        }
    }
    all
}

/// How many of them come one after the other.
fn in_a_row(mut syncs: Vec<(f64, f64)>) -> usize {
    syncs.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut until = 0.0;
    syncs
        .into_iter()
        .filter(|(start, end)| {
            *start >= until && {
                until = *end;
                true
            }
        })
        .count()
}

/// When the server waits for the disk while it takes an image; none where nobody may look.
async fn syncs_of_an_upload(site: &Site, server: &Server, path: &str) -> Option<Vec<(f64, f64)>> {
    let trace = site.dir.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-ttt", "-T", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs,sync"]);
    // A slow disk: what is done beside each other overlaps, on a busy machine too.
    command.args(["-e", "inject=fsync,fdatasync:delay_enter=100000", "-o"]).arg(&trace);
    command.args(["-p", &server.process.id()]).stderr(std::process::Stdio::null());
    let mut strace = match command.spawn() {
        Ok(strace) => strace,
        Err(error) => {
            println!("skipped: strace can't be run: {error}");
            return None;
        }
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    if let Ok(Some(status)) = strace.try_wait() {
        println!("skipped: strace may not look at the server: {status}");
        return None;
    }
    server.client(&site.token).upload(path, "", path.as_bytes()).await;
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&strace), Signal::INT);
    strace.wait().unwrap();
    let trace = fs::read_to_string(trace).unwrap();
    let syncs = syncs(&trace);
    assert!(syncs.len() >= 8, "everything is brought to the disk: {trace}");
    Some(syncs)
}

#[tokio::test]
async fn an_upload_waits_for_the_disk_at_most_ten_times_in_a_row() {
    let site = Site::new().await;
    let server = site.serve(&[]);
    server.client(&site.token).upload("gw/0/gateway.bin", "", b"the first after a start").await;
    // Something else of the server may wait for the disk meanwhile, though not each time.
    let mut least = usize::MAX;
    for number in 0..5 {
        let path = format!("supplier/gw/4.2.{number}/gateway.bin");
        let Some(syncs) = syncs_of_an_upload(&site, &server, &path).await else { return };
        println!("{} syncs, {} of them in a row", syncs.len(), in_a_row(syncs.clone()));
        least = least.min(in_a_row(syncs));
        if least <= 10 {
            return;
        }
    }
    panic!("{least} in a row");
}
