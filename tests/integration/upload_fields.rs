//! What the fields of an upload say of its body: whatever makes it something else than the whole
//! image is refused before it is sent, and no path is used up.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use motorcade::api::ImageBody;
use motorcade::model::AccessRole;
use reqwest::Method;
use sha2::{Digest, Sha256};

use crate::app::{TestServer, send, sha256_hex};

fn base64_sha256(bytes: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(bytes))
}

/// Heads of uploads as strange clients send them, with what they get.
fn refused_heads() -> Vec<(&'static str, u16, &'static str, &'static str)> {
    vec![
        // curl -C 60000 -T, curl -F, curl -d @ and wget, curl -X PUT
        (
            "Content-Range: bytes 60000-99999/100000\r\nContent-Length: 40000\r\n",
            400,
            "partial_body",
            "curl -T FILE",
        ),
        ("Content-Range: bytes */100000\r\nContent-Length: 0\r\n", 400, "partial_body", "whole"),
        (
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 8\r\n",
            415,
            "unsupported_media_type",
            "curl -T FILE",
        ),
        (
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n",
            415,
            "unsupported_media_type",
            "Repr-Digest",
        ),
        ("Content-Length: 0\r\n", 400, "empty_body", "allow_empty=true"),
        ("", 411, "length_required", "curl -T FILE"),
        ("Content-Encoding: gzip\r\nContent-Length: 8\r\n", 400, "content_coding", "as it is"),
        (
            "Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n",
            400,
            "content_coding",
            "",
        ),
        ("Upload-Complete: ?0\r\nContent-Length: 8\r\n", 400, "partial_body", "by parts with tus"),
        (
            "Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\nContent-Length: 8\r\n",
            400,
            "unknown_digest_field",
            "Repr-Digest",
        ),
        (
            "x-amz-checksum-crc32: AAAAAA==\r\nContent-Length: 8\r\n",
            400,
            "unknown_digest_field",
            "x-amz-checksum-crc32",
        ),
        (
            "Digest: MD5=1B2M2Y8AsgTpgAmY7PhCfg==\r\nContent-Length: 8\r\n",
            400,
            "bad_digest_field",
            "SHA-256",
        ),
        (
            "Transfer-Encoding: chunked\r\nTrailer: Repr-Digest\r\n",
            400,
            "unknown_digest_field",
            "after the body",
        ),
        ("If-Match: abc\r\nContent-Length: 8\r\n", 400, "bad_condition", "quotes"),
        ("If-Match: *\r\nContent-Length: 8\r\n", 412, "precondition_failed", "no such image"),
    ]
}

#[tokio::test]
async fn a_body_that_is_not_the_whole_image_as_it_is_is_refused_before_it_is_sent() {
    let server = TestServer::start().await;
    let files = server.state.stored_files();
    for expect in ["", "Expect: 100-continue\r\n"] {
        for (lines, status, code, says) in refused_heads() {
            let mut raw = server.connect().await;
            raw.send_upload_head(&server, "gw/1/a.bin", &format!("{expect}{lines}")).await;
            let answer = raw.answer().await; // not a byte of the body was sent
            assert_eq!(answer.status, status, "{lines}: {answer:?}");
            let detail = answer.refused(status, code);
            assert!(detail.contains(says), "{lines}: {detail}");
        }
    }
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", "Transfer-Encoding: gzip, chunked\r\n").await;
    let status = raw.head().await.0;
    assert!((400..600).contains(&status), "{status}");
    assert_eq!(server.state.stored_files(), files);
    server.upload("gw/1/a.bin", "the image").await.expect(201);
}

#[tokio::test]
async fn an_empty_image_has_to_be_asked_for_however_it_is_sent() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", "Transfer-Encoding: chunked\r\n").await;
    raw.send("0\r\n\r\n").await;
    raw.answer().await.refused(400, "empty_body");
    server.state.assert_clean().await;
    let empty = sha256_hex(b"");
    let asked =
        server.upload_request("gw/1/a.bin", "&allow_empty=true").header("Content-Length", "0");
    let answer = send(asked.body("")).await;
    assert_eq!(
        (answer.status, answer.body::<ImageBody>().plaintext.sha256),
        (201, empty),
        "{answer:?}"
    );
    server.upload("gw/1/a.bin", "x").await.refused(409, "image_exists");
}

/// wget and `curl --data-binary` say that raw bytes are a form: with a digest that fits they are
/// taken.
#[tokio::test]
async fn a_digest_that_fits_excuses_the_media_type_of_a_form() {
    let server = TestServer::start().await;
    let upload = async |digest_of: &[u8]| {
        let request = server
            .upload_request("gw/1/a.bin", "")
            .header("Content-Type", "application/x-www-form-urlencoded");
        let digest = format!("sha-256=:{}:", base64_sha256(digest_of));
        send(request.header("Repr-Digest", digest).body("firm\nware\n")).await
    };
    upload(b"firmware").await.refused(422, "digest_mismatch");
    upload(b"firm\nware\n").await.expect(201);
    assert_eq!(server.open("gw/1/a.bin", "snakeoil_p256").await, b"firm\nware\n");
}

#[tokio::test]
async fn a_sha_256_is_compared_in_whatever_field_it_comes() {
    let server = TestServer::start().await;
    let field = |name: &'static str, of: &[u8]| {
        let value = match name {
            "Digest" => format!("SHA-256={}", base64_sha256(of)),
            "x-amz-checksum-sha256" => base64_sha256(of),
            "X-Checksum-Sha256" | "x-amz-content-sha256" => sha256_hex(of),
            _ => format!("sha-256=:{}:", base64_sha256(of)),
        };
        (name, value)
    };
    let names = [
        "Repr-Digest",
        "Content-Digest",
        "Digest",
        "x-amz-checksum-sha256",
        "X-Checksum-Sha256",
        "x-amz-content-sha256",
    ];
    for (number, name) in names.into_iter().enumerate() {
        let path = format!("gw/{number}/a.bin");
        let (name, wrong) = field(name, b"what was meant");
        let answer =
            send(server.upload_request(&path, "").header(name, wrong).body("what came")).await;
        assert_eq!(answer.status, 422, "{name}: {answer:?}");
        answer.refused(422, "digest_mismatch");
        let (name, right) = field(name, b"what came");
        send(server.upload_request(&path, "").header(name, right).body("what came"))
            .await
            .expect(201);
    }
    server.state.assert_clean().await;
}

/// A sign that is read as a space would be signed as one.
#[tokio::test]
async fn what_is_signed_does_not_depend_on_how_a_plus_is_read() {
    let server = TestServer::start().await;
    for (member, says) in [
        ("version=4.2.0+build.7", "%2B"),
        ("version=4.2.0%20build.7", "%2B"),
        ("version=1&name=lib++", "%2B"),
        ("version=1&requires=lib++x", "%2B"),
        ("version=1&hardware_id=gw+mk4", "%2B"),
    ] {
        let path =
            format!("/api/v1/images/gw/1/a.bin?hardware_id=gw-mk3&release_counter=1&{member}");
        let answer =
            send(server.request_as(AccessRole::Uploader, Method::PUT, &path).body("x")).await;
        let detail = answer.refused(400, "bad_query");
        assert!(detail.contains(says), "{member}: {detail}");
    }
    let path = "/api/v1/images/gw/1/a.bin?hardware_id=gw-mk3&release_counter=1&version=4.2.0%2Bbuild.7&name=two%20words";
    send(server.request_as(AccessRole::Uploader, Method::PUT, path).body("x")).await.expect(201);
    let custom = server.repository().await.find("gw/1/a.bin").unwrap().custom;
    assert_eq!(
        (&custom["version"], &custom["name"]),
        (&"4.2.0+build.7".into(), &"two words".into())
    );
}

#[tokio::test]
async fn conditions_on_an_image_are_honoured() {
    let server = TestServer::start().await;
    let path = "/api/v1/images/gw/1/a.bin";
    let put = async |field: &str, value: &str| {
        send(server.upload_request("gw/1/a.bin", "").header(field, value).body("one")).await
    };
    put("If-Match", "\"abc\"").await.refused(412, "precondition_failed");
    put("If-None-Match", "*").await.expect(201);
    put("If-None-Match", "*").await.refused(412, "precondition_failed");
    let shown = server.get(path).await;
    let etag = shown.header("etag").unwrap().to_owned();
    put("If-None-Match", &etag).await.refused(412, "precondition_failed");
    put("If-Match", "\"abc\"").await.refused(412, "precondition_failed");
    put("If-Match", &format!("\"abc\", {etag}")).await.expect(200);
    put("If-Match", "*").await.expect(200);
    put("If-None-Match", "\"abc\"").await.expect(200);

    let get =
        server.request_as(AccessRole::Viewer, Method::GET, path).header("If-None-Match", &etag);
    assert_eq!(send(get).await.status, 304);
    let yank = async |field: &str, value: &str| {
        send(server.request_as(AccessRole::Engineer, Method::DELETE, path).header(field, value))
            .await
    };
    yank("If-Match", "\"abc\"").await.refused(412, "precondition_failed");
    yank("If-Match", &format!("W/{etag}")).await.refused(412, "precondition_failed");
    yank("If-None-Match", "*").await.refused(412, "precondition_failed");
    yank("If-Match", &etag).await.expect(204);
    yank("If-Match", &etag).await.refused(412, "precondition_failed");
    assert_ne!(server.get(path).await.header("etag"), Some(etag.as_str()));
}

/// Of several who each say that there must be nothing yet, one is told that it was first.
#[tokio::test]
async fn only_one_upload_is_the_first() {
    let server = &TestServer::start().await;
    let uploads = (0..6).map(|_| async move {
        send(
            server
                .upload_request("gw/1/a.bin", "")
                .header("If-None-Match", "*")
                .body("the same bytes"),
        )
        .await
        .status
    });
    let mut statuses = futures_util::future::join_all(uploads).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 412, 412, 412, 412, 412]);
}

#[tokio::test]
async fn the_command_line_sends_spaces_and_pluses_as_they_are() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.bin");
    std::fs::write(&file, "firmware").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_motorcade"));
    let url = server.url("");
    command.args([
        "image",
        "push",
        "--server",
        &url,
        "--path",
        "gw/1/a.bin",
        "--hardware-id",
        "gw-mk3",
    ]);
    command.args(["--version", "1+b", "--release-counter", "1", "--name", "two words"]).arg(&file);
    let pushed = command.env("MOTORCADE_TOKEN", &server.state.tokens.uploader).output().unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let image = server.image("gw/1/a.bin").await;
    assert_eq!((&*image.version, &*image.name), ("1+b", "two words"));
}
