use std::error::Error as _;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Http, HttpError, Patience, Tls};
use crate::uptane::verify::Attack;
use crate::vehicle::server_tests::{Manner, Server};

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
    Ok(http.fetch(&format!("{}/f", server.url), None, MAX)?.expect("the file is there"))
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
    let bomb = gzip(&vec![0; MAX as usize + 1]);
    assert!(bomb.len() < 200);
    let error = fetch(&bomb, "gzip").unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { limit: MAX, .. }), "{error:?}");
    assert_eq!(error.attack(), Some(Attack::EndlessData));
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
        assert_eq!(error.attack(), None);
        let source = error.source().unwrap().to_string();
        assert!(source.contains(fault), "{coding} {file:?}: {source}");
    }
}
