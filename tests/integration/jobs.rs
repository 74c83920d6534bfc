//! Jobs: what the server does by itself when somebody asks for it.

use motorcade::app::audit::{Author, Who};
use motorcade::catalog::InsertedJob;
use motorcade::model::AccessRole::{Engineer, Viewer};
use motorcade::model::{Clock, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestServer, eventually, send};
use crate::state::TestState;
use crate::support::{motorcade, run};

impl TestServer {
    async fn start_job(&self, kind: &str) -> Value {
        let request = self.request_as(Engineer, Method::POST, "/api/v1/jobs");
        let answer = send(request.json(&json!({ "kind": kind }))).await;
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        answer.json()
    }

    async fn job(&self, id: &Value) -> Value {
        self.get(&format!("/api/v1/jobs/{}", id.as_str().unwrap())).await.json()
    }

    /// A job that has ended.
    pub(crate) async fn ended_job(&self, id: &Value) -> Value {
        let mut job = Value::Null;
        eventually("the job ends", async || {
            job = self.job(id).await;
            !job["ended_at"].is_null()
        })
        .await;
        job
    }
}

#[tokio::test]
async fn a_check_through_the_server_finds_what_the_command_finds() {
    let server = TestServer::start().await;
    for number in 0..3 {
        server.upload(&format!("gw/{number}/a.bin"), "x").await.expect(201);
    }
    let job = server.start_job("fsck").await;
    assert_eq!([&job["kind"], &job["state"]], ["fsck", "queued"]);
    let clean = server.ended_job(&job["id"]).await;
    assert_eq!(clean["state"], "done", "{clean}");
    assert_eq!(clean["result"]["problems"], json!([]));
    assert_eq!(clean["progress"]["done"], clean["progress"]["total"]);

    let name = server.state.stored_targets().into_iter().next().unwrap();
    std::fs::write(server.state.blob(&name), "something else").unwrap();
    let job = server.start_job("fsck").await;
    let found = server.ended_job(&job["id"]).await;
    let command =
        motorcade(["--json", "fsck", "--data-dir"]).arg(server.state.path()).output().unwrap();
    let command: Value = serde_json::from_slice(&command.stdout).unwrap();
    assert_eq!(found["result"]["problems"], command["problems"]);
    assert!(!found["result"]["problems"].as_array().unwrap().is_empty());
    assert_eq!(
        [&found["result"]["files"], &found["result"]["bytes"]],
        [&command["files"], &command["bytes"]]
    );

    let created = server.get("/api/v1/audit?kind=job_created").await.json();
    let created = created["entries"].as_array().unwrap().clone();
    assert_eq!(created.len(), 2);
    assert_eq!(
        [&created[0]["subject"], &created[0]["actor_role"]],
        [&job["id"], &json!("engineer")]
    );
}

#[tokio::test]
async fn jobs_are_listed_and_followed_at_the_command_line() {
    let server = TestServer::start().await;
    let id = run(&mut server.motorcade("job start fsck")).trim().to_owned();
    let shown = run(&mut server.motorcade(&format!("--json job show {id} --follow")));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!([&shown["id"], &shown["state"]], [&json!(id), &json!("done")]);
    let second = run(&mut server.motorcade("--json job start fsck --follow"));
    let second: Value = serde_json::from_str(&second).unwrap();
    assert_ne!(second["id"], shown["id"]);
    let mut list = server.motorcade("--json job list");
    let listed = run(list.env("MOTORCADE_TOKEN", server.state.tokens.of(Viewer)));
    let listed: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed, [second.clone(), shown]);
    let page = server.get("/api/v1/jobs?limit=1").await.json();
    assert_eq!([&page["jobs"][0]["id"], &page["next_cursor"]], [&second["id"], &second["id"]]);
    let rest = server.get(&format!("/api/v1/jobs?cursor={}", second["id"].as_str().unwrap())).await;
    assert_eq!(rest.json()["jobs"][0]["id"], json!(id));
    let ended = server.request_as(Engineer, Method::DELETE, &format!("/api/v1/jobs/{id}"));
    send(ended).await.refused(409, "job_ended");
}

#[tokio::test]
async fn what_nobody_can_do_is_no_job() {
    let server = TestServer::start().await;
    let ask = async |body: Value| {
        send(server.request_as(Engineer, Method::POST, "/api/v1/jobs").json(&body)).await
    };
    ask(json!({ "kind": "format" })).await.refused(400, "bad_job");
    ask(json!({ "kind": "fsck", "more": 1 })).await.refused(400, "bad_json");
    server.get("/api/v1/jobs/0123").await.refused(404, "job_not_found");
    let cancel = server.request_as(Engineer, Method::DELETE, "/api/v1/jobs/0123");
    send(cancel).await.refused(404, "job_not_found");
}

/// A catalog with a job that nobody has taken, from before the server starts.
async fn with_waiting_job(kind: &str) -> TestState {
    let state = TestState::new();
    let catalog = state.dir().open_catalog().await.unwrap();
    let author = Author { who: Who::Server, at: SystemClock.now(), request_id: None };
    let inserted = catalog.insert_job("0123", kind, &json!({}), None, &author).await.unwrap();
    assert!(matches!(inserted, InsertedJob::New(_)));
    catalog.close().await;
    state
}

#[tokio::test]
async fn a_job_that_waits_is_done_when_a_server_starts() {
    let server = TestServer::on(with_waiting_job("fsck").await, |_| ()).await;
    assert_eq!(server.ended_job(&json!("0123")).await["state"], "done");
}

#[tokio::test]
async fn a_job_of_a_kind_that_this_version_does_not_have_fails_and_holds_up_nothing() {
    let server = TestServer::on(with_waiting_job("dance").await, |_| ()).await;
    let failed = server.ended_job(&json!("0123")).await;
    assert_eq!([&failed["state"], &failed["error"]], ["failed", "this version has no job dance"]);
    let job = server.start_job("fsck").await;
    assert_eq!(server.ended_job(&job["id"]).await["state"], "done");
}
