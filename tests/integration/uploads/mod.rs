//! `/api/v1/uploads`: uploads that are resumed, by tus 1.0.

mod full;
mod limits;
mod nonces;
mod push;
mod refusals;

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use motorcade::model::AccessRole;
use reqwest::{Method, RequestBuilder};

use crate::answer::Answer;
use crate::app::{TestServer, eventually, pattern, send, sha256_hex};
use crate::client::Raw;

const PATH: &str = "gw/1/a.bin";
const PART: &str = "application/offset+octet-stream";

/// What an uploader says of an image for gw-mk3, as `Upload-Metadata`.
fn metadata(path: &str, more: &[(&str, &str)]) -> String {
    let all = [
        ("path", path),
        ("hardware_id", "gw-mk3"),
        ("version", "1.0.0"),
        ("release_counter", "1"),
        ("filename", "a b.bin"),
    ];
    let pairs = all.iter().chain(more);
    let pairs = pairs.map(|(key, value)| format!("{key} {}", STANDARD.encode(value)));
    pairs.collect::<Vec<_>>().join(",")
}

impl TestServer {
    fn tus(&self, method: Method, url: &str) -> RequestBuilder {
        self.request_as(AccessRole::Uploader, method, url).header("Tus-Resumable", "1.0.0")
    }

    fn creation(&self, path: &str, length: usize, more: &[(&str, &str)]) -> RequestBuilder {
        let request = self.tus(Method::POST, "/api/v1/uploads").header("Upload-Length", length);
        request.header("Upload-Metadata", metadata(path, more))
    }

    /// Begins an upload, and returns where it is.
    async fn begin(&self, path: &str, length: usize, more: &[(&str, &str)]) -> String {
        let answer = send(self.creation(path, length, more)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("location").unwrap().to_owned()
    }

    fn part(&self, url: &str, at: usize, bytes: &[u8]) -> RequestBuilder {
        let request = self.tus(Method::PATCH, url).header("Upload-Offset", at);
        request.header("Content-Type", PART).body(bytes.to_vec())
    }

    /// Begins to send a part over a connection of its own: its bytes are to follow.
    async fn raw_part(&self, url: &str, at: usize, length: usize) -> Raw {
        let mut raw = self.connect().await;
        let token = &self.state.tokens.uploader;
        raw.send(format!(
            "PATCH {url} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n\
             Upload-Offset: {at}\r\nContent-Type: {PART}\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
        raw
    }

    /// Waits until a request has taken the one upload that there is.
    async fn upload_is_taken(&self) {
        eventually("it is taken", async || {
            let mut catalog = self.state.catalog().await;
            let taken = sqlx::query_scalar("SELECT count(*) FROM uploads WHERE lease_until > 0");
            taken.fetch_one(&mut catalog).await.is_ok_and(|taken: i64| taken == 1)
        })
        .await;
    }

    async fn offset(&self, url: &str) -> usize {
        let answer = send(self.tus(Method::HEAD, url)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        offset(&answer)
    }
}

fn offset(answer: &Answer) -> usize {
    answer.header("upload-offset").unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_image_in_one_part_is_what_a_put_of_it_would_have_been() {
    let server = TestServer::start().await;
    let image = pattern(3_000_000, 1);
    let url = server.begin(PATH, image.len(), &[]).await;
    assert_eq!(server.offset(&url).await, 0);
    let answer = send(server.part(&url, 0, &image)).await;
    assert_eq!((answer.status, offset(&answer)), (204, image.len()), "{answer:?}");
    assert_eq!(answer.header("tus-resumable"), Some("1.0.0"));
    assert!(server.open(PATH, "snakeoil_rsa2048").await == image);
    let record = server.image(PATH).await;
    assert_eq!(record.plaintext.sha256, sha256_hex(&image));
    assert_eq!((record.name.as_str(), record.release_counter), ("a", 1));
    let repository = server.repository().await;
    assert_eq!(repository.find(PATH).unwrap().length, record.sealed.length);

    let shown = send(server.tus(Method::HEAD, &url)).await;
    assert_eq!((shown.status, offset(&shown)), (200, image.len()));
    assert_eq!(shown.header("upload-length"), Some("3000000"));
    assert_eq!(shown.header("upload-metadata"), Some(&*metadata(PATH, &[])));
    let again = send(server.part(&url, image.len(), b"")).await;
    assert_eq!((again.status, offset(&again)), (204, image.len()), "its answer may have been lost");
    let put = server.upload(PATH, image.clone()).await;
    assert_eq!(put.status, 200, "the same bytes are there: {put:?}");
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn every_byte_that_was_taken_in_outlives_the_server_however_small_the_parts() {
    for (algorithm, seed) in [("AES256_GCM_HKDF_1MB", 2), ("AES256_GCM_HKDF_4KB", 3)] {
        let mut server = TestServer::start().await;
        let image = pattern(5_300_000, seed);
        let url = server.begin(PATH, image.len(), &[("algorithm", algorithm)]).await;
        let sizes = [1, 700_000, 63, 2_500_001, 65, 900_000, 1_199_870];
        assert_eq!(sizes.iter().sum::<usize>(), image.len());
        let mut at = 0;
        for size in sizes {
            let answer = send(server.part(&url, at, &image[at..at + size])).await;
            at += size;
            assert_eq!((answer.status, offset(&answer)), (204, at), "{answer:?}");
            server = TestServer::on(server.stop(), |_| ()).await;
            assert_eq!(server.offset(&url).await, at);
        }
        assert!(server.open(PATH, "snakeoil_p256").await == image, "{algorithm}");
        let state = server.stop();
        state.assert_clean().await;
    }
}

#[tokio::test]
async fn what_came_before_a_connection_broke_is_not_sent_again() {
    let server = TestServer::start().await;
    let image = pattern(6_000_000, 4);
    let url = server.begin(PATH, image.len(), &[]).await;
    let mut at = 0;
    for cut in [1_234_567, 2_000_000] {
        let mut raw = server.raw_part(&url, at, image.len() - at).await;
        raw.send(&image[at..at + cut]).await;
        drop(raw);
        at += cut;
        eventually("all of it is kept", async || server.offset(&url).await == at).await;
    }
    send(server.part(&url, at, &image[at..])).await.expect(204);
    assert!(server.open(PATH, "snakeoil_p256").await == image);
}

#[tokio::test]
async fn a_creation_can_bring_the_first_part_or_all_of_it() {
    let server = TestServer::start().await;
    let image = pattern(2_000_000, 5);
    let with_body = |path, bytes: &[u8]| {
        server.creation(path, image.len(), &[]).header("Content-Type", PART).body(bytes.to_vec())
    };
    let answer = send(with_body(PATH, &image[..1_500_000])).await;
    assert_eq!((answer.status, offset(&answer)), (201, 1_500_000), "{answer:?}");
    let url = answer.header("location").unwrap().to_owned();
    send(server.part(&url, 1_500_000, &image[1_500_000..])).await.expect(204);
    let answer = send(with_body("gw/1/b.bin", &image)).await;
    assert_eq!((answer.status, offset(&answer)), (201, image.len()), "{answer:?}");
    for path in [PATH, "gw/1/b.bin"] {
        assert!(server.open(path, "snakeoil_p256").await == image);
    }
    let empty = send(server.creation("gw/1/empty.bin", 0, &[("allow_empty", "true")])).await;
    assert_eq!((empty.status, offset(&empty)), (201, 0), "{empty:?}");
    assert_eq!(server.open("gw/1/empty.bin", "snakeoil_p256").await, b"");
}

#[tokio::test]
async fn an_upload_is_found_again_by_the_digest_of_its_image_and_what_is_said_of_it() {
    let server = TestServer::start().await;
    let image = pattern(3_000_000, 6);
    let sha256 = sha256_hex(&image);
    let said = [("sha256", sha256.as_str())];
    let url = server.begin(PATH, image.len(), &said).await;
    send(server.part(&url, 0, &image[..2_000_000])).await.expect(204);
    let again = send(server.creation(PATH, image.len(), &said)).await;
    assert_eq!((again.status, offset(&again)), (201, 2_000_000), "{again:?}");
    assert_eq!(again.header("location"), Some(&*url));
    let urls: BTreeSet<String> = [
        url.clone(),
        server.begin("gw/1/b.bin", image.len(), &said).await,
        server.begin(PATH, image.len(), &[said[0], ("name", "other")]).await,
        server.begin(PATH, image.len(), &[]).await,
        server.begin(PATH, image.len(), &[]).await,
    ]
    .into();
    assert_eq!(urls.len(), 5, "without a digest, or with other words, it is another upload");
    send(server.part(&url, 2_000_000, &image[2_000_000..])).await.expect(204);
    assert!(server.open(PATH, "snakeoil_p256").await == image);
}
