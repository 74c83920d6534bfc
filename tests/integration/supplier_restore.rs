//! Suppliers and backups: what clients have seen of a supplier that a restored catalog does not know
//! of, or knows an older file of.

use std::process::Command;

use motorcade::model::{Clock, SystemClock};
use motorcade::uptane::verify::{Rules, TrustedSet};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::TestServer;
use crate::own_keys::Supplier;
use crate::state::TestState;
use crate::suppliers::{add, published, token, upload};
use crate::support::run;

/// A copy of a state directory that no server uses.
async fn backed_up(state: &TestState) -> TempDir {
    state.catalog_closed().await;
    let backup = tempfile::tempdir().unwrap();
    run(Command::new("cp").arg("-a").arg(state.path().join(".")).arg(backup.path()));
    backup
}

/// Puts a backup in the place of what is there, as the runbook says.
async fn restore(state: &TestState, backup: &TempDir) {
    state.catalog_closed().await;
    run(Command::new("find").arg(state.path()).args(["-mindepth", "1", "-delete"]));
    run(Command::new("cp").arg("-a").arg(backup.path().join(".")).arg(state.path()));
    recover(state).await;
}

async fn recover(state: &TestState) {
    state.dir().recover_versions(0, SystemClock.now()).await.unwrap();
}

/// A client that has seen what is published now.
async fn client(server: &TestServer) -> TrustedSet {
    let root = server.state.first_root();
    let mut set = TrustedSet::new(&root, Rules::Image, SystemClock.now()).unwrap();
    assert!(takes(&mut set, server).await);
    set
}

/// Whether it takes what is published now.
async fn takes(set: &mut TrustedSet, server: &TestServer) -> bool {
    let timestamp = server.download("timestamp.json").await;
    set.update_timestamp(&timestamp).unwrap();
    let snapshot: Value = published(server, "snapshot").await;
    set.update_snapshot(&serde_json::to_vec(&snapshot).unwrap()).is_ok()
}

#[tokio::test]
async fn a_supplier_that_a_backup_does_not_know_is_added_again_and_every_client_goes_on() {
    let server = TestServer::start().await;
    server.upload("gw/1.bin", "of the car maker").await.expect(201);
    let state = server.stop();
    let backup = backed_up(&state).await;
    let server = TestServer::on(state, |_| ()).await;
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    let own = token(&server.state, "acme/").await;
    upload(&server, &own, "acme/1.bin", "").await.expect(201);
    let vehicle = client(&server).await;

    let state = server.stop();
    restore(&state, &backup).await;
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/3.bin", "once a round is over").await.expect(201);
    assert!(!takes(&mut vehicle.clone(), &server).await, "a role is missing (TUF 1.0.34, 5.5.5)");
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    let state = server.stop();
    recover(&state).await;
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/2.bin", "once a round is over").await.expect(201);
    assert!(takes(&mut vehicle.clone(), &server).await);
    let own = token(&server.state, "acme/").await;
    upload(&server, &own, "acme/2.bin", "").await.expect(201);
    assert!(server.repository().await.find("acme/2.bin").is_some());
    server.state.assert_clean().await;
}

#[tokio::test]
async fn a_supplier_who_keeps_its_keys_signs_once_more_after_a_restore() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    acme.publish_all(&server).await;
    let state = server.stop();
    let backup = backed_up(&state).await;
    let server = TestServer::on(state, |_| ()).await;
    upload(&server, &acme.token, "acme/1.bin", "").await.expect(201);
    acme.publish_all(&server).await;
    let vehicle = client(&server).await;

    let state = server.stop();
    restore(&state, &backup).await;
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/3.bin", "once a round is over").await.expect(201);
    assert!(!takes(&mut vehicle.clone(), &server).await, "the file is an older one");
    upload(&server, &acme.token, "acme/2.bin", "").await.expect(201);
    acme.publish_all(&server).await;
    assert!(takes(&mut vehicle.clone(), &server).await);
    assert!(server.repository().await.find("acme/2.bin").is_some());
}
