//! An installation that moves out of its state directory, into a bucket and a database.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use motorcade::uptane::client::VerifiedRepository;
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::faulty_proxy::{Spoil, faulty_proxy};
use crate::object_store::ObjectStore;
use crate::postgres::Postgres;
use crate::support::{
    Client, HARDWARE, Process, Server, choose_few_bins, create_token, files_below, fsck, init,
    motorcade, noise, refused, run, sha256, snakeoil, vehicle_binary, wait_until,
};
use crate::tus::{begin, patch, tus};

/// A state directory that was used as it is by default.
struct Used {
    folder: TempDir,
    store: &'static ObjectStore,
    bucket: String,
    engineer: String,
    /// What it has served, by path.
    served: Vec<(String, Vec<u8>)>,
    /// The path of an upload that waits for more, and whose it is.
    waiting: (String, String),
}

impl Used {
    async fn new() -> Self {
        let store = ObjectStore::shared();
        let (folder, bucket) = (tempfile::tempdir().unwrap(), store.bucket().await);
        let data_dir = folder.path().join("state");
        choose_few_bins(&data_dir);
        init(&data_dir);
        let engineer = create_token(&data_dir, "engineer");
        let uploader = create_token(&data_dir, "uploader");
        let server = Server::start(&data_dir, &[]);
        let client = server.client(&engineer);
        client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
        let mut served = Vec::new();
        for (counter, path, length) in IMAGES {
            let image = put(&client, path, counter, noise(path, length)).await;
            let digest = image["sealed"]["sha256"].as_str().unwrap();
            served.push(format!("/repo/targets/{digest}.{path}"));
            if let Some((folder, file)) = path.rsplit_once('/') {
                served.push(format!("/repo/targets/{folder}/{digest}.{file}"));
            }
        }
        served.extend(["/repo/1.root.json".into(), "/director/1.root.json".into()]);
        let mut used = Self {
            waiting: (begin_upload(&server, &uploader).await, uploader),
            served: Vec::new(),
            folder,
            store,
            bucket,
            engineer,
        };
        for path in served {
            used.served.push((path.clone(), client.get(&path).await.to_vec()));
        }
        used.provision(&client).await;
        used.update(&client, 1).await;
        drop(server);
        assert_eq!(fsck(&data_dir), [""; 0]);
        used
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn url(&self) -> String {
        format!("s3://{}/ota/", self.bucket)
    }

    /// A command on the directory, in an environment from which the store can be reached.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = motorcade(words);
        command.arg("--data-dir").arg(self.data_dir()).envs(self.store.environment());
        command
    }

    fn migrate(&self) -> Command {
        let mut command = self.command(&["migrate-store", "--json"]);
        command.env("MOTORCADE_TO_BLOBS", self.url());
        command
    }

    fn serve_with(&self, more: &[(&str, &str)]) -> Server {
        let mut environment: Vec<(&str, &str)> = self.store.environment().to_vec();
        environment.extend_from_slice(more);
        Server::start_in(&environment, &self.data_dir())
    }

    fn repo(&self) -> Vec<(String, String)> {
        let folder = self.data_dir().join("repo");
        let hashed = |name: String| (name.clone(), sha256(&fs::read(folder.join(name)).unwrap()));
        files_below(&folder).into_iter().map(hashed).collect()
    }

    fn record(&self) -> PathBuf {
        self.data_dir().join("moving-blobs.json")
    }

    fn vehicle(&self, words: &str) -> Command {
        let mut command = Command::new(vehicle_binary());
        command.args(words.split_whitespace()).current_dir(self.folder.path());
        command
    }

    async fn provision(&self, client: &Client) {
        for (file, path) in [("image.json", "repo"), ("director.json", "director")] {
            let root = client.get(&format!("/{path}/1.root.json")).await;
            fs::write(self.folder.path().join(file), root).unwrap();
        }
        let record = run(&mut self.vehicle(&format!(
            "provision --dir car --no-enrol --vin CAR --server {} --primary gw-1:{HARDWARE} \
             --director-root director.json --image-root image.json",
            client.url
        )));
        let vehicles = client.http.post(format!("{}/api/v1/vehicles", client.url));
        let vehicles = vehicles.header("content-type", "application/jsonl").body(record);
        let answer = vehicles.bearer_auth(&client.token).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Has the vehicle install one of the images from whoever serves now.
    async fn update(&self, client: &Client, counter: usize) {
        let (_, image, length) = IMAGES[counter - 1];
        let assignment = json!({ "assignments": [{ "ecu_serial": "gw-1", "image": image }] });
        let assign = client.http.post(format!("{}/api/v1/vehicles/CAR/assignments", client.url));
        let assign = assign.bearer_auth(&client.token).json(&assignment).send().await.unwrap();
        assert_eq!(assign.status(), StatusCode::CREATED, "{}", assign.text().await.unwrap());
        let settings = self.folder.path().join("car/vehicle.toml");
        let text = fs::read_to_string(&settings).unwrap();
        let server = text.lines().find(|line| line.starts_with("server")).unwrap();
        fs::write(&settings, text.replace(server, &format!("server = \"{}\"", client.url)))
            .unwrap();
        let said = run(&mut self.vehicle("update --json --dir car"));
        let outcome: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(outcome["outcome"], "updated", "{said}");
        let installed = fs::read(self.folder.path().join("car/ecus/gw-1/image.bin")).unwrap();
        assert_eq!(sha256(&installed), sha256(&noise(image, length)));
    }

    /// All that was there is, and everything goes on.
    async fn goes_on(&self, environment: &[(&str, &str)]) {
        let on_it = |words: &[&str]| {
            let mut command = self.command(words);
            command.envs(environment.iter().copied());
            command
        };
        let findings = run(&mut on_it(&["fsck", "--json"]));
        let findings: Value = serde_json::from_str(&findings).unwrap();
        assert_eq!(findings["problems"], json!([]));
        let server = self.serve_with(environment);
        let client = server.client(&self.engineer);
        for (path, bytes) in &self.served {
            assert!(client.get(path).await == bytes, "{path}");
        }
        let (waiting, uploader) = &self.waiting;
        let told = tus(&server.client(uploader), Method::HEAD, waiting).send().await.unwrap();
        assert_eq!(told.status(), StatusCode::GONE);
        let root = fs::read(self.data_dir().join("1.root.json")).unwrap();
        self.update(&client, 2).await;
        put(&client, "gw/after.bin", 9, b"after the move".to_vec()).await;
        let repository = VerifiedRepository::load(&root, &server.repo_url()).await.unwrap();
        let file = self.folder.path().join("downloaded");
        for (_, path, _) in IMAGES {
            repository.download(path, &file).await.unwrap();
        }
        assert!(repository.find("gw/after.bin").is_some());
        drop(server);
        let findings = run(&mut on_it(&["fsck", "--json"]));
        let findings: Value = serde_json::from_str(&findings).unwrap();
        assert_eq!(findings["problems"], json!([]));
        run(&mut on_it(&["audit", "verify"]));
    }
}

async fn put(client: &Client, path: &str, counter: u64, image: Vec<u8>) -> Value {
    let query = format!(
        "hardware_id={HARDWARE}&name=gateway&version={counter}.0&release_counter={counter}"
    );
    let url = format!("{}/api/v1/images/{path}?{query}", client.url);
    let put = client.http.put(url).bearer_auth(&client.token).body(image).send().await.unwrap();
    let (status, body) = (put.status(), put.json::<Value>().await.unwrap());
    assert_eq!(status, StatusCode::CREATED, "{body}");
    body
}

/// Begins an upload, sends a part of it, and returns its path.
async fn begin_upload(server: &Server, token: &str) -> String {
    let client = server.client(token);
    let path = begin(&client, "gw/waits.bin", 5_000_000).await;
    let part = noise("waits", 3_000_000);
    let patched = patch(&client, &path, 0).body(part).send().await.unwrap();
    assert_eq!(patched.status(), StatusCode::NO_CONTENT);
    path
}

/// Counters, paths and lengths; the second is sent in parts.
const IMAGES: [(u64, &str, usize); 4] = [
    (1, "gw/1/small.bin", 5_000),
    (2, "gw/2/large.bin", 9_000_000),
    (3, "middle.bin", 2_000_000),
    (4, "gw/4/small.bin", 40_000),
];

/// Where a move is held, so that it can be killed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// After so many requests.
    After(usize),
    /// As the timestamp is about to be shown.
    BeforeTimestamp,
    /// As all is there, is looked through once more, and the catalog is about to go.
    BeforeTheEnd,
    Nowhere,
}

/// What stands before the store, and holds requests back.
struct Held {
    endpoint: String,
    /// Where, how many requests there were, and how many of these listed what is there.
    hold: Arc<Mutex<(Hold, usize, usize)>>,
    is_held: Arc<AtomicBool>,
}

impl Held {
    async fn before(store: &str) -> Self {
        let hold = Arc::new(Mutex::new((Hold::Nowhere, 0, 0)));
        let is_held = Arc::new(AtomicBool::new(false));
        let (asked, held) = (Arc::clone(&hold), Arc::clone(&is_held));
        let endpoint = faulty_proxy(store, move |request| {
            let mut hold = asked.lock().unwrap();
            hold.1 += 1;
            let is_list = request.target.contains("list-type=2");
            if is_list && !request.target.contains(".motorcade") {
                hold.2 += 1;
            }
            let is_here = match hold.0 {
                Hold::After(requests) => hold.1 > requests,
                Hold::BeforeTimestamp => {
                    request.method == "PUT" && request.target.contains("/timestamp.json")
                }
                Hold::BeforeTheEnd => hold.2 == 2, // the first one is before it goes on
                Hold::Nowhere => false,
            };
            held.fetch_or(is_here, Ordering::Relaxed);
            if is_here { Spoil::Hang } else { Spoil::Pass }
        });
        Self { endpoint: endpoint.await, hold, is_held }
    }

    fn at(&self, hold: Hold) {
        *self.hold.lock().unwrap() = (hold, 0, 0);
        self.is_held.store(false, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_moves_whole_though_its_move_is_killed_again_and_again() {
    let postgres = Postgres::shared();
    let (site, database) = (Used::new().await, postgres.database());
    let (before, held) = (site.repo(), Held::before(&site.store.endpoint).await);
    let migrate = || {
        let mut migrate = site.migrate();
        migrate.env("AWS_ENDPOINT_URL_S3", &held.endpoint);
        migrate.env("MOTORCADE_TO_CATALOG_URL", &database);
        migrate
    };
    let early = [0, 1, 6, 12, 30].map(Hold::After);
    for hold in early.into_iter().chain([Hold::BeforeTimestamp, Hold::BeforeTheEnd]) {
        held.at(hold);
        let mut process = Process::spawn(migrate().stdout(Stdio::null()).stderr(Stdio::null()));
        wait_until("it is held", async || {
            let is_held = held.is_held.load(Ordering::Relaxed);
            assert!(is_held || process.has_ended().is_none(), "it ended before {hold:?}");
            is_held
        })
        .await;
        process.kill();
    }
    held.at(Hold::Nowhere);
    let mut unfinished = site.command(&["serve", "--listen", "127.0.0.1:0"]);
    let unfinished = refused(unfinished.args(["--catalog", &database, "--blobs", &site.url()]));
    assert!(unfinished.contains("not all of "), "{unfinished}");
    let moved: Value = serde_json::from_str(&run(&mut migrate())).unwrap();
    assert_eq!(moved["blobs"]["to"], site.url());
    assert!(moved["blobs"]["files"].as_u64().unwrap() > 20, "{moved}");
    let again: Value = serde_json::from_str(&run(&mut migrate())).unwrap();
    assert_eq!((&again["blobs"]["files"], &again["tables"]), (&json!(0), &json!([])));
    assert_eq!(site.repo(), before, "the former place is as it was");

    let url = site.url();
    let nowhere = refused(&mut site.command(&["serve", "--listen", "127.0.0.1:0"]));
    assert!(nowhere.contains("was moved to") || nowhere.contains("were moved to"), "{nowhere}");
    let mut half = site.command(&["serve", "--listen", "127.0.0.1:0"]);
    let half = refused(half.args(["--catalog", &database]));
    assert!(half.contains(&format!("were moved to {url}")), "{half}");
    let mut half = site.command(&["serve", "--listen", "127.0.0.1:0"]);
    let half = refused(half.args(["--blobs", &url]));
    assert!(half.contains("was moved to postgresql://"), "{half}");
    site.goes_on(&[("MOTORCADE_CATALOG_URL", &database), ("MOTORCADE_BLOBS", &url)]).await;
    for kind in ["catalog_moved", "blobs_moved"] {
        let sql = format!("SELECT COUNT(*) FROM audit WHERE kind = '{kind}'");
        assert_eq!(postgres.run(&database, &sql), "1", "{kind}");
    }
}

#[tokio::test]
async fn blobs_move_alone_and_a_damaged_one_does_not() {
    let site = Used::new().await;
    let running = Server::start(&site.data_dir(), &[]);
    let refusal = refused(&mut site.migrate());
    assert!(refusal.contains("another server runs"), "{refusal}");
    drop(running);
    assert!(!site.record().exists());

    let (name, _) = site.repo().into_iter().find(|(name, _)| name.ends_with("large.bin")).unwrap();
    let damaged = site.data_dir().join("repo").join(&name);
    let good = fs::read(&damaged).unwrap();
    let mut bad = good.clone();
    bad[5_000_000] ^= 1;
    fs::write(&damaged, bad).unwrap();
    let refusal = refused(&mut site.migrate());
    assert!(refusal.contains("is damaged") && refusal.contains("large.bin"), "{refusal}");
    for words in [&["serve", "--listen", "127.0.0.1:0"][..], &["fsck"], &["backup", "b"]] {
        let here = refused(&mut site.command(words));
        assert!(here.contains("on their way to") && here.contains(&site.url()), "{here}");
        let mut there = site.command(words);
        let there = refused(there.args(["--blobs", &site.url()]));
        assert!(there.contains("not all of them are there"), "{there}");
    }
    let mut elsewhere = site.migrate();
    let elsewhere = refused(elsewhere.env("MOTORCADE_TO_BLOBS", "s3://elsewhere"));
    assert!(elsewhere.contains("on their way to"), "{elsewhere}");
    fs::write(&damaged, &good).unwrap();
    // Whoever does not want to move after all serves on, and whoever does then moves all the same.
    fs::remove_file(site.record()).unwrap();
    drop(Server::start(&site.data_dir(), &[]));
    let moved: Value = serde_json::from_str(&run(&mut site.migrate())).unwrap();
    assert_eq!((&moved["blobs"]["ended_uploads"], &moved["tables"]), (&json!(1), &Value::Null));
    let here = refused(&mut site.command(&["serve", "--listen", "127.0.0.1:0"]));
    assert!(here.contains(&format!("were moved to {}", site.url())), "{here}");
    site.goes_on(&[("MOTORCADE_BLOBS", &site.url())]).await;
}

#[tokio::test]
async fn blobs_follow_a_catalog_that_was_moved_before() {
    let (site, database) = (Used::new().await, Postgres::shared().database());
    run(site.command(&["migrate-store"]).env("MOTORCADE_TO_CATALOG_URL", &database));
    let refusal = refused(&mut site.migrate());
    assert!(refusal.contains("was moved to postgresql://"), "{refusal}");
    assert!(!site.record().exists(), "the blobs are where they were");
    // Neither does a catalog begin where there is none, nor is another installation's taken.
    let (empty, foreign) = (Postgres::shared().database(), Postgres::shared().database());
    let theirs = site.folder.path().join("theirs");
    run(motorcade(["init", "--catalog", &foreign]).arg("--data-dir").arg(theirs));
    for other in [&empty, &foreign] {
        let refusal = refused(site.migrate().env("MOTORCADE_CATALOG_URL", other));
        assert!(refusal.contains("was moved to postgresql://"), "{refusal}");
        assert!(!site.record().exists() && !site.data_dir().join("installation-id").exists());
    }
    let tables = "SELECT COUNT(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    assert_eq!(Postgres::shared().run(&empty, tables), "0");
    assert_eq!(site.store.content(&site.bucket).await.0, [""; 0]);
    drop(site.serve_with(&[("MOTORCADE_CATALOG_URL", &database)]));
    let mut migrate = site.migrate();
    let moved = run(migrate.env("MOTORCADE_CATALOG_URL", &database));
    let moved: Value = serde_json::from_str(&moved).unwrap();
    assert_eq!(moved["blobs"]["ended_uploads"], 1, "{moved}");
    let mut here = site.command(&["serve", "--listen", "127.0.0.1:0"]);
    let here = refused(here.args(["--catalog", &database]));
    assert!(here.contains(&format!("were moved to {}", site.url())), "{here}");
    site.goes_on(&[("MOTORCADE_CATALOG_URL", &database), ("MOTORCADE_BLOBS", &site.url())]).await;
}

/// A move that was cut off as all was there: servers in other directories could begin to use it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_in_the_bucket_meanwhile_is_kept() {
    let (site, database) = (Used::new().await, Postgres::shared().database());
    let url = site.url();
    let environment = [("MOTORCADE_CATALOG_URL", &*database), ("MOTORCADE_BLOBS", &*url)];
    let migrate = || {
        let mut migrate = site.migrate();
        migrate.env("MOTORCADE_TO_CATALOG_URL", &database);
        migrate
    };
    run(&mut migrate());
    drop(site.serve_with(&environment)); // which gives it an id, that is copied
    let other = site.folder.path().join("other");
    run(Command::new("cp").arg("-a").arg(site.data_dir()).arg(&other));
    let mut record: Value = serde_json::from_slice(&fs::read(site.record()).unwrap()).unwrap();
    record["ended_at"] = Value::Null;
    fs::write(site.record(), record.to_string()).unwrap();

    let (store, key) = (site.store.client(), "ota/99.snapshot.json");
    let stranger = store.put_object().bucket(&site.bucket).key(key);
    stranger.body(b"{}".to_vec().into()).send().await.unwrap();
    let refusal = refused(&mut migrate());
    assert!(refusal.contains("99.snapshot.json is not from"), "{refusal}");
    store.delete_object().bucket(&site.bucket).key(key).send().await.unwrap();

    let reached: Vec<(&str, &str)> =
        site.store.environment().iter().chain(&environment).copied().collect();
    let mut server = Server::start_in(&reached, &other);
    put(&server.client(&site.engineer), "gw/after.bin", 9, b"meanwhile".to_vec()).await;
    let refusal = refused(&mut migrate());
    assert!(refusal.contains("not from") || refusal.contains("other servers"), "{refusal}");
    server.process.signal(Signal::TERM);
    server.process.ended().await;
    let before = site.store.content(&site.bucket).await.0;
    let refusal = refused(&mut migrate());
    assert!(refusal.contains("timestamp.json is not from"), "{refusal}");
    assert_eq!(site.store.content(&site.bucket).await.0, before);

    // A bucket without a timestamp is not taken for the move's own either.
    let timestamp = store.get_object().bucket(&site.bucket).key("ota/timestamp.json");
    let timestamp = timestamp.send().await.unwrap().body.collect().await.unwrap();
    let key = "ota/timestamp.json";
    store.delete_object().bucket(&site.bucket).key(key).send().await.unwrap();
    let refusal = refused(&mut migrate());
    assert!(refusal.contains("nothing was removed or replaced"), "{refusal}");
    let back = store.put_object().bucket(&site.bucket).key(key);
    back.body(timestamp.into_bytes().into()).send().await.unwrap();

    // What it says to do.
    fs::remove_file(site.record()).unwrap();
    let server = site.serve_with(&environment);
    let root = fs::read(site.data_dir().join("1.root.json")).unwrap();
    let repository = VerifiedRepository::load(&root, &server.repo_url()).await.unwrap();
    let file = site.folder.path().join("downloaded");
    repository.download("gw/after.bin", &file).await.unwrap();
}

/// What is there is read back: a store is not taken at its word.
#[tokio::test]
async fn other_bytes_in_the_bucket_are_found() {
    let site = Used::new().await;
    run(&mut site.migrate());
    let mut record: Value = serde_json::from_slice(&fs::read(site.record()).unwrap()).unwrap();
    record["ended_at"] = Value::Null;
    record["copied"] = json!({ "last": "", "files": 0, "bytes": 0 });
    for (image, put_instead) in [("large.bin", true), ("middle.bin", true), ("1/", false)] {
        let repo = site.repo();
        let is_it = |name: &String| name.contains(image) && !name.ends_with(".jwe");
        let (name, _) = repo.iter().find(|(name, _)| is_it(name)).unwrap();
        let (client, key) = (site.store.client(), format!("ota/{name}"));
        let good = fs::read(site.data_dir().join("repo").join(name)).unwrap();
        if put_instead {
            let mut bad = good.clone();
            bad[1_000_000] ^= 1;
            let put = client.put_object().bucket(&site.bucket).key(&key);
            put.body(bad.into()).send().await.unwrap();
        } else {
            // What an earlier run has read back is looked for, though not read again.
            record["copied"]["last"] = json!("timestamp.json");
            client.delete_object().bucket(&site.bucket).key(&key).send().await.unwrap();
        }
        fs::write(site.record(), record.to_string()).unwrap();
        let refusal = refused(&mut site.migrate());
        assert!(refusal.contains("is not what was stored there"), "{refusal}");
        let put = client.put_object().bucket(&site.bucket).key(&key);
        put.body(good.into()).send().await.unwrap();
    }
    run(&mut site.migrate());
}

#[tokio::test]
async fn a_bucket_that_holds_anything_is_refused_and_left_as_it_is() {
    let site = Used::new().await;
    let theirs = crate::Site::made().await;
    let mut migrate = site.migrate();
    let refusal = refused(migrate.env("MOTORCADE_TO_BLOBS", theirs.url()));
    let id = fs::read_to_string(theirs.data_dir().join("installation-id")).unwrap();
    assert!(refusal.contains(id.trim()), "{refusal}");
    theirs.fsck();
    let put = site.store.client().put_object().bucket(&site.bucket).key("ota/holidays.jpg");
    put.body(b"x".to_vec().into()).send().await.unwrap();
    let refusal = refused(&mut site.migrate());
    assert!(refusal.contains("holidays.jpg"), "{refusal}");
    assert!(!site.record().exists() && !site.data_dir().join("installation-id").exists());
    let wrong = refused(site.migrate().env("AWS_SECRET_ACCESS_KEY", "guess"));
    assert!(wrong.contains("AWS_SECRET_ACCESS_KEY") && !wrong.contains("guess"), "{wrong}");
    // A database that can't be used is found out before a blob is moved.
    let mut both = site.migrate();
    both.env("MOTORCADE_TO_BLOBS", format!("s3://{}/other", site.bucket));
    let refusal = refused(both.args(["--to-catalog", "postgresql://127.0.0.1:1/motorcade"]));
    assert!(refusal.contains("127.0.0.1:1"), "{refusal}");
    assert!(!site.record().exists(), "the directory is as it was");
    assert_eq!(site.store.content(&site.bucket).await.0, ["ota/holidays.jpg"]);
    drop(Server::start(&site.data_dir(), &[]));
}
