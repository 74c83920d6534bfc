//! The keys of roles: who signs, where keys are, and keys that are prepared.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use motorcade::api::{RoleBody, RoleList};
use motorcade::keys::file::{add, write_secret};
use motorcade::keys::policy::Policy;
use motorcade::model::AccessRole::Officer;
use motorcade::uptane::key::{Scheme, SigningKey};
use reqwest::Method;

use crate::app::{Log, TestServer, send};
use crate::state::TestState;
use crate::support::motorcade;

async fn list(server: &TestServer) -> Vec<RoleBody> {
    send(server.request_as(Officer, Method::GET, "/api/v1/roles")).await.body::<RoleList>().roles
}

pub(crate) async fn role(server: &TestServer, repository: &str, name: &str) -> RoleBody {
    let is_it = |role: &RoleBody| role.repository == repository && role.role == name;
    list(server).await.into_iter().find(is_it).unwrap()
}

pub(crate) fn change_policy(state: &Path, from: &str, to: &str) {
    let file = state.join("metadata/policy.toml");
    let before = fs::read_to_string(&file).unwrap();
    let after = before.replacen(from, to, 1);
    assert_ne!(before, after);
    Policy::parse(&after).unwrap();
    fs::write(file, after).unwrap();
}

#[tokio::test]
async fn every_role_is_listed_with_the_keys_that_sign() {
    let server = TestServer::start().await;
    let roles = list(&server).await;
    let names: Vec<String> =
        roles.iter().map(|role| format!("{} {}", role.repository, role.role)).collect();
    assert_eq!(
        names,
        [
            "image root",
            "image targets",
            "image bins",
            "image snapshot",
            "image timestamp",
            "director root",
            "director targets",
            "director snapshot",
            "director timestamp",
        ]
    );
    for role in &roles {
        let [key] = role.keys.as_slice() else { panic!("{role:?}") };
        assert_eq!((key.state.as_str(), key.scheme.as_deref()), ("signs", Some("ed25519")));
        let prefix = if role.repository == "director" { "director-" } else { "" };
        let file = server.state.path().join(format!("keys/{prefix}{}.pem", role.role));
        assert_eq!(key.place.as_deref(), file.to_str());
        assert!(!role.differs, "{role:?}");
    }
    let printed = server.motorcade("role list").output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(printed.lines().count(), 10, "{printed}");
}

#[tokio::test]
async fn a_root_key_that_is_elsewhere_is_listed_as_such() {
    let state = TestState::new();
    fs::remove_file(state.path().join("keys/root.pem")).unwrap();
    let server = TestServer::on(state, |_| ()).await;
    let root = role(&server, "image", "root").await;
    assert_eq!((root.keys.len(), &root.keys[0].place), (1, &None));
    assert_eq!(root.keys[0].state, "signs");
}

/// Who signs is what the published metadata names, and not which files are there.
#[tokio::test]
async fn a_key_that_nothing_names_signs_nothing() {
    let state = TestState::new();
    let spare = add(&state.path().join("keys"), "timestamp", Scheme::Ed25519).unwrap();
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let timestamp: serde_json::Value =
        serde_json::from_slice(&server.download("timestamp.json").await).unwrap();
    assert_eq!(timestamp["signatures"].as_array().unwrap().len(), 1);
    let keys = role(&server, "image", "timestamp").await.keys;
    let states: Vec<_> =
        keys.iter().map(|key| (key.state.as_str(), key.place.as_deref())).collect();
    assert_eq!(states[1], ("spare", spare.to_str()));
    assert_eq!(timestamp["signatures"][0]["keyid"], keys[0].id);
}

/// The file of a role's key may have any name of the role: it is found by its id.
#[tokio::test]
async fn a_key_file_may_be_renamed() {
    let state = TestState::new();
    let keys = state.path().join("keys");
    fs::rename(keys.join("snapshot.pem"), keys.join("snapshot-2026.pem")).unwrap();
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let place = role(&server, "image", "snapshot").await.keys[0].place.clone().unwrap();
    assert!(place.ends_with("keys/snapshot-2026.pem"), "{place}");
    server.repository().await;
}

#[tokio::test]
async fn a_policy_names_the_files_of_a_role() {
    let state = TestState::prepared(|state| {
        fs::create_dir_all(state.join("elsewhere")).unwrap();
        for name in ["a.pem", "b.pem"] {
            let pem = SigningKey::generate_pem(Scheme::EcdsaSha2Nistp256).unwrap();
            write_secret(&state.join("elsewhere").join(name), pem.as_bytes()).unwrap();
        }
        let sources = "[snapshot]\nexpires_days = 7\nthreshold = 2\nkeys = [\"file:../elsewhere/a.pem\", \"file:../elsewhere/b.pem\"]";
        change_policy(state, "[snapshot]\nexpires_days = 7\nthreshold = 1", sources);
    });
    assert!(!state.path().join("keys/snapshot.pem").exists(), "its keys are elsewhere");
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let snapshot = role(&server, "image", "snapshot").await;
    assert_eq!((snapshot.threshold, snapshot.keys.len(), snapshot.differs), (2, 2, false));
    assert!(snapshot.keys.iter().all(|key| key.scheme.as_deref() == Some("ecdsa-sha2-nistp256")));
    server.repository().await;
}

#[tokio::test]
async fn what_the_policy_asks_for_and_is_not_published_is_told() {
    let state = TestState::new();
    add(&state.path().join("keys"), "timestamp", Scheme::Ed25519).unwrap();
    let timestamp = "[timestamp]\nexpires_days = 1\nthreshold = 1";
    change_policy(state.path(), timestamp, "[timestamp]\nexpires_days = 1\nthreshold = 2");
    let mark = Log::mark();
    let server = TestServer::on(state, |_| ()).await;
    let role = role(&server, "image", "timestamp").await;
    assert_eq!((role.threshold, role.policy_threshold, role.differs), (1, 2, true));
    let told = Log::since(mark);
    assert!(told.contains("motorcade role rotate timestamp --repository image"), "{told}");
}

#[tokio::test]
async fn a_policy_that_the_keys_can_not_meet_names_the_role() {
    let state = TestState::new();
    let timestamp = "[timestamp]\nexpires_days = 1\nthreshold = 1";
    change_policy(state.path(), timestamp, "[timestamp]\nexpires_days = 1\nthreshold = 2");
    let serve = ["serve", "--data-dir", state.path().to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let refused = motorcade(serve).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("role timestamp has 1 keys where its threshold is 2"), "{told}");
}

#[tokio::test]
async fn key_files_are_encrypted_where_there_is_a_passphrase() {
    let folder = tempfile::tempdir().unwrap();
    let (state, passphrase) = (folder.path().join("state"), folder.path().join("passphrase"));
    fs::write(&passphrase, "correct horse\n").unwrap();
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
    let fsck = ["fsck", "--data-dir", state.to_str().unwrap()];
    let init = ["init", "--data-dir", state.to_str().unwrap()];
    let with = |words: [&str; 3]| {
        motorcade(words).env("MOTORCADE_KEY_PASSPHRASE_FILE", &passphrase).output().unwrap()
    };
    assert!(with(init).status.success());
    for role in ["root", "timestamp", "director-targets"] {
        let text = fs::read_to_string(state.join(format!("keys/{role}.pem"))).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{role}");
    }
    let whole = with(fsck);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stdout));
    let locked = motorcade(fsck).output().unwrap();
    let told = String::from_utf8_lossy(&locked.stdout);
    assert!(!locked.status.success() && told.contains("MOTORCADE_KEY_PASSPHRASE"), "{told}");
}
