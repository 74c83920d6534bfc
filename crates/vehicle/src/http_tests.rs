use std::error::Error as _;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use motorcade_uptane::verify::{Attack, Fault, Finding};
use reqwest::Method;

use super::{Http, HttpError, Patience, Redirects, Request, Tls, Token};
use crate::testing::server::{Manner, Server};

const MAX: u64 = 10_000;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Fetches a file that is said to have a content coding.
fn fetch(file: &[u8], coding: &'static str) -> Result<Vec<u8>, HttpError> {
    let server = Server::start();
    server.put("/f", file);
    server.behave("/f", Manner::Coded(coding));
    let http = Http::new(Tls::default(), Patience::default()).unwrap();
    Ok(http
        .fetch(&format!("{}/f", server.url), None, MAX, Redirects::Refused)?
        .expect("the file is there"))
}

#[test]
fn gzip_is_undone() {
    let plain = vec![b'x'; MAX as usize];
    assert_eq!(fetch(&gzip(&plain), "gzip").unwrap(), plain);
    assert_eq!(fetch(&[gzip(b"two "), gzip(b"members")].concat(), "gzip").unwrap(), b"two members"); // RFC 1952, 2.2
    assert_eq!(fetch(&gzip(b"an old name"), "X-GZip").unwrap(), b"an old name");
    assert_eq!(fetch(b"as it is", "identity").unwrap(), b"as it is");
}

#[test]
fn what_comes_out_of_gzip_is_bounded() {
    let bomb = gzip(&vec![b'{'; MAX as usize + 1]);
    assert!(bomb.len() < 200);
    let error = fetch(&bomb, "gzip").unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { limit: MAX, .. }), "{error:?}");
    assert_eq!(error.finding(), Some(Finding::Attack(Attack::EndlessData)));
}

#[test]
fn a_body_that_is_not_what_it_is_said_to_be_is_a_broken_transfer() {
    let mut cut = gzip(&[7; 1000]);
    cut.truncate(cut.len() - 9);
    for (file, coding, fault) in [
        (&cut[..], "gzip", "stream"),
        (b"plain text and no header", "gzip", "gzip"),
        (b"", "gzip", "unexpected end"),
        (b"brotli", "br", "not asked for"),
    ] {
        let error = fetch(file, coding).unwrap_err();
        assert_eq!(error.finding(), Some(Finding::Fault(Fault::Unreachable)));
        let source = error.source().unwrap().to_string();
        assert!(source.contains(fault), "{coding} {file:?}: {source}");
    }
}

/// A login page is longer than many a file of metadata.
#[test]
fn a_page_that_is_too_long_is_no_endless_data() {
    let error = fetch(&b"<html>".repeat(2000), "identity").unwrap_err();
    assert_eq!(error.finding(), Some(Finding::Fault(Fault::Garbled)), "{error}");
    let error = fetch(&gzip(&b"<html>".repeat(2000)), "gzip").unwrap_err();
    assert_eq!(error.finding(), Some(Finding::Fault(Fault::Garbled)), "{error}");
}

/// Nothing that is the Director's goes anywhere but to the Director, and a file that is sent on is
/// asked for without what a server knows the vehicle by.
#[test]
fn a_redirection_is_followed_for_files_alone_and_tells_nobody_who_asks() {
    let (home, elsewhere) = (Server::start(), Server::start());
    elsewhere.put("/there", b"{}");
    home.put("/near", b"{}");
    home.behave("/f", Manner::Redirect);
    home.put("/f", format!("{}/there", elsewhere.url).as_bytes());
    home.behave("/local", Manner::Redirect);
    home.put("/local", b"/near");
    home.behave("/loop", Manner::Redirect);
    home.put("/loop", b"loop");
    let http = Http::new(Tls::default(), Patience::default()).unwrap();
    let token = Token::new("secret");
    let fetch = |path: &str, redirects| {
        http.fetch(&format!("{}{path}", home.url), Some(&token), MAX, redirects)
    };
    assert_eq!(fetch("/f", Redirects::Followed).unwrap().unwrap(), b"{}");
    assert_eq!(home.tokens(), [Some("Bearer secret".to_owned())]);
    assert_eq!(elsewhere.tokens(), [None]);
    assert_eq!(fetch("/local", Redirects::Followed).unwrap().unwrap(), b"{}");
    assert_eq!(home.tokens().len(), 2);
    assert!(home.requests().iter().all(|(method, ..)| method == "GET"));
    assert!(matches!(fetch("/loop", Redirects::Followed), Err(HttpError::Redirect { .. })));
    elsewhere.requests();
    for method in [Method::GET, Method::PUT, Method::POST] {
        let request = Request {
            method,
            token: Some(&token),
            body: Some(b"a report".to_vec()),
            ..Request::default()
        };
        let mut answer = http.send(&format!("{}/f", home.url), request).unwrap();
        let said = answer.refusal().to_string();
        assert!(
            said.contains("302") && said.contains("/there") && said.contains("not followed"),
            "{said}"
        );
    }
    assert_eq!(elsewhere.requests(), []);
}

/// A wait that comes with a redirection says when to follow it, and with an error nothing.
#[test]
fn a_host_is_left_alone_only_when_it_is_busy() {
    let server = Server::start();
    server.put("/f", b"{}");
    server.put("/g", b"{}");
    let http = Http::new(Tls::default(), Patience::default()).unwrap();
    let fetch =
        |file: &str| http.fetch(&format!("{}/{file}", server.url), None, MAX, Redirects::Followed);
    for other in [
        "302 Found\r\nlocation: /g\r\nretry-after: 3600\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "404 Not Found\r\nretry-after: 3600\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "500 Internal Server Error\r\nretry-after: 3600\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ] {
        server.behave("/f", Manner::Says(other));
        let is_held = matches!(fetch("f"), Err(HttpError::Held { .. }));
        assert!(!is_held && fetch("g").unwrap().is_some(), "{other}");
    }
    let busy = "429 Too Many Requests\r\nretry-after: 3600\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    server.behave("/f", Manner::Says(busy));
    assert!(matches!(fetch("f"), Err(HttpError::Status { status: 429, .. })));
    server.requests();
    let held = fetch("g").unwrap_err();
    assert_eq!(held.finding(), Some(Finding::Fault(Fault::Unreachable)), "{held}");
    assert!(matches!(held, HttpError::Held { .. }) && server.requests().is_empty());
}

/// What a server says may be made to look like something else on a terminal, and an address may be
/// a key to what is there.
#[test]
fn errors_have_no_escape_sequences_and_no_secrets() {
    let (home, elsewhere) = (Server::start(), Server::start());
    let http = Http::new(Tls::default(), Patience::default()).unwrap();
    home.answer_reports(Some(
        "403 Forbidden\r\nconnection: close\r\n\r\n{\"detail\":\"\\u001b[2Jno\\nUp to date\",\"code\":\"\\u0007x\"}",
    ));
    let request = Request { method: Method::PUT, ..Request::default() };
    let said =
        http.send(&format!("{}/f?secret#secret", home.url), request).unwrap().refusal().to_string();
    assert!(said.contains("403") && said.contains("Up to date"), "{said}");
    assert!(!said.contains(char::is_control) && !said.contains("secret"), "{said:?}");
    home.behave("/f", Manner::Redirect);
    home.put("/f", format!("{}/cut?signature=secret", elsewhere.url).as_bytes());
    elsewhere.put("/cut?signature=secret", b"a file");
    elsewhere.behave("/cut?signature=secret", Manner::CutAfter(1));
    let fetch = || {
        let request = Request { redirects: Redirects::Followed, ..Request::default() };
        http.send(&format!("{}/f", home.url), request)?.body(MAX)
    };
    let said = format!("{:?}", fetch().unwrap_err());
    assert!(said.contains("/cut") && !said.contains("secret"), "{said}");
    elsewhere.behave("/cut?signature=secret", Manner::Redirect);
    elsewhere.put("/cut?signature=secret", b"ftp://a");
    let said = format!("{:?}", fetch().unwrap_err());
    assert!(said.contains("/cut") && !said.contains("secret"), "{said}");
}

/// A file that is none would leave a vehicle with the system's CAs alone, and nobody would know why
/// it trusts no server.
#[test]
fn a_file_without_certificates_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    for text in
        [&b""[..], b"\x30\x82\x01", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
    {
        std::fs::write(&path, text).unwrap();
        let tls = Tls { ca_file: Some(&path), ..Tls::default() };
        let error = Http::new(tls, Patience::default()).err().expect("it is refused").to_string();
        assert!(error.contains("ca.pem can't be used"), "{error}");
    }
}
