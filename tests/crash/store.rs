//! Two replicas on one bucket of a real object store that fails, is slow, hangs, refuses and cuts its
//! answers off, and that are killed, under uploads, downloads, a rotation, and clients that walk the
//! metadata.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::bucket::Bucket;
use crate::chaos::{Node, check, faults, walk};
use crate::faulty_proxy::{Asked, Spoil, faulty_proxy};
use crate::postgres::Postgres;
use crate::rotation::private_key;
use crate::shared::Replicas;
use crate::support::{Client, http, sha256, snakeoil};
use crate::{Image, Ledger, Rng, Site, show_job};

/// What becomes of most of what a store is asked, for a while.
#[derive(Debug, Clone, Copy)]
enum Weather {
    Fine,
    Failing(u16, &'static str),
    Slow,
    /// Of an answer comes a part.
    Cutting,
    /// It is done, and nobody hears of it.
    Losing,
    Refusing,
    Hanging,
}

impl Weather {
    fn any(rng: &mut Rng) -> Self {
        match rng.below(7) {
            0 => Self::Failing(500, "InternalError"),
            1 => Self::Failing(503, "SlowDown"),
            2 => Self::Slow,
            3 => Self::Cutting,
            4 => Self::Losing,
            5 => Self::Refusing,
            _ => Self::Hanging,
        }
    }

    fn spoil(self, rng: &mut Rng, calm: &watch::Receiver<bool>) -> Spoil {
        if rng.below(4) == 0 {
            return Spoil::Pass;
        }
        match self {
            Self::Fine => Spoil::Pass,
            Self::Failing(status, code) => Spoil::Answer(status, code),
            Self::Slow => Spoil::Late(rng.duration(Duration::from_millis(1500))),
            Self::Cutting => Spoil::Truncate(rng.below(3000) as usize),
            Self::Losing => Spoil::LoseAnswer,
            Self::Refusing => Spoil::Reset,
            Self::Hanging => Spoil::Held(calm.clone()),
        }
    }
}

/// A replica's way to the store.
struct Way {
    weather: Arc<Mutex<Weather>>,
    calm: watch::Sender<bool>,
    endpoint: String,
}

impl Way {
    async fn to(endpoint: &str, mut rng: Rng) -> Self {
        let weather = Arc::new(Mutex::new(Weather::Fine));
        let (calm, waits) = watch::channel(true);
        let asked = Arc::clone(&weather);
        let spoil = move |_: &Asked<'_>| asked.lock().unwrap().spoil(&mut rng, &waits);
        let endpoint = faulty_proxy(endpoint, spoil).await;
        Self { weather, calm, endpoint }
    }

    fn is(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
        self.calm.send_replace(matches!(weather, Weather::Fine));
    }
}

/// An installation of two replicas, and what its clients were told.
struct Fleet {
    nodes: Arc<[Node; 2]>,
    ledger: Arc<Mutex<Ledger>>,
    /// Paths of images that were accepted, and what their sealed bytes hash to.
    sealed: Mutex<Vec<(String, String)>>,
    ended: AtomicBool,
}

const KEYS: [&str; 2] = ["snakeoil_p256", "snakeoil_p256_other"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_lose_nothing_whatever_becomes_of_their_store_and_the_way_to_it() {
    let mut rng = Rng::new("chaos with a store");
    let bucket = Bucket::new().await;
    let environment = bucket.environment();
    let replicas = Replicas::with(Postgres::shared().database(), &environment.each());
    let officer = replicas.token("officer");
    let ways = [
        Way::to(&bucket.store.endpoint, Rng(rng.next())).await,
        Way::to(&bucket.store.endpoint, Rng(rng.next())).await,
    ];
    let node = async |number: usize| {
        let own = vec![("AWS_ENDPOINT_URL_S3", ways[number].endpoint.clone())];
        Node::start(&replicas, number, own).await
    };
    let nodes = Arc::new([node(0).await, node(1).await]);
    nodes[0].client().register(&snakeoil("snakeoil_p256.pub.pem")).await;
    let fleet = Arc::new(Fleet {
        nodes: Arc::clone(&nodes),
        ledger: Arc::default(),
        sealed: Mutex::default(),
        ended: AtomicBool::new(false),
    });
    let clients = fleet.clients(&mut rng);
    let rotation = tokio::spawn(rotate(Arc::clone(&fleet), officer.clone()));
    for round in 0..faults() {
        go_wrong(round, &replicas, &ways, &nodes, &mut rng).await;
    }
    let job = rotation.await.unwrap();
    fleet.ended.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    until_done(&fleet, &officer, &job).await;
    let trusted = fs::read(replicas.state(0).join("1.root.json")).unwrap();
    let site = Site::of(&replicas, trusted);
    check(&site, &nodes, &fleet.ledger, "snakeoil_p256_other.pem").await;
    drop(replicas.serve_both()); // each removes what it has left half done
    look_at(&bucket, &fleet.ledger).await;
    replicas.fsck();
}

/// The store is bad for one of the replicas, or both, and one of them may be killed meanwhile.
async fn go_wrong(
    round: usize,
    replicas: &Replicas,
    ways: &[Way; 2],
    nodes: &[Node; 2],
    rng: &mut Rng,
) {
    tokio::time::sleep(rng.duration(Duration::from_millis(600))).await;
    let (weather, at) = (Weather::any(rng), rng.below(3) as usize);
    let killed = (rng.below(3) == 0).then(|| rng.below(2) as usize);
    println!("{round}: {weather:?} at {at}, killed: {killed:?}");
    let concerned = || ways.iter().enumerate().filter(move |(number, _)| at == 2 || at == *number);
    concerned().for_each(|(_, way)| way.is(weather));
    tokio::time::sleep(rng.duration(Duration::from_millis(2000))).await;
    if let Some(killed) = killed {
        nodes[killed].kill();
    }
    tokio::time::sleep(rng.duration(Duration::from_millis(2000))).await;
    concerned().for_each(|(_, way)| way.is(Weather::Fine));
    if let Some(killed) = killed {
        nodes[killed].start_again(replicas);
    }
}

/// No file of the metadata is another one than clients have seen, and nothing of unfinished uploads is
/// left.
async fn look_at(bucket: &Bucket, ledger: &Mutex<Ledger>) {
    let (names, left) = bucket.names().await;
    assert_eq!(left, [""; 0]);
    for name in names.iter().filter(|name| name.ends_with(".json") && !name.contains('/')) {
        let bytes = bucket.read(name).await;
        let mut ledger = ledger.lock().unwrap();
        match name.as_str() {
            "timestamp.json" => drop(ledger.saw_timestamp(&bytes)),
            name => ledger.saw_file(name, &bytes),
        }
    }
}

impl Fleet {
    fn clients(self: &Arc<Self>, rng: &mut Rng) -> Vec<tokio::task::JoinHandle<()>> {
        let mut clients = Vec::new();
        for worker in 0..2 {
            let (fleet, rng) = (Arc::clone(self), Rng(rng.next()));
            clients.push(tokio::spawn(async move { fleet.upload(worker, rng).await }));
            let fleet = Arc::clone(self);
            clients.push(tokio::spawn(async move {
                walk(&fleet.nodes, &fleet.ledger, &fleet.ended).await;
            }));
        }
        let (fleet, rng) = (Arc::clone(self), Rng(rng.next()));
        clients.push(tokio::spawn(async move { fleet.download(rng).await }));
        clients
    }

    fn any(&self, rng: &mut Rng) -> &Node {
        &self.nodes[rng.below(2) as usize]
    }

    /// Uploads now here, now there, small images and some of several parts.
    async fn upload(&self, worker: usize, mut rng: Rng) {
        for number in 0.. {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let blocks = if rng.below(5) == 0 { 1500 } else { 1 + rng.below(8) as usize };
            let image = Image { path: format!("gw/{worker}/{number}.bin"), blocks };
            let node = self.any(&mut rng);
            let answer = node.client().put(&image.path, image.query(), image.bytes()).await;
            let answer = match answer {
                Ok(answer) => Some((answer.status(), answer.json().await.unwrap_or(Value::Null))),
                Err(_) => None, // it was killed
            };
            match answer {
                Some((StatusCode::CREATED, accepted)) => {
                    let sealed = accepted["sealed"]["sha256"].as_str().map(str::to_owned);
                    self.sealed.lock().unwrap().extend(sealed.map(|sha| (image.path.clone(), sha)));
                    self.ledger.lock().unwrap().accepted.insert(image.path.clone(), image);
                    continue;
                }
                // The key that it was sealed for is rotated meanwhile.
                Some((StatusCode::CONFLICT, problem)) if problem["code"] == "recipient_retired" => {
                }
                Some((StatusCode::SERVICE_UNAVAILABLE, _)) | None => {}
                Some((status, problem)) => {
                    panic!("{} got {status}: {problem}\n{}", image.path, node.log())
                }
            }
            self.ledger.lock().unwrap().interrupted.push(image);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Fetches sealed images, whole or not at all, and right.
    async fn download(&self, mut rng: Rng) {
        while !self.ended.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let accepted = self.sealed.lock().unwrap().clone();
            if accepted.is_empty() {
                continue;
            }
            let (path, expected) = &accepted[rng.below(accepted.len() as u64) as usize];
            let (folder, file) = path.rsplit_once('/').unwrap();
            let node = self.any(&mut rng);
            let url = format!("{}/repo/targets/{folder}/{expected}.{file}", node.client().url);
            let Ok(response) = http().get(url).send().await else { continue };
            let status = response.status();
            assert!([200, 503].contains(&status.as_u16()), "{path}: {status}\n{}", node.log());
            let bytes: Option<Bytes> = response.bytes().await.ok(); // or it broke off
            if let Some(bytes) = bytes.filter(|_| status == StatusCode::OK) {
                assert_eq!(sha256(&bytes), *expected, "{path}");
            }
        }
    }
}

/// Begins a rotation of the recipients' key once there are some images, as soon as that can be done;
/// returns its job.
async fn rotate(fleet: Arc<Fleet>, officer: String) -> String {
    let kid = private_key(KEYS[0]).kid().to_string();
    let key = fs::read_to_string(snakeoil(&format!("{}.pub.pem", KEYS[1]))).unwrap();
    let body = json!({ "recipient": { "kid": kid, "public_key": key } });
    let started = Instant::now();
    for node in fleet.nodes.iter().cycle() {
        assert!(started.elapsed() < LONGEST, "no rotation can be begun: {}", node.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
        if fleet.ledger.lock().unwrap().accepted.len() < 5 {
            continue;
        }
        let client = node.client();
        let request = client.http.request(Method::POST, format!("{}/api/v1/rotations", client.url));
        let Ok(answer) = request.bearer_auth(&officer).json(&body).send().await else { continue };
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap_or(Value::Null);
        if status.is_success() {
            return answer["id"].as_str().unwrap().to_owned();
        }
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    }
    unreachable!("there are nodes")
}

/// A job waits for its lease when its server was killed, or its store was away.
async fn until_done(fleet: &Fleet, officer: &str, job: &str) {
    let started = Instant::now();
    loop {
        let node = &fleet.nodes[0];
        let client = Client { token: officer.to_owned(), ..node.client() };
        let shown = show_job(&client, job).await;
        if shown["state"] == "done" {
            return;
        }
        assert!(shown["ended_at"].is_null(), "{shown}\n{}", node.log());
        assert!(started.elapsed() < LONGEST, "{shown}\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Several leases.
const LONGEST: Duration = Duration::from_secs(300);
