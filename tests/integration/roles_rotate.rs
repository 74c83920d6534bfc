//! Other keys for roles that are signed online: no client's cycle fails, from whichever root it
//! comes, and what can't be done is refused before anything is.

use std::fs;
use std::path::Path;

use motorcade::api::{RoleBody, RoleKeyBody, RoleRotationBody};
use motorcade::keys::file::add;
use motorcade::model::AccessRole::{Engineer, Officer};
use motorcade::model::{Clock, RoleName, SystemClock};
use motorcade::uptane::key::Scheme;
use motorcade::uptane::verify::{Rules, TrustedSet};
use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::app::{TestServer, send};
use crate::director::vehicle::TestVehicle;
use crate::roles::{change_policy, role};
use crate::state::{TestState, files_below};

async fn ask(server: &TestServer, repository: &str, role: &str, body: Value) -> Answer {
    let path = format!("/api/v1/roles/{repository}/{role}/rotate");
    send(server.request_as(Officer, Method::POST, &path).json(&body)).await
}

async fn rotate(server: &TestServer, repository: &str, role: &str) -> RoleRotationBody {
    let answer = ask(server, repository, role, json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.body()
}

fn keys_of(role: &RoleBody, state: &str) -> Vec<String> {
    let is_so = |key: &&RoleKeyBody| key.state == state;
    role.keys.iter().filter(is_so).map(|key| key.id.clone()).collect()
}

fn key_files(state: &Path) -> Vec<String> {
    files_below(&state.join("keys")).into_iter().collect()
}

async fn signers(server: &TestServer, name: &str) -> Vec<String> {
    let file: Value = serde_json::from_slice(&server.download(name).await).unwrap();
    let ids = file["signatures"].as_array().unwrap().iter();
    ids.map(|signature| signature["keyid"].as_str().unwrap().to_owned()).collect()
}

/// A client's cycle that has taken all roots up to `newest` and goes on from there.
async fn cycle_under(server: &TestServer, newest: u64) {
    let now = SystemClock.now();
    let mut set = TrustedSet::new(&server.state.first_root(), Rules::Image, now).unwrap();
    for version in 2..=newest {
        set.update_root(&server.download(&format!("{version}.root.json")).await).unwrap();
    }
    set.finish_root().unwrap();
    set.update_timestamp(&server.download("timestamp.json").await).unwrap();
    let (version, _) = set.expected_snapshot().unwrap();
    set.update_snapshot(&server.download(&format!("{version}.snapshot.json")).await).unwrap();
    let (version, _) = set.expected_targets(&RoleName::Targets).unwrap();
    set.update_targets(&server.download(&format!("{version}.targets.json")).await).unwrap();
}

/// Ends the time for which keys sign on that leave, as if it had passed.
async fn end_grace(server: TestServer) -> TestServer {
    let state = server.stop();
    state.sql("UPDATE handovers SET ends_at = 1").await;
    TestServer::on(state, |_| ()).await
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let server = TestServer::start().await;
    let (files, stored) = (key_files(server.state.path()), server.state.stored_files());
    let answer = ask(&server, "image", "snapshot", json!({ "dry_run": true })).await;
    let planned: RoleRotationBody = answer.body();
    assert_eq!((planned.root_version, planned.made, planned.threshold), (Some(2), 1, 1));
    assert_eq!((planned.files, planned.grace_seconds), (2, 3600));
    assert_eq!(planned.leaving, keys_of(&role(&server, "image", "snapshot").await, "signs"));
    assert_eq!((key_files(server.state.path()), server.state.stored_files()), (files, stored));
    let printed = server.motorcade_as(Officer, "role rotate snapshot --dry-run").output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("root 2"), "{printed}");
}

#[tokio::test]
async fn every_online_role_of_the_images_is_rotated_and_every_client_follows() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let mut newest = 1;
    for name in ["timestamp", "snapshot", "targets", "bins"] {
        let before = role(&server, "image", name).await;
        let rotated = rotate(&server, "image", name).await;
        newest += u64::from(name != "bins");
        assert_eq!(rotated.root_version, (name != "bins").then_some(newest), "{name}");
        let after = role(&server, "image", name).await;
        assert_eq!(keys_of(&after, "signs"), rotated.keys, "{name}");
        assert_ne!(keys_of(&after, "signs"), keys_of(&before, "signs"), "{name}");
        if name != "bins" {
            assert_eq!(keys_of(&after, "leaves"), keys_of(&before, "signs"), "{name}");
            cycle_under(&server, newest - 1).await; // one that began before
        }
        cycle_under(&server, newest).await;
        server.repository().await; // from root 1
        server.upload(&format!("gw/{name}/a.bin"), "firmware").await.expect(201);
        assert!(server.repository().await.find(&format!("gw/{name}/a.bin")).is_some());
    }
    assert_eq!(signers(&server, "timestamp.json").await.len(), 2);
    let server = end_grace(server).await;
    server.upload("gw/2/a.bin", "firmware").await.expect(201);
    assert_eq!(signers(&server, "timestamp.json").await.len(), 1);
    let retired = key_files(server.state.path());
    for name in ["timestamp", "snapshot", "targets", "bins"] {
        assert_eq!(role(&server, "image", name).await.keys.len(), 1, "{name}");
        assert!(retired.contains(&format!("retired/{name}.pem")), "{retired:?}");
    }
    cycle_under(&server, newest).await;
    let repository = server.repository().await;
    assert!(repository.find("gw/1/a.bin").is_some() && repository.find("gw/2/a.bin").is_some());
    server.state.assert_clean().await;
}

#[tokio::test]
async fn a_vehicle_in_the_midst_of_a_poll_goes_on_with_the_keys_that_it_knows() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    let first = vehicle.fetch(&server, "timestamp.json").await.json();
    for name in ["targets", "snapshot", "timestamp"] {
        rotate(&server, "director", name).await;
    }
    // It has the timestamp from before, and fetches what that names.
    let version = first["signed"]["version"].as_u64().unwrap();
    for name in ["snapshot", "targets"] {
        vehicle.fetch(&server, &format!("{version}.{name}.json")).await.expect(200);
    }
    // It has walked the roots before, and asks for the timestamp now.
    let now = SystemClock.now();
    for newest in [1, 4] {
        let ecus =
            vehicle.ecus.iter().map(|ecu| (ecu.serial.clone(), ecu.hardware_id.parse().unwrap()));
        let rules = Rules::Director { vin: vehicle.vin.clone(), ecus: Some(ecus.collect()) };
        let first = vehicle.fetch(&server, "1.root.json").await.expect(200);
        let mut set = TrustedSet::new(&first, rules, now).unwrap();
        for version in 2..=newest {
            let next = vehicle.fetch(&server, &format!("{version}.root.json")).await.expect(200);
            set.update_root(&next).unwrap();
        }
        set.finish_root().unwrap();
        set.update_timestamp(&vehicle.fetch(&server, "timestamp.json").await.expect(200)).unwrap();
        let (version, _) = set.expected_snapshot().unwrap();
        let snapshot = format!("{version}.snapshot.json");
        set.update_snapshot(&vehicle.fetch(&server, &snapshot).await.expect(200)).unwrap();
        let (version, _) = set.expected_targets(&RoleName::Targets).unwrap();
        let targets = format!("{version}.targets.json");
        set.update_targets(&vehicle.fetch(&server, &targets).await.expect(200)).unwrap();
    }
    let server = end_grace(server).await;
    vehicle.report(&server).await;
    for name in ["targets", "snapshot", "timestamp"] {
        assert_eq!(role(&server, "director", name).await.keys.len(), 1, "{name}");
    }
    server.state.assert_clean().await;
}

#[tokio::test]
async fn a_role_gets_as_many_keys_as_the_policy_asks_for() {
    let server = TestServer::start().await;
    let timestamp = "[timestamp]\nexpires_days = 1\nthreshold = 1";
    let wanted = "[timestamp]\nexpires_days = 1\nthreshold = 2\nkeys = 3";
    change_policy(server.state.path(), timestamp, wanted);
    let rotated = rotate(&server, "image", "timestamp").await;
    assert_eq!((rotated.threshold, rotated.made, rotated.keys.len()), (2, 3, 3));
    cycle_under(&server, 1).await;
    cycle_under(&server, 2).await;
    server.repository().await;
    let role = role(&server, "image", "timestamp").await;
    assert_eq!((role.threshold, role.differs), (2, false));
    let server = end_grace(server).await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    assert_eq!(signers(&server, "timestamp.json").await.len(), 3);
}

#[tokio::test]
async fn a_key_that_was_prepared_is_named_by_its_file() {
    let server = TestServer::start().await;
    let path =
        add(&server.state.path().join("keys"), "snapshot", Scheme::EcdsaSha2Nistp256).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let body = json!({ "keys": [format!("file:{name}")] });
    let rotated: RoleRotationBody = ask(&server, "image", "snapshot", body.clone()).await.body();
    assert_eq!((rotated.made, rotated.keys.len()), (0, 1));
    let role = role(&server, "image", "snapshot").await;
    let signing = role.keys.iter().find(|key| key.state == "signs").unwrap();
    assert_eq!(signing.scheme.as_deref(), Some("ecdsa-sha2-nistp256"));
    assert_eq!(signing.place.as_deref(), path.to_str());
    server.repository().await;
    let again = ask(&server, "image", "snapshot", body).await;
    again.refused(409, "nothing_to_rotate");
}

#[tokio::test]
async fn what_can_not_be_rotated_is_refused_and_changes_nothing() {
    let server = TestServer::start().await;
    let files = key_files(server.state.path());
    let keys = |names: &[&str]| json!({ "keys": names });
    let other = add(&server.state.path().join("keys"), "targets", Scheme::Ed25519).unwrap();
    let other = format!("file:{}", other.file_name().unwrap().to_str().unwrap());
    for (repository, role, body, status, code) in [
        ("image", "root", json!({}), 422, "not_online"),
        ("director", "bins", json!({}), 422, "no_such_role"),
        ("image", "mirrors", json!({}), 400, "bad_path"),
        ("mirror", "targets", json!({}), 400, "bad_path"),
        ("image", "snapshot", keys(&["vault:x"]), 400, "bad_key_source"),
        ("image", "snapshot", keys(&["file:/etc/passwd"]), 422, "unknown_key_source"),
        ("image", "snapshot", keys(&["file:../policy.toml"]), 422, "unknown_key_source"),
        ("image", "snapshot", keys(&["awskms:alias/x"]), 422, "unknown_key_source"),
        ("image", "snapshot", keys(&["file:none.pem"]), 422, "key_unusable"),
        ("image", "snapshot", keys(&["file:snapshot.pem"]), 409, "nothing_to_rotate"),
        ("image", "snapshot", keys(&["file:snapshot.pem", "file:snapshot.pem"]), 422, "key_twice"),
        ("image", "snapshot", keys(&["file:bins.pem"]), 409, "key_in_use"),
        ("image", "snapshot", keys(&["file:director-root.pem"]), 409, "key_in_use"),
        ("image", "snapshot", keys(&[&other]), 409, "key_in_use"),
    ] {
        ask(&server, repository, role, body).await.refused(status, code);
    }
    assert_eq!(key_files(server.state.path()).len(), files.len() + 1);
    assert!(!server.state.stored_files().contains("2.root.json"));
    let path = "/api/v1/roles/image/snapshot/rotate";
    let engineer = server.request_as(Engineer, Method::POST, path).json(&json!({}));
    send(engineer).await.refused(403, "forbidden");
}

#[tokio::test]
async fn without_the_root_key_a_rotation_is_left_to_those_who_have_it() {
    let state = TestState::new();
    fs::remove_file(state.path().join("keys/root.pem")).unwrap();
    let server = TestServer::on(state, |_| ()).await;
    let files = key_files(server.state.path());
    let refused = ask(&server, "image", "timestamp", json!({})).await;
    let told = refused.refused(409, "signers_elsewhere");
    assert!(told.contains("motorcade root stage"), "{told}");
    assert_eq!(key_files(server.state.path()), files);
    rotate(&server, "image", "bins").await; // which the targets say
    server.repository().await;
}

/// A server that dies in the midst of a rotation goes on with the keys that are published.
#[tokio::test]
async fn a_rotation_that_was_cut_off_is_given_up() {
    let server = TestServer::start().await;
    let before = role(&server, "image", "timestamp").await;
    let state = server.stop();
    add(&state.path().join("keys"), "timestamp", Scheme::Ed25519).unwrap();
    state
        .sql(&format!(
            "INSERT INTO handovers (side, role, keys, threshold, leaving, begun_at) \
             VALUES ('image', 'timestamp', '[\"{}\"]', 1, '[\"{}\"]', 1)",
            "0".repeat(64),
            before.keys[0].id
        ))
        .await;
    let server = TestServer::on(state, |_| ()).await;
    let after = role(&server, "image", "timestamp").await;
    assert_eq!(keys_of(&after, "signs"), keys_of(&before, "signs"));
    assert_eq!(keys_of(&after, "leaves"), Vec::<String>::new());
    rotate(&server, "image", "timestamp").await;
    server.repository().await;
}

/// docs/POST-QUANTUM.md: who does not follow is named before anything is done.
#[tokio::test]
async fn a_dry_run_names_the_clients_that_can_not_read_hybrid_targets() {
    let server = TestServer::start().await;
    let planned: RoleRotationBody =
        ask(&server, "image", "targets", json!({ "dry_run": true })).await.body();
    assert_eq!(planned.readers, None);
    let targets = "[targets]\nexpires_days = 90\nthreshold = ";
    change_policy(
        server.state.path(),
        &format!("{targets}1"),
        &format!("{targets}2\nhybrid = true"),
    );
    let planned: RoleRotationBody =
        ask(&server, "image", "targets", json!({ "dry_run": true })).await.body();
    assert_eq!((planned.made, planned.threshold), (2, 2));
    assert!(planned.readers.unwrap().contains("tough 0.24 and aktualizr can't read it"));
    let printed = server.motorcade_as(Officer, "role rotate targets --dry-run").output().unwrap();
    assert!(String::from_utf8(printed.stdout).unwrap().contains("tough 0.24"));
}
