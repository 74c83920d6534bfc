//! What is in the signed metadata and for how long: re-signing by a clock that tests move, yanks,
//! superseded files.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use motorcade::api::ImageList;
use motorcade::app::access::Principal;
use motorcade::app::footing::StateLock;
use motorcade::app::images::ingest::{Accepted, EmptyImage, Original, UploadRequest};
use motorcade::app::images::precondition::Precondition;
use motorcade::app::setup::Opened;
use motorcade::app::{App, Error, Limits};
use motorcade::model::{AccessRole, Clock, ImageDescription, Sha256Digest, Timestamp};
use motorcade::telemetry::Metrics;
use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::{TestServer, eventually, once_unlocked, send};
use crate::state::{BINS, HARDWARE_ID, ManualClock, TestState};
use crate::static_files::StaticFiles;

/// The use cases on a state directory, under a clock that stands still; no HTTP.
pub(crate) struct Node {
    pub(crate) state: TestState,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) app: Arc<App>,
    publishing: JoinHandle<()>,
    _lock: StateLock,
}

/// Whoever changes something in these tests.
pub(crate) fn engineer() -> Principal {
    Principal { id: "test".into(), role: AccessRole::Engineer, path_prefix: None, request_id: None }
}

impl Node {
    pub(crate) async fn open(state: TestState, interval: Duration) -> Self {
        Self::at(state, ManualClock::starting_now(), interval).await
    }

    /// One whose clock goes on from an earlier one's.
    pub(crate) async fn at(state: TestState, clock: Arc<ManualClock>, interval: Duration) -> Self {
        let metrics = Arc::new(Metrics::new("0"));
        let dir = state.dir();
        let open = async || {
            let metrics = Arc::clone(&metrics);
            dir.open(Limits::default(), clock.clone(), metrics, Handle::current()).await
        };
        let opened = once_unlocked(open).await;
        let Opened { app, publisher_task, lock } = opened;
        app.upkeep().recover().await.unwrap();
        Self {
            state,
            clock,
            app,
            publishing: tokio::spawn(publisher_task.run(interval)),
            _lock: lock,
        }
    }

    /// Uploads one and the same image: new, or again. Either way a round of publication is over
    /// when this returns.
    pub(crate) async fn upload(&self, path: &str) -> Accepted {
        self.try_to_upload(path).await.unwrap()
    }

    pub(crate) async fn try_to_upload(&self, path: &str) -> Result<Accepted, Error> {
        self.try_to_copy(None, path).await
    }

    /// As [`Self::try_to_upload`], of what is a copy of another image.
    pub(crate) async fn try_to_copy(
        &self,
        original: Option<&str>,
        path: &str,
    ) -> Result<Accepted, Error> {
        let request = UploadRequest {
            path: path.parse().unwrap(),
            description: ImageDescription {
                name: "firmware".parse().unwrap(),
                version: "1".parse().unwrap(),
                hardware_ids: vec![HARDWARE_ID.parse().unwrap()],
                release_counter: 1.try_into().unwrap(),
                target_format: Default::default(),
                requires: Vec::new(),
                conflicts: Vec::new(),
            },
            algorithm: Default::default(),
            recipients: None,
            expected_sha256: Some(Sha256Digest::from_bytes(Sha256::digest(b"firmware").into())),
            empty: EmptyImage::Refused,
            precondition: Precondition::default(),
            content_length: None,
            copy_of: original.map(|original| Original {
                path: original.parse().unwrap(),
                wanted: CancellationToken::new(),
            }),
            by: engineer(),
        };
        let plan = self.app.images().plan_upload(&request).await?;
        let body = stream::iter([Ok(Bytes::from_static(b"firmware"))]);
        self.app.images().upload(request, plan, body).await
    }

    /// Lets time pass and a round of publication come.
    pub(crate) async fn after_hours(&self, hours: u64) -> Versions {
        self.clock.advance_hours(hours);
        self.upload("gw/1/a.bin").await;
        self.versions()
    }

    pub(crate) fn read(&self, name: &str) -> Value {
        let file =
            serde_json::from_slice::<Value>(&fs::read(self.state.blob(name)).unwrap()).unwrap();
        let expires: Timestamp = file["signed"]["expires"].as_str().unwrap().parse().unwrap();
        assert!(expires > self.clock.now(), "{name} has expired");
        file["signed"].clone()
    }

    /// The versions of what is published now.
    pub(crate) fn versions(&self) -> Versions {
        let timestamp = self.read("timestamp.json");
        let snapshot = timestamp["meta"]["snapshot.json"]["version"].as_u64().unwrap();
        let listed = self.read(&format!("{snapshot}.snapshot.json"));
        let of = |role: &str| listed["meta"][format!("{role}.json")]["version"].as_u64().unwrap();
        let untouched = of("bin-0"); // no test's path is in it
        self.read(&format!("{untouched}.bin-0.json"));
        self.read(&format!("{}.targets.json", of("targets")));
        let root = (1..)
            .take_while(|version| self.state.blob(&format!("{version}.root.json")).exists())
            .count();
        Versions {
            timestamp: timestamp["version"].as_u64().unwrap(),
            snapshot,
            targets: of("targets"),
            bin: untouched,
            root: root as u64,
        }
    }

    pub(crate) async fn close(self) -> TestState {
        let Self { state, app, publishing, .. } = self;
        app.images().drain().await;
        drop(app);
        publishing.await.unwrap();
        state
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) timestamp: u64,
    pub(crate) snapshot: u64,
    pub(crate) targets: u64,
    pub(crate) bin: u64,
    pub(crate) root: u64,
}

pub(crate) const NEVER: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn what_is_yanked_while_a_copy_of_it_is_sealed_has_no_copy() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.upload("gw/1/a.bin").await;
    node.try_to_copy(Some("gw/1/a.bin"), "gw/2/a.bin").await.unwrap();
    let original = "gw/1/a.bin".parse().unwrap();
    node.app.images().yank(&original, &Precondition::default(), &engineer()).await.unwrap();
    let (before, stored) = (node.versions(), node.state.stored_targets());
    let refused = node.try_to_copy(Some("gw/1/a.bin"), "gw/3/a.bin").await;
    assert!(matches!(refused, Err(Error::Conflict { code: "image_yanked", .. })), "{refused:?}");
    assert_eq!((node.versions(), node.state.stored_targets()), (before, stored));
}

#[tokio::test]
async fn each_role_is_signed_again_past_half_its_life_and_not_before() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.upload("gw/1/a.bin").await;
    let first = node.versions();
    assert_eq!(node.after_hours(11).await, first, "the timestamp is good for a day");
    let second = Versions { timestamp: first.timestamp + 1, ..first };
    assert_eq!(node.after_hours(2).await, second);
    assert_eq!(node.after_hours(1).await, second);
    let third =
        Versions { timestamp: second.timestamp + 1, snapshot: first.snapshot + 1, ..second };
    assert_eq!(node.after_hours(4 * 24).await, third, "the snapshot is good for a week");
    let fourth = node.after_hours(42 * 24).await;
    let expected = Versions {
        timestamp: third.timestamp + 1,
        snapshot: third.snapshot + 1,
        targets: third.targets + 1,
        bin: third.bin + 1,
        root: 1,
    };
    assert_eq!(fourth, expected, "targets and bins are good for 90 days");
    let files = StaticFiles::serve(&node.state.blob("")).await;
    assert_eq!(files.repository().await.versions(), [1, fourth.timestamp, fourth.snapshot]);
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn signing_again_needs_nobody_to_ask() {
    let node = Node::open(TestState::new(), Duration::from_millis(10)).await;
    let first = node.versions();
    node.clock.advance_hours(13);
    eventually("the timestamp is signed again", async || {
        node.versions().timestamp > first.timestamp
    })
    .await;
    let second = node.versions();
    assert_eq!(second, Versions { timestamp: first.timestamp + 1, ..first });
    node.close().await;
}

#[tokio::test]
async fn root_is_renewed_while_its_key_is_there() {
    let node = Node::open(TestState::new(), NEVER).await;
    let first_root = node.read("1.root.json");
    let versions = node.after_hours(183 * 24).await;
    assert_eq!(versions.root, 2);
    let second_root = node.read("2.root.json");
    assert_eq!(second_root["version"], 2);
    assert_eq!(
        (&second_root["keys"], &second_root["roles"]),
        (&first_root["keys"], &first_root["roles"])
    );
    let files = StaticFiles::serve(&node.state.blob("")).await;
    let repository = files.repository().await;
    assert_eq!(repository.versions(), [2, versions.timestamp, versions.snapshot]);
    assert!(repository.find("gw/1/a.bin").is_some());
    assert_eq!(node.after_hours(1).await.root, 2, "once is enough");
    node.close().await;
}

#[tokio::test]
async fn without_its_key_root_stays_and_the_others_are_signed_again() {
    let state = TestState::new();
    fs::remove_file(state.path().join("keys/root.pem")).unwrap();
    let node = Node::open(state, NEVER).await;
    let first = node.versions();
    let second = node.after_hours(183 * 24).await;
    assert_eq!(second.root, 1);
    assert!(second.timestamp > first.timestamp && second.targets > first.targets, "{second:?}");
    node.close().await;
}

/// As it is left by a request to a store that was given up, and done after later ones.
#[tokio::test]
async fn an_older_timestamp_in_the_place_of_the_last_one_is_put_right() {
    let node = Node::open(TestState::new(), Duration::from_millis(50)).await;
    node.upload("gw/1/a.bin").await;
    let (place, late) = (node.state.blob("timestamp.json"), node.state.path().join("late"));
    fs::copy(&place, &late).unwrap();
    node.upload("gw/2/a.bin").await;
    let last = fs::read(&place).unwrap();
    assert_ne!(fs::read(&late).unwrap(), last);
    fs::rename(&late, &place).unwrap();
    eventually("the last one is there again", async || fs::read(&place).unwrap() == last).await;
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn superseded_metadata_is_removed_after_a_day_and_roots_are_kept() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.after_hours(183 * 24).await; // root 2, and everything else anew
    node.after_hours(24).await;
    let current = node.versions();
    node.clock.advance_hours(1); // nobody is in the midst of a refresh that began before
    let before = node.state.stored_files();
    assert!(before.contains("1.snapshot.json") && before.contains("1.bin-0.json"));
    let maintaining = tokio::spawn(Arc::clone(node.app.upkeep()).maintain(NEVER));
    let is_metadata =
        |name: &&String| !name.starts_with("targets/") && !name.ends_with(".root.json");
    // the bins, targets, snapshot and timestamp
    let count = || node.state.stored_files().iter().filter(is_metadata).count();
    eventually("only one version of each role is left", async || count() == BINS + 3).await;
    maintaining.abort();
    let _ = maintaining.await; // it holds the application
    let after = node.state.stored_files();
    assert!(after.contains("1.root.json") && after.contains("2.root.json"));
    assert!(after.contains(&format!("{}.snapshot.json", current.snapshot)));
    let targets = |files: &std::collections::BTreeSet<String>| {
        files.iter().filter(|f| f.starts_with("targets/")).count()
    };
    assert_eq!(targets(&after), targets(&before));
    let files = StaticFiles::serve(&node.state.blob("")).await;
    assert_eq!(files.repository().await.versions(), [2, current.timestamp, current.snapshot]);
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn what_was_just_superseded_is_still_served() {
    let server = TestServer::start().await;
    for path in ["gw/1/a.bin", "gw/2/a.bin"] {
        server.upload(path, path).await.expect(201);
    }
    let server = TestServer::on(server.stop(), |_| ()).await; // removes superseded files as it starts
    for name in ["1.snapshot.json", "2.snapshot.json", "3.snapshot.json"] {
        server.download(name).await;
    }
}

#[tokio::test]
async fn a_yanked_image_leaves_the_metadata_with_its_envelope() {
    let server = TestServer::start().await;
    for path in ["gw/1/a.bin", "gw/2/a.bin"] {
        server.upload(path, path).await.expect(201);
    }
    let before = server.repository().await;
    let sealed = server.image("gw/1/a.bin").await.sealed.url;
    let yank =
        || server.request_as(AccessRole::Engineer, Method::DELETE, "/api/v1/images/gw/1/a.bin");
    send(yank()).await.expect(204);
    let after = server.repository().await;
    for target in ["gw/1/a.bin", "gw/1/a.bin.jwe"] {
        assert!(before.find(target).is_some() && after.find(target).is_none(), "{target}");
    }
    assert!(after.find("gw/2/a.bin").is_some() && after.find("gw/2/a.bin.jwe").is_some());
    assert!(after.versions()[2] > before.versions()[2]);

    send(server.request(Method::GET, &sealed)).await.expect(200); // for vehicles that are at it
    assert!(server.image("gw/1/a.bin").await.yanked_at.is_some());
    assert_eq!(server.get("/api/v1/images").await.body::<ImageList>().images.len(), 2);
    send(yank()).await.expect(204); // again is no mistake
    assert_eq!(server.repository().await.versions(), after.versions());
    let other =
        server.request_as(AccessRole::Engineer, Method::DELETE, "/api/v1/images/gw/9/a.bin");
    send(other).await.refused(404, "image_not_found");
    server.state.assert_clean().await;
}

#[tokio::test]
async fn a_yank_while_uploads_run_loses_neither() {
    let server = TestServer::start().await;
    server.upload("gw/0/a.bin", "old").await.expect(201);
    let paths: Vec<String> = (1..=8).map(|number| format!("gw/{number}/a.bin")).collect();
    let uploads =
        futures_util::future::join_all(paths.iter().map(|path| server.upload(path, path.clone())));
    let yank =
        send(server.request_as(AccessRole::Engineer, Method::DELETE, "/api/v1/images/gw/0/a.bin"));
    let (uploads, yank) = tokio::join!(uploads, yank);
    yank.expect(204);
    uploads.into_iter().for_each(|answer| drop(answer.expect(201)));
    let repository = server.repository().await;
    assert!(repository.find("gw/0/a.bin").is_none());
    assert!(paths.iter().all(|path| repository.find(path).is_some()));
}
