//! What fsck finds in signatures, chains, envelopes, keys and modes, beyond the bytes of blobs
//! (`damage.rs`).

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use motorcade::app::fsck::{self, Damaged, Findings};
use motorcade::model::AccessRole::Officer;
use motorcade::uptane::key::{Scheme, SigningKey};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestServer, pattern, send};
use crate::client::published_name;
use crate::director::vehicle::TestVehicle;
use crate::repo::publish_large;
use crate::state::{TestState, files_below};

async fn check(state: &TestState, damaged: Damaged) -> Findings {
    fsck::check(&state.dir(), damaged, |_, _| ()).await.unwrap()
}

async fn problems(state: &TestState) -> Vec<String> {
    check(state, Damaged::Report).await.problems
}

/// The one problem that there is.
async fn problem(state: &TestState) -> String {
    let problems = problems(state).await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

/// The next root, signed by the root key in `keys/` or by another one.
fn next_root(
    state: &TestState,
    keys: &str,
    root: &[u8],
    version: u64,
    key: Option<SigningKey>,
) -> Vec<u8> {
    let own = fs::read_to_string(state.path().join(format!("keys/{keys}.pem"))).unwrap();
    let key = key.unwrap_or_else(|| SigningKey::from_pem(&own).unwrap());
    let mut root: Value = serde_json::from_slice(root).unwrap();
    root["signed"]["version"] = version.into();
    let message = serde_json::to_vec(&root["signed"]).unwrap(); // sorted, and without what canonical JSON writes otherwise
    root["signatures"][0]["sig"] = hex::encode(key.sign(&message)).into();
    serde_json::to_vec(&root).unwrap()
}

fn other_key() -> SigningKey {
    SigningKey::from_pem(&SigningKey::generate_pem(Scheme::Ed25519).unwrap()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    crate::app::sha256_hex(bytes)
}

#[tokio::test]
async fn a_gap_in_the_root_chain_is_a_problem() {
    let state = TestState::new();
    let first = state.first_root();
    for (version, is_recorded) in [(2, true), (3, true)] {
        let root = next_root(&state, "root", &first, version, None);
        fs::write(state.blob(&format!("{version}.root.json")), &root).unwrap();
        if is_recorded {
            let (length, digest) = (root.len(), sha256(&root));
            state.sql(&format!("UPDATE roles SET version = {version}, reserved = {version}, length = {length}, sha256 = '{digest}' WHERE name = 'root'")).await;
        }
    }
    assert_eq!(problems(&state).await, Vec::<String>::new(), "the chain is whole");
    let second = fs::read(state.blob("2.root.json")).unwrap();
    fs::remove_file(state.blob("2.root.json")).unwrap();
    let found = problem(&state).await;
    assert!(found.starts_with("2.root.json is missing"), "{found}");
    fs::write(state.blob("2.root.json"), &second).unwrap();

    fs::remove_file(state.blob("3.root.json")).unwrap();
    let found = problem(&state).await;
    assert!(found.starts_with("3.root.json, the newest that was published, is missing"), "{found}");
    let third = next_root(&state, "root", &first, 3, Some(other_key()));
    fs::write(state.blob("3.root.json"), third).unwrap();
    let found = problems(&state).await;
    assert!(
        found.iter().any(|found| found.starts_with("3.root.json would be refused by clients")),
        "{found:?}"
    );
    fs::write(state.blob("3.root.json"), next_root(&state, "root", &first, 3, None)).unwrap();

    fs::write(state.blob("4.root.json"), next_root(&state, "root", &first, 4, None)).unwrap();
    let found = problem(&state).await;
    assert!(
        found.starts_with(
            "4.root.json is in the repository, and the catalog knows no later root than 3"
        ),
        "{found}"
    );
}

#[tokio::test]
async fn the_director_s_root_chain_is_looked_at_too() {
    let state = TestState::new();
    let catalog = state.dir().open_catalog().await.unwrap();
    let first = catalog.find_director_root(None).await.unwrap().unwrap();
    let author = motorcade::app::audit::Author::server(first.expires_at);
    for version in [2, 3] {
        let body = next_root(&state, "director-root", &first.body, version, None);
        let root = motorcade::catalog::DirectorRoot { version, body, expires_at: first.expires_at };
        catalog.insert_director_root(&root, &author).await.unwrap();
    }
    assert_eq!(problems(&state).await, Vec::<String>::new(), "the chain is whole");
    state.sql("DELETE FROM director_roots WHERE version = 2").await;
    let found = problem(&state).await;
    assert!(found.starts_with("root 2 of the Director is missing"), "{found}");
    let body = next_root(&state, "director-root", &first.body, 2, Some(other_key()));
    let root = motorcade::catalog::DirectorRoot { version: 2, body, expires_at: first.expires_at };
    catalog.insert_director_root(&root, &author).await.unwrap();
    let found = problems(&state).await;
    assert!(
        found.iter().any(|found| found.starts_with("root 2 of the Director would be refused")),
        "{found:?}"
    );
    catalog.close().await;
}

/// Every digest fits, and no client takes it.
#[tokio::test]
async fn a_signature_that_does_not_verify_is_a_problem() {
    let state = TestState::new();
    let timestamp = state.blob("timestamp.json");
    let mut file: Value = serde_json::from_slice(&fs::read(&timestamp).unwrap()).unwrap();
    file["signatures"][0]["sig"] = hex::encode([7; 64]).into();
    let bytes = serde_json::to_vec(&file).unwrap();
    fs::write(&timestamp, &bytes).unwrap();
    let (digest, body) = (sha256(&bytes), hex::encode(&bytes));
    state
        .sql(&format!(
            "UPDATE roles SET sha256 = '{digest}', body = x'{body}' WHERE name = 'timestamp'"
        ))
        .await;
    let found = problem(&state).await;
    assert!(found.starts_with("timestamp.json would be refused by clients"), "{found}");
}

#[tokio::test]
async fn an_older_or_newer_timestamp_on_the_disk_is_a_problem() {
    let server = TestServer::start().await;
    let older = server.download("timestamp.json").await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let state = server.stop();
    let newest = fs::read(state.blob("timestamp.json")).unwrap();
    let catalog = state.catalog_bytes().await;
    fs::write(state.blob("timestamp.json"), older).unwrap();
    let found = problem(&state).await;
    assert!(
        found.starts_with("timestamp.json has version 1, where 2 was published last"),
        "{found}"
    );
    fs::write(state.blob("timestamp.json"), "{").unwrap();
    assert!(problem(&state).await.contains("missing or damaged"));

    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/2/a.bin", "firmware").await.expect(201);
    let state = server.stop();
    state.put_catalog_back(&catalog).await;
    let found = problems(&state).await;
    let expected =
        "timestamp.json has version 3, and the catalog knows no later publication than 2";
    assert!(found.iter().any(|found| found.starts_with(expected)), "{found:?}");
    assert_ne!(newest, fs::read(state.blob("timestamp.json")).unwrap());
}

#[tokio::test]
async fn metadata_that_is_kept_for_a_vehicle_is_verified() {
    let server = TestServer::start().await;
    TestVehicle::registered(&server, "VIN1").await.targets(&server).await;
    assert_eq!(problems(&server.state).await, Vec::<String>::new());
    let state = server.stop();
    state.sql(r#"UPDATE vehicle_status SET bundle = replace(bundle, 'VIN1\"', 'VIN2\"')"#).await;
    let found = problem(&state).await;
    assert!(
        found.starts_with("vehicle VIN1: its metadata in the catalog would be refused"),
        "{found}"
    );
}

#[tokio::test]
async fn vehicles_that_have_not_polled_since_a_rotation_are_no_problem() {
    let server = TestServer::start().await;
    let mut vehicles = [
        TestVehicle::registered(&server, "VIN1").await,
        TestVehicle::registered(&server, "VIN2").await,
    ];
    for vehicle in &mut vehicles {
        vehicle.targets(&server).await;
    }
    for role in ["targets", "snapshot"] {
        let path = format!("/api/v1/roles/director/{role}/rotate");
        send(server.request_as(Officer, Method::POST, &path).json(&json!({}))).await.expect(200);
    }
    vehicles[0].targets(&server).await;
    assert_eq!(problems(&server.state).await, Vec::<String>::new());
    let state = server.stop();
    state.sql(r#"UPDATE vehicle_status SET bundle = replace(bundle, 'VIN2\"', 'VIN3\"')"#).await;
    let found = problem(&state).await;
    assert!(
        found.starts_with("vehicle VIN2: its metadata in the catalog would be refused"),
        "{found}"
    );
}

#[tokio::test]
async fn each_envelope_has_to_open_and_to_be_the_published_one() {
    let server = TestServer::start().await;
    for path in ["gw/1/a.bin", "gw/2/b.bin", "gw/3/c.bin", "gw/4/d.bin"] {
        server.upload(path, "firmware").await.expect(201);
    }
    let state = server.stop();
    assert_eq!(problems(&state).await, Vec::<String>::new());
    state.sql("UPDATE images SET envelope = substr(envelope, 2) WHERE path = 'gw/1/a.bin'").await;
    // Opens under the escrow key, and is another image's.
    state.sql("UPDATE images SET envelope = (SELECT envelope FROM images WHERE path = 'gw/3/c.bin') WHERE path = 'gw/2/b.bin'").await;
    state
        .sql("UPDATE images SET algorithm = 'AES256_GCM_HKDF_4KB' WHERE path = 'gw/4/d.bin'")
        .await;
    let found = problems(&state).await;
    for expected in [
        "envelope of gw/1/a.bin: it can't be read",
        "envelope of gw/2/b.bin: the envelope is bound to the sealed image",
        "envelope of gw/4/d.bin: it has a key for AES256_GCM_HKDF_1MB",
    ] {
        assert!(found.iter().any(|found| found.starts_with(expected)), "{expected}: {found:?}");
    }
    assert_eq!(found.len(), 3, "{found:?}");
}

#[tokio::test]
async fn wrong_keys_and_open_modes_are_found() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let state = server.stop();
    let keys = state.path().join("keys");
    let escrow = fs::read(keys.join("escrow.jwk")).unwrap();
    let other = motorcade::envelope::key::EscrowKey::generate().to_jwk();
    fs::write(keys.join("escrow.jwk"), &*other).unwrap();
    let found = problems(&state).await;
    assert!(
        found.iter().any(|found| found.contains("escrow.jwk holds the escrow key")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|found| found.starts_with("envelope of gw/1/a.bin: it is for the escrow key")),
        "{found:?}"
    );
    fs::write(keys.join("escrow.jwk"), escrow).unwrap();

    let snapshot = fs::read(keys.join("snapshot.pem")).unwrap();
    fs::write(
        keys.join("snapshot.pem"),
        SigningKey::generate_pem(Scheme::Ed25519).unwrap().as_bytes(),
    )
    .unwrap();
    let found = problem(&state).await;
    assert!(found.contains("snapshot.pem holds the key"), "{found}");
    fs::write(keys.join("snapshot.pem"), snapshot).unwrap();

    let mode = |name: &str, mode: u32| {
        let path = state.path().join(name);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (path, before)
    };
    for (name, open, expected) in [
        ("catalog.sqlite", 0o644, "catalog.sqlite can be read by everybody (mode 644)"),
        (
            "metadata/policy.toml",
            0o666,
            "metadata/policy.toml can be written by everybody (mode 666)",
        ),
        ("repo", 0o777, "repo can be written by everybody (mode 777)"),
    ] {
        let (path, before) = mode(name, open);
        let found = problems(&state).await; // of the catalog's log too, which has its mode
        assert!(found.iter().any(|found| found.starts_with(expected)), "{found:?}");
        assert!(found.iter().all(|found| found.contains(name)), "{found:?}");
        fs::set_permissions(path, before).unwrap();
    }
    fs::rename(&keys, state.path().join("elsewhere")).unwrap();
    let findings = check(&state, Damaged::Report).await;
    assert_eq!((findings.problems.len(), findings.skipped.len()), (0, 1), "{findings:?}");
}

/// With Kubernetes' `fsGroup` the root of a volume is root's, and on ext4 it has a folder for root
/// alone.
#[tokio::test]
async fn the_root_of_a_volume_may_be_root_s() {
    if !rustix::process::geteuid().is_root() {
        return; // needs another user
    }
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let state = server.stop();
    state.assert_clean().await; // which waits until the server is gone
    let chowned = std::process::Command::new("chown")
        .args(["-R", "54321:54321"])
        .arg(state.path())
        .status()
        .unwrap();
    assert!(chowned.success());
    std::os::unix::fs::chown(state.path(), Some(0), Some(54_321)).unwrap();
    for folder in ["lost+found", "repo/lost+found"] {
        fs::create_dir(state.path().join(folder)).unwrap();
        fs::write(state.path().join(folder).join("#12"), "found").unwrap();
    }
    let findings = check(&state, Damaged::Report).await;
    assert_eq!((&findings.problems[..], &findings.skipped[..]), (&[][..], &[][..]));
    std::os::unix::fs::chown(state.path().join("keys"), Some(0), Some(0)).unwrap();
    assert!(
        problem(&state).await.starts_with("keys belongs to user 0, and catalog.sqlite to 54321")
    );
}

/// A copy with `cp -r` has two files where there was one under two names.
fn copy_without_links(from: &Path, to: &Path) {
    for name in files_below(from) {
        let file = to.join(&name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy(from.join(&name), file).unwrap();
    }
}

#[tokio::test]
async fn names_that_a_copy_has_made_two_files_of_are_linked_again() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    let state = server.stop();
    let repo = state.blob("");
    let copy = state.path().join("copy");
    copy_without_links(&repo, &copy);
    fs::remove_dir_all(&repo).unwrap();
    fs::rename(&copy, &repo).unwrap();
    let inode = |name: &str| fs::metadata(state.blob(name)).unwrap().ino();
    assert_ne!(inode(&published.image), inode(&published.image_alias));
    let found = problems(&state).await;
    assert_eq!(found.len(), 2, "the image and its envelope: {found:?}");
    assert!(
        found.iter().any(|found| found.starts_with(&format!("image {}: ", crate::repo::IMAGE))),
        "{found:?}"
    );
    assert!(found.iter().all(|found| found.contains("is a copy of it")), "{found:?}");
    let findings = check(&state, Damaged::Repair).await;
    assert_eq!((findings.problems.len(), findings.repaired.len()), (0, 2), "{findings:?}");
    assert_eq!(inode(&published.image), inode(&published.image_alias));
    assert_eq!(problems(&state).await, Vec::<String>::new());
    assert!(state.staged_files().is_empty());
}

#[tokio::test]
async fn a_good_copy_mends_a_damaged_one() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    let good = server.download(&published.image).await;
    let state = server.stop();
    let (name, alias) = (state.blob(&published.image), state.blob(&published.image_alias));
    let bad = pattern(good.len(), 9);
    for (damaged, other) in [(&name, &alias), (&alias, &name)] {
        fs::remove_file(damaged).unwrap();
        fs::write(damaged, &bad).unwrap();
        let found = problem(&state).await;
        assert!(found.starts_with(&format!("image {}: ", crate::repo::IMAGE)), "{found}");
        let findings = check(&state, Damaged::Repair).await;
        assert_eq!((findings.problems.len(), findings.repaired.len()), (0, 1), "{findings:?}");
        assert!(fs::read(damaged).unwrap() == good && fs::read(other).unwrap() == good);
        fs::remove_file(damaged).unwrap();
        let findings = check(&state, Damaged::Repair).await;
        assert_eq!((findings.problems.len(), findings.repaired.len()), (0, 1), "{findings:?}");
        assert!(fs::read(damaged).unwrap() == good);
    }
    // Nothing to mend it from.
    fs::remove_file(&alias).unwrap();
    fs::write(&name, &bad).unwrap();
    let findings = check(&state, Damaged::Repair).await;
    assert_eq!((findings.problems.len(), findings.repaired.len()), (1, 0), "{findings:?}");
    let stray = published_name("gw/9/stray.bin", &"0".repeat(64));
    assert!(!state.blob(&stray).exists());
}
