//! Two servers on one database and one folder of blobs, each killed again and again under uploads
//! at both, while clients that walk the metadata go from one to the other.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::shared::Replicas;
use crate::support::{Client, http, sha256, snakeoil};
use crate::{
    Ledger, Rng, Site, audited_images, follow_metadata, read_until_killed, upload_until_killed,
};

/// What opens the images of an installation, and verifies them from its first root.
fn site(replicas: &Replicas) -> Site {
    let trusted = fs::read(replicas.blobs().join("repo/1.root.json")).unwrap();
    Site::of(replicas, trusted)
}

async fn with_recipient() -> Replicas {
    let replicas = Replicas::new();
    let server = replicas.serve(0);
    server.client(&replicas.token).register(&snakeoil("snakeoil_p256.pub.pem")).await;
    drop(server);
    replicas
}

/// How often a server is killed, over both: 200 are what they have to survive.
fn kills() -> usize {
    let wanted = std::env::var("MOTORCADE_TEST_KILLS").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(12)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_killed_at_random_lose_nothing_and_show_no_client_anything_older() {
    let mut rng = Rng::new("kill -9 of replicas");
    let replicas = Arc::new(with_recipient().await);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let (started, kills) = (Instant::now(), kills());
    let lives = [0, 1].map(|number| {
        let (replicas, ledger) = (Arc::clone(&replicas), Arc::clone(&ledger));
        tokio::spawn(live_and_die(replicas, number, ledger, Rng(rng.next()), kills.div_ceil(2)))
    });
    for life in lives {
        life.await.unwrap();
    }
    let (servers, site) = (replicas.serve_both(), site(&replicas));
    let client = servers[0].client(&replicas.token);
    let interrupted = std::mem::take(&mut ledger.lock().unwrap().interrupted);
    for image in &interrupted {
        let status = image.send(&client).await.expect("the server is there");
        assert!([StatusCode::OK, StatusCode::CREATED].contains(&status), "{image:?} got {status}");
        ledger.lock().unwrap().accepted.insert(image.path.clone(), image.clone());
    }
    for server in &servers {
        follow_metadata(&server.client(&replicas.token), &ledger).await.unwrap();
        let ready = http().get(format!("{}/readyz", server.url())).send().await.unwrap();
        assert_eq!(ready.status(), 200, "{}", ready.text().await.unwrap());
    }
    let accepted = ledger.lock().unwrap().accepted.clone();
    assert_eq!(audited_images(&client).await, accepted.keys().cloned().collect::<Vec<_>>());
    for server in &servers {
        let repository = site.verify(server).await;
        for image in accepted.values() {
            let opened = site.open(&repository, &image.path).await;
            assert_eq!(opened, sha256(&image.bytes()), "{}", image.path);
        }
    }
    ledger.lock().unwrap().saw_directory(&replicas.blobs().join("repo"));
    drop(servers);
    replicas.fsck();
    let (images, retries) = (accepted.len(), interrupted.len());
    println!("{:?}: {kills} kills, {images} images, {retries} retries", started.elapsed());
}

/// One of the servers, as often as it is started again.
async fn live_and_die(
    replicas: Arc<Replicas>,
    number: usize,
    ledger: Arc<Mutex<Ledger>>,
    mut rng: Rng,
    kills: usize,
) {
    for round in 0..kills {
        let server = replicas.serve(number);
        let client = server.client(&replicas.token);
        let mut clients = Vec::new();
        // Which fails the test at a timestamp older than one that any client has seen anywhere, and
        // at a file that stands for two contents.
        let walk = read_until_killed(client.clone(), Arc::clone(&ledger));
        clients.push(tokio::spawn(walk));
        let largest = if rng.below(3) == 0 { 1024 } else { 4 };
        for worker in 0..2 {
            let (wave, rng) = (format!("{number}/{round}/{worker}"), Rng(rng.next()));
            let upload =
                upload_until_killed(client.clone(), Arc::clone(&ledger), rng, largest, wave);
            clients.push(tokio::spawn(upload));
        }
        tokio::time::sleep(rng.duration(Duration::from_millis(1500))).await;
        server.process.kill();
        for client in clients {
            client.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_replica_has_published_the_other_shows_at_once() {
    let replicas = with_recipient().await;
    let (servers, site) = (replicas.serve_both(), site(&replicas));
    assert_ne!(id(&replicas.state(0)), id(&replicas.state(1)), "a copy is another server");
    let clients = servers.each_ref().map(|server| server.client(&replicas.token));
    let upload = async |number: usize| {
        let (here, there) = (&clients[number % 2], &clients[(number + 1) % 2]);
        let path = format!("gw/{number}/a.bin");
        here.upload(&path, "", b"firmware").await;
        let mut ledger = Ledger::default();
        let ledger = {
            ledger.versions[1] = version(here).await;
            Mutex::new(ledger)
        };
        follow_metadata(there, &ledger).await.unwrap();
        there.get(&format!("/api/v1/images/{path}")).await;
    };
    futures_util::future::join_all((0..24).map(upload)).await;
    for server in &servers {
        let repository = site.verify(server).await;
        for number in 0..24 {
            assert!(repository.find(&format!("gw/{number}/a.bin")).is_some());
        }
    }
    assert!(!servers[0].log().contains("\"level\":\"ERROR\""), "{}", servers[0].log());
    drop(servers);
    replicas.fsck();
}

fn id(state: &Path) -> String {
    fs::read_to_string(state.join("server-id")).unwrap()
}

async fn version(client: &Client) -> u64 {
    let timestamp: Value =
        serde_json::from_slice(&client.get("/repo/timestamp.json").await).unwrap();
    timestamp["signed"]["version"].as_u64().unwrap()
}

/// A job that takes a while, at a server that is killed: the other one does the rest of it, once the
/// lease has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_of_a_replica_that_was_killed_is_done_by_the_other_one() {
    let replicas = with_recipient().await;
    let servers = replicas.serve_both();
    let [one, other] = servers.each_ref().map(|server| server.client(&replicas.token));
    crate::upload_many(&one, 60).await;
    let mut job = crate::start_check(&one).await;
    let id = job["id"].as_str().unwrap().to_owned();
    let [first, second] = servers;
    first.process.kill(); // whoever has taken it by now
    let started = Instant::now();
    while job["ended_at"].is_null() {
        assert!(started.elapsed() < Duration::from_secs(120), "{job}\n{}", second.log());
        tokio::time::sleep(Duration::from_millis(250)).await;
        job = crate::show_job(&other, &id).await;
    }
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(job["result"]["problems"], json!([]), "{job}");
}
