//! `motorcade backup`: a state directory that is used meanwhile, copied and brought back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use motorcade::app::Error;
use motorcade::app::backup::{Blobs, KeyFiles, Plan, Record, back_up};
use motorcade::model::{Clock, SystemClock};
use serde_json::Value;

use crate::app::{TestServer, pattern};
use crate::director::vehicle::TestVehicle;
use crate::state::{TestState, files_below};
use crate::support::{fsck, motorcade, refused, run};

fn backup(state: &TestState, folder: &Path, flags: &[&str]) -> Command {
    let mut command = motorcade(["backup", "--json", "--data-dir"]);
    command.arg(state.path()).arg(folder).args(flags);
    command
}

fn record(said: &str) -> Record {
    serde_json::from_str(said).unwrap()
}

/// Puts a backup in the place of all that a state directory has.
pub(crate) fn restore(state: &TestState, from: &Path) {
    for entry in fs::read_dir(state.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
    }
    run(Command::new("cp").arg("-a").arg(from.join(".")).arg(state.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_backup_is_in_it_though_more_comes_in_meanwhile() {
    let server = TestServer::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = elsewhere.path().join("backup");
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    for number in 0..6 {
        let image = pattern(200_000, number);
        server.upload(&format!("gw/{number}/a.bin"), image).await.expect(201);
    }
    vehicle.report(&server).await;

    let (is_done, uploaded) = (AtomicBool::new(false), AtomicU64::new(6));
    let uploading = async {
        while !is_done.load(Ordering::Relaxed) {
            let number = uploaded.load(Ordering::Relaxed);
            server.upload(&format!("gw/{number}/a.bin"), pattern(50_000, number)).await.expect(201);
            uploaded.store(number + 1, Ordering::Relaxed);
        }
    };
    let mut command = backup(&server.state, &folder, &["--copy"]);
    let backing_up = async {
        let said = tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
        is_done.store(true, Ordering::Relaxed);
        record(&said)
    };
    let (made, ()) = tokio::join!(backing_up, uploading);
    assert!(uploaded.into_inner() > 6, "some came in meanwhile");
    assert!(made.copied > 12 && made.linked == 0, "{made:?}");

    // Time goes on, and vehicles see more than the backup knows.
    for number in 1000..1003 {
        server.upload(&format!("gw/{number}/a.bin"), "later").await.expect(201);
    }
    vehicle.report(&server).await;
    vehicle.targets(&server).await;
    let (seen, of_vehicle) = (server.repository().await.versions(), vehicle.targets_version);
    let state = server.stop();
    state.catalog_closed().await;
    restore(&state, &folder);

    let mut serve = motorcade(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    let said = refused(serve.arg(state.path()));
    assert!(said.contains("motorcade recover versions"), "{said}");
    run(motorcade(["recover", "versions", "--data-dir"]).arg(state.path()));
    let server = TestServer::on(state, |_| ()).await;
    for number in 0..6 {
        let opened = server.open(&format!("gw/{number}/a.bin"), "snakeoil_p256").await;
        assert!(opened == pattern(200_000, number));
    }
    let versions = server.repository().await.versions();
    assert!(versions[1] > seen[1] && versions[2] > seen[2], "{versions:?} after {seen:?}");
    vehicle.report(&server).await;
    vehicle.targets(&server).await;
    assert!(vehicle.targets_version > of_vehicle);
    server.upload("gw/1000/a.bin", "later").await.expect(201);
    let state = server.stop();
    state.catalog_closed().await;
    // What came in while the backup was made may have its file and no record.
    let others: Vec<_> = fsck(state.path())
        .into_iter()
        .filter(|line| !line.contains("belongs to no image"))
        .collect();
    assert_eq!(others, Vec::<String>::new());
}

#[tokio::test]
async fn a_backup_has_all_but_what_each_server_makes_for_itself() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", pattern(100_000, 1)).await.expect(201);
    fs::write(server.state.path().join("keys/session-tickets.json"), "{}").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = elsewhere.path().join("backup");
    let made = record(&run(&mut backup(&server.state, &folder, &["--copy"])));
    let at = |state: &Path, name: &str| fs::metadata(state.join(name)).unwrap();
    let is_own = |name: &String| {
        let skipped = ["catalog.sqlite-", "lock", "server-id", "ballast", "keys/session-tickets"];
        skipped.iter().any(|skipped| name.starts_with(skipped))
    };
    let mut wanted: BTreeSet<_> = files_below(server.state.path());
    wanted.retain(|name| !is_own(name));
    wanted.insert("backup.json".to_owned());
    assert_eq!(files_below(&folder), wanted);
    for name in wanted.iter().filter(|name| *name != "backup.json") {
        let (there, here) = (at(server.state.path(), name), at(&folder, name));
        assert_eq!(there.permissions().mode(), here.permissions().mode(), "{name}");
        assert_ne!(there.ino(), here.ino(), "{name} is a copy");
    }
    assert!(made.key_files.contains(&"escrow.jwk".to_owned()), "{made:?}");
    assert_eq!(made.keys_elsewhere, Vec::<String>::new());
    let stored = fs::read_to_string(folder.join("backup.json")).unwrap();
    assert_eq!(record(&stored), made);
    // Both names of an image are one file again, and nothing is wrong with it as it is.
    let image = server.image("gw/1/a.bin").await.sealed;
    let name = Path::new("repo").join(image.url.trim_start_matches("/repo/"));
    assert_eq!(fs::metadata(folder.join(name)).unwrap().nlink(), 2);
    assert_eq!(fsck(&folder), Vec::<String>::new());
    let head = made.audit_head.unwrap();
    run(motorcade(["audit", "verify", "--head", &head, "--data-dir"]).arg(&folder));
}

#[tokio::test]
async fn on_one_file_system_images_are_hard_links_and_keys_never_are() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", pattern(100_000, 1)).await.expect(201);
    let folder = sibling(&server.state, "backup");
    let made = record(&run(&mut backup(&server.state, &folder, &[])));
    assert_eq!(made.copied, 0, "{made:?}");
    let ino = |state: &Path, name: &str| fs::metadata(state.join(name)).unwrap().ino();
    for (name, is_one) in [
        ("repo/timestamp.json", true),
        ("keys/escrow.jwk", false),
        ("metadata/policy.toml", false),
        ("catalog.sqlite", false),
    ] {
        assert_eq!(ino(server.state.path(), name) == ino(&folder, name), is_one, "{name}");
    }
    // What the server replaces later is another file, and the backup's stays.
    let before = fs::read(folder.join("repo/timestamp.json")).unwrap();
    server.upload("gw/2/a.bin", "more").await.expect(201);
    assert!(fs::read(folder.join("repo/timestamp.json")).unwrap() == before);
    assert_eq!(fsck(&folder), Vec::<String>::new());
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn keys_can_be_left_out_and_are_put_back_before_it_is_used() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = elsewhere.path().join("backup");
    let made = record(&run(&mut backup(&server.state, &folder, &["--without-keys"])));
    assert!(made.key_files.is_empty() && !folder.join("keys").exists());
    let keys = elsewhere.path().join("keys");
    run(Command::new("cp").arg("-a").arg(server.state.path().join("keys")).arg(&keys));
    let state = server.stop();
    state.catalog_closed().await;
    restore(&state, &folder);
    let mut recover = motorcade(["recover", "versions", "--data-dir"]);
    recover.arg(state.path());
    refused(&mut recover);
    fs::rename(keys, state.path().join("keys")).unwrap();
    run(&mut recover);
    let server = TestServer::on(state, |_| ()).await;
    assert!(server.open("gw/1/a.bin", "snakeoil_p256").await == b"firmware");
}

/// As secrets are mounted: each file is a link to one that is replaced as a whole.
#[tokio::test]
async fn keys_and_policy_that_are_links_are_in_it_and_links_in_the_repository_are_not() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let elsewhere = tempfile::tempdir().unwrap();
    let state = server.stop();
    state.catalog_closed().await;
    for name in ["keys/escrow.jwk", "keys/snapshot.pem", "metadata/policy.toml"] {
        let (file, mounted) = (state.path().join(name), elsewhere.path().join(name));
        fs::create_dir_all(mounted.parent().unwrap()).unwrap();
        fs::rename(&file, &mounted).unwrap();
        symlink(&mounted, &file).unwrap();
    }
    symlink(elsewhere.path().join("keys/escrow.jwk"), state.path().join("repo/link")).unwrap();
    let folder = elsewhere.path().join("backup");
    let made = record(&run(&mut backup(&state, &folder, &[])));
    assert!(made.key_files.iter().any(|name| name == "escrow.jwk"), "{made:?}");
    for name in ["keys/escrow.jwk", "keys/snapshot.pem", "metadata/policy.toml"] {
        let copy = folder.join(name);
        assert!(fs::symlink_metadata(&copy).unwrap().is_file(), "{name}");
        assert_eq!(fs::read(copy).unwrap(), fs::read(elsewhere.path().join(name)).unwrap());
    }
    assert!(fs::symlink_metadata(folder.join("repo/link")).is_err());
    run(motorcade(["recover", "versions", "--data-dir"]).arg(&folder));
}

#[tokio::test]
async fn a_backup_goes_into_a_new_folder_outside_and_is_whole_or_not_there() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = elsewhere.path().join("backup");
    let code = |folder: &Path| {
        let said = refused(&mut backup(&server.state, folder, &[]));
        let problem: Value = serde_json::from_str(&said).unwrap();
        problem["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(&server.state.path().join("backup")), "backup_into_state");
    assert_eq!(code(&server.state.blob("backup")), "backup_into_state");
    assert_eq!(code(elsewhere.path()), "backup_exists");

    let asked = AtomicU64::new(0);
    let stopped = Plan {
        keys: KeyFiles::Included,
        blobs: Blobs::Copied,
        now: SystemClock.now(),
        is_stopped: Box::new(move || asked.fetch_add(1, Ordering::Relaxed) > 20),
        progress: Box::new(|_| ()),
    };
    let error = back_up(&server.state.dir(), &folder, stopped).await.unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    assert_eq!(files_below(elsewhere.path()), BTreeSet::new(), "nothing is left of it");
    let cut_off = elsewhere.path().join("backup.unfinished"); // by SIGKILL
    fs::create_dir(&cut_off).unwrap();
    assert_eq!(code(&folder), "backup_exists");
    fs::remove_dir(cut_off).unwrap();
    let elsewhere = ["--catalog", "postgres://motorcade@127.0.0.1:1/motorcade"];
    let said = refused(&mut backup(&server.state, &folder, &elsewhere));
    assert!(said.contains("catalog_in_database") && said.contains("pg_dump"), "{said}");
    run(&mut backup(&server.state, &folder, &[]));
    assert_eq!(code(&folder), "backup_exists");
    assert_eq!(code(&folder.join("below")), "backup_into_state");
}

#[test]
fn init_can_run_before_each_start() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let init = |flags: &[&str]| {
        let mut command = motorcade(["init", "--data-dir"]);
        command.arg(&state).args(flags);
        command
    };
    run(&mut init(&["--if-needed"]));
    let root = fs::read(state.join("repo/1.root.json")).unwrap();
    run(&mut init(&["--if-needed"]));
    refused(&mut init(&[]));
    assert!(fs::read(state.join("repo/1.root.json")).unwrap() == root);
    fs::remove_file(state.join("catalog.sqlite")).unwrap();
    let said = refused(&mut init(&["--if-needed"]));
    assert!(said.contains("restore the catalog"), "{said}");
}

/// Beside a state directory, and so on its file system.
fn sibling(state: &TestState, name: &str) -> PathBuf {
    let mut path = state.path().as_os_str().to_owned();
    path.push(format!(".{name}"));
    path.into()
}
