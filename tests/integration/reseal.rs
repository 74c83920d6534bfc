//! `POST /api/v1/images/{path}/reseal`: an image under a new data key.

use std::sync::Arc;
use std::time::Duration;

use motorcade::app::access::Principal;
use motorcade::app::jobs::JobState;
use motorcade::model::AccessRole::{Engineer, Officer};
use motorcade::model::{Clock, ImagePath, JobKind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestServer, eventually, pattern, send};
use crate::director::vehicle::TestVehicle;
use crate::publication::{Node, engineer};
use crate::state::{TestState, private_key};
use crate::support::run;

impl TestServer {
    pub(crate) async fn resealed(&self, path: &str, body: Value) -> Value {
        let url = format!("/api/v1/images/{path}/reseal");
        let begun = send(self.request_as(Officer, Method::POST, &url).json(&body)).await;
        assert_eq!(begun.status, 201, "{begun:?}");
        self.ended_job(&begun.json()["id"]).await
    }

    /// Queues a reseal of `gw/1/a.bin` at `gw/2/a.bin` that has got as far as `checkpoint`, asked for
    /// by whoever has uploaded it; returns it once it has ended.
    pub(crate) async fn goes_on_to_reseal(&self, checkpoint: &Value) -> Value {
        self.has_begun_to_reseal(checkpoint, "'queued', NULL, 0, 0").await;
        self.resealing_ended().await
    }

    /// The same of one that somebody cancels while it runs.
    pub(crate) async fn stops_to_reseal(&self, checkpoint: &Value) -> Value {
        self.has_begun_to_reseal(checkpoint, "'running', 'killed', 0, 1").await;
        self.resealing_ended().await
    }

    /// `as_it_is`: state, owner, end of the lease, and whether it is cancelled.
    async fn has_begun_to_reseal(&self, checkpoint: &Value, as_it_is: &str) {
        self.state
            .sql(&format!(
                "INSERT INTO jobs (state, owner, lease_until, is_cancelled, id, kind, parameters, checkpoint, phase, done, total, \
                 created_at, created_by, run, stalled) SELECT {as_it_is}, '{BEGUN}', 'image_reseal', '{}', '{checkpoint}', '', 0, 0, \
                 0, created_by, 0, 0 FROM images WHERE path = 'gw/1/a.bin'",
                json!({ "path": "gw/1/a.bin", "to": "gw/2/a.bin" })
            ))
            .await;
    }

    async fn resealing_ended(&self) -> Value {
        // Another one has the server look for both.
        let wake = self.request_as(Engineer, Method::POST, "/api/v1/jobs");
        send(wake.json(&json!({ "kind": "fsck" }))).await.expect(201);
        self.ended_job(&json!(BEGUN)).await
    }

    pub(crate) async fn yank(&self, path: &str) {
        let path = format!("/api/v1/images/{path}");
        send(self.request_as(Engineer, Method::DELETE, &path)).await.expect(204);
    }

    /// The data key of an image, as JSON.
    async fn data_key(&self, path: &str, key: &str) -> Vec<u8> {
        let envelope = self.get(&format!("/api/v1/images/{path}/envelope")).await;
        let envelope = motorcade::envelope::jwe::Envelope::parse(&envelope.body).unwrap();
        let (data_key, _) = envelope.open(&private_key(key)).unwrap();
        data_key.as_bytes().to_vec()
    }
}

#[tokio::test]
async fn a_resealed_image_has_another_key_and_the_same_bytes() {
    let server = TestServer::start().await;
    for (path, size, algorithm) in [
        ("gw/1/empty.bin", 0, "&allow_empty=true"),
        ("gw/1/small.bin", 10_000, "&algorithm=AES256_GCM_HKDF_4KB"),
        ("gw/1/large.bin", 3_000_000, ""),
    ] {
        let bytes = pattern(size, 7);
        let upload = server.upload_request(path, algorithm).body(bytes.clone());
        send(upload).await.expect(201);
        let (before, key) =
            (server.image(path).await, server.data_key(path, "snakeoil_p256").await);
        let job = server.resealed(path, json!({})).await;
        assert_eq!(job["state"], "done", "{job}");
        let new = path.replace("gw/1/", "gw/1/resealed-1/");
        assert_eq!(
            [&job["result"]["image"], &job["result"]["yanked"]],
            [&json!(new), &json!(path)]
        );
        assert!(job["result"]["note"].as_str().unwrap().contains("has kept a copy"));
        let after = server.image(&new).await;
        assert_eq!(after.plaintext, before.plaintext);
        assert_eq!(
            (after.version, after.release_counter, after.hardware_ids, after.sealed.alg),
            (before.version, before.release_counter, before.hardware_ids, before.sealed.alg)
        );
        assert_ne!(after.sealed.sha256, before.sealed.sha256);
        assert_ne!(server.data_key(&new, "snakeoil_p256").await, key);
        assert_eq!(server.open(&new, "snakeoil_p256").await, bytes);
        assert!(server.image(path).await.yanked_at.is_some());
    }
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn a_revoked_recipient_does_not_open_what_was_resealed() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "secret").await.expect(201);
    let old = private_key("snakeoil_p256");
    let path = format!("/api/v1/recipients/{}", old.kid());
    send(server.request_as(Engineer, Method::DELETE, &path)).await.expect(204);
    let job = server.resealed("gw/1/a.bin", json!({ "to": "gw/2/a.bin" })).await;
    assert_eq!(job["state"], "done", "{job}");
    let envelope = server.get("/api/v1/images/gw/2/a.bin/envelope").await;
    let envelope = motorcade::envelope::jwe::Envelope::parse(&envelope.body).unwrap();
    let expected = private_key("snakeoil_rsa2048").kid().clone();
    assert_eq!(envelope.recipients().collect::<Vec<_>>(), [expected]);
    assert_eq!(server.open("gw/2/a.bin", "snakeoil_rsa2048").await, b"secret");
}

/// Id of a reseal that another run has begun.
const BEGUN: &str = "0123456789abcdef01234567";

fn assert_is_stopped(job: &Value) {
    assert_eq!(job["state"], "failed", "{job}");
    let error = job["error"].as_str().unwrap();
    assert!(error.starts_with("image_yanked: gw/1/a.bin was yanked"), "{error}");
}

#[tokio::test]
async fn an_image_that_is_yanked_before_its_reseal_begins_does_not_come_back() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "bad").await.expect(201);
    server.yank("gw/1/a.bin").await;
    assert_is_stopped(&server.goes_on_to_reseal(&Value::Null).await);
    server.get("/api/v1/images/gw/2/a.bin").await.refused(404, "image_not_found");
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn of_an_image_that_is_yanked_while_it_is_resealed_the_copy_is_yanked_too() {
    // Killed before it has saved that it has sealed the copy, and after that.
    let stored = json!({ "after": "", "moved": 0, "problems": [], "left_out": 0 });
    for checkpoint in [checkpoint(true, false), stored] {
        let server = TestServer::start().await;
        server.upload("gw/1/a.bin", "bad").await.expect(201);
        server.upload("gw/2/a.bin", "bad").await.expect(201);
        server.yank("gw/1/a.bin").await;
        assert_is_stopped(&server.goes_on_to_reseal(&checkpoint).await);
        assert!(server.image("gw/2/a.bin").await.yanked_at.is_some(), "{checkpoint}");
        server.stop().assert_clean().await;
    }
}

/// How far a job is that makes the copy itself or has found it, and has sealed it or not.
fn checkpoint(makes_copy: bool, is_sealed: bool) -> Value {
    json!({
        "after": "", "moved": 0, "problems": [], "left_out": 0, "makes_copy": makes_copy, "is_sealed": is_sealed,
    })
}

#[tokio::test]
async fn a_copy_that_was_there_before_a_reseal_stays_when_that_is_taken_back() {
    for checkpoint in [Value::Null, checkpoint(false, false), checkpoint(false, true)] {
        let server = TestServer::start().await;
        server.upload("gw/1/a.bin", "good").await.expect(201);
        server.upload("gw/2/a.bin", "good").await.expect(201);
        server.yank("gw/1/a.bin").await;
        let job = server.goes_on_to_reseal(&checkpoint).await;
        assert_is_stopped(&job);
        assert!(job["error"].as_str().unwrap().contains("nothing at gw/2/a.bin"), "{job}");
        assert_eq!(server.image("gw/2/a.bin").await.yanked_at, None, "{checkpoint}");
        server.stop().assert_clean().await;
    }
}

/// As after a first job had to wait for a supplier: the second one is somebody else's, and fails.
#[tokio::test]
async fn of_a_reseal_with_the_copy_of_another_token_what_has_moved_moves_back() {
    let server = TestServer::start().await;
    let vehicles = two_vehicles(&server).await;
    let other = "UPDATE images SET created_by = (SELECT id FROM tokens WHERE role = 'officer') \
                 WHERE path = 'gw/2/a.bin'";
    server.state.sql(other).await;
    let job = server.stops_to_reseal(&checkpoint(false, true)).await;
    assert_eq!(job["state"], "cancelled", "{job}");
    assert_are_assigned(&server, vehicles, "gw/1/a.bin").await;
    for path in ["gw/1/a.bin", "gw/2/a.bin"] {
        assert_eq!(server.image(path).await.yanked_at, None, "{path}");
    }
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn a_reseal_notes_whether_the_copy_is_its_own_before_it_seals() {
    for (is_there, makes_copy_then) in [(false, true), (true, false)] {
        let server = TestServer::start().await;
        server.upload("gw/1/a.bin", "good").await.expect(201);
        if is_there {
            server.upload("gw/2/a.bin", "good").await.expect(201);
        }
        let keep = "CREATE TABLE saved (checkpoint TEXT); CREATE TRIGGER keep AFTER UPDATE OF checkpoint ON jobs \
                    WHEN new.kind = 'image_reseal' BEGIN INSERT INTO saved VALUES (new.checkpoint); END";
        server.state.sql(keep).await;
        assert_eq!(server.goes_on_to_reseal(&Value::Null).await["state"], "done");
        let mut catalog = server.state.catalog().await;
        let saved = sqlx::query_scalar("SELECT checkpoint FROM saved ORDER BY rowid LIMIT 2");
        let saved: Vec<String> = saved.fetch_all(&mut catalog).await.unwrap();
        for (saved, is_sealed) in saved.iter().zip([false, true]) {
            let saved: Value = serde_json::from_str(saved).unwrap();
            let (makes_copy, sealed) = (&saved["makes_copy"], &saved["is_sealed"]);
            assert_eq!([makes_copy, sealed], [makes_copy_then, is_sealed], "{saved}");
        }
        assert_eq!(saved.len(), 2);
        server.stop();
    }
}

#[tokio::test]
async fn a_reseal_that_is_killed_after_its_own_yank_is_done() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "good").await.expect(201);
    server.upload("gw/2/a.bin", "good").await.expect(201);
    server.yank("gw/1/a.bin").await;
    let stored =
        json!({ "after": "", "moved": 3, "problems": [], "left_out": 0, "all_moved": true });
    let job = server.goes_on_to_reseal(&stored).await;
    assert_eq!([&job["state"], &job["result"]["assignments_moved"]], [&json!("done"), &json!(3)]);
    assert_eq!(server.image("gw/2/a.bin").await.yanked_at, None);
}

#[tokio::test]
async fn an_image_is_resealed_at_one_path_at_a_time() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "good").await.expect(201);
    let far = i64::MAX / 2;
    server
        .has_begun_to_reseal(&Value::Null, &format!("'running', 'another server', {far}, 0"))
        .await;
    let ask = async |to: &str| {
        let url = "/api/v1/images/gw/1/a.bin/reseal";
        send(server.request_as(Officer, Method::POST, url).json(&json!({ "to": to }))).await
    };
    let told = ask("gw/3/a.bin").await.refused(409, "job_in_the_way");
    assert!(told.contains(BEGUN) && told.contains("gw/2/a.bin"), "{told}");
    assert_eq!(ask("gw/2/a.bin").await.json()["id"], BEGUN, "the same is done once");
    server.state.sql("UPDATE jobs SET is_cancelled = 1").await;
    ask("gw/3/a.bin").await.refused(409, "job_in_the_way"); // it has not stopped yet
    server.state.sql("UPDATE jobs SET state = 'cancelled', ended_at = 1").await;
    assert_eq!(ask("gw/3/a.bin").await.status, 201);
}

/// A vehicle that is to install the copy already, and one that is to install the image.
async fn two_vehicles(server: &TestServer) -> [TestVehicle; 2] {
    for path in ["gw/1/a.bin", "gw/2/a.bin"] {
        server.upload(path, "good").await.expect(201);
    }
    let vehicles = [
        TestVehicle::registered(server, "VIN1").await,
        TestVehicle::registered(server, "VIN2").await,
    ];
    for (vehicle, path) in vehicles.iter().zip(["gw/2/a.bin", "gw/1/a.bin"]) {
        vehicle.assign(server, &[(0, path)]).await.expect(201);
    }
    vehicles
}

async fn assert_are_assigned(server: &TestServer, vehicles: [TestVehicle; 2], path: &str) {
    for mut vehicle in vehicles {
        let targets = vehicle.targets(server).await;
        let listed: Vec<_> = targets["targets"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(listed, [path], "{}", vehicle.vin);
    }
}

async fn assert_is_taken_back(server: &TestServer, vehicles: [TestVehicle; 2]) {
    assert_are_assigned(server, vehicles, "gw/1/a.bin").await;
    assert_eq!(server.image("gw/1/a.bin").await.yanked_at, None);
    assert!(server.image("gw/2/a.bin").await.yanked_at.is_some());
}

#[tokio::test]
async fn a_reseal_whose_copy_is_yanked_is_taken_back() {
    for all_moved in [false, true] {
        let server = TestServer::start().await;
        let vehicles = two_vehicles(&server).await;
        server.yank("gw/2/a.bin").await;
        let checkpoint = json!({ "after": "", "moved": 1, "problems": [], "left_out": 0, "all_moved": all_moved });
        let job = server.goes_on_to_reseal(&checkpoint).await;
        assert_eq!(job["state"], "failed", "{job}");
        assert!(job["error"].as_str().unwrap().starts_with("copy_yanked: gw/2/a.bin"), "{job}");
        assert_is_taken_back(&server, vehicles).await;
        server.stop().assert_clean().await;
    }
}

#[tokio::test]
async fn a_reseal_of_a_token_that_is_no_longer_good_is_taken_back() {
    for taken in ["revoked_at = 1", "expires_at = 1"] {
        let server = TestServer::start().await;
        let vehicles = two_vehicles(&server).await;
        server.state.sql(&format!("UPDATE tokens SET {taken} WHERE role = 'uploader'")).await;
        let sealed = json!({ "after": "VIN1", "moved": 1, "problems": [], "left_out": 0 });
        let job = server.goes_on_to_reseal(&sealed).await;
        assert_eq!(job["state"], "failed", "{job}");
        assert!(job["error"].as_str().unwrap().contains("is no longer good"), "{job}");
        assert_is_taken_back(&server, vehicles).await;
        server.stop().assert_clean().await;
    }
}

/// The clock stands for whatever a person has to mend first, such as a role key that is away.
#[tokio::test]
async fn a_reseal_that_can_t_be_signed_waits_and_then_goes_on() {
    let node = Node::open(TestState::new(), Duration::from_millis(20)).await;
    let running = tokio::spawn(Arc::clone(node.app.jobs()).run());
    node.upload("gw/1/a.bin").await;
    let mut catalog = node.state.catalog().await;
    let id = sqlx::query_scalar("SELECT id FROM tokens WHERE role = 'officer'");
    let id: String = id.fetch_one(&mut catalog).await.unwrap();
    let by = Principal { id, role: Officer, ..engineer() };
    let right = node.clock.now();
    node.clock.set(right - Duration::from_secs(3600));
    let (job, _) = node.app.jobs().reseal(&path("gw/1/a.bin"), None, &by).await.unwrap();
    let jobs = node.app.jobs();
    let now = async || jobs.show(&job.id).await.unwrap();
    eventually("it waits", async || now().await.progress.phase.starts_with("waits: ")).await;
    let waiting = now().await;
    assert_eq!(waiting.state, JobState::Running);
    assert!(waiting.progress.phase.contains("clock"), "{waiting:?}");
    node.clock.set(right + Duration::from_secs(3600));
    jobs.create(JobKind::Fsck, &json!({}), &by).await.unwrap(); // has the server look for both
    eventually("it is done", async || now().await.state == JobState::Done).await;
    assert!(node.app.images().show(&path("gw/1/a.bin")).await.unwrap().yanked_at.is_some());
    let copy = node.app.images().show(&path("gw/1/resealed-1/a.bin")).await.unwrap();
    assert_eq!(copy.yanked_at, None);
    running.abort();
    node.close().await.assert_clean().await;
}

fn path(text: &str) -> ImagePath {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_cancelled_reseal_leaves_no_copy() {
    let server = TestServer::start().await;
    let vehicles = two_vehicles(&server).await;
    let sealed = json!({ "after": "VIN1", "moved": 1, "problems": [], "left_out": 0 });
    assert_eq!(server.stops_to_reseal(&sealed).await["state"], "cancelled");
    assert_is_taken_back(&server, vehicles).await;
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn a_reseal_that_is_cancelled_after_its_own_yank_stays_done() {
    let server = TestServer::start().await;
    for path in ["gw/1/a.bin", "gw/2/a.bin"] {
        server.upload(path, "good").await.expect(201);
    }
    server.yank("gw/1/a.bin").await;
    let stored =
        json!({ "after": "", "moved": 3, "problems": [], "left_out": 0, "all_moved": true });
    assert_eq!(server.stops_to_reseal(&stored).await["state"], "cancelled");
    assert_eq!(server.image("gw/2/a.bin").await.yanked_at, None);
}

/// Cancelled while the copy is being sealed, or has just come in.
#[tokio::test]
async fn a_reseal_that_is_cancelled_at_any_moment_leaves_the_image_alone() {
    let server = TestServer::start().await;
    for (number, wait) in [0, 5, 20, 60, 150, 400].into_iter().enumerate() {
        let path = format!("gw/{number}/a.bin");
        send(server.upload_request(&path, "").body(pattern(1_000_000, 3))).await.expect(201);
        let url = format!("/api/v1/images/{path}/reseal");
        let to = format!("new/{number}/a.bin");
        let begin = server.request_as(Officer, Method::POST, &url).json(&json!({ "to": to }));
        let id = send(begin).await.json()["id"].clone();
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        let cancel = server.request_as(
            Officer,
            Method::DELETE,
            &format!("/api/v1/jobs/{}", id.as_str().unwrap()),
        );
        send(cancel).await;
        let ended = server.ended_job(&id).await;
        let copy = server.get(&format!("/api/v1/images/{to}")).await;
        let is_published = copy.status == 200 && copy.json()["yanked_at"].is_null();
        let is_yanked = server.image(&path).await.yanked_at.is_some();
        assert_eq!(is_published, is_yanked, "one of the two is there: {ended}");
        assert!(ended["state"] == "cancelled" || is_yanked, "{ended}");
    }
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn what_can_t_be_resealed_is_refused_and_stays() {
    let server = TestServer::start().await;
    for path in ["gw/1/a.bin", "gw/2/a.bin", "gw/3/a.bin"] {
        server.upload(path, "x").await.expect(201);
    }
    let refused = async |path: &str, body: Value, status: u16, code: &str| {
        let url = format!("/api/v1/images/{path}/reseal");
        send(server.request_as(Officer, Method::POST, &url).json(&body)).await.refused(status, code)
    };
    refused("no/such.bin", json!({}), 404, "image_not_found").await;
    refused("gw/1/a.bin", json!({ "to": "gw/2/a.bin" }), 409, "image_exists").await;
    refused("gw/1/a.bin", json!({ "to": "../x" }), 400, "bad_image_path").await;
    refused("gw/1/a.bin", json!({ "more": 1 }), 400, "bad_json").await;
    let yanked = "/api/v1/images/gw/3/a.bin";
    send(server.request_as(Engineer, Method::DELETE, yanked)).await.expect(204);
    refused("gw/3/a.bin", json!({}), 409, "image_yanked").await;
    let image = server.image("gw/1/a.bin").await;
    let name = image.sealed.url.split("/repo/").last().unwrap().to_owned();
    std::fs::write(server.state.blob(&name), "damaged").unwrap();
    let job = server.resealed("gw/1/a.bin", json!({})).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["error"].as_str().unwrap().contains("does not open"), "{job}");
    assert_eq!(server.image("gw/1/a.bin").await.yanked_at, None);
    server.get("/api/v1/images/gw/1/resealed-1/a.bin").await.refused(404, "image_not_found");
}

#[tokio::test]
async fn an_image_is_resealed_at_the_command_line() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "x").await.expect(201);
    let mut command = server.motorcade("--json image reseal gw/1/a.bin --to gw/2/a.bin --follow");
    let job = run(command.env("MOTORCADE_TOKEN", server.state.tokens.of(Officer)));
    let job: Value = serde_json::from_str(&job).unwrap();
    assert_eq!(job["result"]["image"], "gw/2/a.bin", "{job}");
    assert_eq!(server.open("gw/2/a.bin", "snakeoil_p256").await, b"x");
}
