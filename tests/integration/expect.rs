//! `Expect: 100-continue` (RFC 9110, 10.1.1): an upload that is hopeless is refused before its body
//! is sent.

use motorcade::api::Problem;
use motorcade::model::AccessRole;
use reqwest::Method;

use crate::answer::Answer;
use crate::app::{DESCRIPTION, TestServer, send};
use crate::client::{Raw, upload_head};

const EXPECT: &str = "Expect: 100-continue\r\n";

/// Sends a head that expects to be told to go on, and reads the first answer.
async fn first_answer(
    server: &TestServer,
    target: &str,
    token: &str,
    lines: &str,
) -> (Raw, Answer) {
    let mut raw = server.connect().await;
    raw.send(format!("PUT {target} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n{EXPECT}{lines}\r\n"))
        .await;
    let answer = raw.answer().await;
    (raw, answer)
}

async fn refused(server: &TestServer, target: &str, lines: &str, status: u16, code: &str) {
    let (_, answer) = first_answer(server, target, &server.state.tokens.uploader, lines).await;
    answer.refused(status, code);
}

#[tokio::test]
async fn a_welcome_upload_is_told_to_go_on() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", &format!("{EXPECT}Content-Length: 8\r\n")).await;
    assert_eq!(raw.head().await.0, 100);
    raw.send("firmware").await;
    raw.answer().await.expect(201);
    assert_eq!(server.open("gw/1/a.bin", "snakeoil_p256").await, b"firmware");
}

#[tokio::test]
async fn a_bad_token_gets_401_and_never_100() {
    let server = TestServer::start().await;
    let target = format!("/api/v1/images/gw/1/a.bin?{DESCRIPTION}");
    let viewer = server.state.tokens.viewer.clone();
    for (token, status, code) in
        [("motorcade_guess", 401, "unauthenticated"), (&viewer, 403, "forbidden")]
    {
        let (_, answer) = first_answer(&server, &target, token, "Content-Length: 8\r\n").await;
        answer.refused(status, code);
    }
    let mut raw = server.connect().await;
    raw.send(format!("PUT {target} HTTP/1.1\r\nHost: test\r\n{EXPECT}Content-Length: 8\r\n\r\n"))
        .await;
    let answer = raw.answer().await;
    answer.refused(401, "unauthenticated");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
}

#[tokio::test]
async fn a_hopeless_upload_is_refused_with_its_own_status() {
    let server = TestServer::configured(|config| config.max_image_size = Some(1000)).await;
    server.upload("gw/1/taken.bin", "taken").await.expect(201);
    server.upload("gw/1/yanked.bin", "yanked").await.expect(201);
    let yank =
        server.request_as(AccessRole::Engineer, Method::DELETE, "/api/v1/images/gw/1/yanked.bin");
    send(yank).await.expect(204);
    let length = "Content-Length: 8\r\n";
    let target = |path: &str| format!("/api/v1/images/{path}?{DESCRIPTION}");

    refused(&server, &target("gw/1/a.bin"), "Content-Length: 1001\r\n", 413, "too_large").await;
    refused(&server, &target("gw/../a.bin"), length, 400, "bad_image_path").await;
    refused(&server, "/api/v1/images/gw/1/a.bin?version=1", length, 400, "bad_query").await;
    refused(&server, &target("gw/1/yanked.bin"), length, 409, "image_yanked").await;
    let other_version =
        "/api/v1/images/gw/1/taken.bin?hardware_id=gw-mk3&version=2&release_counter=1";
    refused(&server, other_version, length, 409, "image_exists").await;
    let other_bytes =
        format!("{length}Repr-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\r\n");
    refused(&server, &target("gw/1/taken.bin"), &other_bytes, 409, "image_exists").await;
    let no_recipient = "/api/v1/images/gw/1/a.bin?hardware_id=gw-mk9&version=1&release_counter=1";
    refused(&server, no_recipient, length, 422, "no_recipient").await;
    refused(
        &server,
        &target("gw/1/a.bin"),
        &format!("{length}Repr-Digest: sha-256=x\r\n"),
        400,
        "bad_digest_field",
    )
    .await;
    refused(
        &server,
        &target("gw/1/a.bin"),
        &format!("{length}Content-Encoding: gzip\r\n"),
        400,
        "content_coding",
    )
    .await;
}

#[tokio::test]
async fn an_early_refusal_has_an_id_and_is_counted() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    let lines = format!("{EXPECT}Content-Length: 8\r\nX-Request-Id: ci-job.42\r\n");
    raw.send(upload_head("gw/1/a.bin", "motorcade_guess", &lines)).await;
    let answer = raw.answer().await;
    answer.refused(401, "unauthenticated");
    let counted = "motorcade_http_requests_total{method=\"PUT\",route=\"/api/v1/images/{path:.*}\",status=\"401\"} 1";
    assert!(server.metrics().await.contains(counted));
    assert_eq!(answer.header("x-request-id"), Some("ci-job.42"));
    assert_eq!(answer.body::<Problem>().request_id.as_deref(), Some("ci-job.42"));
}

/// A client may not have sent the body after a refusal; what comes next on the connection must not
/// be taken for it.
#[tokio::test]
async fn after_a_refusal_the_connection_is_not_out_of_step() {
    let server = TestServer::start().await;
    let target = format!("/api/v1/images/gw/1/a.bin?{DESCRIPTION}");
    let (mut raw, answer) =
        first_answer(&server, &target, "motorcade_guess", "Content-Length: 8\r\n").await;
    answer.refused(401, "unauthenticated");
    let says_close =
        answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    if raw.try_send("GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await.is_ok()
        && !raw.is_closed().await
    {
        let next = raw.answer().await;
        assert_eq!(next.status, 200, "the next request was taken for the body: {next:?}");
    } else {
        assert!(says_close, "the connection was closed without a word: {answer:?}");
    }
}

#[tokio::test]
async fn other_requests_may_expect_too() {
    let server = TestServer::start().await;
    let engineer = &server.state.tokens.engineer;
    let mut raw = server.connect().await;
    raw.send(format!(
        "POST /api/v1/recipients HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {engineer}\r\n\
         Content-Type: application/json\r\n{EXPECT}Content-Length: 2\r\n\r\n"
    ))
    .await;
    assert_eq!(raw.head().await.0, 100);
    raw.send("{}").await;
    raw.answer().await.refused(400, "bad_json");
}
