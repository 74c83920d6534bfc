//! Images that nobody gave to an ECU: facts that are raised, and that a person can accept.

use motorcade::api::{EventBody, History};
use motorcade::model::AccessRole::{Engineer, Viewer};
use motorcade::model::{InstalledImage, Sha256Digest};
use reqwest::Method;
use serde_json::{Value, json};

use super::vehicle::TestVehicle;
use crate::answer::Answer;
use crate::app::{TestServer, send};

fn foreign(path: &str, byte: u8) -> InstalledImage {
    InstalledImage {
        path: path.to_owned(),
        length: 7,
        sha256: Sha256Digest::from_bytes([byte; 32]),
    }
}

async fn accept(server: &TestServer, serial: &str, body: &Value) -> Answer {
    let path = format!("/api/v1/vehicles/VIN1/ecus/{serial}/accept-installed");
    send(server.request_as(Engineer, Method::POST, &path).json(body)).await
}

#[tokio::test]
async fn an_image_that_was_never_offered_is_a_fact_that_is_raised() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    server.upload_for("brake-2", "brake/1", 1, "").await;
    vehicle.assign(&server, &[(1, "brake/1")]).await.expect(201);
    let version = vehicle.targets(&server).await["version"].clone();

    vehicle.runs(&server, 0, "gw/1").await; // nobody assigned it
    let shown = vehicle.shown(&server).await;
    assert_eq!(
        (&*shown.ecus[0].installed.as_ref().unwrap().path, shown.ecus[0].unexpected),
        ("gw/1", true)
    );
    assert_eq!(shown.quarantine.unwrap().kinds, ["unexpected-image"]);
    let raised = vehicle.events(&server, "unexpected_image").await;
    assert!(
        raised.len() == 1 && raised[0].starts_with("image_never_offered: it runs gw/1, "),
        "{raised:?}"
    );
    assert_eq!(server.vehicles("unexpected=true").await, ["VIN1"]);
    assert!(server.metrics().await.contains("motorcade_unexpected_images_total 1"));
    vehicle.assign(&server, &[(0, "gw/1")]).await.refused(409, "vehicle_quarantined");
    // It still gets its metadata, with what it was assigned before.
    assert_eq!(vehicle.targets(&server).await["version"], version);
    vehicle.runs(&server, 1, "brake/1").await;

    // Whatever else it makes up is told, and fills nothing.
    for byte in 0..20 {
        vehicle.runs_image(&server, 0, foreign(&format!("made/up/{byte}"), byte)).await;
    }
    assert!(
        vehicle.events(&server, "unexpected_image").await.len() <= 2,
        "those of an hour are one"
    );
    let installed = vehicle.shown(&server).await.ecus[0].installed.clone();
    assert_eq!(installed.unwrap().path, "made/up/19");
}

#[tokio::test]
async fn a_name_alone_makes_no_image_expected() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    let factory = vehicle.ecus[0].report.installed_image.clone();
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    vehicle.targets(&server).await;
    vehicle.runs_image(&server, 0, foreign("gw/1", 9)).await;
    let raised = vehicle.events(&server, "unexpected_image").await;
    assert!(
        raised[0].starts_with("image_differs: it runs gw/1, 7 bytes, SHA-256 0909"),
        "{raised:?}"
    );
    let assigned = vehicle.shown(&server).await.ecus[0].assigned.clone();
    assert_eq!(assigned.as_deref(), Some("gw/1"), "it does not run it");
    vehicle.runs(&server, 0, "gw/1").await;
    let shown = vehicle.shown(&server).await;
    assert_eq!((&shown.ecus[0].assigned, shown.ecus[0].unexpected), (&None, false));
    // What it had at first, and nothing at all, are no news of that kind.
    vehicle.runs_image(&server, 0, factory).await;
    let nothing = Sha256Digest::from_bytes(<[u8; 32] as From<_>>::from(
        <sha2::Sha256 as sha2::Digest>::digest([]),
    ));
    let nothing = InstalledImage { path: "unprovisioned".into(), length: 0, sha256: nothing };
    vehicle.runs_image(&server, 1, nothing).await;
    assert_eq!(vehicle.events(&server, "unexpected_image").await.len(), 1);
}

#[tokio::test]
async fn a_person_accepts_what_an_ecu_runs() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.runs_image(&server, 0, foreign("flashed/in/a/workshop", 1)).await;
    vehicle.runs_image(&server, 1, foreign("flashed/too", 2)).await;
    let digest = "01".repeat(32);

    accept(&server, "nobody", &json!({ "reason": "r" })).await.refused(404, "ecu_not_found");
    accept(&server, "VIN1-gw", &json!({ "reason": " " })).await.refused(400, "bad_vehicle");
    accept(&server, "VIN1-gw", &json!({ "reason": "r", "sha256": "x" }))
        .await
        .refused(400, "bad_digest");
    let other = json!({ "reason": "r", "sha256": "02".repeat(32) });
    let detail = accept(&server, "VIN1-gw", &other).await.refused(409, "image_changed");
    assert!(detail.contains("flashed/in/a/workshop"), "{detail}");
    let path = "/api/v1/vehicles/VIN1/ecus/VIN1-gw/accept-installed";
    let viewer = server.request_as(Viewer, Method::POST, path).json(&json!({ "reason": "r" }));
    send(viewer).await.refused(403, "forbidden");

    let request =
        server.request_as(Engineer, Method::POST, path).header("X-Request-Id", "ticket-17");
    send(request.json(&json!({ "reason": "seen it", "sha256": digest }))).await.expect(204);
    accept(&server, "VIN1-gw", &json!({ "reason": "r" })).await.refused(409, "nothing_to_accept");
    assert!(vehicle.shown(&server).await.quarantine.is_some(), "the other one is still there");
    accept(&server, "VIN1-brake", &json!({ "reason": "r" })).await.expect(204);
    assert!(vehicle.shown(&server).await.quarantine.is_none());
    assert_eq!(server.vehicles("unexpected=true").await, Vec::<String>::new());

    let history: History = server.get("/api/v1/vehicles/VIN1/history").await.body();
    let is_this = |event: &&EventBody| event.request_id.as_deref() == Some("ticket-17");
    let accepted = history.events.iter().find(is_this).unwrap();
    assert_eq!(
        (&*accepted.kind, accepted.ecu_serial.as_deref()),
        ("image_accepted", Some("VIN1-gw"))
    );
    assert!(accepted.detail.ends_with(&format!("{digest}: seen it")), "{accepted:?}");
    assert_eq!(accepted.actor.len(), 12, "the token's id: {accepted:?}");

    // From now on it may have it, and may fall back to it.
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    vehicle.targets(&server).await;
    vehicle.runs(&server, 0, "gw/1").await;
    vehicle.runs_image(&server, 0, foreign("flashed/in/a/workshop", 1)).await;
    assert_eq!(
        vehicle.events(&server, "unexpected_image").await.len(),
        2,
        "one of each ECU, both accepted"
    );
}

/// The catalog is that of yesterday, and vehicles have installed since what it does not know of.
#[tokio::test]
async fn after_a_restored_backup_a_vehicle_is_served_and_can_be_accepted() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    server.upload_for("gw-mk3", "gw/2", 2, "").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    server.upload_for("gw-mk3", "gw/3", 3, "").await;
    let state = server.stop();
    let backup = state.catalog_bytes().await;
    let server = TestServer::on(state, |_| ()).await;
    vehicle.assign(&server, &[(0, "gw/2")]).await.expect(201);
    vehicle.targets(&server).await;
    vehicle.runs(&server, 0, "gw/2").await;

    let state = server.stop();
    state.put_catalog_back(&backup).await;
    // As OPERATIONS.md says.
    state.sql("UPDATE sequences SET value = value + 1000000 WHERE name = 'director'").await;
    state.sql("UPDATE vehicle_status SET bundle = NULL").await;
    let server = TestServer::on(state, |_| ()).await;
    vehicle.report(&server).await;
    vehicle.report(&server).await;
    let version = vehicle.targets_version;
    assert!(
        vehicle.targets(&server).await["version"].as_u64().unwrap() > version,
        "it gets its metadata"
    );
    let quarantine = vehicle.shown(&server).await.quarantine.unwrap();
    assert_eq!(quarantine.kinds, ["unexpected-image"]);
    accept(&server, "VIN1-gw", &json!({ "reason": "restored" })).await.expect(204);
    vehicle.assign(&server, &[(0, "gw/1")]).await.refused(409, "release_counter_rollback");
    vehicle.assign(&server, &[(0, "gw/3")]).await.expect(201);
    vehicle.targets(&server).await;
    vehicle.runs(&server, 0, "gw/3").await;
}

/// Whatever the Director has against what a vehicle says, it never keeps the vehicle from what was
/// signed for it.
#[tokio::test]
async fn no_refusal_keeps_a_vehicle_from_its_metadata() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let good = vehicle.next_manifest();
    let strange = TestVehicle { token: vehicle.token.clone(), ..TestVehicle::new("VIN1") };
    let mut other_primary = TestVehicle::new("VIN1");
    other_primary.ecus.reverse();
    other_primary.token = vehicle.token.clone();
    let one = vehicle.sign(
        [(vehicle.ecus[0].serial.clone(), vehicle.ecus[0].report.sign(&vehicle.ecus[0].signing))]
            .into(),
    );
    let mut other_vehicle = TestVehicle::new("VIN2");
    for ecu in &mut vehicle.ecus {
        ecu.report.counter = 1;
    }
    let replayed = vehicle.manifest();
    let refused = [
        (json!([]), 400, "manifest_malformed"),
        (other_vehicle.next_manifest(), 403, "forbidden"),
        (strange.manifest(), 422, "wrong_signature"),
        (other_primary.next_manifest(), 422, "wrong_primary"),
        (one, 422, "ecu_missing"),
        (replayed, 409, "counter_replayed"),
    ];
    for (manifest, status, code) in refused {
        vehicle.send(&server, &manifest).await.refused(status, code);
        assert_eq!(
            vehicle.targets(&server).await["targets"].as_object().unwrap().len(),
            1,
            "{code}"
        );
    }
    vehicle.send(&server, &good).await.expect(204);
}
