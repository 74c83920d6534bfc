//! Polls in one request: the timestamp comes with the answer to the manifest, for who asks for it.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::vehicle::TestVehicle;
use crate::answer::Answer;
use crate::app::{TestServer, send, sha256_hex};
use crate::state::TestState;

async fn report(server: &TestServer, vehicle: &mut TestVehicle, prefer: &str) -> Answer {
    let manifest = vehicle.next_manifest();
    let request = server.request(Method::PUT, "/director/manifest").bearer_auth(&vehicle.token);
    send(request.header("Prefer", prefer).body(manifest.to_string())).await
}

#[tokio::test]
async fn a_vehicle_that_asks_for_it_gets_its_timestamp_with_the_answer() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;

    let answer = report(&server, &mut vehicle, "return=representation; root=1").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("preference-applied"), Some("return=representation"));
    assert_eq!(answer.header("content-location"), Some("timestamp.json"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    let fetched = vehicle.fetch(&server, "timestamp.json").await;
    assert_eq!(answer.body, fetched.body, "the same file");

    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let next = report(&server, &mut vehicle, "return=representation; root=1").await.json();
    let version = |file: &serde_json::Value| file["signed"]["version"].as_u64().unwrap();
    assert!(version(&next) > version(&fetched.json()), "it lists the assignment");
}

#[tokio::test]
async fn who_does_not_ask_or_trusts_another_root_gets_no_more_than_before() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    for prefer in ["return=minimal", "return=representation", "return=representation; root=2"] {
        let answer = report(&server, &mut vehicle, prefer).await;
        assert_eq!(answer.status, 204, "{prefer}");
        assert_eq!(answer.header("preference-applied"), None, "{prefer}");
        assert_eq!(answer.header("content-type"), None, "{prefer}");
        assert!(answer.body.is_empty(), "{prefer}");
    }
    let manifest = vehicle.next_manifest();
    assert!(vehicle.send(&server, &manifest).await.expect(204).is_empty());
}

#[tokio::test]
async fn a_manifest_that_is_refused_brings_no_timestamp() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    vehicle.ecus[0].report.counter = 0;
    let answer = report(&server, &mut vehicle, "return=representation; root=1").await;
    answer.refused(409, "counter_replayed");
}

/// Looks as a vehicle does between reports (docs/POUF.md, 2.2).
async fn look(server: &TestServer, vehicle: &TestVehicle, trusted: &[u8]) -> Answer {
    let request = server.request(Method::GET, "/director/timestamp.json");
    let etag = format!("\"{}\"", sha256_hex(trusted));
    send(request.bearer_auth(&vehicle.token).header("If-None-Match", etag)).await
}

#[tokio::test]
async fn who_looks_gets_its_timestamp_once_it_is_another_one() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.report(&server).await;
    let trusted = vehicle.fetch(&server, "timestamp.json").await.body;
    for _ in 0..2 {
        assert!(look(&server, &vehicle, &trusted).await.expect(304).is_empty());
    }
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let next = look(&server, &vehicle, &trusted).await;
    assert_eq!(next.status, 200);
    assert!(look(&server, &vehicle, &next.body).await.expect(304).is_empty());
    vehicle.runs(&server, 0, "gw/1").await;
    assert_eq!(look(&server, &vehicle, &next.body).await.status, 200, "nothing is left to do");
}

#[tokio::test]
async fn what_is_signed_for_a_vehicle_says_how_often_it_reports_at_least() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    assert_eq!(vehicle.targets(&server).await["report_every"], json!(6 * 3600));
    let server = TestServer::on(server.stop(), |config| {
        config.vehicles.report_every = Some(Duration::from_secs(90));
    })
    .await;
    let mut other = TestVehicle::registered(&server, "VIN2").await;
    assert_eq!(other.targets(&server).await["report_every"], json!(90));
    // Where vehicles are silent soon, they report sooner.
    let server = TestServer::on(TestState::new(), |config| {
        config.vehicles.silent_after = Some(Duration::from_secs(7200));
    })
    .await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    assert_eq!(vehicle.targets(&server).await["report_every"], json!(3600));
}
