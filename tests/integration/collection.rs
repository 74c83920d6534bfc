//! Collection of yanked images: what goes, what stays for whom, and how often that can be asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use motorcade::app::Error;
use motorcade::app::images::collect::CollectMode;
use motorcade::app::images::precondition::Precondition;
use motorcade::app::jobs::JobState;
use motorcade::model::AccessRole;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::app::{TestServer, eventually, send};
use crate::director::vehicle::TestVehicle;
use crate::publication::{NEVER, Node, engineer};
use crate::retention::set_timestamp_days;
use crate::state::TestState;
use crate::support::run;

impl Node {
    async fn yank(&self, path: &str) {
        let path = path.parse().unwrap();
        self.app.images().yank(&path, &Precondition::default(), &engineer()).await.unwrap();
    }

    /// What came of a job that collects what was yanked so many days ago.
    pub(crate) async fn collect(&self, days: u32, mode: CollectMode) -> Value {
        let jobs = self.app.jobs();
        let id = jobs.collect_images(days, mode, &engineer()).await.unwrap().0.id;
        let running = tokio::spawn(Arc::clone(jobs).run());
        let is_done = async || jobs.show(&id).await.unwrap().state == JobState::Done;
        eventually("the job ends", is_done).await;
        running.abort();
        jobs.show(&id).await.unwrap().result.unwrap()
    }

    /// Each in both of its places.
    pub(crate) fn files_of(&self, path: &str) -> BTreeSet<String> {
        let (folder, file) = path.rsplit_once('/').unwrap();
        let names = self.state.stored_targets().into_iter();
        let is_its = |name: &String| name.contains(&format!("{folder}/")) && name.contains(file);
        names.filter(is_its).collect()
    }
}

#[tokio::test]
async fn a_yanked_image_goes_after_its_time_and_nothing_else_does() {
    let node = Node::open(TestState::new(), NEVER).await;
    for path in ["gw/1/a.bin", "gw/2/a.bin", "gw/3/a.bin"] {
        node.upload(path).await;
        assert_eq!(node.files_of(path).len(), 4, "two files with two names each");
    }
    node.yank("gw/2/a.bin").await;
    node.yank("gw/3/a.bin").await;
    let until = "2100-01-01T00:00:00Z".parse().unwrap();
    let third = "gw/3/a.bin".parse().unwrap();
    node.app.images().retain(&third, Some(until), &engineer()).await.unwrap();
    let all = node.state.stored_targets();

    let result = node.collect(1, CollectMode::Remove).await;
    assert_eq!((&result["collected"], &result["kept"]), (&json!(0), &json!(0)), "{result}");
    node.after_hours(25).await;
    let result = node.collect(1, CollectMode::DryRun).await;
    assert_eq!(result["images"], json!(["gw/2/a.bin"]), "{result}");
    assert_eq!((&result["would_be_collected"], &result["kept"]), (&json!(1), &json!(1)));
    assert!(
        result["reasons"][0]
            .as_str()
            .unwrap()
            .starts_with("gw/3/a.bin: it is to be kept until 2100")
    );
    assert_eq!(node.state.stored_targets(), all, "nothing was changed");

    let result = node.collect(1, CollectMode::Remove).await;
    assert_eq!((&result["collected"], &result["kept"]), (&json!(1), &json!(1)), "{result}");
    assert_eq!(node.files_of("gw/2/a.bin"), BTreeSet::new());
    let left = ["gw/1/a.bin", "gw/3/a.bin"].map(|path| node.files_of(path));
    let left: BTreeSet<String> = left.into_iter().flatten().collect();
    assert_eq!(node.state.stored_targets(), left);
    let again = node.try_to_upload("gw/2/a.bin").await;
    assert!(matches!(again, Err(Error::Conflict { code: "image_yanked", .. })), "{again:?}");
    let second = "gw/2/a.bin".parse().unwrap();
    let late = node.app.images().retain(&second, Some(until), &engineer()).await;
    assert!(matches!(late, Err(Error::Conflict { code: "image_collected", .. })), "{late:?}");
    node.app.images().retain(&third, None, &engineer()).await.unwrap();
    assert_eq!(node.collect(1, CollectMode::Remove).await["images"], json!(["gw/3/a.bin"]));
    assert_eq!(node.collect(1, CollectMode::Remove).await["collected"], 0, "once");
    node.close().await.assert_clean().await;
}

/// One row that a disk has damaged keeps no other image from being collected.
#[tokio::test]
async fn an_image_whose_envelope_is_damaged_stays_and_the_others_go() {
    let server = TestServer::start().await;
    for path in ["gw/1", "gw/2"] {
        server.upload(path, "firmware").await.expect(201);
        let path = format!("/api/v1/images/{path}");
        send(server.request_as(AccessRole::Engineer, Method::DELETE, &path)).await.expect(204);
    }
    yanked_long_ago(&server).await;
    let options = SqliteConnectOptions::new().filename(server.state.path().join("catalog.sqlite"));
    let mut catalog = SqliteConnection::connect_with(&options).await.unwrap();
    let damage = "UPDATE images SET envelope = '{' WHERE path = 'gw/1'";
    sqlx::query(damage).execute(&mut catalog).await.unwrap();
    catalog.close().await.unwrap();
    let result = collect(&server);
    assert_eq!(result["images"], json!(["gw/2"]), "{result}");
    assert!(result["reasons"][0].as_str().unwrap().starts_with("gw/1: its envelope"), "{result}");
}

/// Whoever has the timestamp of before goes by it until it expires.
#[tokio::test]
async fn an_image_stays_while_a_timestamp_in_force_leads_to_it() {
    let state = TestState::new();
    set_timestamp_days(&state, 1, 30);
    let node = Node::open(state, NEVER).await;
    node.upload("gw/1/a.bin").await;
    node.upload("gw/2/a.bin").await;
    node.after_hours(20).await;
    node.yank("gw/2/a.bin").await;
    node.after_hours(3 * 24).await;
    let result = node.collect(1, CollectMode::Remove).await;
    let reason = "gw/2/a.bin: metadata lists it that somebody may still go by";
    assert_eq!((&result["collected"], &result["reasons"]), (&json!(0), &json!([reason])));
    assert_eq!(node.files_of("gw/2/a.bin").len(), 4);
    node.after_hours(30 * 24).await;
    assert_eq!(node.collect(1, CollectMode::Remove).await["images"], json!(["gw/2/a.bin"]));
    node.close().await.assert_clean().await;
}

/// Makes it long ago that images were yanked, and that anything listed them.
pub(crate) async fn yanked_long_ago(server: &TestServer) {
    let options = SqliteConnectOptions::new().filename(server.state.path().join("catalog.sqlite"));
    let mut catalog = SqliteConnection::connect_with(&options).await.unwrap();
    for change in [
        "UPDATE images SET yanked_at = 1 WHERE yanked_at IS NOT NULL",
        "DELETE FROM published_timestamps WHERE version < (SELECT MAX(version) FROM published_timestamps)",
    ] {
        sqlx::query(change).execute(&mut catalog).await.unwrap();
    }
    catalog.close().await.unwrap();
}

/// What came of `motorcade image collect`.
pub(crate) fn collect(server: &TestServer) -> Value {
    let output = run(server.motorcade("image collect").args(["--follow", "--json"]));
    serde_json::from_str::<Value>(&output).unwrap()["result"].clone()
}

/// A vehicle that has not polled since, and one that has.
#[tokio::test]
async fn an_image_stays_while_a_vehicle_is_to_install_it() {
    let server = TestServer::start().await;
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    for path in ["gw/1", "gw/2"] {
        server.upload_for("gw-mk3", path, 1, "").await;
    }
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    for path in ["gw/1", "gw/2"] {
        let path = format!("/api/v1/images/{path}");
        send(server.request_as(AccessRole::Engineer, Method::DELETE, &path)).await.expect(204);
    }
    yanked_long_ago(&server).await;
    let result = collect(&server);
    assert_eq!(result["images"], json!(["gw/2"]), "{result}");
    assert!(result["reasons"][0].as_str().unwrap().starts_with("gw/1: a vehicle is to install it"));
    vehicle.fetch(&server, "targets.json").await.expect(200);
    assert_eq!(collect(&server)["images"], json!(["gw/1"]), "the assignment was withdrawn");
}

#[tokio::test]
async fn how_long_an_image_is_kept_can_be_said_by_people() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let retain = |more: &[&str]| {
        let mut command = server.motorcade("image retain gw/1/a.bin --json");
        serde_json::from_str::<Value>(&run(command.args(more))).unwrap()
    };
    let until = "2036-01-01T00:00:00Z";
    assert_eq!(retain(&["--until", until])["retain_until"], until);
    let shown = server.get("/api/v1/retentions/gw/1/a.bin").await.json();
    assert_eq!(shown, json!({ "path": "gw/1/a.bin", "retain_until": until, "collected_at": null }));
    let audit = server.get("/api/v1/audit?kind=image_retained").await.json();
    assert_eq!(audit["entries"][0]["subject"], "gw/1/a.bin");
    assert_eq!(retain(&["--no-longer"])["retain_until"], Value::Null);
    let put = async |body: Value| {
        let path = "/api/v1/retentions/gw/1/a.bin";
        send(server.request_as(AccessRole::Engineer, Method::PUT, path).json(&body)).await
    };
    put(json!({ "retain_until": "soon" })).await.refused(400, "bad_query");
    for days in [0, 36_501] {
        let request = server.request_as(AccessRole::Engineer, Method::POST, "/api/v1/collections");
        let answer = send(request.json(&json!({ "yanked_for_days": days }))).await;
        let detail = answer.refused(400, "bad_collection");
        assert!(detail.contains("from 1 to 36500"), "{detail}");
    }
}
