//! Uploads at the same time: to one path, and to many.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use motorcade::api::ImageBody;
use serde_json::Value;

use crate::app::{TestServer, pattern};

#[tokio::test]
async fn the_same_image_at_once_is_created_once() {
    let server = TestServer::start().await;
    let body = pattern(2_000_000, 1);
    let answers = join_all((0..4).map(|_| server.upload("gw/1/a.bin", body.clone()))).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort();
    assert_eq!(statuses, [200, 200, 200, 201], "{answers:?}");
    let image = server.image("gw/1/a.bin").await;
    assert!(answers.iter().all(|answer| answer.body::<ImageBody>() == image));
    assert_eq!(
        server.state.stored_targets().len(),
        4,
        "an image and an envelope, each under two names"
    );
    assert!(server.open("gw/1/a.bin", "snakeoil_p256").await == body);
    server.state.assert_clean().await;
}

#[tokio::test]
async fn of_two_images_at_once_under_one_path_one_is_refused() {
    let server = TestServer::start().await;
    let bodies = [pattern(2_000_000, 1), pattern(2_000_000, 2)];
    let answers =
        join_all(bodies.iter().map(|body| server.upload("gw/1/a.bin", body.clone()))).await;
    let winner = answers.iter().position(|answer| answer.status == 201).unwrap();
    answers[1 - winner].refused(409, "image_exists");
    assert!(server.open("gw/1/a.bin", "snakeoil_p256").await == bodies[winner]);
    assert_eq!(server.state.stored_targets().len(), 4);
    server.state.assert_clean().await;
}

#[tokio::test]
async fn twenty_images_at_once_are_all_published() {
    let server = TestServer::start().await;
    let [_, _, snapshot_before] = server.repository().await.versions();
    let paths: Vec<String> = (0..20).map(|number| format!("gw/{number}/gateway.bin")).collect();
    let uploads = paths
        .iter()
        .enumerate()
        .map(|(seed, path)| server.upload(path, pattern(300_000, seed as u64)));
    for answer in join_all(uploads).await {
        answer.expect(201);
    }
    let repository = server.repository().await;
    for path in &paths {
        assert!(
            repository.find(path).is_some() && repository.find(&format!("{path}.jwe")).is_some(),
            "{path}"
        );
    }
    let [root, _, snapshot] = repository.versions();
    assert_eq!(root, 1);
    assert!(
        (snapshot_before + 1..=snapshot_before + 20).contains(&snapshot),
        "{snapshot_before} to {snapshot}"
    );
    assert_one_content_a_version(&server).await;
    server.state.assert_clean().await;
}

/// Every snapshot that was ever published is still there, and no two of them give one version two
/// digests.
async fn assert_one_content_a_version(server: &TestServer) {
    let mut digests: BTreeMap<(String, u64), Value> = BTreeMap::new();
    let mut previous: BTreeMap<String, u64> = BTreeMap::new();
    let files = server.state.stored_files();
    let mut snapshots: Vec<u64> =
        files.iter().filter_map(|name| name.strip_suffix(".snapshot.json")?.parse().ok()).collect();
    snapshots.sort();
    for version in snapshots {
        let bytes = std::fs::read(server.state.blob(&format!("{version}.snapshot.json"))).unwrap();
        let snapshot: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(snapshot["signed"]["version"], version);
        for (role, file) in snapshot["signed"]["meta"].as_object().unwrap() {
            let role_version = file["version"].as_u64().unwrap();
            let digest = digests
                .entry((role.clone(), role_version))
                .or_insert_with(|| file["hashes"].clone());
            assert_eq!(*digest, file["hashes"], "{role} {role_version}");
            let before = previous.insert(role.clone(), role_version).unwrap_or(0);
            assert!(before <= role_version, "{role} went back from {before} to {role_version}");
        }
    }
}
