//! What is signed when the clock is wrong: behind, ahead, or at the end of all years.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use motorcade::app::Error;
use motorcade::app::director::{DirectorFile, DirectorRole};
use motorcade::app::images::precondition::Precondition;
use motorcade::model::{Clock, Timestamp, VehicleId};
use serde_json::{Value, json};

use crate::director::vehicle::TestEcu;
use crate::publication::{NEVER, Node, engineer};
use crate::state::TestState;
use crate::static_files::StaticFiles;

const HOUR: Duration = Duration::from_secs(3600);
const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

fn is_clock_behind<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unavailable { code: "clock_behind", .. }))
}

fn expiry(signed: &Value) -> Timestamp {
    signed["expires"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn nothing_is_signed_while_the_clock_is_behind_the_last_publication() {
    let node = Node::open(TestState::new(), Duration::from_millis(20)).await;
    node.upload("gw/1/a.bin").await;
    let path = "gw/1/a.bin".parse().unwrap();
    let (right, versions, before) = (node.clock.now(), node.versions(), node.state.stored_files());
    for back in [HOUR, 100 * 24 * HOUR, YEARS] {
        node.clock.set(right - back);
        assert!(is_clock_behind(node.try_to_upload("gw/2/a.bin").await), "{back:?}");
        assert!(
            is_clock_behind(
                node.app.images().yank(&path, &Precondition::default(), &engineer()).await
            ),
            "{back:?}"
        );
        assert!(node.app.upkeep().check_ready().await.is_err(), "{back:?}");
        assert_eq!(node.state.stored_files(), before, "{back:?}");
    }
    node.clock.set(right + HOUR);
    node.upload("gw/2/a.bin").await;
    assert!(node.versions().timestamp > versions.timestamp);
    node.app.upkeep().check_ready().await.unwrap();
    node.close().await.assert_clean().await;
}

/// A clock that is behind for an hour is no reason to be taken out of service.
#[tokio::test]
async fn while_nothing_is_due_nobody_asks_for_the_time() {
    let node = Node::open(TestState::new(), Duration::from_millis(20)).await;
    node.upload("gw/1/a.bin").await;
    let right = node.clock.now();
    node.clock.set(right - HOUR);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        node.app.upkeep().check_ready().await.unwrap();
    }
    assert!(is_clock_behind(node.try_to_upload("gw/2/a.bin").await));
    node.clock.set(right - YEARS); // then what is published expires too late
    crate::app::eventually("it is not ready", async || {
        node.app.upkeep().check_ready().await.is_err()
    })
    .await;
    node.close().await;
}

#[tokio::test]
async fn the_time_of_the_last_publication_outlives_the_process() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.after_hours(13).await;
    let (clock, right) = (Arc::clone(&node.clock), node.clock.now());
    let state = node.close().await;
    clock.set(right - YEARS);
    let node = Node::at(state, clock, NEVER).await;
    assert!(is_clock_behind(node.try_to_upload("gw/2/a.bin").await));
    let state = node.close().await;
    state.dir().recover_clock(Arc::new(Fixed(right - YEARS))).await.unwrap();
    let clock = crate::state::ManualClock::starting_now();
    clock.set(right - YEARS + HOUR);
    let node = Node::at(state, clock, NEVER).await;
    node.upload("gw/2/a.bin").await; // a person has said that it is right
    node.close().await;
}

struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

#[tokio::test]
async fn what_was_signed_while_the_clock_was_ahead_is_signed_again_once_it_is_right() {
    for restarts in [false, true] {
        let node = Node::open(TestState::new(), NEVER).await;
        node.upload("gw/1/a.bin").await;
        let right = node.clock.now();
        let ahead = node.after_hours(YEARS.as_secs() / 3600).await;
        assert!(expiry(&node.read("timestamp.json")) > right + YEARS);
        let node = if restarts {
            let clock = Arc::clone(&node.clock);
            clock.set(right + HOUR);
            Node::at(node.close().await, clock, NEVER).await
        } else {
            node.clock.set(right + HOUR);
            node
        };
        node.upload("gw/2/a.bin").await;
        let again = node.versions();
        assert!(again.timestamp > ahead.timestamp && again.snapshot > ahead.snapshot, "{again:?}");
        assert!(
            again.targets > ahead.targets && again.bin > ahead.bin && again.root > ahead.root,
            "{again:?}"
        );
        let now = node.clock.now();
        let names = [
            ("timestamp.json".to_owned(), 1),
            (format!("{}.snapshot.json", again.snapshot), 7),
            (format!("{}.targets.json", again.targets), 90),
            (format!("{}.bin-0.json", again.bin), 90),
            (format!("{}.root.json", again.root), 365),
        ];
        for (name, days) in names {
            assert!(expiry(&node.read(&name)) <= now + days * 24 * HOUR, "{name}");
        }
        let files = StaticFiles::serve(&node.state.blob("")).await;
        assert_eq!(
            files.repository().await.versions(),
            [again.root, again.timestamp, again.snapshot]
        );
        node.close().await.assert_clean().await;
    }
}

#[tokio::test]
async fn the_last_day_of_the_year_9999_is_a_day_like_any_other() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.clock.set("9999-12-30T12:00:00Z".parse().unwrap());
    node.upload("gw/1/a.bin").await;
    node.clock.set(Timestamp::MAX);
    node.upload("gw/2/a.bin").await;
    node.app.upkeep().check_ready().await.unwrap();
    let maintaining = tokio::spawn(Arc::clone(node.app.upkeep()).maintain(NEVER));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!maintaining.is_finished(), "it goes on");
    maintaining.abort();
    let _ = maintaining.await;
    let timestamp: Value =
        serde_json::from_slice(&fs::read(node.state.blob("timestamp.json")).unwrap()).unwrap();
    assert!(timestamp["signed"]["expires"].as_str().unwrap().starts_with("9999-12-30T"));
    node.close().await;
}

#[tokio::test]
async fn a_vehicles_metadata_is_held_to_the_same_time() {
    let node = Node::open(TestState::new(), NEVER).await;
    let ecu = TestEcu::new("ecu-1", "gw-mk3").record("primary");
    let input = serde_json::from_value(json!({ "vin": "VIN1", "ecus": [ecu] })).unwrap();
    node.app.fleet().register_vehicle(input, &engineer()).await.unwrap();
    let vin: VehicleId = "VIN1".parse().unwrap();
    let timestamp = async || {
        let file = DirectorFile { role: DirectorRole::Timestamp, version: None };
        let bytes = node.app.director().file(&vin, file).await.unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()["signed"].clone()
    };
    let first = timestamp().await;
    let right = node.clock.now();
    node.clock.set(right - YEARS);
    assert_eq!(
        timestamp().await,
        first,
        "what is there is as good as it was, and nothing is signed"
    );
    node.clock.set(right + YEARS);
    let ahead = timestamp().await;
    assert!(expiry(&ahead) > right + YEARS);
    node.clock.set(right + HOUR);
    let again = timestamp().await;
    assert!(expiry(&again) <= right + 25 * HOUR, "{again}");
    assert!(again["version"].as_u64() > ahead["version"].as_u64());
    node.close().await;
}
