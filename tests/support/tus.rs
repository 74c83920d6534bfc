//! Uploads that are resumed, by tus 1.0, with one request at a time.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder};

use super::support::{Client, HARDWARE};

/// A request of an upload.
pub(crate) fn tus(client: &Client, method: Method, path: &str) -> RequestBuilder {
    let request = client.http.request(method, format!("{}{path}", client.url));
    request.bearer_auth(&client.token).header("Tus-Resumable", "1.0.0")
}

/// Begins the upload of an image, and returns its path.
pub(crate) async fn begin(client: &Client, path: &str, length: usize) -> String {
    let said =
        [("path", path), ("hardware_id", HARDWARE), ("version", "1"), ("release_counter", "1")];
    let said = said.map(|(key, value)| format!("{key} {}", STANDARD.encode(value)));
    let request = tus(client, Method::POST, "/api/v1/uploads").header("Upload-Length", length);
    let response = request.header("Upload-Metadata", said.join(",")).send().await.unwrap();
    assert_eq!(response.status(), 201);
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// How much of it is there.
pub(crate) async fn offset(client: &Client, url: &str) -> usize {
    let response = tus(client, Method::HEAD, url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.headers()["upload-offset"].to_str().unwrap().parse().unwrap()
}

/// A part of it, whose bytes are to follow.
pub(crate) fn patch(client: &Client, url: &str, at: usize) -> RequestBuilder {
    let request = tus(client, Method::PATCH, url).header("Upload-Offset", at);
    request.header("Content-Type", "application/offset+octet-stream")
}
