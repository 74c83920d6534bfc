//! No nonce meets two plaintexts, whatever happens between a block's first byte on the disk and its
//! place in the catalog, and whatever is sent then: what is on the disk on both sides is compared.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use motorcade::model::AccessRole;
use reqwest::Method;

use super::{PART, PATH};
use crate::app::{TestServer, eventually, pattern, send};
use crate::backup::restore;
use crate::state::TestState;
use crate::support::{motorcade, run};

const BLOCK: usize = 1024 * 1024;

/// The files of sealed bytes, and of what is kept beside them.
fn staged(state: &TestState) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let files =
        state.staged_files().into_iter().map(|name| state.path().join("staging").join(name));
    files.partition(|path| path.extension().is_none())
}

/// All sealed bytes that have left the process.
fn sealed(state: &TestState) -> Vec<u8> {
    let (parts, ledgers) = staged(state);
    assert_eq!((parts.len(), ledgers.len()), (1, 1), "{parts:?} {ledgers:?}");
    fs::read(&parts[0]).unwrap()
}

/// A server that has let sealed bytes go and could not note that they are there, as one that was
/// killed in between: the beginning of `image` is on the disk, and the catalog says that nothing is.
async fn crashed(image: &[u8], algorithm: &str) -> (TestState, String, Vec<u8>) {
    let server = TestServer::start().await;
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE OF received ON uploads WHEN new.received > old.received \
                  BEGIN SELECT RAISE(ABORT, 'no'); END";
    let url = server.begin(PATH, image.len(), &[("algorithm", algorithm)]).await;
    server.state.sql(refuse).await;
    send(server.part(&url, 0, &image[..3 * BLOCK])).await.refused(500, "internal");
    let state = server.stop();
    state.sql("DROP TRIGGER refuse").await;
    let before = sealed(&state);
    assert_eq!(before.len(), 3 * BLOCK, "whole blocks have left the process");
    (state, url, before)
}

#[tokio::test]
async fn other_bytes_for_what_was_sealed_before_never_leave_the_process() {
    for algorithm in ["AES256_GCM_HKDF_1MB", "AES256_GCM_HKDF_4KB"] {
        let image = pattern(5 * BLOCK, 1);
        let (state, url, before) = crashed(&image, algorithm).await;
        let server = TestServer::on(state, |_| ()).await;
        assert_eq!(server.offset(&url).await, 0);
        for changed in [0, BLOCK - 100, BLOCK, 2 * BLOCK - 1000] {
            let mut other = image.clone();
            other[changed] ^= 1;
            send(server.part(&url, 0, &other)).await.refused(422, "other_bytes");
            assert!(sealed(&server.state) == before, "{changed}: not a byte is another one");
        }
        // In other parts than before: the blocks are the same.
        let mut at = 0;
        for size in [300_000, BLOCK, 100_000, 3 * BLOCK] {
            let part = &image[at..image.len().min(at + size)];
            send(server.part(&url, at, part)).await.expect(204);
            assert!(sealed(&server.state).starts_with(&before));
            at += part.len();
        }
        send(server.part(&url, at, &image[at..])).await.expect(204);
        assert!(server.open(PATH, "snakeoil_p256").await == image);
        let published = server.image(PATH).await.sealed.url;
        let published = server.download(published.strip_prefix("/repo/").unwrap()).await;
        assert!(published.starts_with(&before), "the same ciphertext, and not sealed anew");
    }
}

#[tokio::test]
async fn the_wrong_bytes_behind_what_was_sealed_are_refused_and_right_ones_before_them_kept() {
    let image = pattern(5 * BLOCK, 2);
    let (state, url, before) = crashed(&image, "AES256_GCM_HKDF_1MB").await;
    let server = TestServer::on(state, |_| ()).await;
    let mut other = image.clone();
    other[BLOCK + 5] ^= 1;
    send(server.part(&url, 0, &other[..BLOCK])).await.expect(204);
    send(server.part(&url, BLOCK, &other[BLOCK..])).await.refused(422, "other_bytes");
    assert!(sealed(&server.state) == before);
    let at = server.offset(&url).await;
    assert_eq!(at, BLOCK);
    send(server.part(&url, at, &image[at..])).await.expect(204);
    assert!(server.open(PATH, "snakeoil_p256").await == image);
}

#[tokio::test]
async fn an_upload_from_before_a_restored_catalog_is_not_gone_on_with() {
    let server = TestServer::start().await;
    let image = pattern(4 * BLOCK, 3);
    let url = server.begin(PATH, image.len(), &[]).await;
    let state = server.stop();
    let catalog = state.catalog_bytes().await;
    let server = TestServer::on(state, |_| ()).await;
    send(server.part(&url, 0, &image[..3 * BLOCK])).await.expect(204);
    let state = server.stop();
    state.put_catalog_back(&catalog).await;
    let server = TestServer::on(state, |_| ()).await;
    assert_eq!(server.offset(&url).await, 0, "so the restored catalog says");
    send(server.part(&url, 0, &pattern(3 * BLOCK, 4))).await.refused(410, "upload_lost");
    send(server.part(&url, 0, &image)).await.refused(410, "upload_ended");
    server.stop().assert_clean().await;
}

/// A copy of everything has the ledger too, so that nothing else would be found out.
#[tokio::test]
async fn an_upload_in_a_copy_of_everything_ends_when_its_versions_are_recovered() {
    let server = TestServer::start().await;
    let image = pattern(4 * BLOCK, 3);
    let url = server.begin(PATH, image.len(), &[]).await;
    send(server.part(&url, 0, &image[..BLOCK])).await.expect(204);
    let state = server.stop();
    state.catalog_closed().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy");
    run(Command::new("cp").arg("-a").arg(state.path()).arg(&copy));
    let server = TestServer::on(state, |_| ()).await;
    send(server.part(&url, BLOCK, &image[BLOCK..3 * BLOCK])).await.expect(204);
    let state = server.stop();
    state.catalog_closed().await;
    restore(&state, &copy);
    assert_eq!(sealed(&state).len(), BLOCK, "of then");
    let recover = ["recover", "versions", "--json", "--data-dir"];
    let said = run(motorcade(recover).arg(state.path()));
    assert!(said.contains(r#""ended_uploads":1"#), "{said}");
    assert_eq!(staged(&state), (vec![], vec![]), "ledger and bytes are gone");
    let server = TestServer::on(state, |_| ()).await;
    let other = pattern(3 * BLOCK, 4);
    send(server.part(&url, BLOCK, &other)).await.refused(410, "upload_ended");
    assert_eq!(staged(&server.state), (vec![], vec![]));
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn an_upload_is_not_gone_on_with_where_its_sealed_bytes_are_not_even_begun() {
    let server = TestServer::start().await;
    let url = server.begin(PATH, 2 * BLOCK, &[]).await;
    let state = server.stop();
    let (parts, _) = staged(&state);
    assert_eq!(parts.len(), 1, "its beginning: {parts:?}");
    fs::remove_file(&parts[0]).unwrap();
    let server = TestServer::on(state, |_| ()).await;
    send(server.part(&url, 0, &pattern(2 * BLOCK, 6))).await.refused(410, "upload_lost");
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn of_an_upload_that_waits_neither_image_nor_key_is_on_the_disk() {
    let server = TestServer::start().await;
    let image = b"the plaintext of an image ".repeat(100_000);
    let url = server.begin(PATH, image.len(), &[]).await;
    send(server.part(&url, 0, &image[..2_000_000])).await.expect(204);
    eventually("the log is written", async || server.offset(&url).await == 2_000_000).await;
    assert_eq!(server.state.files_with(b"the plaintext of an image"), [""; 0]);
    let state = server.stop();
    assert_eq!(state.files_with(b"the plaintext of an image"), [""; 0]);
    assert_eq!(state.files_with(b"\"k\":"), ["keys/escrow.jwk"], "no key is there but wrapped");
}

#[tokio::test]
async fn the_envelope_of_an_image_is_no_key_for_an_upload() {
    let server = TestServer::start().await;
    server.upload("gw/1/secret.bin", pattern(1000, 5)).await.expect(201);
    let url = server.begin(PATH, 1000, &[]).await;
    server
        .state
        .sql("UPDATE uploads SET wrapped_key = (SELECT envelope FROM images WHERE path = 'gw/1/secret.bin')")
        .await;
    send(server.part(&url, 0, &[0; 1000])).await.refused(500, "file_damaged");
    server.get(&format!("/api/v1/images/{PATH}")).await.refused(404, "image_not_found");
}

/// What somebody does who can write to the catalog: gives a row of it back what it said before.
async fn put_row_back(state: &TestState, url: &str, changed: &str) {
    let id = url.rsplit('/').next().unwrap();
    let columns = [
        "received",
        "request",
        "state",
        "wrapped_key",
        "checkpoint",
        "intents",
        "parts",
        "expires_at",
    ];
    let before =
        columns.map(|name| format!("{name} = (SELECT {name} FROM before WHERE id = '{id}')"));
    let before = before.join(", ");
    state.sql(&format!("UPDATE uploads SET {before}, lease_until = 0 WHERE id = '{id}'")).await;
    state.sql(&format!("UPDATE uploads SET {changed} WHERE id = '{id}'")).await;
}

const NOTE: &str = "CREATE TABLE before AS SELECT * FROM uploads";

#[tokio::test]
async fn an_upload_that_was_ended_has_no_key_for_whoever_puts_its_row_back() {
    let server = TestServer::start().await;
    let image = pattern(4 * BLOCK, 7);
    let url = server.begin(PATH, image.len(), &[]).await;
    server.state.sql(NOTE).await;
    send(server.part(&url, 0, &image[..3 * BLOCK])).await.expect(204);
    let before = sealed(&server.state);
    send(server.tus(Method::DELETE, &url)).await.expect(204);
    let other = pattern(4 * BLOCK, 8);
    put_row_back(&server.state, &url, "run = run").await;
    send(server.part(&url, 0, &other)).await.refused(410, "upload_lost");
    // With sealed bytes that are only just begun, of an upload of his own.
    let own = server.begin("gw/1/own.bin", image.len(), &[]).await;
    let parts = "parts = (SELECT parts FROM uploads WHERE path = 'gw/1/own.bin')";
    put_row_back(&server.state, &url, parts).await;
    send(server.part(&url, 0, &other)).await.refused(500, "file_damaged");
    assert_eq!(sealed(&server.state), [0; 0], "nothing leaves the process");
    // His own row, with the key of the other one.
    let own_id = own.rsplit('/').next().unwrap();
    let key = "wrapped_key, checkpoint";
    let key =
        format!("UPDATE uploads SET ({key}) = (SELECT {key} FROM before) WHERE id = '{own_id}'");
    server.state.sql(&key).await;
    send(server.part(&own, 0, &other)).await.refused(500, "file_damaged");
    assert_eq!(sealed(&server.state), [0; 0]);
    assert!(
        before.len() >= 2 * BLOCK,
        "both sides are of one key, and one has left: {}",
        before.len()
    );
}

#[tokio::test]
async fn what_has_left_the_process_stays_recorded_whatever_the_catalog_says() {
    let server = TestServer::start().await;
    let (image, other) = (pattern(4 * BLOCK, 9), pattern(4 * BLOCK, 10));
    let url = server.begin(PATH, image.len(), &[]).await;
    // One request has taken the upload, and waits for bytes.
    let mut raw = server.raw_part(&url, 0, other.len()).await;
    raw.send(&other[..1000]).await;
    server.upload_is_taken().await;
    server.state.sql(NOTE).await;
    // Another one is let in, and brings other bytes.
    server.state.sql("UPDATE uploads SET lease_until = 0").await;
    send(server.part(&url, 0, &image[..3 * BLOCK])).await.expect(204);
    let before = sealed(&server.state);
    assert!(before.len() >= 2 * BLOCK);
    // For the first one all is as it was.
    put_row_back(&server.state, &url, "run = (SELECT run FROM before)").await;
    raw.send(&other[1000..]).await;
    raw.answer().await.refused(422, "other_bytes");
    assert!(sealed(&server.state) == before, "not a byte is another one");
    // Its row says less than there is: its maker begins again.
    send(server.part(&url, 0, &image)).await.refused(410, "upload_lost");
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn an_upload_is_what_it_was_when_it_began() {
    let server = TestServer::start().await;
    let image = pattern(1000, 11);
    for changed in [
        "path = 'gw/1/other.bin'",
        "request = json_set(request, '$.description.hardware_ids', json('[\"gw-mk4\"]'))",
        "request = json_set(request, '$.recipients', json('[]'))",
        "length = 999",
    ] {
        let url = server.begin(PATH, image.len(), &[]).await;
        server.state.sql(&format!("UPDATE uploads SET {changed}")).await;
        let length = if changed.starts_with("length") { 999 } else { 1000 };
        send(server.part(&url, 0, &image[..length])).await.refused(500, "file_damaged");
        server.state.sql("DELETE FROM uploads").await;
    }
    // Brought by another token than has begun it.
    let url = server.begin(PATH, image.len(), &[]).await;
    let engineer = "(SELECT id FROM tokens WHERE role = 'engineer')";
    server.state.sql(&format!("UPDATE uploads SET created_by = {engineer}")).await;
    let part = server.request_as(AccessRole::Engineer, Method::PATCH, &url);
    let part = part.header("Tus-Resumable", "1.0.0").header("Upload-Offset", 0);
    send(part.header("Content-Type", PART).body(image)).await.refused(500, "file_damaged");
    server.get(&format!("/api/v1/images/{PATH}")).await.refused(404, "image_not_found");
}
