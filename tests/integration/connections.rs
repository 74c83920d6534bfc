//! What a connection carries, byte by byte: each answer belongs to its request, whatever else is
//! sent, and ends when it should.

use std::time::{Duration, Instant};

use motorcade::api::Problem;
use motorcade::config::VehicleIdFrom::Cn;
use motorcade::model::AccessRole::{Engineer, Uploader, Viewer};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::app::{TestServer, eventually, sha256_hex};
use crate::ca::{Ca, TlsFiles};
use crate::client::{Raw, upload_head};
use crate::support::wait_until;

/// Reads an answer to a request of that method, and no byte more.
async fn read_answer(
    stream: &mut (impl AsyncRead + Unpin),
    method: &str,
) -> (u16, String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(
            stream
                .read_u8()
                .await
                .unwrap_or_else(|_| panic!("it ends in {:?}", String::from_utf8_lossy(&head))),
        );
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let status =
        head.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {head}")).parse().unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
    stream.read_exact(&mut body).await.unwrap();
    (status, head, body)
}

/// Sends all requests in one write, and compares each answer with what the request gets alone.
async fn check_pipeline(
    server: &TestServer,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    requests: &[(&str, &str)],
) {
    let text: String = requests
        .iter()
        .map(|(method, path)| format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
        .collect();
    stream.write_all(text.as_bytes()).await.unwrap();
    for (method, path) in requests {
        let expected =
            server.http.get(server.url(path)).send().await.unwrap().bytes().await.unwrap();
        let (status, head, body) = read_answer(stream, method).await;
        assert_eq!(status, 200, "{requests:?}: {head}");
        assert!(
            head.contains(&format!("content-length: {}\r\n", expected.len())),
            "{method} {path}: {head}"
        );
        assert_eq!(body, if *method == "HEAD" { &b""[..] } else { &expected[..] }, "{requests:?}");
    }
}

const PIPELINES: [&[(&str, &str)]; 5] = [
    &[("GET", "/repo/1.root.json"), ("HEAD", "/healthz")],
    &[("HEAD", "/repo/1.root.json"), ("GET", "/healthz")],
    &[
        ("HEAD", "/healthz"),
        ("HEAD", "/repo/1.root.json"),
        ("GET", "/repo/1.root.json"),
        ("HEAD", "/version"),
    ],
    &[
        ("GET", "/repo/1.root.json"),
        ("GET", "/version"),
        ("HEAD", "/repo/1.root.json"),
        ("GET", "/repo/1.root.json"),
    ],
    &[("GET", "/repo/1.root.json"); 20],
];

#[tokio::test]
async fn each_answer_of_a_pipeline_belongs_to_its_request() {
    let server = TestServer::start().await;
    for requests in PIPELINES {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        check_pipeline(&server, &mut stream, requests).await;
        check_pipeline(&server, &mut stream, requests).await;
    }
}

#[tokio::test]
async fn so_does_each_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let (server, address) = TlsFiles::new(folder.path(), &ca).serve(Cn).await;
    for requests in PIPELINES {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream =
            TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap();
        check_pipeline(&server, &mut stream, requests).await;
    }
}

/// What comes back until the server closes, which it has to do by itself.
async fn all(server: &TestServer, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
    reading
        .await
        .unwrap_or_else(|_| {
            panic!("it isn't closed: {:?}", String::from_utf8_lossy(request.as_ref()))
        })
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn nothing_is_answered_after_a_client_has_said_close() {
    let server = TestServer::start().await;
    for close in [
        "Connection: close",
        "Connection: keep-alive, close",
        "Connection: close\r\nConnection: keep-alive",
    ] {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: test\r\n{close}\r\n\r\n");
        let answers = all(&server, request + "GET /version HTTP/1.1\r\nHost: test\r\n\r\n").await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    }
    let one = all(&server, "GET /healthz HTTP/1.0\r\n\r\nGET /version HTTP/1.0\r\n\r\n").await;
    assert_eq!(one.matches("HTTP/1.").count(), 1, "{one}");
}

#[tokio::test]
async fn an_upgrade_that_is_not_offered_is_ignored() {
    let server = TestServer::start().await;
    let token = server.state.tokens.of(Uploader);
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 8\r\n";
    let mut raw = server.connect().await;
    raw.send(upload_head("gw/1/a.bin", token, upgrade) + "firmware").await;
    raw.answer().await.expect(201);
    raw.send("GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
        .await;
    raw.answer().await.expect(200);
    assert_eq!(server.open("gw/1/a.bin", "snakeoil_p256").await, b"firmware");
}

#[tokio::test]
async fn chunks_that_are_none_are_told_and_end_the_connection() {
    let server = TestServer::start().await;
    let token = server.state.tokens.of(Uploader);
    for chunks in [
        "zz\r\nfirmware\r\n0\r\n\r\n",
        "4\r\nfirmware\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "fffffffffffffffff\r\nx",
    ] {
        let request = upload_head("gw/1/a.bin", token, "Transfer-Encoding: chunked\r\n") + chunks;
        let answer = all(&server, request + "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer}");
        assert!(answer.contains("bad_chunk"), "{chunks:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    server.get("/api/v1/images/gw/1/a.bin").await.refused(404, "image_not_found");
}

#[tokio::test]
async fn two_framings_of_one_body_are_the_end_of_the_connection() {
    let server = TestServer::start().await;
    let token = server.state.tokens.of(Uploader);
    for lines in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
    ] {
        let smuggled = "0\r\n\r\nGET /version HTTP/1.1\r\nHost: test\r\n\r\n";
        let answer = all(&server, upload_head("gw/1/a.bin", token, lines) + smuggled).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lines}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 4"), "{lines}: {answer}");
    }
    // Chunks count, and whatever the other framing would make of the rest is not looked at (RFC
    // 9112, 6.3).
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let smuggled = "8\r\nfirmware\r\n0\r\n\r\nGET /version HTTP/1.1\r\nHost: test\r\n\r\n";
        let answer = all(&server, upload_head("gw/1/a.bin", token, lines) + smuggled).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lines}: {answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{lines}: {answer}");
    }
}

#[tokio::test]
async fn a_host_that_is_none_is_refused() {
    let server = TestServer::start().await;
    for lines in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: u@h\r\n",
        "Host: h:port\r\n",
        "Host: a\"b\r\n",
    ] {
        let answer = server.raw(format!("GET /healthz HTTP/1.1\r\n{lines}\r\n")).await;
        answer.refused(400, "bad_host");
    }
    for host in [
        "localhost",
        "127.0.0.1:8080",
        "[::1]:80",
        "motorcade.example",
        "xn--bcher-kva.example:",
        "",
    ] {
        server.raw(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.expect(200);
    }
    server
        .raw("GET http://motorcade.example/healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect(200);
    server.raw("GET /healthz HTTP/1.0\r\n\r\n").await.expect(200);
}

#[tokio::test]
async fn who_somebody_is_is_said_once() {
    let server = TestServer::configured(|config| {
        config.vehicles.proxy =
            Some(("X-Vehicle-Id".to_owned(), vec!["127.0.0.1".parse().unwrap()]));
    })
    .await;
    crate::director::vehicle::TestVehicle::registered(&server, "VIN1").await;
    let viewer = server.state.tokens.of(Viewer);
    for (path, name, one, other) in [
        (
            "/api/v1/images",
            "Authorization",
            format!("Bearer {viewer}"),
            "Bearer motorcade_guess".to_owned(),
        ),
        (
            "/api/v1/images",
            "Authorization",
            "Bearer motorcade_guess".to_owned(),
            format!("Bearer {viewer}"),
        ),
        ("/api/v1/images", "Authorization", format!("Bearer {viewer}"), format!("Bearer {viewer}")),
        ("/director/targets.json", "X-Vehicle-Id", "VIN1".to_owned(), "VIN2".to_owned()),
        ("/director/targets.json", "X-Vehicle-Id", "VIN1".to_owned(), "VIN1".to_owned()),
        ("/repo/timestamp.json", "X-Vehicle-Id", "VIN1".to_owned(), "VIN1".to_owned()),
    ] {
        let get = |lines: String| format!("GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n");
        let twice = server.raw(get(format!("{name}: {one}\r\n{name}: {other}\r\n"))).await;
        let detail = twice.refused(400, "repeated_header");
        assert!(detail.to_lowercase().contains(&name.to_lowercase()), "{detail}");
        assert!(!detail.contains("VIN1") && !detail.contains(viewer), "{detail}");
    }
    let joined =
        "GET /director/targets.json HTTP/1.1\r\nHost: test\r\nX-Vehicle-Id: VIN1, VIN1\r\n\r\n";
    assert_ne!(server.raw(joined).await.status, 200);
}

/// Goes on sending a body, as a client does that looks for an answer once all is sent.
async fn send_for_ever(raw: &mut Raw) {
    while raw.try_send("3e8\r\n".to_owned() + &"x".repeat(1000) + "\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_upload_that_is_answered_early_is_ended_whatever_its_framing() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let token = server.state.tokens.of(Uploader);
    let digest = hex::decode(sha256_hex(b"firmware")).unwrap();
    let digest = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
    for (path, token, lines, status) in [
        ("gw/1/a.bin", token, format!("Repr-Digest: sha-256=:{digest}:\r\n"), 200),
        ("gw/1/b.bin", "motorcade_guess", String::new(), 401),
        ("gw/../b.bin", token, String::new(), 400),
    ] {
        let started = Instant::now();
        let mut raw = server.connect().await;
        raw.send(upload_head(path, token, &(lines + "Transfer-Encoding: chunked\r\n"))).await;
        let answer = raw.answer().await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        let sending = tokio::time::timeout(Duration::from_secs(20), send_for_ever(&mut raw));
        sending.await.expect("it is ended");
        assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    }
    // A client that goes on with what it has, and looks then, still reads the answer.
    let mut raw = server.connect().await;
    raw.send(upload_head("gw/1/b.bin", "motorcade_guess", "Transfer-Encoding: chunked\r\n")).await;
    for _ in 0..200 {
        raw.send("3e8\r\n".to_owned() + &"x".repeat(1000) + "\r\n").await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    raw.send("0\r\n\r\n").await;
    raw.answer().await.refused(401, "unauthenticated");
}

/// hyper answers these by itself.
#[tokio::test]
async fn a_head_that_cannot_be_read_is_counted() {
    let server = TestServer::start().await;
    let long = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "X: y\r\n".repeat(120));
    for (head, status) in [("GET\r\n\r\n".to_owned(), 400), (long, 431)] {
        let mut raw = server.connect().await;
        let _ = raw.try_send(head).await;
        assert_eq!(raw.head().await.0, status);
    }
    for reason in ["malformed", "too_large"] {
        let line = format!("motorcade_heads_refused_total{{reason=\"{reason}\"}} 1\n");
        wait_until("it is counted", async || server.metrics().await.contains(&line)).await;
    }
}

#[tokio::test]
async fn what_is_refused_without_its_body_is_never_told_to_go_on() {
    let server = TestServer::start().await;
    let viewer = server.state.tokens.of(Viewer);
    for (request, status) in [
        ("POST /api/v1/recipients", 403),
        ("POST /api/v1/vehicles", 403),
        ("POST /api/v1/nothing", 404),
        ("POST /healthz", 405),
        ("PUT /director/manifest", 401),
        ("POST /director/ecus", 403),
    ] {
        let mut raw = server.connect().await;
        raw.send(format!(
            "{request} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {viewer}\r\nContent-Type: application/json\r\n\
             Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        ))
        .await;
        let answer = raw.answer().await;
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{request}");
    }
}

#[tokio::test]
async fn where_there_is_get_there_is_head() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    crate::director::vehicle::TestVehicle::registered(&server, "VIN1").await;
    let engineer = server.state.tokens.of(Engineer);
    for path in [
        "/api/v1/images",
        "/api/v1/images/gw/1/a.bin",
        "/api/v1/images/gw/1/a.bin/envelope",
        "/api/v1/images/none",
        "/api/v1/recipients",
        "/api/v1/vehicles",
        "/api/v1/vehicles/VIN1",
        "/api/v1/vehicles/VIN1/ecus",
        "/api/v1/vehicles/VIN1/assignments",
        "/api/v1/vehicles/VIN1/history",
        "/director/1.root.json",
        "/repo/timestamp.json",
        "/repo/none",
        "/healthz",
        "/readyz",
        "/version",
        "/openapi.json",
    ] {
        let ask = |method| server.request(method, path).bearer_auth(engineer).send();
        let (get, head) =
            (ask(reqwest::Method::GET).await.unwrap(), ask(reqwest::Method::HEAD).await.unwrap());
        assert_eq!(get.status(), head.status(), "{path}");
        for name in ["content-type", "etag", "cache-control"] {
            assert_eq!(get.headers().get(name), head.headers().get(name), "{path}, {name}");
        }
        let length = get.headers().get("content-length").expect(path).clone();
        if get.status() == 200 {
            assert_eq!(head.headers().get("content-length"), Some(&length), "{path}");
        }
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
    let allow = server.raw("DELETE /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(allow.header("allow"), Some("GET, HEAD"));
}

#[tokio::test]
async fn a_token_that_does_not_count_is_called_invalid() {
    let server = TestServer::start().await;
    let ask = async |path: &str, lines: &str| {
        let answer = server.raw(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n")).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        answer.header("www-authenticate").unwrap().to_owned()
    };
    for path in ["/api/v1/images", "/director/targets.json"] {
        let without = ask(path, "").await;
        assert!(without.starts_with("Bearer") && !without.contains("error"), "{without}");
        let with = ask(path, "Authorization: Bearer motorcade_guess\r\n").await;
        assert!(with.starts_with("Bearer") && with.contains("error=\"invalid_token\""), "{with}");
    }
}

#[tokio::test]
async fn a_second_head_that_drips_ends_the_connection() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    raw.send("GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await;
    raw.answer().await.expect(200);
    let started = Instant::now();
    for byte in b"GET /healthz HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat(&b'x')) {
        if raw.try_send([*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(started.elapsed() < Duration::from_secs(20), "it drips on");
    }
    let ended = "motorcade_connections_ended_total{reason=\"slow_head\"} 1";
    assert!(server.metrics().await.contains(ended));
}

#[tokio::test]
async fn whoever_only_holds_connections_keeps_nobody_out() {
    let server =
        TestServer::configured(|config| config.connections.max_connections = Some(16)).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut raw = server.connect().await;
        raw.send("GET /healthz HTTP/1.1\r\nHo").await;
        held.push(raw);
    }
    // They are let in side by side: one that comes meanwhile may be among those that give way.
    let asked = async || server.http.get(server.url("/healthz")).send().await.is_ok();
    eventually("all have been let in", asked).await;
    for _ in 0..20 {
        let started = Instant::now();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        assert_eq!(client.get(server.url("/healthz")).send().await.unwrap().status(), 200);
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn one_token_cannot_have_all_slots() {
    let server = TestServer::configured(|config| config.max_uploads = Some(4)).await;
    let mut held = Vec::new();
    for number in 0..6 {
        let mut raw = server.connect().await;
        raw.send_upload_head(&server, &format!("gw/1/{number}.bin"), "Content-Length: 1000000\r\n")
            .await;
        raw.send("x").await;
        held.push(raw);
    }
    eventually("three have begun", async || server.state.staged_files().len() >= 3).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.state.staged_files().len(), 3);
    let path = "/api/v1/images/gw/2/a.bin?hardware_id=gw-mk3&version=1&release_counter=1";
    let other = server.request_as(Engineer, reqwest::Method::PUT, path).body("firmware");
    crate::app::send(other).await.expect(201);
}

/// A field that is never closed has to be refused by the time that one of its kind could have
/// ended.
#[tokio::test]
async fn a_csv_field_without_an_end_is_refused_on_the_way() {
    let server = TestServer::start().await;
    let engineer = server.state.tokens.of(Engineer);
    for before in ["", "vin,ecu_serial,hardware_id,role,signing_key\n"] {
        let mut raw = server.connect().await;
        raw.send(format!(
            "POST /api/v1/vehicles HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {engineer}\r\n\
             Content-Type: text/csv\r\nContent-Length: 2000000000\r\n\r\n{before}\""
        ))
        .await;
        let sending = async {
            while raw.try_send([b'x'; 4096]).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let sent = tokio::time::timeout(Duration::from_secs(20), sending).await;
        assert!(sent.is_ok(), "it is taken for ever");
    }
    let body = format!("vin,ecu_serial,hardware_id,role,signing_key\n\"{}", "x".repeat(300_000));
    let request = server.request_as(Engineer, reqwest::Method::POST, "/api/v1/vehicles");
    let answer = crate::app::send(request.header("content-type", "text/csv").body(body)).await;
    assert!(answer.status == 400 || answer.status == 422, "{answer:?}");
    let detail = answer.body::<Problem>().detail;
    assert!(detail.contains("line 2") && detail.contains("quotation mark"), "{detail}");
}
