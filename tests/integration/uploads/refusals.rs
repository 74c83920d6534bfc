//! Requests that are refused, and what stays of the upload then.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use motorcade::model::AccessRole;
use reqwest::Method;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{PART, PATH, metadata, offset};
use crate::app::{TestServer, pattern, send, sha256_hex};

#[tokio::test]
async fn a_part_at_a_wrong_offset_hears_the_right_one() {
    let server = TestServer::start().await;
    let image = pattern(100_000, 1);
    let url = server.begin(PATH, image.len(), &[]).await;
    send(server.part(&url, 0, &image[..60_000])).await.expect(204);
    for wrong in [0, 59_999, 60_001, 100_000, 200_000] {
        let answer = send(server.part(&url, wrong, &image[..1])).await;
        answer.refused(409, "wrong_offset");
        assert_eq!(offset(&answer), 60_000);
    }
    assert_eq!(server.offset(&url).await, 60_000);
}

#[tokio::test]
async fn a_part_with_another_checksum_leaves_the_offset_and_one_with_its_own_is_taken() {
    let server = TestServer::start().await;
    let image = pattern(3_000_000, 2);
    let url = server.begin(PATH, image.len(), &[]).await;
    let checksums = |bytes: &[u8]| {
        [
            format!("sha1 {}", STANDARD.encode(Sha1::digest(bytes))),
            format!("sha256 {}", STANDARD.encode(Sha256::digest(bytes))),
        ]
    };
    let mut damaged = image[..2_000_000].to_vec();
    damaged[1_999_999] ^= 1;
    for checksum in checksums(&image[..2_000_000]) {
        let sent = server.part(&url, 0, &damaged).header("Upload-Checksum", &checksum);
        send(sent).await.refused(460, "wrong_checksum");
        assert_eq!(server.offset(&url).await, 0);
    }
    // What was damaged was not sealed: the right bytes are taken in its place.
    let [sha1, sha256] = [checksums(&image[..2_000_000]), checksums(&image[2_000_000..])]
        .map(|[sha1, sha256]| (sha1, sha256));
    let sent = server.part(&url, 0, &image[..2_000_000]).header("Upload-Checksum", &sha1.0);
    send(sent).await.expect(204);
    let sent = server.part(&url, 2_000_000, &image[2_000_000..]);
    send(sent.header("Upload-Checksum", &sha256.1)).await.expect(204);
    assert!(server.open(PATH, "snakeoil_p256").await == image);
    let url = server.begin("gw/1/b.bin", image.len(), &[]).await;
    for bad in ["md5 1B2M2Y8AsgTpgAmY7PhCfg==", "sha1", "sha1 AAAA"] {
        let sent = server.part(&url, 0, &image).header("Upload-Checksum", bad);
        send(sent).await.refused(400, "bad_upload_field");
    }
}

#[tokio::test]
async fn an_image_with_another_digest_than_was_announced_is_not_published() {
    let server = TestServer::start().await;
    let image = pattern(1_500_000, 3);
    let sha256 = sha256_hex(b"another");
    let url = server.begin(PATH, image.len(), &[("sha256", &sha256)]).await;
    let detail = send(server.part(&url, 0, &image)).await.refused(422, "digest_mismatch");
    assert!(detail.contains(&sha256_hex(&image)), "{detail}");
    send(server.part(&url, 0, &image)).await.refused(410, "upload_ended");
    server.get(&format!("/api/v1/images/{PATH}")).await.refused(404, "image_not_found");
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn an_image_is_not_published_by_a_body_that_is_refused_after_its_last_byte() {
    let server = TestServer::start().await;
    let image = pattern(100, 6);
    let chunk =
        |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let more = [&image[..], &[0; 20]].concat();
    let checksum =
        format!("Upload-Checksum: sha256 {}\r\n", STANDARD.encode(Sha256::digest(&more)));
    let end = b"0\r\n\r\n";
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("", [&chunk(&more)[..], end].concat(), "beyond_length"),
        ("", [&chunk(&image)[..], &chunk(&[0; 20]), end].concat(), "beyond_length"),
        (&checksum, [&chunk(&more)[..], end].concat(), "beyond_length"),
        ("", [&chunk(&image)[..], b"nonsense\r\n"].concat(), "bad_chunk"),
    ];
    let refused = async |head: &str, lines: &str, body: &[u8], code: &str| {
        let mut raw = server.connect().await;
        let token = &server.state.tokens.uploader;
        let head = format!(
            "{head} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n\
             Content-Type: {PART}\r\nTransfer-Encoding: chunked\r\n{lines}\r\n"
        );
        raw.send([head.as_bytes(), body].concat()).await;
        raw.answer().await.refused(400, code);
        server.get(&format!("/api/v1/images/{PATH}")).await.refused(404, "image_not_found");
    };
    let url = server.begin(PATH, image.len(), &[]).await;
    for (lines, body, code) in &cases {
        let created = format!("Upload-Metadata: {}\r\n{lines}", metadata(PATH, &[]));
        let created = format!("Upload-Length: 100\r\n{created}");
        refused("POST /api/v1/uploads", &created, body, code).await;
        let lines = format!("Upload-Offset: 0\r\n{lines}");
        refused(&format!("PATCH {url}"), &lines, body, code).await;
        assert_eq!(server.offset(&url).await, 0);
    }
    let empty = metadata(PATH, &[("allow_empty", "true")]);
    let empty = format!("Upload-Length: 0\r\nUpload-Metadata: {empty}\r\n");
    refused("POST /api/v1/uploads", &empty, &cases[0].1, "beyond_length").await;

    let ended = server.begin(PATH, image.len(), &[]).await;
    refused(&format!("PATCH {ended}"), "Upload-Offset: 0\r\n", &cases[0].1, cases[0].2).await;
    send(server.tus(Method::DELETE, &ended)).await.expect(204);
    send(server.part(&url, 0, &image)).await.expect(204);
    assert!(server.open(PATH, "snakeoil_p256").await == image);
}

#[tokio::test]
async fn an_upload_is_its_maker_s_and_nobody_else_s() {
    let server = TestServer::start().await;
    let url = server.begin(PATH, 1000, &[]).await;
    let as_engineer = |method| {
        let request = server.request_as(AccessRole::Engineer, method, &url);
        request.header("Tus-Resumable", "1.0.0").header("Upload-Offset", 0)
    };
    send(as_engineer(Method::PATCH).header("Content-Type", PART).body("x"))
        .await
        .refused(404, "upload_not_found");
    send(as_engineer(Method::DELETE)).await.refused(404, "upload_not_found");
    assert_eq!(send(as_engineer(Method::HEAD)).await.status, 404);
    let unknown = server.part("/api/v1/uploads/0123456789abcdef01234567", 0, b"x");
    send(unknown).await.refused(404, "upload_not_found");
    assert_eq!(server.offset(&url).await, 0);
}

#[tokio::test]
async fn an_upload_that_was_ended_is_gone_with_its_bytes_and_its_key() {
    let server = TestServer::start().await;
    let image = pattern(3_000_000, 4);
    let url = server.begin(PATH, image.len(), &[]).await;
    send(server.part(&url, 0, &image[..2_500_000])).await.expect(204);
    assert_eq!(server.state.staged_files().len(), 2, "its sealed bytes, and what is beside them");
    let answer = send(server.tus(Method::DELETE, &url)).await;
    assert_eq!((answer.status, answer.header("tus-resumable")), (204, Some("1.0.0")));
    send(server.tus(Method::DELETE, &url)).await.refused(410, "upload_ended");
    send(server.part(&url, 2_500_000, &image[2_500_000..])).await.refused(410, "upload_ended");
    assert_eq!(send(server.tus(Method::HEAD, &url)).await.status, 410);
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn what_is_no_tus_is_refused_in_words() {
    let server = TestServer::start().await;
    let create = |fields: &[(&str, &str)]| {
        let url = "/api/v1/uploads";
        let request = server.request_as(AccessRole::Uploader, Method::POST, url);
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let (resumable, said) = (("Tus-Resumable", "1.0.0"), metadata(PATH, &[]));
    let said = ("Upload-Metadata", said.as_str());
    let length = ("Upload-Length", "1000");
    for (fields, status, code) in [
        (&[length, said][..], 412, "precondition_failed"),
        (&[("Tus-Resumable", "0.2.2"), length, said], 412, "precondition_failed"),
        (&[resumable, said], 400, "bad_upload_field"),
        (&[resumable, ("Upload-Length", "-1"), said], 400, "bad_upload_field"),
        (&[resumable, ("Upload-Defer-Length", "1"), said], 400, "bad_upload_field"),
        (&[resumable, length, ("Upload-Concat", "partial"), said], 400, "bad_upload_field"),
        (&[resumable, length], 400, "bad_upload_metadata"),
        (&[resumable, length, ("Upload-Metadata", "")], 400, "bad_upload_metadata"),
        (&[resumable, ("Upload-Length", "0"), said], 400, "empty_body"),
        (&[resumable, ("Upload-Length", "99999999999999"), said], 413, "too_large"),
    ] {
        let answer = send(create(fields)).await;
        answer.refused(status, code);
        assert_eq!(answer.header("tus-resumable"), Some("1.0.0"));
        assert_eq!(answer.header("tus-version"), (status == 412).then_some("1.0.0"));
    }
    let url = server.begin(PATH, 1000, &[]).await;
    let part = || server.tus(Method::PATCH, &url).body("x");
    send(part().header("Content-Type", PART)).await.refused(400, "bad_upload_field");
    send(part().header("Upload-Offset", 0)).await.refused(415, "unsupported_media_type");
    send(server.part(&url, 0, &[0; 1001])).await.refused(400, "beyond_length");
    assert_eq!(server.offset(&url).await, 0);
    let answer = send(server.request_as(AccessRole::Uploader, Method::PUT, &url)).await;
    answer.refused(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("HEAD, PATCH, DELETE"));
}

#[tokio::test]
async fn a_server_says_what_it_can_do() {
    let server = TestServer::start().await;
    let request = server.request_as(AccessRole::Uploader, Method::OPTIONS, "/api/v1/uploads");
    let answer = send(request).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    for (name, value) in [
        ("tus-version", "1.0.0"),
        ("tus-resumable", "1.0.0"),
        ("tus-extension", "creation,creation-with-upload,termination,checksum,expiration"),
        ("tus-checksum-algorithm", "sha1,sha256"),
        ("tus-max-size", "17179869184"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_taken_path_is_refused_at_once_or_when_it_was_taken_meanwhile() {
    let server = TestServer::start().await;
    let image = pattern(2_000_000, 5);
    let [same, other] =
        [server.begin(PATH, image.len(), &[]).await, server.begin(PATH, 9, &[]).await];
    server.upload(PATH, image.clone()).await.expect(201);
    send(server.creation(PATH, image.len() + 1, &[])).await.refused(409, "image_exists");
    send(server.part(&other, 0, b"different")).await.refused(409, "image_exists");
    send(server.part(&same, 0, &image)).await.expect(204);
    assert_eq!(server.offset(&other).await, 0, "the last bytes may be sent again");
    send(server.tus(Method::DELETE, &other)).await.expect(204);
    assert!(server.open(PATH, "snakeoil_p256").await == image);
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn what_was_expected_when_an_upload_began_is_still_expected_when_it_is_whole() {
    let server = TestServer::start().await;
    let image = pattern(100_000, 7);
    let begin = async |path| {
        let answer =
            send(server.creation(path, image.len(), &[]).header("If-None-Match", "*")).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("location").unwrap().to_owned()
    };
    let (free, taken) = (begin("gw/1/b.bin").await, begin(PATH).await);
    server.upload(PATH, image.clone()).await.expect(201);
    send(server.part(&taken, 0, &image)).await.refused(412, "precondition_failed");
    assert!(server.offset(&taken).await < image.len());
    send(server.tus(Method::DELETE, &taken)).await.expect(204);
    send(server.part(&free, 0, &image)).await.expect(204);
    assert!(server.open("gw/1/b.bin", "snakeoil_p256").await == image);
    server.stop().assert_clean().await;
}
