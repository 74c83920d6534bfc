//! Uploads that expire, are too many, or are wanted by two at once.

use std::time::Duration;

use motorcade::model::AccessRole;
use reqwest::Method;

use super::{PATH, offset};
use crate::app::{TestServer, eventually, pattern, send};

#[tokio::test]
async fn an_upload_that_gets_no_more_bytes_expires_and_one_that_does_goes_on() {
    let server = TestServer::configured(|config| {
        config.upload_expiry = Some(Duration::from_secs(3));
    })
    .await;
    let image = pattern(2_000_000, 1);
    let url = server.begin(PATH, image.len(), &[]).await;
    let shown = send(server.tus(Method::HEAD, &url)).await;
    assert!(shown.header("upload-expires").unwrap().ends_with(" GMT"), "{shown:?}");
    for at in [0, 500_000, 1_000_000] {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        send(server.part(&url, at, &image[at..at + 500_000])).await.expect(204);
    }
    let status = async || send(server.tus(Method::HEAD, &url)).await.status;
    eventually("it has expired", async || status().await == 410).await;
    send(server.part(&url, 1_500_000, &image[1_500_000..])).await.refused(410, "upload_ended");
    send(server.creation(PATH, image.len(), &[])).await.expect(201);
}

#[tokio::test]
async fn two_at_one_upload_are_told_apart_and_the_first_one_goes_on() {
    let server = TestServer::start().await;
    let image = pattern(2_000_000, 2);
    let url = server.begin(PATH, image.len(), &[]).await;
    let mut raw = server.raw_part(&url, 0, image.len()).await;
    raw.send(&image[..1_000_000]).await;
    server.upload_is_taken().await;
    let is_locked = async || send(server.part(&url, 0, &image)).await.status == 423;
    eventually("the other one is locked out", is_locked).await;
    let refused = send(server.part(&url, 0, &image)).await;
    refused.refused(423, "locked");
    assert_eq!(refused.header("retry-after"), Some("1"));
    send(server.tus(Method::DELETE, &url)).await.refused(423, "locked");
    raw.send(&image[1_000_000..]).await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, offset(&answer)), (204, image.len()), "{answer:?}");
    assert!(server.open(PATH, "snakeoil_p256").await == image);
}

#[tokio::test]
async fn a_token_has_so_many_uploads_that_wait_and_others_still_have_theirs() {
    let server = TestServer::start().await;
    for number in 0..100 {
        server.begin(&format!("gw/{number}/a.bin"), 1000, &[]).await;
    }
    send(server.creation(PATH, 1000, &[])).await.refused(409, "too_many_uploads");
    let other = server.creation(PATH, 1000, &[]);
    let (client, request) = other.build_split();
    let mut request = request.unwrap();
    let token = server.state.tokens.of(AccessRole::Engineer);
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    assert_eq!(client.execute(request).await.unwrap().status(), 201);
}

#[tokio::test]
async fn an_upload_waits_over_a_rotation_of_the_escrow_key() {
    let server = TestServer::start().await;
    let image = pattern(2_000_000, 3);
    let url = server.begin(PATH, image.len(), &[]).await;
    send(server.part(&url, 0, &image[..1_000_000])).await.expect(204);
    let begun = server.rotate(serde_json::json!({ "escrow": {} })).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let rotated = server.ended_job(&begun.json()["id"]).await;
    assert_eq!(rotated["state"], "done", "{rotated}");
    send(server.part(&url, 1_000_000, &image[1_000_000..])).await.expect(204);
    assert!(server.open(PATH, "snakeoil_p256").await == image);
}

#[tokio::test]
async fn a_part_that_is_too_small_to_be_sealed_leaves_room_for_metadata_too() {
    let server = TestServer::start().await;
    let url = server.begin(PATH, 2_000_000, &[]).await;
    let state = server.stop();
    let server = TestServer::on(state, |config| config.reserved_space = Some(u64::MAX)).await;
    send(server.part(&url, 0, b"x")).await.refused(507, "storage_full");
    assert_eq!(server.offset(&url).await, 0);
    let server = TestServer::on(server.stop(), |_| ()).await;
    send(server.part(&url, 0, b"x")).await.expect(204);
}

#[tokio::test]
async fn the_upload_of_a_token_that_was_revoked_goes_with_its_bytes() {
    let server = TestServer::start().await;
    let url = server.begin(PATH, 3_000_000, &[]).await;
    send(server.part(&url, 0, &pattern(2_000_000, 4))).await.expect(204);
    server.state.sql("UPDATE tokens SET revoked_at = 1 WHERE role = 'uploader'").await;
    let server = TestServer::on(server.stop(), |_| ()).await;
    eventually("it has ended", async || server.state.staged_files().is_empty()).await;
    server.stop().assert_clean().await;
}
