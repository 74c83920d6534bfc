//! Files that their owners sign, when something comes in between: a kill, somebody else's hand, a key
//! that was replaced.

use std::collections::BTreeSet;
use std::fs;

use motorcade::model::AccessRole;
use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::app::{TestServer, send};
use crate::ceremony::{Desk, Officer};
use crate::offline_targets::handed_over;
use crate::own_keys::{Supplier, public};
use crate::state::TestState;
use crate::suppliers::{add, published, remove, search, upload};
use crate::support::run;

/// What is there of a state directory before a publication, so that it can be made what a kill
/// between storing and recording leaves.
struct Before {
    catalog: Vec<u8>,
    timestamp: Vec<u8>,
    files: BTreeSet<String>,
}

impl Before {
    async fn of(state: &TestState) -> Self {
        let timestamp = fs::read(state.blob("timestamp.json")).unwrap();
        Self { catalog: state.catalog_bytes().await, timestamp, files: state.stored_files() }
    }

    /// Takes back all of it but `stored`, which the kill has left.
    async fn left(&self, state: &TestState, stored: &str) {
        state.put_catalog_back(&self.catalog).await;
        fs::write(state.blob("timestamp.json"), &self.timestamp).unwrap();
        let after = state.stored_files();
        assert!(after.contains(stored) && !self.files.contains(stored), "{stored}: {after:?}");
        for name in after.difference(&self.files).filter(|name| *name != stored) {
            fs::remove_file(state.blob(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_supplier_s_file_that_a_kill_has_left_stored_is_published_after_it() {
    let server = TestServer::start().await;
    let mut acme = Supplier::added(&server, 2).await;
    // One of the two is enough.
    let give = server.request_as(AccessRole::Officer, Method::PUT, "/api/v1/suppliers/acme/keys");
    acme.keys = vec![Officer::new(), Officer::new()];
    let keys = json!({ "public_keys": public(&acme.keys), "threshold": 1 });
    send(give.json(&keys)).await.expect(200);
    upload(&server, &acme.token, "acme/1.bin", "").await.expect(201);
    let staged = acme.stage(&server).await.staged.unwrap();
    acme.sign(&server, &acme.keys[0]).await.expect(200);
    let stored = format!("{}.supplier-acme.json", staged.version);
    let state = server.stop();
    let before = Before::of(&state).await;
    let server = TestServer::on(state, |_| ()).await;
    acme.publish(&server).await.expect(200);
    let state = server.stop();
    before.left(&state, &stored).await;
    let bytes = fs::read(state.blob(&stored)).unwrap();

    let server = TestServer::on(state, |_| ()).await;
    assert!(!search(&server, "acme/1.bin", "gw-mk3").await.1);
    // Clients may have fetched it, so that another signature changes nothing any more.
    acme.sign(&server, &acme.keys[1]).await.expect(200);
    acme.publish(&server).await.expect(200);
    assert_eq!(fs::read(server.state.blob(&stored)).unwrap(), bytes);
    assert!(search(&server, "acme/1.bin", "gw-mk3").await.1);
    assert!(server.repository().await.find("acme/1.bin").is_some());
    server.state.assert_clean().await;
}

#[tokio::test]
async fn targets_that_a_kill_has_left_stored_are_published_after_it() {
    let desk = Desk::new(&["anna"]);
    let server = handed_over(&desk).await;
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    run(&mut server.officer(&desk, "targets stage"));
    run(&mut server.officer(&desk, "targets diff --out staged.json"));
    run(&mut desk.offline("targets sign staged.json --key anna.pem --yes --out signed.json"));
    run(&mut server.officer(&desk, "targets sign --send signed.json"));
    let state = server.stop();
    let before = Before::of(&state).await;
    let server = TestServer::on(state, |_| ()).await;
    run(&mut server.officer(&desk, "targets publish"));
    let version = published(&server, "targets").await["signed"]["version"].clone();
    let state = server.stop();
    before.left(&state, &format!("{version}.targets.json")).await;

    let server = TestServer::on(state, |_| ()).await;
    assert_ne!(published(&server, "targets").await["signed"]["version"], version);
    run(&mut server.officer(&desk, "targets publish"));
    assert_eq!(published(&server, "targets").await["signed"]["version"], version);
    server.repository().await;
    server.state.assert_clean().await;
}

/// Somebody on another server drops what is staged while it is published: that publication does not
/// take place, and what waits besides does not fail with it.
#[tokio::test]
async fn what_is_due_is_published_though_what_others_have_signed_is_gone() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    upload(&server, &acme.token, "acme/1.bin", "").await.expect(201);
    acme.stage(&server).await;
    acme.sign(&server, &acme.keys[0]).await.expect(200);
    let version = async |role: &str| published(&server, role).await["signed"]["version"].clone();
    let before = version("bin-3").await;
    server
        .state
        .sql(
            "CREATE TRIGGER gone AFTER UPDATE OF reserved ON roles WHEN NEW.name = 'snapshot' \
             BEGIN DELETE FROM staged_metadata; DELETE FROM staged_signatures; END; \
             UPDATE roles SET changes = changes + 1 WHERE name = 'bin-3'",
        )
        .await;
    acme.publish(&server).await.refused(412, "precondition_failed");
    assert!(!search(&server, "acme/1.bin", "gw-mk3").await.1);
    assert!(version("bin-3").await.as_u64() > before.as_u64(), "it was due");
    server.state.sql("DROP TRIGGER gone").await;
    acme.publish_all(&server).await;
    assert!(search(&server, "acme/1.bin", "gw-mk3").await.1);
    server.state.assert_clean().await;
}

async fn give(server: &TestServer, keys: &[Officer]) -> Answer {
    let request =
        server.request_as(AccessRole::Officer, Method::PUT, "/api/v1/suppliers/acme/keys");
    send(request.json(&json!({ "public_keys": public(keys) }))).await
}

#[tokio::test]
async fn keys_that_a_supplier_has_lost_never_come_back() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    upload(&server, &acme.token, "acme/1.bin", "").await.expect(201);
    acme.publish_all(&server).await;
    let next = Supplier { keys: vec![Officer::new()], token: acme.token.clone() };
    give(&server, &next.keys).await.expect(200);
    // Until the others have signed, it is the one that signs, and the change can be taken back.
    give(&server, &acme.keys).await.expect(200);
    let detail = give(&server, &next.keys).await.refused(409, "key_in_use");
    assert!(detail.contains("was replaced or removed"), "{detail}");
    let next = Supplier { keys: vec![Officer::new()], token: acme.token.clone() };
    give(&server, &next.keys).await.expect(200);
    next.publish_all(&server).await;
    give(&server, &acme.keys).await.refused(409, "key_in_use");

    remove(&server, "acme").await.expect(200);
    let again = |keys: &[Officer]| json!({ "supplier": "acme-2", "public_keys": public(keys) });
    for gone in [&acme, &next] {
        add(&server, again(&gone.keys)).await.refused(409, "key_in_use");
        let change = json!({ "roles": [{ "name": "root", "add": public(&gone.keys) }] });
        let path = "/api/v1/roots/image/staged";
        let staged = server.request_as(AccessRole::Officer, Method::PUT, path).json(&change);
        send(staged).await.refused(409, "key_in_use");
    }
    add(&server, again(&[Officer::new()])).await.expect(201);
}

#[tokio::test]
async fn what_is_dropped_with_a_supplier_or_its_keys_is_written_down() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    let log = async || -> Vec<Value> {
        let log = server.get("/api/v1/audit?kind=staging_cancelled").await.json();
        log["entries"].as_array().unwrap().clone()
    };
    let first = acme.stage(&server).await.staged.unwrap().revision;
    give(&server, &[Officer::new()]).await.expect(200);
    let entries = log().await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0]["subject"], "supplier-acme");
    assert_eq!(entries[0]["detail"]["revision"], first);
    give(&server, &[Officer::new()]).await.expect(200);
    assert_eq!(log().await.len(), 1, "nothing was staged");
    acme.stage(&server).await;
    remove(&server, "acme").await.expect(200);
    assert_eq!(log().await.len(), 2);
    server.state.assert_clean().await;
}
