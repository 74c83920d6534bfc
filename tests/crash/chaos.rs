//! Two replicas whose way to the database breaks, hangs and gets slow, that are stopped and killed,
//! and whose database is restarted, under uploads and clients that walk the metadata.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::StatusCode;
use rustix::process::Signal;

use crate::faulty_line::{FaultyLine, Line};
use crate::postgres::Postgres;
use crate::shared::Replicas;
use crate::support::{Client, Server, http, sha256, snakeoil, wait_until};
use crate::{Image, Ledger, Rng, Site, audited_images, signed};

/// What goes wrong, for a while.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// With the way of one replica to the database.
    Line(Line),
    /// The database ends, and is started again.
    Database,
    /// One replica does nothing for longer than it may keep its turn to publish, and goes on.
    Stopped,
    Killed,
}

impl Fault {
    fn any(rng: &mut Rng) -> Self {
        match rng.below(12) {
            0..3 => Self::Line(Line::Cut),
            3..6 => Self::Line(Line::Silent),
            6 | 7 => Self::Line(Line::Slow(Duration::from_millis(30))),
            8 => Self::Database,
            9 => Self::Stopped,
            _ => Self::Killed,
        }
    }
}

/// A replica with a way of its own to the database.
pub(crate) struct Node {
    pub(crate) number: usize,
    line: FaultyLine,
    /// What is set for this one alone.
    environment: Vec<(&'static str, String)>,
    pub(crate) server: Mutex<Option<Server>>,
    /// Where it listens; another port after each start.
    client: Mutex<Client>,
}

impl Node {
    pub(crate) async fn start(
        replicas: &Replicas,
        number: usize,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        let line = FaultyLine::to(address_of(&replicas.database)).await;
        let server = serve(replicas, number, &line, &environment);
        let client = Mutex::new(server.client(&replicas.token));
        Self { number, line, environment, server: Mutex::new(Some(server)), client }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.lock().unwrap().clone()
    }

    pub(crate) fn kill(&self) {
        self.server.lock().unwrap().take().unwrap().process.kill();
    }

    pub(crate) fn start_again(&self, replicas: &Replicas) {
        let server = serve(replicas, self.number, &self.line, &self.environment);
        *self.client.lock().unwrap() = server.client(&replicas.token);
        *self.server.lock().unwrap() = Some(server);
    }

    fn signal(&self, signal: Signal) {
        self.server.lock().unwrap().as_ref().unwrap().process.signal(signal);
    }

    pub(crate) fn log(&self) -> String {
        self.server.lock().unwrap().as_ref().map_or_else(String::new, Server::log)
    }
}

fn serve(
    replicas: &Replicas,
    number: usize,
    line: &FaultyLine,
    environment: &[(&'static str, String)],
) -> Server {
    let database = by(line, &replicas.database);
    let own = environment.iter().map(|(name, value)| (*name, value.as_str()));
    let own: Vec<_> = own.chain([("MOTORCADE_CATALOG_URL", &*database)]).collect();
    replicas.serve_in(number, &own)
}

fn address_of(database: &str) -> SocketAddr {
    let (_, rest) = database.split_once('@').unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

fn by(line: &FaultyLine, database: &str) -> String {
    database.replace(&address_of(database).to_string(), &line.address.to_string())
}

/// How many things go wrong, one after the other.
pub(crate) fn faults() -> usize {
    let wanted = std::env::var("MOTORCADE_TEST_FAULTS").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(8)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_lose_nothing_whatever_becomes_of_their_database_and_the_way_to_it() {
    let mut rng = Rng::new("chaos");
    let postgres = Postgres::start();
    let replicas = Arc::new(Replicas::on(postgres.database()));
    let nodes: Arc<[Node; 2]> = Arc::new([
        Node::start(&replicas, 0, vec![]).await,
        Node::start(&replicas, 1, vec![]).await,
    ]);
    nodes[0].client().register(&snakeoil("snakeoil_p256.pub.pem")).await;
    let (ledger, ended) =
        (Arc::new(Mutex::new(Ledger::default())), Arc::new(AtomicBool::new(false)));
    let mut clients = Vec::new();
    for number in 0..4 {
        let (nodes, ledger, ended) = (Arc::clone(&nodes), Arc::clone(&ledger), Arc::clone(&ended));
        let rng = Rng(rng.next());
        clients.push(tokio::spawn(async move {
            match number {
                0 | 1 => upload(&nodes, number, &ledger, &ended, rng).await,
                _ => walk(&nodes, &ledger, &ended).await,
            }
        }));
    }
    let started = Instant::now();
    for round in 0..faults() {
        tokio::time::sleep(rng.duration(Duration::from_millis(800))).await;
        let (fault, at) = (Fault::any(&mut rng), rng.below(2) as usize);
        println!("{:?}: {round}, {fault:?} at {at}", started.elapsed());
        inflict(fault, &nodes[at], &replicas, &postgres, &mut rng).await;
    }
    ended.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let trusted = fs::read(replicas.blobs().join("repo/1.root.json")).unwrap();
    let site = Site::of(&replicas, trusted);
    check(&site, &nodes, &ledger, "snakeoil_p256.pem").await;
    ledger.lock().unwrap().saw_directory(&replicas.blobs().join("repo"));
    replicas.fsck();
}

async fn inflict(
    fault: Fault,
    node: &Node,
    replicas: &Replicas,
    postgres: &Postgres,
    rng: &mut Rng,
) {
    match fault {
        Fault::Line(line) => {
            node.line.is(line);
            tokio::time::sleep(rng.duration(Duration::from_secs(4))).await;
            node.line.is(Line::Good);
        }
        Fault::Database => {
            postgres.tell("stop");
            tokio::time::sleep(rng.duration(Duration::from_secs(2))).await;
            postgres.tell("start");
        }
        Fault::Stopped => {
            node.signal(Signal::STOP);
            tokio::time::sleep(Duration::from_secs(12)).await;
            node.signal(Signal::CONT);
        }
        Fault::Killed => {
            node.kill();
            node.start_again(replicas);
        }
    }
}

/// All is as it was said to be, once nothing is wrong any more, and `key` opens it. Ends the servers.
pub(crate) async fn check(site: &Site, nodes: &[Node; 2], ledger: &Mutex<Ledger>, key: &str) {
    for node in nodes {
        let url = format!("{}/readyz", node.client().url);
        wait_until(&format!("replica {} is ready: {}", node.number, node.log()), async || {
            http().get(&url).send().await.is_ok_and(|ready| ready.status() == 200)
        })
        .await;
    }
    let client = nodes[0].client();
    let interrupted = std::mem::take(&mut ledger.lock().unwrap().interrupted);
    for image in &interrupted {
        let status = image.send(&client).await.expect("the server is there");
        assert!([StatusCode::OK, StatusCode::CREATED].contains(&status), "{image:?} got {status}");
        ledger.lock().unwrap().accepted.insert(image.path.clone(), image.clone());
    }
    let accepted = ledger.lock().unwrap().accepted.clone();
    assert_eq!(audited_images(&client).await, accepted.keys().cloned().collect::<Vec<_>>());
    for node in nodes {
        let server = node.server.lock().unwrap().take().unwrap();
        let repository = site.verify(&server).await;
        for image in accepted.values() {
            let opened = site.open_with(&repository, &image.path, key).await;
            assert_eq!(opened, sha256(&image.bytes()), "{}", image.path);
        }
    }
    println!("{} images, {} retries", accepted.len(), interrupted.len());
    assert!(!accepted.is_empty());
}

/// Uploads now here, now there. What gets no answer, or one that says to try again, is interrupted.
async fn upload(
    nodes: &[Node; 2],
    worker: usize,
    ledger: &Mutex<Ledger>,
    ended: &AtomicBool,
    mut rng: Rng,
) {
    for number in 0.. {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let blocks = 1 + rng.below(8) as usize;
        let image = Image { path: format!("gw/{worker}/{number}.bin"), blocks };
        let client = nodes[rng.below(2) as usize].client();
        match image.send(&client).await {
            Some(StatusCode::CREATED) => {
                drop(ledger.lock().unwrap().accepted.insert(image.path.clone(), image));
            }
            Some(status) if status.is_client_error() => panic!("{} got {status}", image.path),
            _ => ledger.lock().unwrap().interrupted.push(image),
        }
    }
}

/// Walks the metadata now here, now there: nothing is older than anything that was seen before, and
/// no file stands for two contents. Who can't be reached, or says that something is unavailable, is
/// asked again.
pub(crate) async fn walk(nodes: &[Node; 2], ledger: &Mutex<Ledger>, ended: &AtomicBool) {
    let mut at = 0;
    while !ended.load(Ordering::Relaxed) {
        at = 1 - at;
        match walk_once(&nodes[at].client(), ledger).await {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(wrong) => panic!("{wrong}\n{}", nodes[at].log()),
        }
    }
}

/// Whether it came to its end.
async fn walk_once(client: &Client, ledger: &Mutex<Ledger>) -> Result<bool, String> {
    let before = ledger.lock().unwrap().versions[1];
    let Some(timestamp) = fetch(client, "timestamp.json").await? else { return Ok(false) };
    let version = ledger.lock().unwrap().saw_timestamp(&timestamp);
    assert!(version >= before, "the timestamp went from {before} to {version}");
    let snapshot =
        format!("{}.snapshot.json", signed(&timestamp)["meta"]["snapshot.json"]["version"]);
    let Some(listed) = fetch(client, &snapshot).await? else { return Ok(false) };
    ledger.lock().unwrap().saw_file(&snapshot, &listed);
    for (file, meta) in signed(&listed)["meta"].as_object().unwrap() {
        let name = format!("{}.{file}", meta["version"]);
        if !ledger.lock().unwrap().files.contains_key(&name) {
            let Some(bytes) = fetch(client, &name).await? else { return Ok(false) };
            assert_eq!(meta["hashes"]["sha256"], sha256(&bytes), "{name}");
            ledger.lock().unwrap().saw_file(&name, &bytes);
        }
    }
    Ok(true)
}

/// None if it can't be had at the moment.
async fn fetch(client: &Client, name: &str) -> Result<Option<Bytes>, String> {
    let response = client.http.get(format!("{}/repo/{name}", client.url)).send().await;
    let Ok(response) = response else { return Ok(None) };
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        assert!(response.headers().contains_key("retry-after"), "{name}");
        return Ok(None);
    }
    match response.status() {
        StatusCode::OK => Ok(response.bytes().await.ok()),
        status => Err(format!("{name}: {status}")),
    }
}
