//! Answers to requests whose body has not been read: clients that send all of it first, and clients
//! that never come to its end.

use std::process::Command;
use std::time::{Duration, Instant};

use motorcade::config::VehicleIdFrom::Cn;
use motorcade::model::AccessRole::Uploader;

use crate::app::{DESCRIPTION, TestServer, sha256_hex};
use crate::ca::{Ca, TlsFiles};
use crate::client::upload_head;

/// A client that looks for an answer only once it has sent all, however long that takes.
#[tokio::test]
async fn whoever_looks_for_an_answer_at_the_end_of_a_body_finds_it() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    let lines = "Content-Length: 800000\r\n";
    raw.send(upload_head("gw/1/b.bin", "motorcade_guess", lines)).await;
    for _ in 0..40 {
        raw.send(vec![b'x'; 20_000]).await;
        tokio::time::sleep(Duration::from_millis(200)).await; // 8 seconds in all
    }
    raw.answer().await.refused(401, "unauthenticated");

    // Drops are no progress.
    let started = Instant::now();
    let mut raw = server.connect().await;
    raw.send(upload_head("gw/1/b.bin", "motorcade_guess", lines)).await;
    let drip = async {
        while raw.try_send([b'x'; 100]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), drip).await.expect("it is ended");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

/// What Python's own client says of an image of 80 MiB that is there already, and of one that is
/// refused: it sends all of a body before it looks for an answer.
#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_gets_its_answer() {
    let image = vec![7; 80 * 1024 * 1024];
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", image.clone()).await.expect(201);
    let digest = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        hex::decode(sha256_hex(&image)).unwrap(),
    );
    let token = server.state.tokens.of(Uploader);
    for (token, expected) in [(token, "200"), ("motorcade_guess", "401")] {
        let output = Command::new("python3")
            .args(["-c", PYTHON_UPLOAD, &server.address.to_string(), token, &digest, DESCRIPTION])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), expected, "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Whoever waits to be told to go on hears at once.
    let mut raw = server.connect().await;
    let lines = format!(
        "Expect: 100-continue\r\nContent-Length: {}\r\nRepr-Digest: sha-256=:{digest}:\r\n",
        image.len()
    );
    raw.send(upload_head("gw/1/a.bin", token, &lines)).await;
    raw.answer().await.expect(200);
}

/// TLS makes more of a body than its length, and much more where each record is short.
#[tokio::test]
async fn so_does_one_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let (_server, address) = TlsFiles::new(folder.path(), &ca).serve(Cn).await;
    let ca = folder.path().join("ca.pem");
    let arguments = [address.ip().to_string(), address.port().to_string()];
    let output = Command::new("python3")
        .args(["-c", PYTHON_OVER_TLS])
        .args(arguments)
        .args([ca])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "HTTP/1.1 401", "{}", String::from_utf8_lossy(&output.stderr));
}

const PYTHON_OVER_TLS: &str = r#"
import socket, ssl, sys
host, port, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
connection = context.wrap_socket(socket.create_connection((host, int(port)), 60), server_hostname=host)
piece, count = b"x" * 100, 720_000
head = "PUT /api/v1/images/gw/1/b.bin HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n"
connection.sendall(head.format(host, count * len(piece)).encode())
for _ in range(count):
    connection.sendall(piece)
print(connection.recv(12).decode())
"#;

const PYTHON_UPLOAD: &str = r#"
import http.client, sys
address, token, digest, description = sys.argv[1:]
piece = b"\x07" * (1024 * 1024)
connection = http.client.HTTPConnection(address, timeout=60)
headers = {
    "Authorization": "Bearer " + token,
    "Repr-Digest": "sha-256=:" + digest + ":",
    "Content-Length": str(80 * len(piece)),
}
connection.request("PUT", "/api/v1/images/gw/1/a.bin?" + description, (piece for _ in range(80)), headers)
print(connection.getresponse().status)
"#;
