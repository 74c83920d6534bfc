//! Targets that people sign, for as long as they have not: what is served, what is public, and who can
//! make their work be for nothing.

use std::fs;

use motorcade::model::{AccessRole, Clock, RepositorySide, RoleKind, SystemClock};
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::{Value, json};

use crate::app::{TestServer, send};
use crate::ceremony::Desk;
use crate::director::vehicle::TestVehicle;
use crate::offline_targets::{found, handed_over, publish, status, version_of};
use crate::suppliers::{add, published, remove, search, token, upload};
use crate::support::{refused, run};

const ACME: &str = "/api/v1/targets/supplier-acme";

/// Has the supplier acme sign what waits with `key`, and brings that.
fn sign_as_acme(server: &TestServer, desk: &Desk, key: &str, number: u32) {
    let (staged, signed) = (format!("acme-{number}.json"), format!("acme-{number}.signed.json"));
    run(&mut server.officer(desk, "supplier stage acme"));
    run(&mut server.officer(desk, &format!("supplier diff acme --out {staged}")));
    let sign = format!("supplier sign {staged} --key {key}.pem --yes --out {signed}");
    run(&mut desk.offline(&sign));
    run(&mut server.officer(desk, &format!("supplier sign --send {signed}")));
}

/// Stages the targets and has anna sign them.
fn sign_targets(server: &TestServer, desk: &Desk, number: u32) {
    let (staged, signed) = (format!("targets-{number}.json"), format!("{number}.signed.json"));
    run(&mut server.officer(desk, "targets stage"));
    run(&mut server.officer(desk, &format!("targets diff --out {staged}")));
    let sign = format!("targets sign {staged} --key anna.pem --yes --out {signed}");
    run(&mut desk.offline(&sign));
    run(&mut server.officer(desk, &format!("targets sign --send {signed}")));
}

/// A client that reads all that the snapshot lists gets all of it.
async fn assert_all_is_served(server: &TestServer) {
    let snapshot = published(server, "snapshot").await;
    for (name, file) in snapshot["signed"]["meta"].as_object().unwrap() {
        server.download(&format!("{}.{name}", file["version"])).await;
    }
}

async fn awaited(server: &TestServer, path: &str) -> Value {
    server.get(&format!("/api/v1/images/{path}")).await.json()["awaits_signature_of"].clone()
}

#[tokio::test]
async fn a_removed_supplier_s_file_is_served_and_its_folder_is_nobody_s_until_people_sign() {
    let desk = Desk::new(&["anna"]);
    let server = handed_over(&desk).await;
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    let own = token(&server.state, "acme/").await;
    upload(&server, &own, "acme/1.bin", "").await.expect(201);
    publish(&server, &desk, 1);
    assert!(found(&server, "acme/1.bin").await);
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.assign(&server, &[(0, "acme/1.bin")]).await.expect(201);

    remove(&server, "acme").await.expect(200);
    assert_all_is_served(&server).await;
    assert!(found(&server, "acme/1.bin").await, "the published targets lead there");
    server.state.assert_clean().await;
    let answer = server.upload("acme/2.bin", "of whoever is next").await;
    assert_eq!(answer.json()["awaits_signature_of"], "targets");
    assert_eq!(awaited(&server, "acme/2.bin").await, "targets");
    assert!(!search(&server, "acme/2.bin", "gw-mk3").await.1);
    let detail =
        vehicle.assign(&server, &[(0, "acme/2.bin")]).await.refused(409, "image_not_published");
    assert!(detail.contains("acme/2.bin"), "{detail}");
    server.upload("gw/2.bin", "which nobody waits for").await.expect(201);
    assert_eq!(awaited(&server, "gw/2.bin").await, Value::Null);

    publish(&server, &desk, 2);
    assert!(found(&server, "acme/2.bin").await && !found(&server, "acme/1.bin").await);
    assert_eq!(awaited(&server, "acme/2.bin").await, Value::Null);
    vehicle.assign(&server, &[(0, "acme/2.bin")]).await.expect(201);
    assert_all_is_served(&server).await;
    server.state.assert_clean().await;
}

#[tokio::test]
async fn fsck_names_what_is_published_and_would_not_be_served() {
    let server = TestServer::start().await;
    let state = server.stop();
    state.sql("DELETE FROM roles WHERE name = 'bin-3'").await;
    let report = motorcade::app::fsck::Damaged::Report;
    let findings = motorcade::app::fsck::check(&state.dir(), report, |_, _| ()).await.unwrap();
    let named = |line: &String| line.contains("bin-3.json") && line.contains("get nothing");
    assert!(findings.problems.iter().any(named), "{:?}", findings.problems);
}
