//! Stored files that are not what they were: what is refused as it is served, and what fsck finds.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use motorcade::api::ImageBody;
use motorcade::app::fsck::{self, Damaged, Findings};
use reqwest::Method;

use crate::app::{TestServer, send};
use crate::client::published_name;
use crate::repo::{IMAGE, get, publish_large};
use crate::state::{BINS, TestState};

/// Flips one bit of a stored file.
fn flip_bit(state: &TestState, name: &str, offset: u64) {
    let path = state.blob(name);
    let byte = fs::read(&path).unwrap()[usize::try_from(offset).unwrap()];
    let mut file = fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[byte ^ 1]).unwrap();
}

#[tokio::test]
async fn a_truncated_or_extended_blob_is_not_served() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    let file = fs::File::options().write(true).open(server.state.blob(&published.image)).unwrap();
    let length = file.metadata().unwrap().len();
    for damaged in [length - 1, length + 1, 2 << 20, 100, 0] {
        file.set_len(damaged).unwrap();
        for name in [&published.image, &published.image_alias] {
            let detail = get(&server, name).await.refused(500, "file_damaged");
            assert!(detail.contains("is damaged"), "{detail}");
            let part =
                server.request(Method::GET, &format!("/repo/{name}")).header("range", "bytes=0-9");
            send(part).await.refused(500, "file_damaged");
            assert_eq!(
                send(server.request(Method::HEAD, &format!("/repo/{name}"))).await.status,
                500
            );
        }
    }
    assert!(server.metrics().await.contains("motorcade_corrupt_blobs_total 30"));
    get(&server, "timestamp.json").await.expect(200);
}

#[tokio::test]
async fn a_small_file_with_a_flipped_bit_is_not_served() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    let small: ImageBody = server.upload("gw/1/small.bin", "firmware").await.body();
    let small = small.sealed.url.trim_start_matches("/repo/").to_owned();
    for name in [&published.envelope, &small, "2.snapshot.json", "1.root.json"] {
        let name = if name == "2.snapshot.json" { "3.snapshot.json" } else { name };
        flip_bit(&server.state, name, 50);
        get(&server, name).await.refused(500, "file_damaged");
        flip_bit(&server.state, name, 50);
        get(&server, name).await.expect(200);
    }
}

async fn check(state: &TestState, damaged: Damaged) -> Findings {
    fsck::check(&state.dir(), damaged, |_, _| ()).await.unwrap()
}

#[tokio::test]
async fn fsck_finds_what_is_wrong_and_nothing_else() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    let missing: ImageBody = server.upload("gw/1/missing.bin", "x").await.body();
    let missing = missing.sealed.url.trim_start_matches("/repo/").to_owned();
    let state = &server.state;
    let intact = check(state, Damaged::Report).await;
    assert_eq!(intact.problems, Vec::<String>::new());
    assert_eq!(
        intact.files,
        4 + BINS + 4,
        "root, targets, snapshot and timestamp; bins; two images and their envelopes"
    );
    assert!(intact.bytes > 3_000_000, "{intact:?}");

    flip_bit(state, &published.image, 2_000_000);
    assert_eq!(
        get(&server, &published.image).await.status,
        200,
        "a large blob is not checked as it is served"
    );
    fs::remove_file(state.blob(&missing)).unwrap();
    let stray = published_name("gw/1/stray.bin", &"0".repeat(64));
    fs::write(state.blob(&stray), "nobody's").unwrap();
    fs::write(state.blob("targets/notes.txt"), "nobody's").unwrap();
    flip_bit(state, "1.bin-0.json", 50);
    let mut problems = check(state, Damaged::Report).await.problems;
    problems.sort();
    let mut expected = [
        "1.bin-0.json is damaged".to_owned(),
        format!("{stray} belongs to no image"),
        format!("image {IMAGE}: {} is damaged", published.image),
        format!("image gw/1/missing.bin: {missing} is missing"),
        "targets/notes.txt has no business in the repository".to_owned(),
    ];
    expected.sort();
    assert_eq!(problems, expected);
}

#[tokio::test]
async fn fsck_can_set_damaged_blobs_aside() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    flip_bit(&server.state, &published.image, 2_000_000);
    let damaged = fs::read(server.state.blob(&published.image)).unwrap();
    let problems = check(&server.state, Damaged::Quarantine).await.problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    let moved_to = problems[0].rsplit_once("is damaged; moved to ").unwrap().1;
    assert!(
        moved_to.starts_with(server.state.path().join("quarantine").to_str().unwrap()),
        "{moved_to}"
    );
    assert!(fs::read(moved_to).unwrap() == damaged);
    for name in [&published.image, &published.image_alias] {
        get(&server, name).await.refused(404, "file_not_found");
    }
    assert_eq!(
        check(&server.state, Damaged::Quarantine).await.problems,
        [format!("image {IMAGE}: {} is missing", published.image)]
    );
    server.download(&published.envelope).await;
}

#[tokio::test]
async fn fsck_finds_a_blob_whose_other_name_is_missing_or_other() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    let alias = server.state.blob(&published.image_alias);
    fs::remove_file(&alias).unwrap();
    let problems = check(&server.state, Damaged::Report).await.problems;
    assert_eq!(problems.len(), 1, "a static server would not find it: {problems:?}");
    fs::write(&alias, "another file").unwrap();
    let problems = check(&server.state, Damaged::Report).await.problems;
    assert_eq!(problems.len(), 1, "a static server would serve it: {problems:?}");
}
