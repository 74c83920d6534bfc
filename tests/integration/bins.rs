//! Bins list what the catalog lists, though a published bin is changed and not made anew when its
//! entries change.

use std::collections::BTreeMap;
use std::fs;

use motorcade::app::audit::Author;
use motorcade::model::{AccessRole, Clock, RoleName, Sha256Digest, SystemClock};
use motorcade::uptane::metadata::image::Entries;
use motorcade::uptane::metadata::{MetaName, Signed, Snapshot, Target, Targets, TimestampRole};
use reqwest::Method;
use serde_json::Value;

use crate::app::{TestServer, send};
use crate::state::TestState;

/// What each published bin lists, as its text is.
fn published(state: &TestState) -> BTreeMap<RoleName, BTreeMap<String, Value>> {
    let read = |name: String| fs::read(state.blob(&name)).unwrap();
    let timestamp: Signed<TimestampRole> =
        serde_json::from_slice(&read("timestamp.json".into())).unwrap();
    let snapshot = timestamp.signed.snapshot().unwrap().version;
    let snapshot: Signed<Snapshot> =
        serde_json::from_slice(&read(format!("{snapshot}.snapshot.json"))).unwrap();
    let files = snapshot.signed.meta.into_iter();
    let bins = files.filter(|(MetaName(role), _)| matches!(role, RoleName::Delegated(_)));
    bins.map(|(MetaName(role), file)| {
        let bin: Signed<Targets<Value>> =
            serde_json::from_slice(&read(format!("{}.{role}.json", file.version))).unwrap();
        (role, bin.signed.targets)
    })
    .collect()
}

/// What each bin should list: as it is made of all rows of the catalog.
async fn expected(state: &TestState) -> BTreeMap<RoleName, BTreeMap<String, Value>> {
    let catalog = state.dir().open_catalog().await.unwrap();
    let mut bins = BTreeMap::new();
    for role in catalog.list_roles().await.unwrap().into_iter().map(|state| state.name) {
        if !matches!(role, RoleName::Delegated(_)) {
            continue;
        }
        let targets = catalog.list_targets(&role).await.unwrap().into_iter().map(|entry| {
            let custom: Option<Value> =
                entry.custom.map(|custom| serde_json::from_str(&custom).unwrap());
            let hashes = motorcade::uptane::metadata::Hashes { sha256: entry.sha256 };
            let target = Target { custom, hashes, length: entry.length };
            (entry.path, serde_json::to_value(target).unwrap())
        });
        bins.insert(role, targets.collect());
    }
    catalog.close().await;
    bins
}

#[track_caller]
fn assert_same(
    published: &BTreeMap<RoleName, BTreeMap<String, Value>>,
    expected: &BTreeMap<RoleName, BTreeMap<String, Value>>,
    images: usize,
) {
    assert_eq!(published, expected);
    assert_eq!(published.values().map(BTreeMap::len).sum::<usize>(), 2 * images);
}

async fn upload(server: &TestServer, numbers: std::ops::Range<usize>) {
    for number in numbers {
        server
            .upload(&format!("gw/{number}/a.bin"), format!("firmware {number}"))
            .await
            .expect(201);
    }
}

async fn yank(server: &TestServer, number: usize) {
    let path = format!("/api/v1/images/gw/{number}/a.bin");
    let request = server.request_as(AccessRole::Engineer, Method::DELETE, &path);
    send(request).await.expect(204);
}

/// With 16 bins, each of 20 images changes one that lists others.
#[tokio::test]
async fn uploads_yanks_and_restarts_leave_each_bin_as_the_catalog_has_it() {
    let server = TestServer::start().await;
    upload(&server, 0..20).await;
    yank(&server, 3).await;
    yank(&server, 17).await;
    assert_same(&published(&server.state), &expected(&server.state).await, 18);
    let server = TestServer::on(server.stop(), |_| ()).await;
    upload(&server, 20..24).await;
    yank(&server, 4).await;
    assert_same(&published(&server.state), &expected(&server.state).await, 21);
    assert!(server.repository().await.find("gw/23/a.bin").is_some());
}

/// A change that this process did not make is in the catalog alone: all entries are read.
#[tokio::test]
async fn a_change_that_is_not_known_of_is_published_with_the_next_one() {
    let server = TestServer::start().await;
    upload(&server, 0..8).await;
    let other = server.state.dir().open_catalog().await.unwrap();
    let author = Author::server(SystemClock.now());
    assert!(other.yank_image(&"gw/5/a.bin".parse().unwrap(), &author).await.unwrap());
    other.close().await;
    upload(&server, 8..9).await;
    assert_same(&published(&server.state), &expected(&server.state).await, 8);
}

/// What is damaged on the disk is no base for what is signed next.
#[tokio::test]
async fn a_published_bin_that_rotted_is_made_anew() {
    let server = TestServer::start().await;
    upload(&server, 0..20).await;
    for file in server.state.stored_files() {
        let path = server.state.blob(&file);
        if file.contains(".bin-") {
            let text = fs::read_to_string(&path).unwrap().replace("gw/1", "gw/X");
            fs::remove_file(&path).unwrap();
            fs::write(&path, text).unwrap();
        }
    }
    upload(&server, 20..60).await; // every bin is changed
    assert_same(&published(&server.state), &expected(&server.state).await, 60);
}

#[test]
fn an_entry_that_is_no_json_is_no_entry() {
    let entry = motorcade::model::TargetEntry {
        path: "a.bin".into(),
        length: 1,
        sha256: Sha256Digest::from_bytes([1; 32]),
        custom: Some("{".into()),
    };
    assert!(Entries::default().put(&entry).is_err());
}
