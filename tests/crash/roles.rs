//! A server that is killed while it gives a role other keys: the role has its old keys or the new
//! ones, every client follows, and the rotation can be asked for again.

use std::fs;
use std::time::{Duration, Instant};

use motorcade::model::{Clock, SystemClock};
use motorcade::uptane::verify::{Rules, TrustedSet};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::support::{Client, create_token, fsck, wait_until};
use super::{Ledger, Rng, Site};

const KILLS: u64 = 20;
const ROLES: [(&str, &str); 6] = [
    ("image", "timestamp"),
    ("image", "snapshot"),
    ("image", "targets"),
    ("image", "bins"),
    ("director", "targets"),
    ("director", "timestamp"),
];

async fn call(client: &Client, method: Method, path: &str) -> reqwest::Result<Response> {
    let url = format!("{}/api/v1/{path}", client.url);
    client.http.request(method, url).bearer_auth(&client.token).json(&json!({})).send().await
}

/// The status of the answer and how long it took, or nothing if the server was gone before it.
async fn rotate(client: Client, (side, role): (&str, &str)) -> Option<(StatusCode, Duration)> {
    let (path, started) = (format!("roles/{side}/{role}/rotate"), Instant::now());
    let answer = call(&client, Method::POST, &path).await.ok()?;
    Some((answer.status(), started.elapsed()))
}

/// Returns once the next root of the Image repository is stored, or nothing is rotated any more.
async fn wait_for_root(site: &Site, rotating: &JoinHandle<Option<(StatusCode, Duration)>>) {
    let repo = site.data_dir().join("repo");
    let roots = (1_u64..).map(|version| repo.join(format!("{version}.root.json")));
    let next = { roots }.find(|root| !root.exists()).unwrap();
    while !next.exists() && !rotating.is_finished() {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// Ids of the keys that the published metadata names for a role, and how many of them are here.
async fn signing_keys(client: &Client, (side, role): (&str, &str)) -> (Vec<String>, usize) {
    let listed: Value = serde_json::from_slice(&client.get("/api/v1/roles").await).unwrap();
    let is_meant = |one: &&Value| one["repository"] == side && one["role"] == role;
    let keys = listed["roles"].as_array().unwrap().iter().find(is_meant).unwrap()["keys"].clone();
    // Of a rotation that was cut off, the old key is still named, and to leave.
    let is_named = |key: &&Value| {
        key["state"] == "signs" || (key["state"] == "leaves" && key["until"].is_null())
    };
    let signing: Vec<&Value> = keys.as_array().unwrap().iter().filter(is_named).collect();
    let here = signing.iter().filter(|key| !key["place"].is_null()).count();
    (signing.iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect(), here)
}

/// The same, once the server has seen what was published before it was started.
async fn settled_keys(client: &Client, role: (&str, &str)) -> (Vec<String>, usize) {
    let mut settled = (Vec::new(), 0);
    wait_until("one key signs", async || {
        settled = signing_keys(client, role).await;
        settled.0.len() == 1
    })
    .await;
    settled
}

/// Drops what a rotation had staged that was cut off.
async fn cancel_staged(client: &Client, side: &str) {
    let path = format!("roots/{side}/staged");
    let status = call(client, Method::DELETE, &path).await.unwrap().status();
    assert!([StatusCode::NO_CONTENT, StatusCode::NOT_FOUND].contains(&status), "{status}");
}

/// Walks the Director's roots from the first one, as a vehicle does.
async fn walk_director(client: &Client) {
    let newest: Value =
        serde_json::from_slice(&client.get("/api/v1/roots/director").await).unwrap();
    let first = client.get("/director/1.root.json").await;
    let mut set = TrustedSet::new(&first, Rules::Tuf, SystemClock.now()).unwrap();
    for version in 2..=newest["version"].as_u64().unwrap() {
        set.update_root(&client.get(&format!("/director/{version}.root.json")).await).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_role_whose_rotation_is_killed_has_keys_that_clients_take() {
    let mut rng = Rng::new("kill -9 of a role's rotation");
    let site = Site::new().await;
    let officer = create_token(&site.data_dir(), "officer");
    let repo = site.data_dir().join("repo");
    let (mut ledger, mut took) = (Ledger::default(), Duration::from_millis(400));
    let (mut answered, mut rotated, mut kept) = (0, 0, 0);
    for kill in 0..KILLS {
        let server = site.serve(&[]);
        ledger.saw_directory(&repo);
        let client = server.client(&officer);
        let role = ROLES[rng.below(ROLES.len() as u64) as usize];
        cancel_staged(&client, role.0).await;
        let (before, _) = signing_keys(&client, role).await;
        let rotating = tokio::spawn(rotate(client.clone(), role));
        if role.0 == "image" && role.1 != "bins" && rng.below(2) == 0 {
            // Between the root and the end of the handover is where most can go wrong.
            wait_for_root(&site, &rotating).await;
            tokio::time::sleep(rng.duration(Duration::from_millis(10))).await;
        } else {
            tokio::time::sleep(rng.duration(took)).await;
        }
        server.process.kill();
        let status = rotating.await.unwrap();
        let server = site.serve(&[]);
        site.check_after_start(&server).await;
        ledger.saw_directory(&repo);
        let client = server.client(&officer);
        let (after, here) = settled_keys(&client, role).await;
        assert_eq!((after.len(), here), (1, 1), "{kill}, {role:?}: its key is here");
        match (status, after == before) {
            (Some((status, needed)), is_same) => {
                assert_eq!((status, is_same), (StatusCode::OK, false), "{kill}, {role:?}");
                (answered, took) = (answered + 1, needed);
            }
            (None, false) => rotated += 1,
            (None, true) => kept += 1,
        }
        walk_director(&client).await;
        cancel_staged(&client, role.0).await;
        let again = rotate(client.clone(), role).await.map(|(status, _)| status);
        assert_eq!(again, Some(StatusCode::OK), "{kill}, {role:?}: {}", server.log());
        assert_ne!(signing_keys(&client, role).await.0, after);
        ledger.saw_versions(site.verify(&server).await.versions());
        walk_director(&client).await;
        server.process.kill();
    }
    println!("{answered} answered, {rotated} rotated without an answer, {kept} with the old key");
    assert!(rotated + kept > 0, "some kills interrupt a rotation");
    let server = site.serve(&[]);
    let versions = site.verify(&server).await.versions();
    for version in 1..=versions[0] {
        assert!(fs::exists(repo.join(format!("{version}.root.json"))).unwrap(), "{version}");
    }
    assert_eq!(fsck(&site.data_dir()), [""; 0]);
}
