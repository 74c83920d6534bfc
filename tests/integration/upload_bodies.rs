//! Bodies of every size and kind: edges of segments and blocks, limits, pauses, and clients that go
//! away.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream;
use motorcade::api::{ImageBody, ImageList, Problem};
use motorcade::app::audit::Author;
use motorcade::model::{AccessRole, Clock, SystemClock};
use reqwest::{Body, Method};

use crate::app::{TestServer, eventually, pattern, send};
use crate::client::Raw;

/// Uploads bodies of these lengths at once and opens each again.
async fn check_lengths(algorithm: &str, lengths: impl IntoIterator<Item = usize>) {
    let server = &TestServer::start().await;
    let checks = lengths.into_iter().map(|length| async move {
        let body = pattern(length, length as u64);
        let path = format!("sizes/{length}.bin");
        let request =
            server.upload_request(&path, &format!("&algorithm={algorithm}&allow_empty=true"));
        let answer = send(request.body(body.clone())).await;
        assert_eq!(answer.status, 201, "{length}: {answer:?}");
        assert_eq!(answer.body::<ImageBody>().plaintext.length, length as u64);
        assert!(server.open(&path, "snakeoil_p256").await == body, "{algorithm}, {length} bytes");
    });
    futures_util::future::join_all(checks).await;
    server.state.assert_clean().await;
}

#[tokio::test]
async fn every_segment_edge_of_1mb_segments_opens_again() {
    const FIRST: usize = (1 << 20) - 40 - 16;
    const NEXT: usize = (1 << 20) - 16;
    let edges = [FIRST, 1 << 20, FIRST + NEXT, FIRST + 2 * NEXT];
    check_lengths("AES256_GCM_HKDF_1MB", [0, 1, 4_000_001].into_iter().chain(around(&edges))).await;
}

#[tokio::test]
async fn every_segment_and_block_edge_of_4kb_segments_opens_again() {
    const FIRST: usize = 4096 - 40 - 16;
    const NEXT: usize = 4096 - 16;
    const FIRST_BLOCK: usize = FIRST + 255 * NEXT; // as many segments as fill 1 MiB
    const BLOCK: usize = 256 * NEXT;
    let edges = [FIRST, 4096, FIRST + NEXT, FIRST_BLOCK, FIRST_BLOCK + BLOCK, 1 << 20];
    check_lengths("AES256_GCM_HKDF_4KB", [0, 1, 3_500_000].into_iter().chain(around(&edges))).await;
}

fn around(edges: &[usize]) -> BTreeSet<usize> {
    edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]).collect()
}

#[tokio::test]
async fn a_chunked_body_needs_no_length() {
    let server = TestServer::start().await;
    let body = pattern(2_500_000, 7);
    let pieces: Vec<_> =
        body.chunks(70_001).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let request =
        server.upload_request("gw/1/a.bin", "").body(Body::wrap_stream(stream::iter(pieces)));
    send(request).await.expect(201);
    assert!(server.open("gw/1/a.bin", "snakeoil_rsa2048").await == body);
}

#[tokio::test]
async fn a_chunked_body_byte_by_byte_is_the_same_body() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", "Transfer-Encoding: chunked\r\n").await;
    for byte in "drop by drop".bytes() {
        raw.send(format!("1\r\n{}\r\n", byte as char)).await;
    }
    raw.send("0\r\n\r\n").await;
    raw.answer().await.expect(201);
    assert_eq!(server.open("gw/1/a.bin", "snakeoil_p256").await, b"drop by drop");
}

#[tokio::test]
async fn a_length_over_the_limit_is_413_before_the_body() {
    let server = TestServer::configured(|config| config.max_image_size = Some(1000)).await;
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", "Content-Length: 1001\r\n").await;
    let answer = raw.answer().await; // not a byte of the body was sent
    let detail = answer.refused(413, "too_large");
    assert!(detail.contains("1000 bytes"), "{detail}");
    assert_eq!(answer.body::<Problem>().limit, Some(1000));
    send(server.upload_request("gw/1/a.bin", "").body(pattern(1000, 1))).await.expect(201);
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_413_and_nothing_is_kept() {
    let server = TestServer::configured(|config| config.max_image_size = Some(1000)).await;
    let files = server.state.stored_files();
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", "Transfer-Encoding: chunked\r\n").await;
    raw.send(format!("3e9\r\n{}\r\n", "x".repeat(1001))).await;
    let answer = raw.answer().await;
    answer.refused(413, "too_large");
    assert_eq!(answer.body::<Problem>().limit, Some(1000));
    eventually("the staged file is gone", async || server.state.staged_files().is_empty()).await;
    assert_eq!(server.state.stored_files(), files);
    server.state.assert_clean().await;
}

#[tokio::test]
async fn the_largest_length_there_is_is_413() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", &format!("Content-Length: {}\r\n", u64::MAX - 2))
        .await;
    raw.answer().await.refused(413, "too_large");
    // No more than that can be told from other framings: it is refused as a head that is too large.
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", &format!("Content-Length: {}\r\n", u64::MAX)).await;
    assert_eq!(raw.answer().await.status, 431);
    assert!(raw.is_closed().await);
}

/// Sends the head of an upload and a few MiB of a larger body, and waits until some of it is on the
/// disk.
async fn send_a_part(server: &TestServer, path: &str, marker: &[u8]) -> Raw {
    let mut raw = server.connect().await;
    raw.send_upload_head(server, path, "Content-Length: 10000000\r\n").await;
    raw.send(marker.repeat(4_000_000 / marker.len())).await;
    eventually("sealed bytes are staged", async || {
        let sizes = server.state.staged_files().into_iter().map(|name| {
            let file = server.state.path().join("staging").join(name);
            file.metadata().map_or(0, |metadata| metadata.len())
        });
        sizes.sum::<u64>() >= 2 << 20
    })
    .await;
    raw
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let server = TestServer::start().await;
    let files = server.state.stored_files();
    let raw = send_a_part(&server, "gw/1/a.bin", b"half of a firmware image").await;
    drop(raw);
    eventually("the staged file is gone", async || server.state.staged_files().is_empty()).await;
    assert_eq!(server.state.stored_files(), files);
    server.get("/api/v1/images/gw/1/a.bin").await.refused(404, "image_not_found");
    server.state.assert_clean().await;
    eventually("it is counted as cancelled", async || {
        server.metrics().await.contains("motorcade_uploads_total{outcome=\"cancelled\"} 1")
    })
    .await;
    server.upload("gw/1/a.bin", "a retry").await.expect(201);
}

#[tokio::test]
async fn a_client_that_stops_sending_is_cut_off_and_leaves_nothing() {
    let server =
        TestServer::configured(|config| config.idle_timeout = Some(Duration::from_millis(300)))
            .await;
    let files = server.state.stored_files();
    let mut raw = send_a_part(&server, "gw/1/a.bin", b"half of a firmware image").await;
    raw.answer().await.refused(408, "stalled");
    assert!(raw.is_closed().await);
    eventually("the staged file is gone", async || server.state.staged_files().is_empty()).await;
    assert_eq!(server.state.stored_files(), files);
    server.state.assert_clean().await;
}

#[tokio::test]
async fn a_slow_client_is_not_cut_off() {
    let server =
        TestServer::configured(|config| config.idle_timeout = Some(Duration::from_millis(500)))
            .await;
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", "Content-Length: 12\r\n").await;
    for byte in b"drop by drop" {
        tokio::time::sleep(Duration::from_millis(60)).await; // more than the timeout in sum
        raw.send([*byte]).await;
    }
    raw.answer().await.expect(201);
}

/// However long an upload takes, what was taken back meanwhile doesn't count any more.
#[tokio::test]
async fn a_token_and_a_recipient_are_looked_at_again_once_the_body_is_in() {
    for is_the_token in [true, false] {
        let server = TestServer::start().await;
        let mut raw = send_a_part(&server, "gw/1/a.bin", b"x").await;
        let catalog = server.state.dir().open_catalog().await.unwrap();
        let author = Author::server(SystemClock.now());
        if is_the_token {
            for token in catalog.list_tokens().await.unwrap() {
                catalog.revoke_token(&token.id, &author).await.unwrap();
            }
        } else {
            for recipient in catalog.list_recipients().await.unwrap() {
                catalog.delete_recipient(&recipient.kid, None, &author).await.unwrap();
            }
        }
        catalog.close().await;
        raw.send(vec![b'x'; 6_000_000]).await;
        let (status, code) =
            if is_the_token { (401, "unauthenticated") } else { (422, "no_recipient") };
        raw.answer().await.refused(status, code);
        server.state.assert_clean().await;
    }
}

#[tokio::test]
async fn plaintext_is_never_on_the_disk() {
    let server = TestServer::start().await;
    let marker = b"this is plaintext, and it must never be found on the server";
    let mut raw = send_a_part(&server, "gw/1/a.bin", marker).await;
    assert_eq!(server.state.files_with(marker), Vec::<String>::new());
    let sent = 4_000_000 / marker.len() * marker.len();
    let rest: Vec<u8> = marker.iter().copied().cycle().take(10_000_000 - sent).collect();
    raw.send(rest).await;
    raw.answer().await.expect(201);
    assert_eq!(server.state.files_with(marker), Vec::<String>::new());
    // What finds nothing has to be able to find something.
    std::fs::write(server.state.path().join("control"), marker).unwrap();
    assert_eq!(server.state.files_with(marker), ["control"]);
}

#[tokio::test]
async fn an_upload_that_finds_no_slot_is_503() {
    let server = TestServer::configured(|config| {
        config.max_uploads = Some(1);
        config.idle_timeout = Some(Duration::from_millis(400));
    })
    .await;
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", "Content-Length: 1000000\r\n").await;
    eventually("the first upload has begun", async || !server.state.staged_files().is_empty())
        .await;
    let keep_sending = async {
        loop {
            raw.send("x").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::select! {
        answer = server.upload("gw/1/b.bin", "x") => answer,
        () = keep_sending => unreachable!("it sends for ever"),
    };
    answer.refused(503, "busy");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    drop(raw);
    eventually("the slot is free", async || server.state.staged_files().is_empty()).await;
    server.upload("gw/1/b.bin", "x").await.expect(201);
}

#[tokio::test]
async fn an_upload_that_would_fill_the_disk_is_507_and_the_server_still_serves() {
    let server = TestServer::configured(|config| config.reserved_space = Some(u64::MAX)).await;
    server.upload("gw/1/a.bin", "x").await.refused(507, "storage_full");
    server.download("timestamp.json").await;
    let listed = server.request_as(AccessRole::Viewer, Method::GET, "/api/v1/images");
    assert_eq!(send(listed).await.body::<ImageList>().images, []);
    server.state.assert_clean().await;
}
