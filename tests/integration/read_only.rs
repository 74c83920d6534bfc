//! A state directory that can only be read, as on a read-only mount or in a snapshot: what only
//! reads works there.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::app::TestServer;
use crate::state::{TestState, files_below};

/// A user who owns nothing else, for tests that run as root: no mode keeps root from writing.
const USER: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Takes everybody's right to write to the state directory away, its owner's too.
fn freeze(state: &TestState) {
    let root = state.path();
    let mut folders = vec![root.to_owned()];
    for name in files_below(root) {
        let path = root.join(name);
        folders
            .extend(path.ancestors().take_while(|path| *path != root).skip(1).map(Path::to_owned));
        set(&path, fs::metadata(&path).unwrap().permissions().mode() & 0o555);
    }
    folders.iter().for_each(|folder| set(folder, 0o555));
}

fn set(path: &Path, mode: u32) {
    if is_root() {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn thaw(state: &TestState) {
    fs::set_permissions(state.path(), Permissions::from_mode(0o755)).unwrap();
    let folders = files_below(state.path()).into_iter().flat_map(|name| {
        let path = state.path().join(name);
        path.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>()
    });
    for folder in folders.filter(|folder| folder.starts_with(state.path())) {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
}

fn motorcade(state: &TestState, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorcade"));
    command.args(args).arg("--data-dir").arg(state.path()).env_remove("MOTORCADE_DATA_DIR");
    if is_root() {
        command.uid(USER).gid(USER);
    }
    command.output().unwrap()
}

#[tokio::test]
async fn fsck_export_and_token_list_only_read() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let state = server.stop();
    state.catalog_bytes().await; // nothing is left in the log: the server has ended well
    fs::remove_dir_all(state.path().join("staging")).unwrap(); // a backup has none
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let before = files_below(state.path());
    freeze(&state);
    let fsck = motorcade(&state, &["fsck", "--json"]);
    let tokens = motorcade(&state, &["token", "list"]);
    let mirror = folder.path().join("mirror");
    let export = motorcade(&state, &["export", mirror.to_str().unwrap()]);
    thaw(&state);
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(fsck.status.success(), "{} {}", text(&fsck), String::from_utf8_lossy(&fsck.stdout));
    let findings: Value = serde_json::from_slice(&fsck.stdout).unwrap();
    assert_eq!(findings["problems"], serde_json::json!([]));
    assert!(tokens.status.success(), "{}", text(&tokens));
    assert!(
        String::from_utf8_lossy(&tokens.stdout).contains("uploader"),
        "{}",
        String::from_utf8_lossy(&tokens.stdout)
    );
    assert!(export.status.success(), "{}", text(&export));
    assert!(mirror.join("timestamp.json").exists());
    assert_eq!(files_below(state.path()), before, "nothing was added");
}

/// A snapshot of the file system under a running server: what was committed last is in the
/// catalog's log.
#[tokio::test]
async fn a_snapshot_of_a_running_server_can_be_looked_at() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let snapshot =
        TestState { folder: tempfile::tempdir().unwrap(), tokens: server.state.tokens.clone() };
    for name in files_below(server.state.path()) {
        let file = snapshot.path().join(&name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy(server.state.path().join(&name), file).unwrap();
    }
    let log = fs::metadata(snapshot.path().join("catalog.sqlite-wal")).unwrap().len();
    assert!(log > 0, "the catalog has a log");
    freeze(&snapshot);
    let fsck = motorcade(&snapshot, &["fsck", "--json"]);
    let tokens = motorcade(&snapshot, &["token", "list"]);
    thaw(&snapshot);
    assert!(tokens.status.success(), "{}", String::from_utf8_lossy(&tokens.stderr));
    let findings: Value = serde_json::from_slice(&fsck.stdout).unwrap();
    let problems = findings["problems"].as_array().unwrap();
    // Two names of each target are two files here, as after `cp -r`.
    assert!(
        problems.iter().all(|problem| problem.as_str().unwrap().contains("is a copy of it")),
        "{problems:?}"
    );
    assert_eq!(problems.len(), 2, "{problems:?}");
}
