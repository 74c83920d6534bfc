//! Starting and stopping: what a crash left is mended, running uploads end well, and one server
//! runs on a directory.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use motorcade::app::Error;
use motorcade::app::watch::Pulse;
use motorcade::catalog::Holder;
use motorcade::model::{Clock, SystemClock};
use motorcade::server::Server;
use motorcade::telemetry::TraceExport;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::oneshot;

use crate::app::{TestServer, eventually, pattern, send};
use crate::client::{published_alias, published_name};
use crate::director::vehicle::TestVehicle;
use crate::state::{TestState, files_below};

#[tokio::test]
async fn a_timestamp_that_was_not_shown_is_shown_at_the_next_start() {
    let server = TestServer::start().await;
    let older = server.download("timestamp.json").await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let current = server.download("timestamp.json").await;
    let mut state = server.stop();
    for damage in [Some(&older[..]), Some(b""), Some(b"{\"signed\":"), None] {
        let file = state.blob("timestamp.json");
        match damage {
            Some(bytes) => fs::write(&file, bytes).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let server = TestServer::on(state, |_| ()).await;
        assert_eq!(server.download("timestamp.json").await, current);
        assert_eq!(fs::read(file).unwrap(), current);
        assert!(server.repository().await.find("gw/1/a.bin").is_some());
        state = server.stop();
    }
}

#[tokio::test]
async fn what_a_crash_left_is_removed_at_the_next_start() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let state = server.stop();
    let files = state.stored_files();
    let digest = "0".repeat(64);
    let (name, alias) =
        (published_name("gw/2/a.bin", &digest), published_alias("gw/2/a.bin", &digest));
    let catalog = state.dir().open_catalog().await.unwrap();
    let now = SystemClock.now();
    let ended = Holder { owner: "another", now, lease_until: now };
    catalog.announce_blobs(std::slice::from_ref(&name), ended).await.unwrap();
    // An upload of a server that lives, on the same catalog.
    let other = published_name("gw/3/a.bin", &digest);
    let lease_until = now + std::time::Duration::from_secs(600);
    let living = Holder { owner: "another", now, lease_until };
    catalog.announce_blobs(std::slice::from_ref(&other), living).await.unwrap();
    catalog.close().await;
    for blob in [&name, &alias] {
        fs::create_dir_all(state.blob(blob).parent().unwrap()).unwrap();
        fs::write(state.blob(blob), "sealed bytes of an image that was never accepted").unwrap();
    }
    fs::write(state.path().join("staging/1-0"), "half of one").unwrap();
    let server = TestServer::on(state, |_| ()).await;
    assert_eq!(server.state.stored_files(), files);
    let catalog = server.state.dir().open_catalog().await.unwrap();
    assert_eq!(catalog.pending_blobs().await.unwrap(), std::slice::from_ref(&other));
    catalog.forget_pending_blob(&other).await.unwrap();
    catalog.close().await;
    server.state.assert_clean().await;
    server.upload("gw/2/a.bin", "a retry").await.expect(201);
}

/// As the version before the Director left it.
#[tokio::test]
async fn a_state_directory_from_before_the_director_gets_one() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let root = server.download("1.root.json").await;
    let state = server.stop();
    take_director_away(&state).await;
    let server = TestServer::on(state, |_| ()).await;
    assert_eq!(server.download("1.root.json").await, root);
    assert!(server.repository().await.find("gw/1/a.bin").is_some());
    server.get("/director/1.root.json").await.expect(200);
    TestVehicle::registered(&server, "VIN1").await.report(&server).await;
    server.upload("gw/2/a.bin", "more").await.expect(201);
    server.state.assert_clean().await;
}

/// Undoes the migration and what changes its tables, and removes keys and policy.
async fn take_director_away(state: &TestState) {
    let mut sql = String::from(
        "DELETE FROM _sqlx_migrations WHERE version IN (2, 4, 9); DROP TABLE re_enrolments; DROP TABLE ecu_releases;",
    );
    for line in include_str!("../../migrations/sqlite/0002_director.sql").lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["CREATE", "TABLE", table, ..] => sql.push_str(&format!("DROP TABLE {table};")),
            ["ALTER", "TABLE", table, "ADD", "COLUMN", column, ..] => {
                sql.push_str(&format!("ALTER TABLE {table} DROP COLUMN {column};"));
            }
            _ => {}
        }
    }
    let options = SqliteConnectOptions::new().filename(state.path().join("catalog.sqlite"));
    let mut catalog = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut catalog).await.unwrap();
    catalog.close().await.unwrap();
    let keys = state.path().join("keys");
    let directors = files_below(&keys).into_iter().filter(|name| name.starts_with("director-"));
    assert!(
        directors.map(|name| fs::remove_file(keys.join(name)).unwrap()).count() >= 4,
        "its roles had keys"
    );
    let policy = state.path().join("metadata/policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.split_once("\n[director.root]").expect("it had a policy").0).unwrap();
}

#[tokio::test]
async fn a_second_server_is_refused() {
    let server = TestServer::start().await;
    let settings = motorcade::config::ServeSettings::default().resolve().unwrap();
    let config = motorcade::config::ServeConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir: server.state.path().to_owned(),
        ..settings
    };
    let error = Server::bind(config, TraceExport::Off).await.err().expect("the directory is taken");
    assert!(format!("{error:#}").contains("another server runs on"), "{error:#}");
    let error = server.state.dir().init(Arc::new(SystemClock)).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { code: "already_initialized", .. }), "{error}");
    server.upload("gw/1/a.bin", "undisturbed").await.expect(201);
}

/// A server on `state` that does not run yet.
async fn bound(state: &TestState) -> Server {
    let settings = motorcade::config::ServeSettings::default().resolve().unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let config =
        motorcade::config::ServeConfig { listen, data_dir: state.path().to_owned(), ..settings };
    Server::bind(config, TraceExport::Off).await.unwrap()
}

#[tokio::test]
async fn a_background_task_that_ends_ends_the_server() {
    let state = TestState::new();
    for (how, expected) in [
        ("panic", "the task that fails here has panicked"),
        ("return", "the task that fails here has ended"),
    ] {
        let server = bound(&state).await;
        let health = format!("http://{}/healthz", server.address().unwrap());
        let (fail, failing) = oneshot::channel::<()>();
        server.run_beside("fails here", Pulse::default(), async move {
            failing.await.unwrap();
            assert_eq!(how, "return", "on purpose");
        });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let until_it_fails = async {
            assert_eq!(http.get(&health).send().await.unwrap().status(), 200);
            fail.send(()).unwrap();
        };
        let (ended, ()) = tokio::join!(server.run(std::future::pending()), until_it_fails);
        assert_eq!(ended.unwrap_err().to_string(), expected);
        assert!(http.get(&health).send().await.is_err(), "nobody listens any more");
    }
    state.assert_clean().await;
}

#[tokio::test]
async fn readiness_asks_the_background_tasks() {
    let state = TestState::new();
    let server = bound(&state).await;
    let url = format!("http://{}", server.address().unwrap());
    let pulse = Pulse::default();
    server.run_beside("hangs here", pulse.clone(), std::future::pending());
    let (stop, stopped) = oneshot::channel::<()>();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asking = async {
        send(http.get(format!("{url}/readyz"))).await.expect(200);
        pulse.beat(Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let detail = send(http.get(format!("{url}/readyz"))).await.refused(503, "not_ready");
        assert_eq!(detail, "the task that hangs here gives no sign of life");
        send(http.get(format!("{url}/healthz"))).await.expect(200);
        pulse.beat(Duration::from_secs(600));
        send(http.get(format!("{url}/readyz"))).await.expect(200);
        drop(stop);
    };
    let (ended, ()) = tokio::join!(server.run(async { drop(stopped.await) }), asking);
    ended.unwrap();
}

#[tokio::test]
async fn an_initialized_directory_is_left_as_it_is() {
    let state = TestState::new();
    let before = crate::state::files_below(state.path());
    let root = state.first_root();
    let error = state.dir().init(Arc::new(SystemClock)).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { code: "already_initialized", .. }), "{error}");
    assert_eq!(state.first_root(), root);
    let database = |name: &String| name.starts_with("catalog.sqlite");
    let after = crate::state::files_below(state.path());
    assert!(
        after
            .iter()
            .filter(|name| !database(name))
            .eq(before.iter().filter(|name| !database(name)))
    );
}

#[tokio::test]
async fn a_running_upload_may_end_while_the_server_stops() {
    let mut server =
        TestServer::configured(|config| config.shutdown_timeout = Duration::from_secs(20)).await;
    let body = pattern(2_000_000, 1);
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", "Content-Length: 2000000\r\n").await;
    raw.send(&body[..1_500_000]).await;
    eventually("the upload has begun", async || !server.state.staged_files().is_empty()).await;
    server.begin_to_stop();
    let health = server.url("/healthz");
    eventually("no new connection is taken", async || {
        server.http.get(&health).send().await.is_err()
    })
    .await;
    raw.send(&body[1_500_000..]).await;
    raw.answer().await.expect(201);
    let server = TestServer::on(server.stop(), |_| ()).await;
    assert!(server.open("gw/1/a.bin", "snakeoil_p256").await == body);
}

#[tokio::test]
async fn an_upload_that_does_not_end_is_cut_off_by_the_shutdown_and_leaves_nothing() {
    let server =
        TestServer::configured(|config| config.shutdown_timeout = Duration::from_secs(1)).await;
    let files = server.state.stored_files();
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", "Content-Length: 2000000\r\n").await;
    raw.send(pattern(1_500_000, 1)).await;
    eventually("the upload has begun", async || !server.state.staged_files().is_empty()).await;
    let state = tokio::task::spawn_blocking(|| server.stop()).await.unwrap();
    assert_eq!(state.stored_files(), files);
    eventually("the staged file is gone", async || state.staged_files().is_empty()).await;
    state.assert_clean().await;
}

#[tokio::test]
async fn a_directory_that_was_never_initialized_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let state = motorcade::app::setup::StateDir::new(folder.path());
    let error = state.open_catalog().await.unwrap_err();
    assert!(matches!(error, Error::NotFound { code: "not_initialized", .. }), "{error}");
    assert!(error.to_string().contains("motorcade init --data-dir"), "{error}");
}

#[tokio::test]
async fn stopping_an_idle_server_takes_no_time() {
    let server = TestServer::start().await;
    send(server.request(reqwest::Method::GET, "/healthz")).await.expect(200); // leaves a connection open
    let started = std::time::Instant::now();
    tokio::task::spawn_blocking(|| server.stop()).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
}
