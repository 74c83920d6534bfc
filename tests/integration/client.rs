//! Clients: a bare socket that sends what no HTTP client would, and an ECU that opens images.

use std::net::SocketAddr;

use bytes::Bytes;
use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::stream::SegmentReader;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answer::Answer;
use crate::app::{DESCRIPTION, TIMEOUT, TestServer, send, sha256_hex};
use crate::state::private_key;

/// A connection on which bytes are sent as they are.
pub(crate) struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends bytes for as long as the server takes them.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Sends the head of an upload by an uploader; `lines` are more header lines, each with its
    /// line break.
    pub(crate) async fn send_upload_head(&mut self, server: &TestServer, path: &str, lines: &str) {
        let token = &server.state.tokens.uploader;
        self.send(upload_head(path, token, lines)).await;
    }

    /// Reads one answer with its body.
    pub(crate) async fn answer(&mut self) -> Answer {
        let (status, headers) = self.head().await;
        let length =
            headers.get("content-length").map(|value| value.to_str().unwrap().parse().unwrap());
        let length: usize = length.unwrap_or_default();
        while self.received.len() < length {
            assert!(self.read_more().await, "the connection closed within a body");
        }
        let rest = self.received.split_off(length);
        let body = Bytes::from(std::mem::replace(&mut self.received, rest));
        Answer { status, headers, body }
    }

    /// Reads the head of an answer.
    pub(crate) async fn head(&mut self) -> (u16, HeaderMap) {
        let end = loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            let more = self.read_more().await;
            assert!(more, "no answer: {}", String::from_utf8_lossy(&self.received));
        };
        let rest = self.received.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.received, rest)).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value.trim()).unwrap())
        };
        (status, lines.map(field).collect())
    }

    /// Whether the server closes the connection now, without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !self.read_more().await
    }

    async fn read_more(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.received);
        let count = tokio::time::timeout(TIMEOUT, reading).await.expect("the server answers");
        count.unwrap_or(0) > 0 // a reset is an end, too
    }
}

/// The head of an upload for gw-mk3.
pub(crate) fn upload_head(path: &str, token: &str, lines: &str) -> String {
    format!(
        "PUT /api/v1/images/{path}?{DESCRIPTION} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n{lines}\r\n"
    )
}

impl TestServer {
    /// Sends one request as it is on a connection of its own.
    pub(crate) async fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut raw = self.connect().await;
        raw.send(request).await;
        raw.answer().await
    }

    /// Fetches an image and its envelope from /repo and opens it with a key of tests/vectors/keys.
    pub(crate) async fn open(&self, path: &str, key: &str) -> Vec<u8> {
        let image = self.image(path).await;
        let sealed = send(self.request(reqwest::Method::GET, &image.sealed.url)).await;
        let sealed = sealed.expect(200);
        assert_eq!(sha256_hex(&sealed), image.sealed.sha256, "{path}");
        let envelope = self.get(&format!("/api/v1/images/{path}/envelope")).await.expect(200);
        let name = published_name(&format!("{path}.jwe"), &sha256_hex(&envelope));
        assert_eq!(self.download(&name).await, envelope, "the envelope is a target, too");
        let (data_key, algorithm) =
            Envelope::parse(&envelope).unwrap().open(&private_key(key)).unwrap();
        let mut reader = SegmentReader::new(&sealed[..], &data_key, algorithm).unwrap();
        let (mut plaintext, mut segment) = (Vec::new(), Vec::new());
        while reader.next_segment(&mut segment).unwrap().is_some() {
            plaintext.extend_from_slice(&segment);
        }
        plaintext
    }
}

/// The name of a target's file that the server itself uses: the digest before the file's name.
pub(crate) fn published_name(target: &str, sha256: &str) -> String {
    match target.rsplit_once('/') {
        Some((folder, file)) => format!("targets/{folder}/{sha256}.{file}"),
        None => format!("targets/{sha256}.{target}"),
    }
}

/// The other name: the digest before the whole path.
pub(crate) fn published_alias(target: &str, sha256: &str) -> String {
    format!("targets/{sha256}.{target}")
}
