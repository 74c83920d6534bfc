//! Key files that are not those that clients know: a server doesn't start with them, and mends what
//! one without this check has signed with them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use motorcade::app::setup::{Opened, StateDir};
use motorcade::app::{Error, Limits};
use motorcade::catalog::{Moments, PublishedRole};
use motorcade::envelope::key::EscrowKey;
use motorcade::keys::file;
use motorcade::keys::policy::{Policy, key_name};
use motorcade::model::{Clock, RepositorySide, RoleName, SystemClock};
use motorcade::telemetry::Metrics;
use motorcade::uptane::image_repo::ImageRepository;
use motorcade::uptane::metadata::image::Entries;
use motorcade::uptane::metadata::{Authority, Hashes, MetaFile, SignedFile};
use serde_json::json;
use tokio::runtime::Handle;

use crate::app::TestServer;
use crate::director::vehicle::TestVehicle;
use crate::state::TestState;

async fn open(state: &StateDir) -> Result<Opened, Error> {
    state
        .open(
            Limits::default(),
            Arc::new(SystemClock),
            Arc::new(Metrics::new("0")),
            Handle::current(),
        )
        .await
}

/// Why a server doesn't start on `state`.
pub(crate) async fn refused(state: &TestState) -> String {
    match open(&state.dir()).await {
        Err(Error::Conflict { code: "wrong_keys", detail }) => detail,
        Err(other) => panic!("refused otherwise: {other:?}"),
        Ok(_) => panic!("it starts"),
    }
}

fn policy(state: &TestState) -> Policy {
    Policy::parse(&fs::read_to_string(state.path().join("metadata/policy.toml")).unwrap()).unwrap()
}

fn key_id(state: &TestState, role: &str) -> String {
    let policy = policy(state);
    let (side, kind, _) =
        policy.roles().find(|(side, kind, _)| key_name(*side, *kind) == role).unwrap();
    file::load(&state.path().join("keys"), &policy).unwrap().keys(side, kind)[0].id().to_string()
}

/// Runs `change` on the key file and returns what was in it.
fn change(
    state: &TestState,
    name: &str,
    change: impl FnOnce(&str) -> String,
) -> (PathBuf, Vec<u8>) {
    let file = state.path().join("keys").join(name);
    let before = fs::read(&file).unwrap();
    fs::write(&file, change(std::str::from_utf8(&before).unwrap())).unwrap();
    (file, before)
}

/// A private key is any 32 bytes: one with a flipped bit is another good key.
fn flip_seed(pem: &str) -> String {
    let body = pem.lines().find(|line| !line.starts_with('-')).unwrap();
    let mut der = STANDARD.decode(body).unwrap();
    *der.last_mut().unwrap() ^= 1;
    pem.replace(body, &STANDARD.encode(der))
}

#[tokio::test]
async fn a_role_key_with_a_flipped_bit_is_named_and_refused() {
    let state = TestState::new();
    let of_image = ["root", "targets", "bins", "snapshot", "timestamp"];
    let of_director =
        ["director-root", "director-targets", "director-snapshot", "director-timestamp"];
    for role in of_image.into_iter().chain(of_director) {
        let expected = key_id(&state, role);
        let (file, before) = change(&state, &format!("{role}.pem"), flip_seed);
        let found = key_id(&state, role);
        assert_ne!(expected, found);
        let detail = refused(&state).await;
        for part in [file.to_str().unwrap(), &expected, &found] {
            assert!(detail.contains(part), "{role}: {detail}");
        }
        let repository = if role.starts_with("director") { "Director" } else { "Image repository" };
        assert!(detail.contains(repository), "{detail}");
        assert!(
            !detail.contains(';') || detail.matches(".pem").count() == 1,
            "one file is wrong: {detail}"
        );
        fs::write(file, before).unwrap();
    }
    open(&state.dir()).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_wrong_escrow_key_is_refused_before_the_first_image() {
    let state = TestState::new();
    let expected =
        EscrowKey::from_jwk(&fs::read_to_string(state.path().join("keys/escrow.jwk")).unwrap())
            .unwrap();
    let other = EscrowKey::generate();
    let (file, before) = change(&state, "escrow.jwk", |_| other.to_jwk().to_string());
    let detail = refused(&state).await;
    for part in [file.to_str().unwrap(), expected.kid().as_str(), other.kid().as_str()] {
        assert!(detail.contains(part), "{detail}");
    }
    fs::write(&file, &before).unwrap();
    let (file, before) = change(&state, "escrow.jwk", flip_escrow);
    let detail = refused(&state).await;
    assert!(
        detail.contains(file.to_str().unwrap()) && detail.contains("damaged escrow key"),
        "{detail}"
    );
    fs::write(file, before).unwrap();
    open(&state.dir()).await.map(drop).unwrap();
}

fn flip_escrow(jwk: &str) -> String {
    let at = jwk.find(r#""k":""#).unwrap() + 5;
    let other = if &jwk[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &jwk[..at], &jwk[at + 1..])
}

/// As a version left it that did not remember its escrow key: its images tell.
#[tokio::test]
async fn a_wrong_escrow_key_is_refused_by_the_images_that_are_there() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let state = server.stop();
    state.sql("DELETE FROM installation").await;
    let (file, before) = change(&state, "escrow.jwk", flip_escrow);
    let detail = refused(&state).await;
    assert!(detail.contains(file.to_str().unwrap()) && detail.contains("gw/1/a.bin"), "{detail}");
    fs::write(&file, before).unwrap();
    open(&state.dir()).await.map(drop).unwrap();
    change(&state, "escrow.jwk", |_| EscrowKey::generate().to_jwk().to_string());
    state.sql("DELETE FROM images").await;
    refused(&state).await; // it is remembered from now on
}

/// Signs a role with keys that nobody trusts, and publishes it.
async fn publish_with_other_keys(state: &TestState, role: &RoleName) {
    let keys = tempfile::tempdir().unwrap();
    let policy = policy(state);
    file::create(keys.path(), &policy).unwrap();
    let keyring = Arc::new(file::load(keys.path(), &policy).unwrap());
    let others = keyring.public(RepositorySide::Image, role.kind());
    let key_ids = others.into_iter().map(|key| key.id()).collect();
    let authority = Authority { key_ids, threshold: 1 };
    let repository = ImageRepository::new(keyring, policy);
    let (catalog, now) = (state.dir().open_catalog().await.unwrap(), SystemClock.now());
    let states = catalog.list_roles().await.unwrap();
    let snapshot = || {
        let state = states.iter().find(|state| state.name == RoleName::Snapshot).unwrap();
        let hashes = Hashes { sha256: state.sha256 };
        MetaFile { hashes, length: state.length, version: state.version }
    };
    let reserved = catalog.reserve_versions(std::slice::from_ref(role)).await.unwrap().remove(0);
    let version = reserved.version;
    let signed: SignedFile = match role {
        RoleName::Timestamp => {
            repository.sign_timestamp(version, snapshot(), now, &authority).await.unwrap()
        }
        RoleName::Targets => {
            let bins = repository.first_bin_keys();
            repository.sign_targets(version, &[], &bins, now, &authority).await.unwrap()
        }
        bin => {
            let mut entries = Entries::default();
            for entry in catalog.list_targets(bin).await.unwrap() {
                entries.put(&entry).unwrap();
            }
            repository.sign_bin(bin, version, entries, now, &authority).await.unwrap()
        }
    };
    if *role != RoleName::Timestamp {
        fs::write(state.blob(&format!("{version}.{role}.json")), &signed.bytes).unwrap();
    }
    let published = PublishedRole {
        length: signed.bytes.len() as u64,
        sha256: signed.sha256,
        expires_at: signed.expires_at,
        body: (*role == RoleName::Timestamp).then(|| signed.bytes.to_vec()),
        staging: None,
        reserved,
    };
    catalog.record_publication(&[published], None, &Moments::default()).await.unwrap();
    catalog.close().await;
}

#[tokio::test]
async fn what_was_published_with_other_keys_is_signed_again() {
    for role in ["timestamp", "targets", "bin-0"].map(|role| role.parse().unwrap()) {
        let server = TestServer::start().await;
        server.upload("gw/1/a.bin", "firmware").await.expect(201);
        let before = server.repository().await.versions();
        let state = server.stop();
        publish_with_other_keys(&state, &role).await;
        let server = TestServer::on(state, |_| ()).await;
        let repository = server.repository().await;
        assert!(repository.find("gw/1/a.bin").is_some(), "{role}");
        assert!(repository.versions() > before, "{role}: versions never go back");
    }
}

#[tokio::test]
async fn a_published_file_that_rotted_is_signed_again_at_the_next_start() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let state = server.stop();
    let bin = state.blob("1.bin-0.json");
    let text = fs::read_to_string(&bin).unwrap();
    fs::write(bin, text.replacen("\"version\":1", "\"version\":7", 1)).unwrap();
    let server = TestServer::on(state, |_| ()).await;
    assert!(server.repository().await.find("gw/1/a.bin").is_some());
    server.state.assert_clean().await;
}

#[tokio::test]
async fn a_damaged_root_is_no_ground_to_sign_on() {
    let state = TestState::new();
    let root = state.blob("1.root.json");
    let text = fs::read_to_string(&root).unwrap();
    fs::write(&root, text.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
    let error = open(&state.dir()).await.err().expect("it does not start");
    assert!(
        matches!(&error, Error::Corrupt { detail } if detail.contains("1.root.json")),
        "{error}"
    );
}

/// The bundle as another key signed it, or as the disk has damaged it; with and without a note that
/// it was verified.
#[tokio::test]
async fn a_kept_bundle_that_does_not_verify_is_signed_again() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let mut version = vehicle.targets(&server).await["version"].as_u64().unwrap();
    let mut state = server.stop();
    for damage in [
        r#"UPDATE vehicle_status SET bundle = replace(bundle, 'releaseCounter\":1', 'releaseCounter\":2')"#,
        r#"UPDATE vehicle_status SET bundle = json_remove(json_set(bundle, '$.snapshot',
           replace(bundle ->> '$.snapshot', '"sig":"', '"sig":"00')), '$.verified')"#,
    ] {
        state.sql(damage).await;
        let server = TestServer::on(state, |_| ()).await;
        let targets = vehicle.targets(&server).await;
        assert!(targets["version"].as_u64().unwrap() > version, "it was served on");
        assert_eq!(targets["targets"]["gw/1"]["custom"]["releaseCounter"], json!(1));
        version = targets["version"].as_u64().unwrap();
        assert_eq!(vehicle.targets(&server).await["version"], version, "and is kept");
        state = server.stop();
    }
    state.sql("UPDATE vehicle_status SET bundle = json_remove(bundle, '$.verified')").await;
    let server = TestServer::on(state, |_| ()).await;
    assert_eq!(vehicle.targets(&server).await["version"], version, "what verifies is kept");
}
