//! Keys that are replaced while uploads end, at this server or at another one.

use std::fs;

use bytes::Bytes;
use reqwest::{Body, Method, Response, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::postgres::Postgres;
use crate::presence::id;
use crate::replicas::{call, code, readiness};
use crate::shared::Replicas;
use crate::support::{Server, files_below, run, snakeoil, wait_until};
use crate::tus::{begin, patch};

/// Has all writers of a database wait, as one that is slow does.
const WRITERS: &str = "SELECT pg_advisory_xact_lock(7091026)";

/// What was sealed for the former key is not recorded behind the rotation's back, and nobody has to
/// send it again either.
#[tokio::test]
async fn an_upload_that_ends_beside_a_rotation_is_wrapped_anew() {
    let replicas = Replicas::new();
    let server = replicas.serve(0);
    let client = server.client(&replicas.token);
    let old = client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    let key = fs::read_to_string(snakeoil("snakeoil_p256_other.pub.pem")).unwrap();
    let elsewhere = json!({ "hardware_ids": ["elsewhere"], "public_key": key });
    let registered = call(&client, Method::POST, "/api/v1/recipients").json(&elsewhere);
    let registered: Value = registered.send().await.unwrap().json().await.unwrap();
    let new = registered["kid"].as_str().unwrap().to_owned();

    let held = Postgres::shared().hold(&replicas.database, WRITERS);
    let uploads = ["", &format!("&recipient={old}")].map(|named| {
        let (client, named) = (client.clone(), named.to_owned());
        let path = if named.is_empty() { "gw/all" } else { "gw/named" };
        tokio::spawn(async move { client.put(path, &named, "firmware").await.unwrap() })
    });
    let staging = replicas.blobs().join("staging");
    wait_until("both have images and envelopes", async || files_below(&staging).len() >= 4).await;
    held.end_with(&format!(
        "UPDATE recipients SET (kid, jwk) = (SELECT kid, jwk FROM recipients WHERE hardware_id = 'elsewhere') \
         WHERE kid = '{old}'; \
         INSERT INTO retired_recipients (kid, successor, retired_at, retired_by) VALUES ('{old}', '{new}', 0, 'test');"
    ));
    for upload in uploads {
        let answer = upload.await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }
    for path in ["gw/all", "gw/named"] {
        let envelope = client.get(&format!("/api/v1/images/{path}/envelope")).await;
        let envelope = String::from_utf8_lossy(&envelope).into_owned();
        assert!(envelope.contains(&new) && !envelope.contains(&old), "{path}: {envelope}");
    }
    wait_until("both are wrapped anew", async || server.log().matches("wrapped anew").count() == 2)
        .await;
    assert_eq!(files_below(&staging), [""; 0], "nothing is left of the former envelopes");
    drop(server);
    replicas.fsck();
}

/// The presence of a server that is paused ends, and the other one takes it for gone.
fn end_presence(replicas: &Replicas, number: usize) {
    let id = id(&replicas.state(number));
    let end = format!("UPDATE leases SET lease_until = 0 WHERE name = 'server/{id}'");
    replicas.sql(&end);
}

/// Has the escrow key replaced, and waits until the former one opens nothing any more.
async fn rotate_escrow(replicas: &Replicas, server: &Server) {
    let officer = server.client(&replicas.token("officer"));
    let mut job = Value::Null;
    wait_until("the rotation has begun", async || {
        let rotate = call(&officer, Method::POST, "/api/v1/rotations");
        let answer = rotate.json(&json!({ "escrow": {} })).send().await.unwrap();
        let has_begun = answer.status().is_success();
        job = answer.json().await.unwrap();
        // The other one may have been paused in the middle of something, or be there yet.
        assert!(
            has_begun || ["catalog_unreachable", "other_replicas"].contains(&code(&job)),
            "{job}"
        );
        has_begun
    })
    .await;
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
    wait_until("the rotation has ended", async || {
        job = serde_json::from_slice(&officer.get(&path).await).unwrap();
        !job["ended_at"].is_null()
    })
    .await;
    assert_eq!(job["state"], "done", "{job}");
    assert!(job["result"]["retired"].is_string(), "{job}");
}

async fn assert_key_differs(answer: Response) {
    let retries = answer.headers().contains_key("retry-after");
    let status = answer.status();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((status, code(&problem)), (StatusCode::SERVICE_UNAVAILABLE, "escrow_key_differs"));
    assert!(retries, "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_paused_over_a_rotation_of_the_escrow_key_seals_nothing_for_the_former()
{
    let replicas = Replicas::new();
    // The second one waits for a body for as long as this machine may take for anything.
    let patient = [("MOTORCADE_IDLE_TIMEOUT", "1h")];
    let servers = [replicas.serve(0), replicas.serve_in(1, &patient)];
    let [here, there] = servers.each_ref().map(|server| server.client(&replicas.token));
    here.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    there.upload("gw/1", "", b"firmware").await;

    // One is half there when its server is paused.
    let (bytes, mut incoming) = mpsc::channel::<Bytes>(1);
    let body = futures_util::stream::poll_fn(move |context| {
        incoming.poll_recv(context).map(|piece| piece.map(Ok::<_, std::io::Error>))
    });
    let paused = there.clone();
    let on_its_way =
        tokio::spawn(async move { paused.put("gw/2", "", Body::wrap_stream(body)).await.unwrap() });
    bytes.send("firm".into()).await.unwrap();
    wait_until("it has begun", async || {
        let metrics = call(&there, Method::GET, "/metrics").send().await.unwrap();
        metrics.text().await.unwrap().contains("motorcade_uploads_in_progress 1")
    })
    .await;
    servers[1].process.signal(Signal::STOP);
    end_presence(&replicas, 1);
    rotate_escrow(&replicas, &servers[0]).await;
    let waiting = begin(&here, "gw/4", 2_000_000).await;
    servers[1].process.signal(Signal::CONT);

    bytes.send("ware".into()).await.unwrap();
    drop(bytes);
    assert_key_differs(on_its_way.await.unwrap()).await;
    assert_key_differs(there.put("gw/3", "", "firmware").await.unwrap()).await;
    let image = vec![7; 2_000_000];
    assert_key_differs(patch(&there, &waiting, 0).body(image.clone()).send().await.unwrap()).await;
    let (status, said) = readiness(&there).await;
    assert_eq!((status, code(&said)), (StatusCode::SERVICE_UNAVAILABLE, "escrow_key_differs"));
    assert_eq!(readiness(&here).await.0, 200, "the other one goes on");
    here.upload("gw/2", "", b"firmware").await;
    there.get("/repo/timestamp.json").await;

    replicas.copy_keys();
    wait_until("it has the key", async || readiness(&there).await.0 == 200).await;
    there.upload("gw/3", "", b"firmware").await;
    let whole = patch(&there, &waiting, 0).body(image).send().await.unwrap();
    assert_eq!(whole.status(), 204, "{}", whole.text().await.unwrap());
    drop(servers);
    replicas.fsck(); // which opens each envelope with the key that is left
    assert!(run(&mut replicas.command(1, &["doctor"])).contains("keys"));
}

/// One of two replicas serves an image.
async fn used() -> (Replicas, Server) {
    let replicas = Replicas::new();
    let server = replicas.serve(0);
    let client = server.client(&replicas.token);
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    client.upload("gw/1", "", b"firmware").await;
    (replicas, server)
}

/// The escrow key that the catalog names.
fn escrow_kid(replicas: &Replicas) -> String {
    replicas.sql("SELECT value FROM installation WHERE name = 'escrow_kid'")
}

/// Which key wraps is said in files: the catalog refuses, whatever is written there, and has nothing
/// wrapped for another one.
#[tokio::test]
async fn a_key_that_somebody_names_in_the_catalog_is_wrapped_to_by_nobody() {
    let (replicas, server) = used().await;
    let client = server.client(&replicas.token);
    let kid = escrow_kid(&replicas);
    assert!(!kid.is_empty());
    replicas.sql("UPDATE installation SET value = 'another' WHERE name = 'escrow_kid'");
    assert_key_differs(client.put("gw/2", "", "firmware").await.unwrap()).await;
    let waits = call(&server.client(&replicas.token("officer")), Method::POST, "/api/v1/rotations");
    assert_key_differs(waits.json(&json!({ "escrow": {} })).send().await.unwrap()).await;
    assert_eq!(replicas.sql("SELECT COUNT(*) FROM images WHERE envelope LIKE '%another%'"), "0");
    replicas.sql(&format!("UPDATE installation SET value = '{kid}' WHERE name = 'escrow_kid'"));
    client.upload("gw/2", "", b"firmware").await;

    // An installation from before has none: the first server to start says which it is.
    drop(server);
    replicas.sql("DELETE FROM installation WHERE name = 'escrow_kid'");
    let server = replicas.serve(0);
    assert_eq!(escrow_kid(&replicas), kid);
    server.client(&replicas.token).upload("gw/3", "", b"firmware").await;
}

/// The files come first, and the catalog hears of it afterwards: killed in between, the next start
/// says it.
#[tokio::test]
async fn a_rotation_of_the_escrow_key_that_was_cut_off_is_known_after_the_next_start() {
    let (replicas, server) = used().await;
    let before = escrow_kid(&replicas);
    let officer = server.client(&replicas.token("officer"));
    let keys = replicas.state(0).join("keys");
    let held = Postgres::shared().hold(&replicas.database, WRITERS);
    let rotate = call(&officer, Method::POST, "/api/v1/rotations").json(&json!({ "escrow": {} }));
    let rotate = tokio::spawn(rotate.send());
    wait_until("its files are there", async || keys.join("escrow.toml").exists()).await;
    server.process.kill();
    held.end_with("");
    assert!(rotate.await.unwrap().is_err());
    assert_eq!(escrow_kid(&replicas), before);

    let server = replicas.serve(0);
    let client = server.client(&replicas.token);
    assert_eq!(readiness(&client).await.0, 200);
    client.upload("gw/2", "", b"firmware").await;
    let kid = escrow_kid(&replicas);
    assert_ne!(kid, before);
    let added = "SELECT COUNT(*) FROM audit WHERE kind = 'escrow_key_added'";
    assert_eq!(replicas.sql(added), "1");
    rotate_escrow(&replicas, &server).await;
    assert_eq!(escrow_kid(&replicas), kid);
    assert_eq!(replicas.sql(added), "1", "it is the same rotation");
    drop(server);
    replicas.fsck();
}
