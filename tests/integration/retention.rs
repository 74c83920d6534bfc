//! Which superseded metadata is kept, and for how long.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use motorcade::app::images::rewrap::RewrapMode;
use motorcade::app::jobs::JobState;
use serde_json::Value;

use crate::app::eventually;
use crate::publication::{NEVER, Node, engineer};
use crate::state::{BINS, TestState, key_file, private_key};

pub(crate) fn set_timestamp_days(state: &TestState, from: u32, to: u32) {
    let path = state.path().join("metadata/policy.toml");
    let text = fs::read_to_string(&path).unwrap();
    let changed = text.replace(
        &format!("[timestamp]\nexpires_days = {from}\n"),
        &format!("[timestamp]\nexpires_days = {to}\n"),
    );
    assert_ne!(changed, text);
    fs::write(path, changed).unwrap();
}

/// Everything that a client asks for that has read `timestamp`.
fn led_to(node: &Node, timestamp: &Value) -> Vec<String> {
    let snapshot = format!("{}.snapshot.json", timestamp["meta"]["snapshot.json"]["version"]);
    let listed: Value =
        serde_json::from_slice(&fs::read(node.state.blob(&snapshot)).unwrap()).unwrap();
    let listed = listed["signed"]["meta"].as_object().unwrap().clone();
    let files = listed.iter().map(|(file, described)| format!("{}.{file}", described["version"]));
    files.chain([snapshot]).collect()
}

fn missing(node: &Node, names: &[String]) -> Vec<String> {
    names.iter().filter(|name| !node.state.blob(name).exists()).cloned().collect()
}

#[tokio::test]
async fn a_shorter_policy_removes_nothing_that_a_timestamp_in_force_leads_to() {
    let state = TestState::new();
    set_timestamp_days(&state, 1, 30);
    let node = Node::open(state, NEVER).await;
    node.after_hours(20).await;
    let first = led_to(&node, &node.read("timestamp.json"));
    node.upload("gw/2/a.bin").await;
    let clock = Arc::clone(&node.clock);
    let state = node.close().await;
    set_timestamp_days(&state, 30, 1);
    let node = Node::at(state, clock, NEVER).await;
    node.upload("gw/3/a.bin").await;
    node.after_hours(3 * 24).await;
    node.app.upkeep().remove_superseded_metadata().await.unwrap();
    assert_eq!(missing(&node, &first), [""; 0], "its timestamp is in force for four more weeks");
    node.after_hours(28 * 24).await;
    node.app.upkeep().remove_superseded_metadata().await.unwrap();
    assert!(!missing(&node, &first).is_empty(), "it has expired");
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn many_publications_leave_no_more_than_a_client_may_still_ask_for() {
    let node = Node::open(TestState::new(), NEVER).await;
    let mut read = Vec::new();
    for number in 0..150 {
        node.upload(&format!("gw/{number}/a.bin")).await;
        read.push(led_to(&node, &node.read("timestamp.json")));
    }
    node.app.upkeep().remove_superseded_metadata().await.unwrap();
    for names in &read {
        assert_eq!(missing(&node, names), [""; 0], "somebody may be in the midst of it");
    }
    node.clock.advance_hours(1);
    node.app.upkeep().remove_superseded_metadata().await.unwrap();
    let metadata =
        node.state.stored_files().into_iter().filter(|name| !name.starts_with("targets/"));
    let metadata = metadata.filter(|name| !name.ends_with("root.json")).count();
    // Of the last 65 timestamps: a snapshot and two bins each, besides what hasn't changed.
    assert!(metadata <= 65 * 3 + BINS + 2, "{metadata} files");
    assert_eq!(missing(&node, &read[149]), [""; 0]);
    assert_eq!(missing(&node, &read[100]), [""; 0], "one of the last, and in force");
    assert!(!missing(&node, &read[10]).is_empty());
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn the_file_of_a_replaced_envelope_goes_after_a_month() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.upload("gw/1/a.bin").await;
    let envelopes = || {
        let names = node.state.stored_targets().into_iter();
        names.filter(|name| name.ends_with(".jwe")).collect::<BTreeSet<_>>()
    };
    let before = envelopes();
    let jobs = node.app.jobs();
    let (kid, key) =
        (private_key("snakeoil_p256").kid().to_string(), key_file("snakeoil_p256_other.pub.pem"));
    let rotation = jobs.rotate_recipient(&kid, &key, RewrapMode::Record, &engineer()).await;
    let id = rotation.unwrap().0.id;
    let running = tokio::spawn(Arc::clone(jobs).run());
    eventually("the rotation ends", async || jobs.show(&id).await.unwrap().state == JobState::Done)
        .await;
    running.abort();
    let both = envelopes();
    assert!(both.is_superset(&before) && both.len() == 2 * before.len(), "{both:?}");
    node.after_hours(29 * 24).await;
    assert_eq!(node.app.upkeep().remove_superseded_envelopes().await.unwrap(), 0);
    assert_eq!(envelopes(), both);
    node.after_hours(2 * 24).await;
    assert_eq!(node.app.upkeep().remove_superseded_envelopes().await.unwrap(), 1);
    assert_eq!(envelopes(), both.difference(&before).cloned().collect());
    assert_eq!(node.app.upkeep().remove_superseded_envelopes().await.unwrap(), 0);
    node.close().await.assert_clean().await;
}
