//! Publication under faults: the store or the catalog fails, or the process ends, at each step.
//! Whatever happened, no version has two contents, root has no hole, and once nothing fails any
//! more a strict client gets from the first root to the end.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use motorcade::app::publish::Publisher;
use motorcade::blob::{
    Blob, BlobKey, BlobStore, BlobUpload, Error, Names, Parts, PartsSecret, SecondName, StagedBlob,
};
use motorcade::model::{Clock, RoleName, Sha256Digest};
use motorcade::telemetry::Metrics;
use motorcade::uptane::verify::{Rules, TrustedSet, VerifyError};
use proptest::prelude::*;
use serde_json::Value;
use tokio::sync::Notify;

use crate::state::{BINS, ManualClock, TestState};

/// What goes wrong in an attempt to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// A change of the store, counted from 0, fails, and has or hasn't taken place.
    Fails(usize, Took),
    /// The process ends at a change of the store.
    Ends(usize, Took),
    /// Nothing can be recorded in the catalog.
    RefusesToRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Took {
    Place,
    NoPlace,
}

struct FaultyStore {
    inner: Arc<dyn BlobStore>,
    fault: Fault,
    changes: AtomicUsize,
    ended: Notify,
    changed: Mutex<Vec<String>>,
}

impl FaultyStore {
    async fn around<T>(
        &self,
        key: &BlobKey,
        change: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        self.changed.lock().unwrap().push(key.name());
        let (took, ends) = match self.fault {
            Fault::Fails(at, took) if at == number => (took, false),
            Fault::Ends(at, took) if at == number => (took, true),
            _ => return change.await,
        };
        if took == Took::Place {
            drop(change.await);
        }
        if ends {
            self.ended.notify_one();
            std::future::pending::<()>().await;
        }
        Err(Error::Full { verb: "write", name: key.name() })
    }
}

#[async_trait]
impl BlobStore for FaultyStore {
    fn begin(&self, keep_free: u64) -> Result<Box<dyn BlobUpload>, Error> {
        self.inner.begin(keep_free)
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        self.inner.free_space()
    }

    async fn begin_parts(&self, secret: &PartsSecret) -> Result<Parts, Error> {
        self.inner.begin_parts(secret).await
    }

    async fn parts_secret(&self, parts: &Parts) -> Result<Option<PartsSecret>, Error> {
        self.inner.parts_secret(parts).await
    }

    async fn record_blocks(
        &self,
        parts: &Parts,
        first: u64,
        digests: &[Sha256Digest],
    ) -> Result<Vec<Sha256Digest>, Error> {
        self.inner.record_blocks(parts, first, digests).await
    }

    async fn append_part(
        &self,
        parts: &mut Parts,
        at: u64,
        bytes: Vec<Bytes>,
        keep_free: u64,
    ) -> Result<(), Error> {
        self.inner.append_part(parts, at, bytes, keep_free).await
    }

    async fn parts_length(&self, parts: &Parts) -> Result<Option<u64>, Error> {
        self.inner.parts_length(parts).await
    }

    async fn finish_parts(&self, parts: &Parts, length: u64) -> Result<Box<dyn StagedBlob>, Error> {
        self.inner.finish_parts(parts, length).await
    }

    async fn abandon_parts(&self, parts: &Parts) -> Result<(), Error> {
        self.inner.abandon_parts(parts).await
    }

    async fn sweep_parts(&self, kept: &[Parts]) -> Result<usize, Error> {
        self.inner.sweep_parts(kept).await
    }

    async fn stage_all(&self, files: Vec<Bytes>) -> Result<Vec<Box<dyn StagedBlob>>, Error> {
        self.inner.stage_all(files).await
    }

    async fn promote_all(&self, blobs: Vec<(Box<dyn StagedBlob>, BlobKey)>) -> Result<(), Error> {
        for (staged, key) in blobs {
            self.around(&key.clone(), self.inner.promote_all(vec![(staged, key)])).await?;
        }
        Ok(())
    }

    async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        self.around(key, self.inner.put(key, bytes)).await
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        self.around(key, self.inner.replace(key, bytes)).await
    }

    async fn second_name(&self, key: &BlobKey) -> Result<SecondName, Error> {
        self.inner.second_name(key).await
    }

    async fn open_alias(&self, key: &BlobKey) -> Option<Result<Blob, Error>> {
        self.inner.open_alias(key).await
    }

    async fn link_again(&self, key: &BlobKey, names: Names) -> Result<(), Error> {
        self.inner.link_again(key, names).await
    }

    async fn quarantine(&self, key: &BlobKey) -> Result<String, Error> {
        self.inner.quarantine(key).await
    }

    async fn open(&self, key: &BlobKey) -> Result<Blob, Error> {
        self.inner.open(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        self.around(key, self.inner.delete(key)).await
    }

    async fn sweep(&self) -> Result<usize, Error> {
        self.inner.sweep().await
    }

    async fn list_metadata(&self) -> Result<Vec<BlobKey>, Error> {
        self.inner.list_metadata().await
    }

    async fn list(&self) -> Result<Vec<(String, Option<BlobKey>)>, Error> {
        self.inner.list().await
    }
}

/// A repository that is published to, and everything that was ever seen of it.
struct Watched {
    state: TestState,
    clock: Arc<ManualClock>,
    seen: BTreeMap<String, Vec<u8>>,
}

impl Watched {
    fn new() -> Self {
        let mut watched = Self {
            state: TestState::new(),
            clock: ManualClock::starting_now(),
            seen: BTreeMap::new(),
        };
        watched.look();
        watched
    }

    /// A server starts, publishes once under a fault, and ends. Returns what it changed in the
    /// store.
    async fn attempt(&mut self, fault: Fault) -> Vec<String> {
        let catalog = self.state.dir().open_catalog().await.unwrap();
        if fault == Fault::RefusesToRecord {
            self.state.sql("CREATE TRIGGER refuse BEFORE UPDATE OF version ON roles BEGIN SELECT RAISE(ABORT, 'no'); END")
                .await;
        }
        let blobs = Arc::new(FaultyStore {
            inner: self.state.dir().blobs().await.unwrap(),
            fault,
            changes: AtomicUsize::new(0),
            ended: Notify::new(),
            changed: Mutex::default(),
        });
        let (repository, _) = self.state.dir().repositories().await.unwrap();
        let metrics = Arc::new(Metrics::new("0"));
        let store: Arc<dyn BlobStore> = blobs.clone();
        let (publisher, task) =
            Publisher::new(catalog.clone(), store, repository, self.clock.clone(), metrics);
        let mut running = None;
        let publishing = async {
            publisher.prepare().await?;
            publisher.recover().await?;
            running = Some(tokio::spawn(task.run(NEVER)));
            publisher.publish().await
        };
        let outcome = tokio::select! {
            outcome = publishing => Some(outcome),
            () = blobs.ended.notified() => None,
        };
        if let Some(running) = running {
            running.abort();
            let _ = running.await;
        }
        drop(publisher);
        catalog.close().await;
        match fault {
            Fault::Nothing => outcome.expect("it did not end").expect("nothing failed"),
            Fault::RefusesToRecord => self.state.sql("DROP TRIGGER refuse").await,
            _ => {}
        }
        self.look();
        std::mem::take(&mut *blobs.changed.lock().unwrap())
    }

    /// Asserts that nothing that was seen has another content now, and that root has no hole.
    fn look(&mut self) {
        for name in self.state.stored_files() {
            let bytes = fs::read(self.state.blob(&name)).unwrap();
            let name = match name.as_str() {
                "timestamp.json" => format!("{}.timestamp.json", version(&bytes)),
                _ => name,
            };
            let before = self.seen.entry(name.clone()).or_insert_with(|| bytes.clone());
            assert_eq!(*before, bytes, "{name} has two contents");
        }
        let roots: Vec<u64> = (1..=self.newest_root()).collect();
        let stored: Vec<u64> =
            roots.iter().copied().filter(|version| self.root(*version).is_some()).collect();
        assert_eq!(stored, roots, "root has a hole");
    }

    fn newest_root(&self) -> u64 {
        let names = self.state.stored_files();
        let roots = names.iter().filter_map(|name| name.strip_suffix(".root.json")?.parse().ok());
        roots.max().unwrap()
    }

    fn root(&self, version: u64) -> Option<Vec<u8>> {
        fs::read(self.state.blob(&format!("{version}.root.json"))).ok()
    }

    /// What a client does that knows the first root alone (TUF 1.0.34, 5.3 to 5.6), with every bin.
    fn walk(&self) -> Result<(), VerifyError> {
        let read = |name: String| fs::read(self.state.blob(&name)).unwrap();
        let mut trusted = TrustedSet::new(&self.root(1).unwrap(), Rules::Image, self.clock.now())?;
        while let Some(next) = self.root(trusted.root_version() + 1) {
            trusted.update_root(&next)?;
        }
        assert_eq!(trusted.root_version(), self.newest_root());
        trusted.update_timestamp(&read("timestamp.json".into()))?;
        let (snapshot, _) = trusted.expected_snapshot()?;
        trusted.update_snapshot(&read(format!("{snapshot}.snapshot.json")))?;
        let (targets, _) = trusted.expected_targets(&RoleName::Targets)?;
        trusted.update_targets(&read(format!("{targets}.targets.json")))?;
        for bin in (0..BINS).map(|number| format!("bin-{number:x}").parse().unwrap()) {
            let (version, _) = trusted.expected_targets(&bin)?;
            trusted.update_delegated(
                &bin,
                &RoleName::Targets,
                &read(format!("{version}.{bin}.json")),
            )?;
        }
        Ok(())
    }
}

fn version(file: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(file).unwrap()["signed"]["version"].as_u64().unwrap()
}

const HALF_A_YEAR: u64 = 183 * 24; // hours: every role is due
const NEVER: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn root_has_no_hole_whatever_fails_while_it_is_due() {
    let mut undisturbed = Watched::new();
    undisturbed.clock.advance_hours(HALF_A_YEAR);
    let changes = undisturbed.attempt(Fault::Nothing).await.len();
    assert!(changes > BINS && undisturbed.newest_root() == 2, "everything was due: {changes}");
    let both = [Took::NoPlace, Took::Place];
    // Of the bins, one speaks for all.
    let steps = || (0..changes).filter(|at| !(2..BINS).contains(at));
    let at_each = |fault: fn(usize, Took) -> Fault| {
        steps().flat_map(move |at| both.map(|took| fault(at, took)))
    };
    let faults = at_each(Fault::Fails).chain(at_each(Fault::Ends)).chain([Fault::RefusesToRecord]);
    for fault in faults {
        let mut watched = Watched::new();
        watched.clock.advance_hours(HALF_A_YEAR);
        watched.attempt(fault).await;
        watched.attempt(fault).await;
        watched.attempt(Fault::Nothing).await;
        watched.walk().unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(watched.newest_root(), 2, "{fault:?}: one renewal is one version");
        // The next renewal follows on, and the first root is long expired by then.
        watched.clock.advance_hours(HALF_A_YEAR + 24);
        watched.attempt(Fault::Nothing).await;
        watched.walk().unwrap_or_else(|error| panic!("{fault:?}, later: {error}"));
        assert_eq!(watched.newest_root(), 3, "{fault:?}");
    }
}

#[tokio::test]
async fn root_is_renewed_though_nothing_else_can_be_published_and_the_other_way_round() {
    let mut watched = Watched::new();
    watched.clock.advance_hours(HALF_A_YEAR);
    let before = version(&fs::read(watched.state.blob("timestamp.json")).unwrap());
    watched.attempt(Fault::Fails(0, Took::NoPlace)).await; // the first of the bins
    assert_eq!(watched.newest_root(), 2);
    let after = version(&fs::read(watched.state.blob("timestamp.json")).unwrap());
    assert_eq!(after, before);

    let mut watched = Watched::new();
    watched.clock.advance_hours(HALF_A_YEAR);
    let changed = Watched::new().attempt_after(HALF_A_YEAR).await;
    let at = changed.iter().position(|name| name == "2.root.json").unwrap();
    watched.attempt(Fault::Fails(at, Took::NoPlace)).await;
    assert_eq!(watched.newest_root(), 1);
    let after = version(&fs::read(watched.state.blob("timestamp.json")).unwrap());
    assert!(after > before, "{after}");
}

impl Watched {
    async fn attempt_after(mut self, hours: u64) -> Vec<String> {
        self.clock.advance_hours(hours);
        self.attempt(Fault::Nothing).await
    }
}

#[tokio::test]
async fn a_number_that_an_older_server_has_reserved_for_root_or_left_out_makes_no_hole() {
    let mut watched = Watched::new();
    watched.state.sql("UPDATE roles SET reserved = 7 WHERE name = 'root'").await;
    watched.clock.advance_hours(HALF_A_YEAR);
    watched.attempt(Fault::Nothing).await;
    assert_eq!(watched.newest_root(), 2);
    watched.clock.advance_hours(HALF_A_YEAR);
    watched.attempt(Fault::Nothing).await;
    assert_eq!(watched.newest_root(), 3);
    // What such a server left behind: 1 and 3, and no 2, where every client stops.
    fs::remove_file(watched.state.blob("2.root.json")).unwrap();
    watched.seen.remove("2.root.json");
    watched.attempt(Fault::Nothing).await;
    watched.walk().unwrap();
}

#[tokio::test]
async fn what_is_stored_as_the_next_root_is_it_only_if_it_follows() {
    let mut watched = Watched::new();
    fs::write(watched.state.blob("2.root.json"), watched.root(1).unwrap()).unwrap();
    watched.attempt(Fault::Nothing).await;
    assert_eq!(watched.newest_root(), 1, "it was no version 2");
    watched.walk().unwrap();
}

fn fault() -> impl Strategy<Value = Fault> {
    let took = || prop_oneof![Just(Took::Place), Just(Took::NoPlace)];
    prop_oneof![
        2 => Just(Fault::Nothing),
        4 => (0..BINS + 6, took()).prop_map(|(at, took)| Fault::Fails(at, took)),
        4 => (0..BINS + 6, took()).prop_map(|(at, took)| Fault::Ends(at, took)),
        1 => Just(Fault::RefusesToRecord),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_and_when_a_strict_client_gets_through_afterwards(
        steps in prop::collection::vec((prop_oneof![Just(1_u64), Just(13), Just(100), 1_000_u64..10_000], fault()), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut watched = Watched::new();
            for (hours, fault) in steps {
                watched.clock.advance_hours(hours);
                watched.attempt(fault).await;
            }
            watched.attempt(Fault::Nothing).await;
            watched.walk().unwrap();
        });
    }
}
