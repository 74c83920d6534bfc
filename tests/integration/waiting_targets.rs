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
use crate::offline_targets::{found, handed_over, publish, status, version_of, with_acme};
use crate::suppliers::{published, remove, search, token, upload};
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
    let server = with_acme(&desk).await;
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

#[tokio::test]
async fn a_supplier_s_file_that_is_not_fit_is_not_taken_along_with_the_targets() {
    let desk = Desk::new(&["anna", "acme"]);
    let server = handed_over(&desk).await;
    run(&mut server.officer(&desk, "supplier add acme --public-key acme.json"));
    let own = token(&server.state, "acme/").await;
    for path in ["acme/1.bin", "acme/2.bin"] {
        upload(&server, &own, path, "").await.expect(201);
    }
    sign_as_acme(&server, &desk, "acme", 1);
    sign_targets(&server, &desk, 1);
    let yank = "/api/v1/images/acme/1.bin";
    send(server.request_as(AccessRole::Engineer, Method::DELETE, yank)).await.expect(204);
    let before = version_of(&server, "targets").await;
    let unfit = refused(&mut server.officer(&desk, "targets publish"));
    assert!(unfit.contains("supplier-acme lists acme/1.bin, which was yanked"), "{unfit}");
    assert_eq!(version_of(&server, "targets").await, before);
    assert!(!found(&server, "acme/1.bin").await);

    // It holds up nothing else: the next targets don't name the supplier, until it has signed again.
    assert_eq!(status(&server).await.waiting, [""; 0]);
    let staged = status(&server).await.staged.unwrap().revision;
    run(&mut server.officer(&desk, &format!("targets cancel --revision {staged}")));
    let staged: Value = server.get(ACME).await.json()["staged"]["revision"].clone();
    run(&mut server.officer(&desk, &format!("supplier cancel acme --revision {staged}")));
    sign_as_acme(&server, &desk, "acme", 2);
    publish(&server, &desk, 2);
    assert!(found(&server, "acme/2.bin").await && !found(&server, "acme/1.bin").await);
    server.state.assert_clean().await;
}

#[tokio::test]
async fn a_supplier_can_t_make_people_sign_the_targets_again_and_again() {
    let desk = Desk::new(&["anna", "acme"]);
    let server = handed_over(&desk).await;
    run(&mut server.officer(&desk, "supplier add acme --public-key acme.json"));
    let own = token(&server.state, "acme/").await;
    upload(&server, &own, "acme/1.bin", "").await.expect(201);
    sign_as_acme(&server, &desk, "acme", 1);
    let change = async |token: &str, method: Method| {
        let revision = server.get(ACME).await.json()["staged"]["revision"].clone();
        let request = server.request(method, &format!("{ACME}/staged")).bearer_auth(token);
        send(request.header(IF_MATCH, format!("\"{revision}\"")).json(&json!({}))).await
    };
    change(&own, Method::PUT).await.expect(200); // as long as nobody signs targets with it
    sign_as_acme_again(&server, &desk);
    sign_targets(&server, &desk, 1);
    for method in [Method::PUT, Method::DELETE] {
        let detail = change(&own, method).await.refused(409, "targets_staged");
        assert!(detail.contains("motorcade targets cancel"), "{detail}");
    }
    run(&mut server.officer(&desk, "targets publish"));
    assert!(found(&server, "acme/1.bin").await);
    // From then on it is the supplier's own affair, whatever targets are staged.
    run(&mut server.officer(&desk, "targets stage"));
    upload(&server, &own, "acme/2.bin", "").await.expect(201);
    let stage = server.request(Method::PUT, &format!("{ACME}/staged")).bearer_auth(&own);
    send(stage.json(&json!({}))).await.expect(200);
    change(&own, Method::PUT).await.expect(200);
    change(&own, Method::DELETE).await.expect(204);
}

/// The same of what is staged already.
fn sign_as_acme_again(server: &TestServer, desk: &Desk) {
    run(&mut server.officer(desk, "supplier diff acme --out again.json"));
    run(&mut desk.offline("supplier sign again.json --key acme.pem --yes --out again.signed.json"));
    run(&mut server.officer(desk, "supplier sign --send again.signed.json"));
}

#[tokio::test]
async fn keys_of_a_folder_that_was_handed_over_are_moved_away_and_that_is_written_down() {
    let desk = Desk::new(&["anna", "acme"]);
    let server = with_acme(&desk).await;
    let keys = |folder: &str| -> usize {
        let files = fs::read_dir(server.state.path().join(folder)).into_iter().flatten();
        files
            .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains("acme"))
            .count()
    };
    assert_eq!((keys("keys"), keys("keys/retired")), (1, 0));
    run(&mut server.officer(&desk, "supplier keys acme --public-key acme.json"));
    sign_as_acme(&server, &desk, "acme", 1);
    assert_eq!(keys("keys"), 1, "the published targets still name it");
    publish(&server, &desk, 2);
    assert_eq!((keys("keys"), keys("keys/retired")), (0, 1));
    assert!(found(&server, "acme/1.bin").await);
    let moved = server.get("/api/v1/audit?kind=role_keys_moved").await.json();
    assert_eq!(moved["entries"].as_array().unwrap().len(), 1, "{moved}");
    server.state.assert_clean().await;
}

#[tokio::test]
async fn people_name_other_keys_of_the_bins_which_then_sign_all_of_them() {
    let desk = Desk::new(&["anna"]);
    let server = handed_over(&desk).await;
    let rotate = async |body: Value| {
        let path = "/api/v1/roles/image/bins/rotate";
        let request = server.request_as(AccessRole::Officer, Method::POST, path);
        send(request.json(&body)).await.json()
    };
    let planned = rotate(json!({ "dry_run": true })).await;
    assert_eq!((&planned["awaits_signature_of"], &planned["made"]), (&json!("targets"), &json!(1)));
    assert_eq!(status(&server).await.waiting, [""; 0]);
    let rotated = rotate(json!({})).await;
    assert_eq!(rotated["awaits_signature_of"], "targets", "{rotated}");
    let (new, old) =
        (rotated["keys"][0].as_str().unwrap(), rotated["leaving"][0].as_str().unwrap());
    let signer = async |bin: &str| {
        let file = published(&server, bin).await;
        file["signatures"][0]["keyid"].as_str().unwrap().to_owned()
    };
    server.upload("gw/2.bin", "signed with the old key").await.expect(201);
    assert_eq!((signer("bin-0").await.as_str(), signer("bin-f").await.as_str()), (old, old));
    assert!(found(&server, "gw/2.bin").await);
    let waiting = status(&server).await.waiting;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(waiting[0].starts_with("~ delegates to bin-0 to bin-f"), "{waiting:?}");
    assert!(waiting[0].contains(new) && !waiting[0].contains(old), "{waiting:?}");
    let listed = run(&mut server.officer(&desk, "role list"));
    assert!(listed.contains("joins") && listed.contains("leaves"), "{listed}");

    let shown = publish(&server, &desk, 1);
    assert!(shown.contains(new), "{shown}");
    for bin in 0..16 {
        assert_eq!(signer(&format!("bin-{bin:x}")).await, new);
    }
    assert!(found(&server, "gw/2.bin").await);
    let listed = run(&mut server.officer(&desk, "role list"));
    assert!(!listed.contains("joins") && !listed.contains("leaves"), "{listed}");
    let retired = fs::read_dir(server.state.path().join("keys/retired")).unwrap();
    assert_eq!(retired.count(), 1, "the old key signs nothing any more");
    server.upload("gw/3.bin", "signed with the new key").await.expect(201);
    assert!(found(&server, "gw/3.bin").await);
    server.state.assert_clean().await;
    let server = TestServer::on(server.stop(), |_| ()).await;
    assert!(found(&server, "gw/3.bin").await);
}

#[tokio::test]
async fn keys_of_targets_that_people_sign_are_not_the_server_s_to_replace() {
    let desk = Desk::new(&["anna"]);
    let state = handed_over(&desk).await.stop();
    let (dir, now) = (state.dir(), SystemClock.now());
    let recovered = dir.recover_keys(RepositorySide::Image, RoleKind::Targets, now).await;
    let refused = recovered.unwrap_err().to_string();
    assert!(refused.contains("motorcade root stage"), "{refused}");
}
