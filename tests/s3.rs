//! The real process with its blobs in a bucket of a real object store.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "s3/faults.rs"]
mod faults;
#[path = "support/faulty_proxy.rs"]
mod faulty_proxy;
#[path = "s3/moves.rs"]
mod moves;
#[path = "support/object_store.rs"]
mod object_store;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "s3/recovery.rs"]
mod recovery;
#[path = "support/script.rs"]
mod script;
#[path = "support/small_disk.rs"]
mod small_disk;
mod support;
#[path = "support/tus.rs"]
mod tus;
#[path = "s3/ways.rs"]
mod ways;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use faulty_proxy::{Spoil, faulty_proxy};
use object_store::ObjectStore;
use postgres::Postgres;
use reqwest::{Response, StatusCode};
use serde_json::Value;
use support::{
    Client, Server, files_below, http, motorcade, noise, refused, run, snakeoil, wait_until,
};
use tempfile::TempDir;
use tus::{begin, patch};

/// A state directory whose blobs are in a bucket.
struct Site {
    store: &'static ObjectStore,
    folder: TempDir,
    bucket: String,
    endpoint: String,
}

impl Site {
    async fn new() -> Self {
        Self::at(ObjectStore::shared()).await
    }

    async fn at(store: &'static ObjectStore) -> Self {
        let (bucket, endpoint) = (store.bucket().await, store.endpoint.clone());
        Self { store, folder: tempfile::tempdir().unwrap(), bucket, endpoint }
    }

    /// One that is initialized.
    async fn made() -> Self {
        let site = Self::new().await;
        site.init();
        site
    }

    fn init(&self) {
        run(&mut self.command(&["init"]));
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn url(&self) -> String {
        format!("s3://{}/ota", self.bucket)
    }

    /// A command on the directory.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = motorcade(words);
        command.arg("--data-dir").arg(self.data_dir()).args(["--blobs", &self.url()]);
        command.envs(self.store.environment()).env("AWS_ENDPOINT_URL_S3", &self.endpoint);
        command
    }

    fn token(&self, role: &str) -> String {
        run(&mut self.command(&["token", "create", "--role", role])).trim().to_owned()
    }

    fn serve(&self, more: &[(&str, &str)]) -> Server {
        let url = self.url();
        let mut environment: Vec<(&str, &str)> = self.store.environment().to_vec();
        environment.extend([("AWS_ENDPOINT_URL_S3", &*self.endpoint), ("MOTORCADE_BLOBS", &url)]);
        environment.extend_from_slice(more);
        Server::start_in(&environment, &self.data_dir())
    }

    /// A server with a recipient, and an engineer.
    async fn serve_engineer(&self, more: &[(&str, &str)]) -> (Server, Client) {
        let token = self.token("engineer");
        let server = self.serve(more);
        let client = server.client(&token);
        client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
        (server, client)
    }

    fn fsck(&self) {
        let findings = run(&mut self.command(&["fsck", "--json"]));
        let findings: Value = serde_json::from_str(&findings).unwrap();
        assert_eq!(findings["problems"], serde_json::json!([]));
    }

    /// Names below the prefix that are none of the server's own, and everything that is on its way.
    async fn names(&self) -> (Vec<String>, Vec<String>) {
        let (keys, uploads) = self.store.content(&self.bucket).await;
        let names = keys.iter().map(|key| key.strip_prefix("ota/").unwrap().to_owned());
        let (own, names): (Vec<_>, Vec<_>) =
            names.partition(|name: &String| name.starts_with(".motorcade/"));
        let left = own.into_iter().filter(|name| name != ".motorcade/installation.json");
        (names, left.chain(uploads).collect())
    }

    async fn read(&self, name: &str) -> Vec<u8> {
        let get = self.store.client().get_object().bucket(&self.bucket).key(format!("ota/{name}"));
        get.send().await.unwrap().body.collect().await.unwrap().to_vec()
    }
}

#[tokio::test]
async fn the_demo_runs_on_an_object_store() {
    let site = Site::new().await;
    let mut demo = motorcade(["demo", "--size", "20", "--blobs", &site.url()]);
    run(demo.envs(site.store.environment()));
    let (names, left) = site.names().await;
    assert!(names.contains(&"timestamp.json".to_owned()), "{names:?}");
    assert_eq!(left, [""; 0]);
}

/// With the catalog in a database as well, nothing but keys is in the state directory.
#[tokio::test]
async fn the_demo_runs_on_a_database_and_an_object_store() {
    let (site, database) = (Site::new().await, Postgres::shared().database());
    let mut demo = motorcade(["demo", "--size", "20", "--blobs", &site.url()]);
    let said = run(demo.args(["--catalog", &database]).envs(site.store.environment()));
    for step in ["Uploaded", "Verified", "Opened", "Updated", "Refused", "Reported", "Done"] {
        assert!(said.lines().any(|line| line.trim_start().starts_with(step)), "{step}: {said}");
    }
    let images = Postgres::shared().run(&database, "SELECT COUNT(*) > 0 FROM images");
    assert_eq!(images, "t");
    let (names, left) = site.names().await;
    assert!(names.contains(&"timestamp.json".to_owned()), "{names:?}");
    assert_eq!(left, [""; 0]);
}

/// What `export` writes is such a repository, and the bucket has the same.
#[tokio::test]
async fn the_bucket_alone_is_a_static_repository() {
    let site = Site::made().await;
    let (server, client) = site.serve_engineer(&[]).await;
    client.upload("gw/4.2.0/large.bin", "", &noise("large", 9_000_000)).await;
    client.upload("small.bin", "", &noise("small", 5_000)).await;
    drop(server);
    site.fsck();
    run(&mut site.command(&["doctor"]));
    let folder = site.folder.path().join("exported");
    run(site.command(&["export"]).arg(&folder));
    let exported = files_below(&folder);
    assert!(exported.len() > 10, "{exported:?}");
    let (names, left) = site.names().await;
    assert_eq!(left, [""; 0]);
    for name in &exported {
        assert!(names.contains(name), "{name}");
        let got = site.store.client().get_object().bucket(&site.bucket).key(format!("ota/{name}"));
        let got = got.send().await.unwrap();
        let is_json = name.ends_with(".json");
        let content_type = got.content_type().unwrap().to_owned();
        assert_eq!(content_type == "application/json", is_json, "{name}: {content_type}");
        let is_short = got.cache_control() == Some("no-cache");
        assert_eq!(is_short, name == "timestamp.json", "{name}");
        let bytes = got.body.collect().await.unwrap().into_bytes();
        assert_eq!(bytes, fs::read(folder.join(name)).unwrap(), "{name}");
    }
    assert!(site.data_dir().join("1.root.json").exists());
    assert!(!site.data_dir().join("repo").exists() && !site.data_dir().join("staging").exists());
}

#[tokio::test]
async fn a_killed_upload_is_not_seen_and_goes_with_the_next_start() {
    let site = Site::made().await;
    let (server, client) = site.serve_engineer(&[]).await;
    let before = site.names().await.0.len();
    let (sender, body) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let body = futures_util::stream::unfold(body, |mut body| async move {
        body.recv().await.map(|piece| (piece, body))
    });
    let sending = tokio::spawn(async move {
        client.put("gw/cut.bin", "", reqwest::Body::wrap_stream(body)).await.is_err()
    });
    sender.send(Ok(noise("cut", 30_000_000).into())).await.unwrap();
    wait_until("some of it is in the store", async || !site.names().await.1.is_empty()).await;
    server.process.kill();
    assert!(sending.await.unwrap());
    drop(sender);
    assert_eq!(site.names().await.0.len(), before, "no blob is visible");
    drop(site.serve(&[]));
    let (names, left) = site.names().await;
    assert_eq!((names.len(), left), (before, vec![]));
    site.fsck();
}

/// Pieces as a client on a bad line sends them, each by another server.
#[tokio::test]
async fn a_resumed_upload_goes_on_in_the_store() {
    let site = Site::made().await;
    let (mut server, _) = site.serve_engineer(&[]).await;
    let token = site.token("uploader");
    let image = noise("resumed", 21_000_000);
    let path = begin(&server.client(&token), "gw/resumed.bin", image.len()).await;
    let mut at = 0_usize;
    for size in [100, 1_500_000, 3_000_000, 11_000_000, 2_000_000, usize::MAX] {
        let end = at.saturating_add(size).min(image.len());
        let part = image[at..end].to_vec();
        let patched = patch(&server.client(&token), &path, at).body(part).send().await.unwrap();
        assert_eq!(patched.status(), StatusCode::NO_CONTENT, "{}", patched.text().await.unwrap());
        at = end;
        server.process.kill();
        server = site.serve(&[]);
    }
    server.client(&token).get("/api/v1/images/gw/resumed.bin").await;
    drop(server);
    site.fsck();
    assert_eq!(site.names().await.1, [""; 0]);
}

#[tokio::test]
async fn targets_are_redirected_to_signed_urls() {
    let site = Site::made().await;
    let environment = [("MOTORCADE_TARGETS_PRESIGNED", "5m")];
    let (server, client) = site.serve_engineer(&environment).await;
    let uploaded = client.upload("gw/large.bin", "", &noise("large", 9_000_000)).await;
    let sha256 = uploaded["sealed"]["sha256"].as_str().unwrap();
    let direct = reqwest::Client::builder().no_proxy();
    let direct = direct.redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for name in [format!("targets/{sha256}.gw/large.bin"), format!("targets/gw/{sha256}.large.bin")]
    {
        let url = format!("{}/{name}", server.repo_url());
        let sent_on = direct.get(&url).send().await.unwrap();
        assert_eq!(sent_on.status(), StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(sent_on.headers()["cache-control"], "no-store");
        let location = sent_on.headers()["location"].to_str().unwrap();
        assert!(location.starts_with(&site.endpoint), "{location}");
        let got = http().get(&url).header("Range", "bytes=5-8999999").send().await.unwrap();
        assert_eq!(got.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(http().head(&url).send().await.unwrap().status(), StatusCode::OK);
        let whole = http().get(&url).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(support::sha256(&whole), sha256);
    }
    let metadata = direct.get(format!("{}/1.root.json", server.repo_url())).send().await.unwrap();
    assert_eq!(metadata.status(), StatusCode::OK);
    let unknown = format!("{}/targets/{}.unknown.bin", server.repo_url(), "0".repeat(64));
    assert_eq!(direct.get(unknown).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_away_and_comes_back_needs_no_restart() {
    let mut site = Site::made().await;
    let is_away = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_away);
    site.endpoint = faulty_proxy(&site.store.endpoint, move |_| {
        if asked.load(Ordering::Relaxed) {
            Spoil::Answer(503, "ServiceUnavailable")
        } else {
            Spoil::Pass
        }
    })
    .await;
    let (server, client) = site.serve_engineer(&[]).await;
    client.upload("gw/before.bin", "", b"firmware").await;
    let ready = async || {
        let response = http().get(format!("{}/readyz", server.url())).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    };
    assert_eq!(ready().await.0, StatusCode::OK);
    is_away.store(true, Ordering::Relaxed);
    let (status, said) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(said.contains("blobs_unreachable") && said.contains("ServiceUnavailable"), "{said}");
    let refused = client.put("gw/during.bin", "", "firmware").await.unwrap();
    unavailable(refused).await;
    is_away.store(false, Ordering::Relaxed);
    wait_until("it is ready again", async || ready().await.0 == StatusCode::OK).await;
    client.upload("gw/after.bin", "", b"firmware").await;
    drop(server);
    site.fsck();
}

async fn unavailable(refused: Response) {
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "blobs_unreachable", "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(!detail.contains("127.0.0.1"), "who asks is not told where it is: {detail}");
}

#[tokio::test]
async fn what_is_wrong_with_a_bucket_is_said_at_the_start() {
    let site = Site::made().await;
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let wrong = refused(site.command(&serve).env("AWS_SECRET_ACCESS_KEY", "guess"));
    assert!(wrong.contains("AWS_SECRET_ACCESS_KEY") && !wrong.contains("guess"), "{wrong}");
    let away = refused(site.command(&serve).env("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1"));
    assert!(away.contains("http://127.0.0.1:1"), "{away}");
    let mut nobody = site.command(&serve);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        nobody.env_remove(name);
    }
    let nobody = refused(nobody.env("HOME", "/nonexistent"));
    assert!(nobody.contains("AWS_ACCESS_KEY_ID"), "{nobody}");
    let mut missing = motorcade(["init", "--blobs", "s3://nowhere-to-be-found", "--data-dir"]);
    let folder = site.folder.path().join("none");
    let missing = refused(missing.arg(&folder).envs(site.store.environment()));
    assert!(missing.contains("no bucket nowhere-to-be-found"), "{missing}");
    assert!(!folder.exists(), "nothing is made before the bucket can be used");
}

#[tokio::test]
async fn a_bucket_belongs_to_one_installation() {
    let (ours, theirs) = (Site::made().await, Site::made().await);
    let again = refused(&mut ours.command(&["init"]));
    assert!(again.contains("is initialized already"), "{again}");
    let id = |site: &Site| fs::read_to_string(site.data_dir().join("installation-id")).unwrap();
    for words in [&["serve", "--listen", "127.0.0.1:0"][..], &["fsck"], &["doctor"]] {
        let mut mixed = motorcade(words);
        mixed.arg("--data-dir").arg(ours.data_dir()).args(["--blobs", &theirs.url()]);
        let mixed = refused(mixed.envs(ours.store.environment()));
        for id in [id(&ours), id(&theirs)] {
            assert!(mixed.contains(id.trim()), "{words:?}: {mixed}");
        }
    }
    let folder = ours.folder.path().join("third");
    let mut third = motorcade(["init", "--blobs", &ours.url(), "--data-dir"]);
    let third = refused(third.arg(&folder).envs(ours.store.environment()));
    assert!(third.contains(id(&ours).trim()), "{third}");
    assert!(!folder.exists());
}
