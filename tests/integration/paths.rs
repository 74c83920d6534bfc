//! Image paths that are refused, over raw sockets: an HTTP client would tidy some of them up.

use crate::app::{DESCRIPTION, TestServer, send};

/// Each path as it is sent, and the part of the detail that names the rule it breaks.
fn bad_paths() -> Vec<(String, &'static str)> {
    let part = |length: usize| "m".repeat(length);
    let mut paths: Vec<(String, &'static str)> = [
        ("..", "`.` or `..` as a part"),
        ("../x.bin", "`.` or `..` as a part"),
        ("gw/../x.bin", "`.` or `..` as a part"),
        ("gw/./x.bin", "`.` or `..` as a part"),
        ("gw/x.bin/..", "`.` or `..` as a part"),
        ("gw/%2e%2e/x.bin", "`.` or `..` as a part"),
        ("gw/%2E./x.bin", "`.` or `..` as a part"),
        ("gw%2F..%2Fx.bin", "`.` or `..` as a part"),
        ("..%2f..%2fkeys%2froot.pem", "`.` or `..` as a part"),
        ("", "image path is empty"),
        ("/gw/x.bin", "start with a slash"),
        ("%2Fgw/x.bin", "start with a slash"),
        ("gw//x.bin", "an empty part"),
        ("gw%2F%2Fx.bin", "an empty part"),
        ("gw/x.bin/", "an empty part"),
        ("gw/x.bin%2F", "an empty part"),
        ("gw/%00x.bin", "must not contain '\\0'"),
        ("gw/x%0A.bin", "must not contain '\\n'"),
        ("gw/x%0D%0AX-Evil:1", "must not contain '\\r'"),
        ("gw/%1B[2J.bin", "must not contain '\\u{1b}'"),
        ("gw/%7F.bin", "must not contain '\\u{7f}'"),
        ("gw/%20.bin", "must not contain ' '"),
        ("gw/%C3%A9.bin", "must not contain 'é'"),
        ("gw/%FF.bin", "must be ASCII"),
        ("gw/%ED%A0%80.bin", "must be ASCII"),
        ("gw/%25.bin", "must not contain '%'"),
        ("gw/%252e%252e/x.bin", "must not contain '%'"),
        ("gw/x%2.bin", "must not contain '%'"),
        ("gw/%5C..%5Cx.bin", "must not contain '\\\\'"),
        ("gw/*.bin", "must not contain '*'"),
        ("gw/x:y.bin", "must not contain ':'"),
        ("gw/x;y.bin", "must not contain ';'"),
        ("gw/%3Cscript%3E", "must not contain '<'"),
        ("gw/x.bin.jwe", "\"x.bin.jwe\""),
        ("envelope", "\"envelope\""),
        ("reseal", "\"reseal\""),
        ("a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", "more than 16 parts"),
    ]
    .map(|(path, rule)| (path.to_owned(), rule))
    .into();
    paths.push((format!("gw/{}/x.bin", part(256)), "a part of over 255 bytes"));
    paths.push((format!("gw/{}", part(256)), "a part of over 255 bytes"));
    paths.push((format!("gw/{}", part(187)), "a part of over 186 bytes"));
    paths.push((format!("{}/x.bin", part(187)), "a part of over 186 bytes"));
    paths.push((format!("{}x.bin", "mmmmmmmmm/".repeat(102)), "over 1024 bytes"));
    paths
}

#[tokio::test]
async fn a_bad_path_is_400_and_the_rule_is_named() {
    let server = TestServer::start().await;
    let files = server.state.stored_files();
    let token = &server.state.tokens.engineer;
    for (path, rule) in bad_paths() {
        let request = format!(
            "PUT /api/v1/images/{path}?{DESCRIPTION} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 1\r\n\r\nx"
        );
        let detail = server.raw(request).await.refused(400, "bad_image_path");
        assert!(detail.contains(rule), "{path}: {detail}");
        assert!(detail.len() < 400, "{detail}");
    }
    assert_eq!(server.state.stored_files(), files);
}

#[tokio::test]
async fn reading_and_yanking_have_the_same_rules() {
    let server = TestServer::start().await;
    let token = &server.state.tokens.engineer;
    for (path, rule) in bad_paths() {
        for method in ["GET", "DELETE"] {
            let request = format!(
                "{method} /api/v1/images/{path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            let detail = server.raw(request).await.refused(400, "bad_image_path");
            assert!(detail.contains(rule), "{method} {path}: {detail}");
        }
    }
    let request = format!(
        "GET /api/v1/images/gw/../x.bin/envelope HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    server.raw(request).await.refused(400, "bad_image_path");
}

#[tokio::test]
async fn bytes_that_no_request_target_has_are_400() {
    let server = TestServer::start().await;
    let token = &server.state.tokens.engineer;
    for path in
        [&b"gw/\x00.bin"[..], b"gw/\x01.bin", b"gw/\x7f.bin", b"gw/\xc3\xa9.bin", b"gw/\xff.bin"]
    {
        let tail = format!(
            "?{DESCRIPTION} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let request = [b"PUT /api/v1/images/", path, tail.as_bytes()].concat();
        let answer = server.raw(request).await;
        assert_eq!(answer.status, 400, "{path:?}: {answer:?}");
    }
}

#[tokio::test]
async fn paths_that_firmware_has_are_taken() {
    let server = TestServer::start().await;
    let long = format!("a/{}/{}", "m".repeat(255), "b".repeat(186));
    for path in
        ["a", "gw/1.0.0-rc.1+build~7/x@2=3,4.img", "a1/..b/c..", ".hidden", "envelope/x", &long]
    {
        // A file's name can be longer than the name of a piece of software, which is made from it
        // by default.
        send(server.upload_request(path, "&name=firmware").body(path.to_owned())).await.expect(201);
        assert_eq!(server.open(path, "snakeoil_p256").await, path.as_bytes());
    }
    server.upload("gw/4.2.0%2Bb1/x.bin", "encoded").await.expect(201);
    assert_eq!(server.image("gw/4.2.0+b1/x.bin").await.path, "gw/4.2.0+b1/x.bin");
    let repository = server.repository().await;
    let file = server.state.path().join("downloaded");
    for path in
        ["a", "gw/1.0.0-rc.1+build~7/x@2=3,4.img", "a1/..b/c..", ".hidden", "envelope/x", &long]
    {
        repository.download(path, &file).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

#[tokio::test]
async fn a_path_may_be_a_folder_of_another() {
    let server = TestServer::start().await;
    server.upload("gw/a", "a file").await.expect(201);
    server.upload("gw/a/b", "below its name").await.expect(201);
    assert_eq!(server.open("gw/a", "snakeoil_p256").await, b"a file");
    assert_eq!(server.open("gw/a/b", "snakeoil_p256").await, b"below its name");
}
