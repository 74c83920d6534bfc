//! A catalog, or everything, from a backup: no version is used twice, and nobody is taken back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use motorcade::app::images::deliver::Content;
use motorcade::app::{Error, Limits};
use motorcade::model::{Clock, SystemClock};
use motorcade::telemetry::Metrics;
use serde_json::Value;
use sqlx::Connection;
use tokio::runtime::Handle;

use crate::app::{eventually, once_unlocked};
use crate::publication::{NEVER, Node};
use crate::state::{ManualClock, TestState, files_below};

const CATALOG: [&str; 3] = ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"];

/// A copy of some files of a state directory.
struct Backup(BTreeMap<String, Vec<u8>>);

impl Backup {
    async fn of_catalog(state: &TestState) -> Self {
        Self::of(state, |name| CATALOG.contains(&name)).await
    }

    async fn of_everything(state: &TestState) -> Self {
        Self::of(state, |_| true).await
    }

    async fn of(state: &TestState, is_wanted: impl Fn(&str) -> bool) -> Self {
        state.catalog_closed().await;
        let names =
            files_below(state.path()).into_iter().filter(|name| is_wanted(name) && !is_log(name));
        Self(
            names.map(|name| (name.clone(), fs::read(state.path().join(&name)).unwrap())).collect(),
        )
    }

    fn restore(&self, folder: &Path) {
        CATALOG.iter().for_each(|name| drop(fs::remove_file(folder.join(name))));
        for (name, bytes) in &self.0 {
            fs::write(folder.join(name), bytes).unwrap();
            let is_secret = name.starts_with("keys/") || name.starts_with("catalog.");
            let mode = if is_secret { 0o600 } else { 0o644 };
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn is_log(name: &str) -> bool {
    name.ends_with("-wal") || name.ends_with("-shm")
}

/// The version of each role that a client has after it has read what `state` publishes.
fn seen_by_clients(state: &TestState) -> BTreeMap<String, u64> {
    let read = |name: &str| -> Value {
        serde_json::from_slice::<Value>(&fs::read(state.blob(name)).unwrap()).unwrap()["signed"]
            .clone()
    };
    let timestamp = read("timestamp.json");
    let snapshot = timestamp["meta"]["snapshot.json"]["version"].as_u64().unwrap();
    let listed = read(&format!("{snapshot}.snapshot.json"))["meta"].as_object().unwrap().clone();
    let listed =
        listed.into_iter().map(|(file, described)| (file, described["version"].as_u64().unwrap()));
    let own = [
        ("timestamp".to_owned(), timestamp["version"].as_u64().unwrap()),
        ("snapshot".to_owned(), snapshot),
    ];
    listed.chain(own).collect()
}

fn assert_all_higher(later: &BTreeMap<String, u64>, earlier: &BTreeMap<String, u64>) {
    let not_higher: Vec<_> =
        earlier.iter().filter(|(role, version)| later[*role] <= **version).collect();
    assert_eq!(not_higher, [], "{later:?}");
}

async fn served_timestamp(node: &Node) -> u64 {
    let Content::Bytes(bytes) = node.app.images().deliver("timestamp.json").await.unwrap().content
    else {
        panic!("it is small")
    };
    serde_json::from_slice::<Value>(&bytes).unwrap()["signed"]["version"].as_u64().unwrap()
}

async fn start(state: &TestState) -> Result<(), Error> {
    let (limits, metrics) = (Limits::default(), Arc::new(Metrics::new("0")));
    let opened =
        state.dir().open(limits, ManualClock::starting_now(), metrics, Handle::current()).await?;
    opened.app.upkeep().recover().await
}

#[tokio::test]
async fn an_older_catalog_under_a_newer_repository_is_refused_until_its_numbers_are_recovered() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.upload("gw/1/a.bin").await;
    let state = node.close().await;
    let backup = Backup::of_catalog(&state).await;
    let node = Node::open(state, NEVER).await;
    for path in ["gw/2/a.bin", "gw/3/a.bin"] {
        node.upload(path).await;
    }
    let state = node.close().await;
    let (seen, files) = (seen_by_clients(&state), state.stored_files());
    let published = fs::read(state.blob("timestamp.json")).unwrap();
    state.catalog_closed().await;
    backup.restore(state.path());
    for _ in 0..2 {
        let refused = start(&state).await.unwrap_err();
        assert!(matches!(refused, Error::Conflict { code: "catalog_is_older", .. }), "{refused}");
        assert!(refused.to_string().contains("motorcade recover versions"), "{refused}");
        assert_eq!(
            (fs::read(state.blob("timestamp.json")).unwrap(), state.stored_files()),
            (published.clone(), files.clone())
        );
    }
    state.dir().recover_versions(0, SystemClock.now()).await.unwrap();
    let node = Node::open(state, NEVER).await;
    assert!(served_timestamp(&node).await >= seen["timestamp"], "nobody is taken back");
    assert!(seen_by_clients(&node.state)["timestamp"] >= seen["timestamp"]);
    node.upload("gw/4/a.bin").await;
    assert_all_higher(&seen_by_clients(&node.state), &seen);
    let state = node.close().await;
    start(&state).await.unwrap();
}

#[tokio::test]
async fn a_whole_old_backup_goes_on_past_what_was_published_after_it() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.upload("gw/1/a.bin").await;
    let state = node.close().await;
    state.catalog_closed().await;
    let backup = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        for name in files_below(from).into_iter().filter(|name| !is_log(name)) {
            fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    };
    copy(state.path(), backup.path());
    let node = Node::open(state, NEVER).await;
    for number in 2..8 {
        node.upload(&format!("gw/{number}/a.bin")).await;
    }
    node.after_hours(50 * 24).await; // every role
    let state = node.close().await;
    let seen = seen_by_clients(&state);
    state.catalog_closed().await;
    fs::remove_dir_all(state.path()).unwrap();
    copy(backup.path(), state.path());
    let skipped = state.dir().recover_versions(5_000_000, SystemClock.now()).await.unwrap();
    assert!(skipped.image > 5_000_000 && skipped.director > 5_000_000, "{skipped:?}");
    let node = Node::open(state, NEVER).await;
    node.upload("gw/9/a.bin").await;
    assert_all_higher(&seen_by_clients(&node.state), &seen);
    assert_eq!(node.versions().root, 1, "root has no gaps");
    node.close().await;
}

#[tokio::test]
async fn a_backup_that_was_silent_for_days_goes_on_past_them_by_itself() {
    let node = Node::open(TestState::new(), NEVER).await;
    let (path, clock) = (node.state.path().to_owned(), ManualClock::starting_now());
    let state = node.close().await;
    let backup = Backup::of_everything(&state).await;
    let node = Node::open(state, NEVER).await;
    for number in 1..8 {
        node.upload(&format!("gw/{number}/a.bin")).await;
    }
    let state = node.close().await;
    let seen = seen_by_clients(&state);
    state.catalog_closed().await;
    // A log goes by itself as its last connection closes.
    let stay = files_below(&path).into_iter().filter(|name| !is_log(name));
    stay.for_each(|name| fs::remove_file(path.join(name)).unwrap());
    backup.restore(&path);
    clock.advance_hours(3 * 24);
    let node = Node::at(state, clock, NEVER).await;
    node.upload("gw/9/a.bin").await;
    assert_all_higher(&seen_by_clients(&node.state), &seen);
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn starts_that_sign_nothing_leave_out_no_more_numbers_than_one() {
    let (state, clock) = (TestState::new(), ManualClock::starting_now());
    clock.advance_hours(30 * 24);
    let mut reserved = Vec::new();
    for _ in 0..3 {
        let dir = state.dir();
        let open = async || {
            let metrics = Arc::new(Metrics::new("0"));
            dir.open(Limits::default(), clock.clone(), metrics, Handle::current()).await
        };
        let opened = once_unlocked(open).await;
        opened.app.upkeep().recover().await.unwrap(); // and then it ends, before a round
        drop(opened);
        state.catalog_closed().await;
        let url = format!("sqlite://{}", state.path().join("catalog.sqlite").display());
        let mut catalog = sqlx::AnyConnection::connect(&url).await.unwrap();
        let query = "SELECT MAX(reserved) + (SELECT MAX(value) FROM sequences) FROM roles";
        let numbers: i64 = sqlx::query_scalar(query).fetch_one(&mut catalog).await.unwrap();
        catalog.close().await.unwrap();
        reserved.push(numbers);
    }
    assert!(reserved[0] > 40_000_000, "{reserved:?}");
    assert!(reserved[2] - reserved[0] < 10_000, "only what time has passed since: {reserved:?}");
}

/// Else whoever waits for it would go on with what was published before.
#[tokio::test]
async fn a_start_that_has_something_to_publish_is_ready_once_that_is_done() {
    let state = TestState::new();
    state.dir().recover_versions(50_000, SystemClock.now()).await.unwrap();
    let open = async || {
        let (limits, metrics) = (Limits::default(), Arc::new(Metrics::new("0")));
        state.dir().open(limits, ManualClock::starting_now(), metrics, Handle::current()).await
    };
    let opened = once_unlocked(open).await;
    let upkeep = opened.app.upkeep();
    upkeep.recover().await.unwrap();
    let refused = upkeep.check_ready().await.unwrap_err();
    assert!(matches!(refused, Error::NotReady { .. }), "{refused}");
    let publishing = tokio::spawn(opened.publisher_task.run(NEVER));
    eventually("it is ready", async || upkeep.check_ready().await.is_ok()).await;
    assert!(seen_by_clients(&state)["timestamp"] > 50_000);
    publishing.abort();
    drop(opened.app);
    drop(opened.lock);
    // The next one has nothing to publish.
    let opened = once_unlocked(open).await;
    opened.app.upkeep().recover().await.unwrap();
    opened.app.upkeep().check_ready().await.unwrap();
}

#[tokio::test]
async fn numbers_are_not_recovered_under_a_running_server() {
    let node = Node::open(TestState::new(), NEVER).await;
    let refused = node.state.dir().recover_versions(0, SystemClock.now()).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { code: "locked", .. }), "{refused}");
    let refused = node.state.dir().recover_clock(node.clock.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { code: "locked", .. }), "{refused}");
    node.close().await;
}

#[tokio::test]
async fn what_others_have_left_in_the_repository_is_nobodys_version() {
    let state = TestState::new();
    let snapshot = fs::read(state.blob("1.snapshot.json")).unwrap();
    fs::write(state.blob("900.snapshot.json"), &snapshot).unwrap(); // its version is another one
    fs::write(state.blob("900.bin-0.json"), b"{}").unwrap();
    start(&state).await.unwrap();
}
