//! What it takes to publish, and what a crash or somebody else leaves.

use std::fs;

use motorcade::app::Error;
use motorcade::app::audit::AuditFilter;
use motorcade::app::ceremony::{Gap, StageRequest};
use motorcade::app::images::precondition::{Precondition, Tags};
use motorcade::model::{AuditKind, RepositorySide, RoleName};
use serde_json::Value;

use super::{Officer, image_change, officer};
use crate::app::eventually;
use crate::publication::{NEVER, Node};
use crate::state::TestState;
use crate::static_files::StaticFiles;

const IMAGE: RepositorySide = RepositorySide::Image;
const DIRECTOR: RepositorySide = RepositorySide::Director;

fn codes(error: Error) -> Vec<&'static str> {
    match error {
        Error::Refused { problems } => problems.iter().map(|problem| problem.code).collect(),
        Error::Conflict { code, .. } | Error::NotFound { code, .. } => vec![code],
        other => panic!("{other:?}"),
    }
}

/// The root key that the server has.
fn server_key(node: &Node, name: &str) -> Officer {
    Officer::with(&fs::read_to_string(node.state.path().join("keys").join(name)).unwrap())
}

#[tokio::test]
async fn root_goes_to_officers_and_clients_of_every_version_follow() {
    let node = Node::open(TestState::new(), NEVER).await;
    let ceremony = node.app.ceremony();
    let (anyone, by) = (Precondition::default(), officer());
    for (side, file) in [(IMAGE, "root.pem"), (DIRECTOR, "director-root.pem")] {
        let old = server_key(&node, file);
        let officers = [Officer::new(), Officer::new(), Officer::new()];
        let all: Vec<&Officer> = officers.iter().collect();
        let change = image_change(RoleName::Root, Some(2), &all, &[old.id()]);
        ceremony.stage(side, &change, &anyone, &by).await.unwrap();
        let unsigned = ceremony.publish(side, Gap::Refused, &anyone, &by).await.unwrap_err();
        assert_eq!(codes(unsigned), ["signatures_missing", "signatures_missing"]);
        ceremony.sign_here(side, &anyone, &by).await.unwrap();
        officers[0].bring(&node.app, side).await.unwrap();
        let missing = ceremony.publish(side, Gap::Refused, &anyone, &by).await.unwrap_err();
        assert_eq!(codes(missing), ["signatures_missing"]);
        let signed = officers[2].bring(&node.app, side).await.unwrap();
        assert_eq!(signed.staged.unwrap().missing(), (0, 0));
        let published = ceremony.publish(side, Gap::Refused, &anyone, &by).await.unwrap();
        assert_eq!((published.published.version, published.staged.is_none()), (2, true));

        // The next one is signed by the officers alone, two of three of them.
        let longer = StageRequest { expires_days: Some(3000), roles: Vec::new() };
        ceremony.stage(side, &longer, &anyone, &by).await.unwrap();
        let nobody = ceremony.sign_here(side, &anyone, &by).await.unwrap_err();
        assert_eq!(codes(nobody), ["no_key_here"]);
        officers[1].bring(&node.app, side).await.unwrap();
        officers[2].bring(&node.app, side).await.unwrap();
        let published = ceremony.publish(side, Gap::Refused, &anyone, &by).await.unwrap();
        assert_eq!(published.published.version, 3);
    }
    node.upload("gw/1/a.bin").await;
    let versions = node.versions();
    let files = StaticFiles::serve(&node.state.blob("")).await;
    assert_eq!(files.repository().await.versions(), [3, versions.timestamp, versions.snapshot]);
    let filter = AuditFilter { kind: Some(AuditKind::MetadataSigned), ..AuditFilter::default() };
    let log = node.app.audit().list(&filter, i64::MAX, 100).await.unwrap().items;
    let details = log.iter().map(|entry| serde_json::from_str::<Value>(&entry.detail).unwrap());
    let versions: Vec<u64> =
        details.map(|detail| detail["version"].as_u64().unwrap()).rev().collect();
    assert_eq!(versions, [2, 2, 2, 3, 3, 2, 2, 2, 3, 3]);
    // The server has no part in it any more, and starts with its old keys still there.
    let node = Node::open(node.close().await, NEVER).await;
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn a_root_that_clients_could_not_use_is_not_published() {
    let node = Node::open(TestState::new(), NEVER).await;
    let ceremony = node.app.ceremony();
    let (anyone, by) = (Precondition::default(), officer());
    let (old, new) = (server_key(&node, "timestamp.pem"), Officer::new());
    let change = image_change(RoleName::Timestamp, None, &[&new], &[old.id()]);
    ceremony.stage(IMAGE, &change, &anyone, &by).await.unwrap();
    ceremony.sign_here(IMAGE, &anyone, &by).await.unwrap();
    let refused = ceremony.publish(IMAGE, Gap::Accepted, &anyone, &by).await.unwrap_err();
    assert_eq!(
        codes(refused),
        ["keys_missing"],
        "the server signs timestamps, and has no such key"
    );

    // One more key, of which one has to sign: what is published is good with it.
    let state = ceremony.state(IMAGE).await.unwrap();
    let replaced = Precondition {
        matches: Some(Tags::Of(vec![state.staged.unwrap().staging.tag()])),
        matches_none: None,
    };
    let change = image_change(RoleName::Timestamp, None, &[&new], &[]);
    ceremony.stage(IMAGE, &change, &replaced, &by).await.unwrap();
    ceremony.sign_here(IMAGE, &anyone, &by).await.unwrap();
    ceremony.publish(IMAGE, Gap::Refused, &anyone, &by).await.unwrap();
    let (versions, files) = (node.versions(), StaticFiles::serve(&node.state.blob("")).await);
    assert_eq!(files.repository().await.versions(), [2, versions.timestamp, versions.snapshot]);
    node.close().await.assert_clean().await;
}

/// A key is lost, and with it what signs the same files for clients before and after.
#[tokio::test]
async fn a_lost_key_is_replaced_only_if_failed_cycles_are_accepted() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.upload("gw/1/a.bin").await;
    let before = node.versions();
    let ceremony = node.app.ceremony();
    let (anyone, by) = (Precondition::default(), officer());
    let keys = node.state.path().join("keys");
    let (old, pem) = (server_key(&node, "timestamp.pem"), Officer::pem());
    let new = Officer::with(&pem);
    motorcade::keys::file::write_secret(&keys.join("timestamp-new.pem"), pem.as_bytes()).unwrap();
    fs::remove_file(keys.join("timestamp.pem")).unwrap();
    let change = image_change(RoleName::Timestamp, None, &[&new], &[old.id()]);
    ceremony.stage(IMAGE, &change, &anyone, &by).await.unwrap();
    ceremony.sign_here(IMAGE, &anyone, &by).await.unwrap();
    let refused = ceremony.publish(IMAGE, Gap::Refused, &anyone, &by).await.unwrap_err();
    assert!(matches!(refused, Error::Internal(_) | Error::Unavailable { .. }), "{refused:?}");
    let state = ceremony.state(IMAGE).await.unwrap();
    assert_eq!((state.published.version, state.staged.is_some()), (1, true), "nothing changed");
    let files = StaticFiles::serve(&node.state.blob("")).await;
    assert_eq!(files.repository().await.versions(), [1, before.timestamp, before.snapshot]);

    ceremony.publish(IMAGE, Gap::Accepted, &anyone, &by).await.unwrap();
    let after = node.versions();
    assert!(after.timestamp > before.timestamp, "it is signed again at once");
    assert_eq!(files.repository().await.versions(), [2, after.timestamp, after.snapshot]);
    node.upload("gw/2/a.bin").await;
    assert_eq!(files.repository().await.versions()[0], 2);
    let node = Node::open(node.close().await, NEVER).await;
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn a_staging_that_another_root_has_overtaken_is_not_published() {
    let node = Node::open(TestState::new(), NEVER).await;
    let ceremony = node.app.ceremony();
    let (anyone, by) = (Precondition::default(), officer());
    let officers = Officer::new();
    let change = image_change(RoleName::Root, None, &[&officers], &[]);
    ceremony.stage(IMAGE, &change, &anyone, &by).await.unwrap();
    node.clock.advance_hours(200 * 24); // past half the life of root 1, which is signed again
    node.upload("gw/1/a.bin").await;
    eventually("root is signed again", async || {
        ceremony.state(IMAGE).await.unwrap().published.version == 2
    })
    .await;
    assert!(ceremony.state(IMAGE).await.unwrap().staged.unwrap().is_outdated);
    let outdated = ceremony.sign_here(IMAGE, &anyone, &by).await.unwrap_err();
    assert_eq!(codes(outdated), ["staging_outdated"]);
    let outdated = ceremony.publish(IMAGE, Gap::Refused, &anyone, &by).await.unwrap_err();
    assert_eq!(codes(outdated), ["staging_outdated"]);
    ceremony.cancel(IMAGE, &anyone, &by).await.unwrap();
    node.close().await;
}

#[tokio::test]
async fn a_publication_that_was_cut_off_after_the_file_was_stored_is_taken_up() {
    let node = Node::open(TestState::new(), NEVER).await;
    let ceremony = node.app.ceremony();
    let (anyone, by) = (Precondition::default(), officer());
    let officers = Officer::new();
    let change = image_change(RoleName::Root, None, &[&officers], &[]);
    ceremony.stage(IMAGE, &change, &anyone, &by).await.unwrap();
    ceremony.sign_here(IMAGE, &anyone, &by).await.unwrap();
    let signed = officers.bring(&node.app, IMAGE).await.unwrap();
    let stored = signed.staged.unwrap().staging.draft().unwrap();
    let state = node.close().await;
    fs::write(state.blob("2.root.json"), &stored).unwrap();
    let node = Node::open(state, NEVER).await;
    node.upload("gw/1/a.bin").await;
    eventually("the root is taken up", async || {
        node.app.ceremony().state(IMAGE).await.unwrap().published.version == 2
    })
    .await;
    let state = node.app.ceremony().state(IMAGE).await.unwrap();
    assert!(state.staged.is_none(), "what was staged is published");
    assert_eq!(state.published.bytes, stored);
    node.close().await.assert_clean().await;
}
