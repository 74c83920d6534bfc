//! What a server stands on: state directories with odd names, damaged or strange catalogs, wrong
//! owners, modes and mounts.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use motorcade::app::Error;
use motorcade::app::access::{self, NewToken};
use motorcade::app::setup::StateDir;
use motorcade::model::{AccessRole, Clock, SystemClock};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};

use crate::app::{TestServer, once_unlocked};
use crate::state::{TestState, files_below};

#[tokio::test]
async fn a_state_directory_may_have_any_name() {
    let parent = tempfile::tempdir().unwrap();
    for name in ["a b", "a:b", "x?y", "a%20b", "a#b", "ünd", "x?mode=memory", "-"] {
        let path = parent.path().join(name);
        let state = StateDir::new(&path);
        state.init(Arc::new(SystemClock)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let catalog = state.open_catalog().await.unwrap();
        let token = NewToken::of(AccessRole::Viewer, name);
        access::create_token(&catalog, token, SystemClock.now()).await.unwrap();
        catalog.close().await;
        assert!(fs::metadata(path.join("catalog.sqlite")).unwrap().len() > 0, "{name}");
    }
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 8, "no catalog went anywhere else");
}

#[tokio::test]
async fn a_damaged_catalog_is_named_at_once() {
    let server = TestServer::start().await;
    let state = server.stop();
    let file = state.path().join("catalog.sqlite");
    let sound = fs::read(&file).unwrap();
    for log in ["catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = fs::remove_file(state.path().join(log));
    }
    let damaged =
        [b"no database".repeat(500), sound[..100].to_vec(), vec![0; sound.len()], Vec::new()];
    for bytes in damaged {
        fs::write(&file, &bytes).unwrap();
        let started = std::time::Instant::now();
        for error in [unlocked_error(&state).await, state.dir().open_catalog().await.unwrap_err()] {
            let text = error.to_string();
            assert!(matches!(error, Error::Unusable { .. }), "{} bytes: {error:?}", bytes.len());
            assert!(text.contains("catalog.sqlite") && text.contains("backup"), "{text}");
        }
        assert!(started.elapsed().as_secs() < 20, "a pool tries for thirty seconds");
        assert_eq!(
            fs::read(&file).unwrap(),
            bytes,
            "what is damaged stays for whoever can mend it"
        );
    }
    let error = state.dir().init(Arc::new(SystemClock)).await.unwrap_err();
    assert!(error.to_string().contains("holds a published repository"), "{error}");
}

#[tokio::test]
async fn a_catalog_of_a_later_version_is_refused_and_stays_as_it_is() {
    let state = TestState::new();
    state.sql("INSERT INTO _sqlx_migrations VALUES (9999, 'later', 0, true, x'00', 1)").await;
    state.sql("INSERT INTO program_versions VALUES ('7.3.0', 9999999999999)").await;
    for error in [unlocked_error(&state).await, state.dir().open_catalog().await.unwrap_err()] {
        let text = error.to_string();
        assert!(
            text.contains("is from version 7.3.0 or newer") && text.contains("backup"),
            "{text}"
        );
    }
}

/// `token list` of a new binary beside an old server must not change the old one's tables.
#[tokio::test]
async fn only_a_server_migrates() {
    let state = TestState::new();
    put_earlier_catalog(&state, 6).await;
    let before = tables(&state).await;
    let error = state.dir().open_catalog().await.unwrap_err();
    assert!(error.to_string().contains("is from an earlier version"), "{error}");
    assert_eq!(tables(&state).await, before);
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn a_migration_that_was_left_out_is_named() {
    let state = TestState::new();
    state.sql("DELETE FROM _sqlx_migrations WHERE version = 7").await;
    let error = state.dir().open_catalog().await.unwrap_err();
    assert!(error.to_string().contains("migration 7 was not run"), "{error}");
}

#[tokio::test]
async fn a_second_server_does_not_start_when_the_lock_file_is_gone() {
    let server = TestServer::start().await;
    fs::remove_file(server.state.path().join("lock")).unwrap();
    let error = open_error(&server.state).await;
    assert!(matches!(error, Error::Conflict { code: "locked", .. }), "{error}");
}

#[test]
fn an_inherited_mask_lets_nobody_write() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    let made = shell("umask 000; exec \"$0\" init --data-dir \"$1\"", &path);
    assert!(made.status.success(), "{made:?}");
    let names = files_below(&path);
    let folders = ["", "keys", "metadata", "repo", "staging"].map(String::from);
    for name in names.iter().chain(&folders) {
        let mode = fs::metadata(path.join(name)).unwrap().mode();
        assert_eq!(mode & 0o022, 0, "{name} has the mode {mode:o}");
    }
}

#[test]
fn a_restart_with_the_group_bits_of_a_volume_goes_on() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    assert!(shell("exec \"$0\" init --data-dir \"$1\"", &path).status.success());
    // What `fsGroup` does to a volume, at each start of the pod.
    assert!(shell("chmod -R g+rwX \"$1\"", &path).status.success());
    let started = serve_for_a_moment(&path);
    assert!(started.contains("motorcade listens"), "{started}");
    assert!(
        started.contains("timestamp.pem") && started.contains("its mode is 0600 now"),
        "{started}"
    );
    assert_eq!(fs::metadata(path.join("keys/timestamp.pem")).unwrap().mode() & 0o777, 0o600);
    fs::set_permissions(path.join("keys/escrow.jwk"), Permissions::from_mode(0o604)).unwrap();
    let refused = serve_for_a_moment(&path);
    assert!(refused.contains("escrow.jwk") && refused.contains("others can read it"), "{refused}");
}

#[test]
fn files_of_another_user_are_named_before_anything_is_served() {
    if !rustix::process::geteuid().is_root() {
        return; // needs another user
    }
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
    let path = parent.path().join("state");
    assert!(shell("exec \"$0\" init --data-dir \"$1\"", &path).status.success());
    for name in files_below(&path)
        .iter()
        .map(String::as_str)
        .chain(["", "keys", "metadata", "repo", "staging"])
    {
        chown(path.join(name), Some(54_321), Some(54_321)).unwrap();
    }
    let before = files_below(&path);
    let as_root = serve_for_a_moment(&path);
    assert!(as_root.contains("belongs to user 54321, and this runs as root"), "{as_root}");
    assert_eq!(files_below(&path), before, "root has left nothing");

    fs::create_dir(path.join("repo/targets")).unwrap(); // as root
    fs::set_permissions(path.join("repo/targets"), Permissions::from_mode(0o755)).unwrap();
    let stray = serve_as(54_321, &path);
    assert!(
        stray.contains("repo/targets can't be written to") && stray.contains("belongs to user 0"),
        "{stray}"
    );
    chown(path.join("repo/targets"), Some(54_321), Some(54_321)).unwrap();
    let started = serve_as(54_321, &path);
    assert!(started.contains("motorcade listens"), "{started}");

    chown(path.join("catalog.sqlite"), Some(0), Some(0)).unwrap();
    let stray = serve_as(54_321, &path);
    assert!(stray.contains("catalog.sqlite") && stray.contains("belongs to user 0"), "{stray}");
}

#[test]
fn a_mount_on_the_repository_is_said_at_the_start() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    assert!(shell("exec \"$0\" init --data-dir \"$1\"", &path).status.success());
    let script = "cp -a \"$1/repo\" \"$1/copy\" && mount -t tmpfs none \"$1/repo\" && cp -a \"$1/copy/.\" \"$1/repo\" \
                  && exec timeout 20 \"$0\" serve --listen 127.0.0.1:0 --data-dir \"$1\"";
    let Some(output) = in_own_mounts(script, &path) else { return };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("have to be on one file system that has hard links"), "{text}");
}

#[test]
fn a_disk_that_an_unfinished_upload_has_filled_is_freed_by_the_start() {
    let parent = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=8m none \"$1\" && \"$0\" init --data-dir \"$1/state\" && \
                  { cat /dev/zero > \"$1/state/staging/7-0\" || true; } 2>/dev/null && \
                  exec timeout 8 \"$0\" serve --listen 127.0.0.1:0 --log-format text --data-dir \"$1/state\"";
    let Some(output) = in_own_mounts(script, parent.path()) else { return };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("no space is left to try") && text.contains("motorcade listens"),
        "{text}"
    );
}

#[test]
fn a_read_only_mount_is_enough_to_read() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    assert!(shell("exec \"$0\" init --data-dir \"$1\"", &path).status.success());
    assert!(
        shell("exec \"$0\" token create --role viewer --label reader --data-dir \"$1\"", &path)
            .status
            .success()
    );
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && \
                  exec \"$0\" token list --data-dir \"$1\"";
    let Some(output) = in_own_mounts(script, &path) else { return };
    assert!(String::from_utf8_lossy(&output.stdout).contains("reader"), "{output:?}");
    let script = script.replace("token list", "token create --role viewer");
    let Some(output) = in_own_mounts(&script, &path) else { return };
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

async fn open_error(state: &TestState) -> Error {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Arc::new(motorcade::telemetry::Metrics::new("test"));
    let runtime = tokio::runtime::Handle::current();
    match state.dir().open(motorcade::app::Limits::default(), clock, metrics, runtime).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// The same once no program that another test starts still has the directory's lock.
async fn unlocked_error(state: &TestState) -> Error {
    let open = async || match open_error(state).await {
        locked @ Error::Conflict { code: "locked", .. } => Err(locked),
        error => Ok(error),
    };
    once_unlocked(open).await
}

/// Puts a catalog that has had no more than the migrations up to `last` in the place of a state
/// directory's, with all that the other one has in the same tables and columns.
async fn put_earlier_catalog(state: &TestState, last: i64) {
    let (file, new) = (state.path().join("catalog.sqlite"), state.path().join("earlier.sqlite"));
    let options = SqliteConnectOptions::new().filename(&new).create_if_missing(true);
    let mut catalog = SqliteConnection::connect_with(&options).await.unwrap();
    let mut migrator = sqlx::migrate!("migrations/sqlite");
    let earlier = migrator.migrations.iter().filter(|migration| migration.version <= last);
    migrator.migrations = earlier.cloned().collect::<Vec<_>>().into();
    migrator.run(&mut catalog).await.unwrap();
    let attach = format!("ATTACH '{}' AS later", file.display());
    sqlx::raw_sql(AssertSqlSafe(attach)).execute(&mut catalog).await.unwrap();
    let tables =
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE '%sql%'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut catalog).await.unwrap();
    assert!(tables.len() > 10, "{tables:?}");
    for table in tables {
        let columns = format!("SELECT group_concat(name) FROM pragma_table_info('{table}')");
        let columns: String =
            sqlx::query_scalar(AssertSqlSafe(columns)).fetch_one(&mut catalog).await.unwrap();
        let copy = format!(
            "DELETE FROM main.{table}; INSERT INTO main.{table} ({columns}) SELECT {columns} FROM later.{table}"
        );
        sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut catalog).await.unwrap();
    }
    // A migration after those puts it there.
    let later = "DELETE FROM main.sequences WHERE name = 'staging'";
    sqlx::raw_sql(later).execute(&mut catalog).await.unwrap();
    catalog.close().await.unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(state.path().join(format!("catalog.sqlite{suffix}")));
    }
    fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, file).unwrap();
}

async fn tables(state: &TestState) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(state.path().join("catalog.sqlite"));
    let mut catalog = SqliteConnection::connect_with(&options).await.unwrap();
    let query = "SELECT COALESCE(sql, name) FROM sqlite_master ORDER BY name";
    sqlx::query_scalar(query).fetch_all(&mut catalog).await.unwrap()
}

/// Runs a script with the binary as `$0` and a path as `$1`.
fn shell(script: &str, path: &Path) -> Output {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(BINARY).arg(path).stdin(Stdio::null()).output().unwrap()
}

/// The same with mounts of its own; none where this process may not make any.
fn in_own_mounts(script: &str, path: &Path) -> Option<Output> {
    let mut probe = Command::new("unshare");
    if !probe.args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output().ok()?.status.success() {
        return None;
    }
    let mut command = Command::new("unshare");
    Some(
        command
            .args(["-m", "sh", "-c", script, BINARY])
            .arg(path)
            .stdin(Stdio::null())
            .output()
            .unwrap(),
    )
}

/// What a server logs until it listens or gives up.
fn serve_for_a_moment(path: &Path) -> String {
    log_of(Command::new(BINARY), path)
}

fn serve_as(uid: u32, path: &Path) -> String {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups", BINARY]);
    log_of(command, path)
}

fn log_of(mut command: Command, path: &Path) -> String {
    use std::io::{BufRead, BufReader};
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "text", "--data-dir"])
        .arg(path);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        log.push_str(&line);
        log.push('\n');
        if line.contains("motorcade listens") {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    log
}

const BINARY: &str = env!("CARGO_BIN_EXE_motorcade");
