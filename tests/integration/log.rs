//! The log of the real process: nobody has to read it, nothing from outside gets out of its field,
//! and who is told of.

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::Value;

use crate::state::TestState;
use crate::support::{Client, FreePort, PATIENCE, Process, http, motorcade, wait_until};

/// A `motorcade serve` with its stderr where a test wants it.
struct Logging {
    process: Process,
    client: Client,
    address: String,
    state: TestState,
    _port: FreePort,
}

impl Logging {
    async fn start(stderr: impl Into<Stdio>, args: &[&str]) -> Self {
        let state = TestState::new();
        let port = FreePort::new();
        let address = port.address().to_string();
        let mut command = motorcade(["serve", "--listen", &address, "--data-dir"]);
        let process = Process::spawn(command.arg(state.path()).args(args).stderr(stderr));
        drop(command); // and with it this side's copy of the pipe
        let client = Client {
            http: http(),
            url: format!("http://{address}"),
            token: state.tokens.engineer.clone(),
        };
        let logging = Self { process, client, address, state, _port: port };
        wait_until("it listens", async || logging.status("/healthz").await == Some(200)).await;
        logging
    }

    /// Logs into a file, which is returned, too.
    async fn to_file(args: &[&str]) -> (Self, PathBuf, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let logging = Self::start(fs::File::create(&file).unwrap(), args).await;
        (logging, file, folder)
    }

    async fn status(&self, path: &str) -> Option<u16> {
        let answer = self.client.http.get(format!("{}{path}", self.client.url)).send().await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    async fn dropped_lines(&self) -> u64 {
        let metrics = String::from_utf8(self.client.get("/metrics").await.to_vec()).unwrap();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("motorcade_log_lines_dropped_total "));
        line.expect("dropped lines are counted").parse().unwrap()
    }

    async fn until_lines_are_dropped(&self) {
        let before = self.dropped_lines().await;
        wait_until("lines are dropped", async || {
            join_all((0..64).map(|_| self.status("/repo/timestamp.json"))).await;
            self.dropped_lines().await > before
        })
        .await;
    }

    /// Sends bytes as no client would, and returns the first line of the answer.
    fn send_raw(&self, head: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }

    async fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert!(self.process.ended().await.success());
    }
}

/// Reads until it is told that lines were dropped, and then no more.
fn read_until_told(log: PipeReader) -> (u64, PipeReader) {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::with_capacity(1, log);
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 {
            let event: Value = serde_json::from_str(&line).expect("each line is whole");
            if event["message"] == "log lines were dropped, since nobody read them" {
                tell.send((event["lines"].as_u64().unwrap(), lines.into_inner())).unwrap();
                return;
            }
            line.clear();
        }
    });
    told.recv_timeout(PATIENCE).expect("the loss is told of")
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    let (log, stderr) = std::io::pipe().unwrap();
    let mut server = Logging::start(stderr, &["--log-format", "json", "--log", "trace"]).await;
    server.until_lines_are_dropped().await;
    server.client.upload("gw/1/a.bin", "", b"firmware").await;
    assert_eq!(server.status("/readyz").await, Some(200));

    let (lines, log) = tokio::task::spawn_blocking(|| read_until_told(log)).await.unwrap();
    assert!((1..=server.dropped_lines().await).contains(&lines), "{lines}");

    server.until_lines_are_dropped().await; // nobody reads again
    let started = Instant::now();
    server.process.signal(Signal::TERM);
    assert!(server.process.ended().await.success());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop(log);
}

#[tokio::test]
async fn nothing_from_outside_gets_out_of_its_field() {
    for format in ["text", "json"] {
        let (server, file, _folder) =
            Logging::to_file(&["--log-format", format, "--log", "motorcade=trace,info"]).await;
        let token = &server.state.tokens.engineer;
        let upload = "hardware_id=gw-mk3&version=1&release_counter=1";
        for (request, status) in [
            ("GET /api/v1/images/gw/1/a.bin/envelope?kid=x%0aforged%1b[31m%c2%9b31m%e2%80%ae", 404),
            ("GET /api/v1/images/gw%0aforged%1b[31m", 400),
            ("GET /api/v1/images?limit=%0aforged%1b[31m", 400),
            ("GET /api/v1/images?cursor=%0aforged%1b[31m", 200),
            ("GET /api/v1/vehicles/forged%0aVIN", 400),
            ("GET /api/v1/vehicles?cursor=%0aforged%1b", 200),
            ("DELETE /api/v1/recipients/x%0aforged%1b[31m", 404),
            ("GET /repo/x%0aforged%1b[31m", 404),
            ("GET /nowhere/%1b%0aforged", 404),
            ("BREW /nowhere/%1b%0aforged", 404),
            (&format!("PUT /api/v1/images/gw/1/a.bin?{upload}&name=x%0aforged%1b[31m"), 400),
            (&format!("PUT /api/v1/images/gw/1/a.bin?{upload}&%0aforged%1b[31m"), 400),
        ] {
            let expect = if request.starts_with("PUT") {
                "Expect: 100-continue\r\nContent-Length: 1\r\n"
            } else {
                ""
            };
            let more = format!("{expect}Connection: close\r\nX-Request-Id: \u{9b}forged\r\n");
            let head = format!(
                "{request} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
            );
            let answer = server.send_raw(head.as_bytes());
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        }
        server.send_raw(b"GET /\x1b[31m\nforged HTTP/1.1\r\n\r\n");
        let stranger = "Authorization: Bearer forged\u{9b}\r\nConnection: close";
        server.send_raw(
            format!("GET /api/v1/images HTTP/1.1\r\nHost: x\r\n{stranger}\r\n\r\n").as_bytes(),
        );
        server.stop().await;
        let log = String::from_utf8(fs::read(file).unwrap()).unwrap();
        assert!(log.lines().filter(|line| line.contains("answered ")).count() >= 11, "{log}");
        assert_eq!(log.matches("PUT /api/v1/images/{path:.*} answered 400").count(), 2, "{log}");
        for line in log.split('\n').filter(|line| !line.is_empty()) {
            assert!(!line.chars().any(char::is_control) && !line.contains('\u{202e}'), "{line:?}");
            match format {
                "text" => assert!(line.starts_with("20") && line.contains('Z'), "{line:?}"),
                _ => assert!(
                    serde_json::from_str::<Value>(line).unwrap()["level"].is_string(),
                    "{line:?}"
                ),
            }
            assert!(!line.contains("forged"), "codes, not values: {line:?}");
        }
    }
}

#[tokio::test]
async fn the_log_tells_of_uploads_and_refused_logins_by_address_and_of_no_vehicle() {
    let args = [
        "--log-format",
        "json",
        "--vehicle-header",
        "x-vehicle-id",
        "--trusted-proxy",
        "127.0.0.1",
    ];
    let (server, file, _folder) = Logging::to_file(&args).await;
    let vin = "WVWZZZ1JZXW000001";
    let request = |method: &str, path: &str| {
        let method = method.parse().unwrap();
        server
            .client
            .http
            .request(method, format!("{}{path}", server.client.url))
            .header("x-forwarded-for", "192.0.2.7")
    };
    let upload = "/api/v1/images/gw/1/a.bin?hardware_id=gw-mk3&version=1&release_counter=1";
    for (request, status) in [
        (request("GET", "/api/v1/images").bearer_auth("motorcade_guess"), 401),
        (request("GET", "/repo/timestamp.json"), 200),
        (request("GET", "/director/timestamp.json").bearer_auth("motorcade_guess"), 401),
        (
            request("DELETE", "/api/v1/images/gw/1/a.bin").bearer_auth(&server.state.tokens.viewer),
            403,
        ),
        (request("PUT", upload).bearer_auth(&server.state.tokens.uploader).body("firmware"), 201),
        (
            request("PUT", upload)
                .bearer_auth("motorcade_guess")
                .header("expect", "100-continue")
                .body("x"),
            401,
        ),
        (request("GET", &format!("/api/v1/vehicles/{vin}")).bearer_auth(&server.client.token), 404),
        (request("GET", "/director/timestamp.json").header("x-vehicle-id", vin), 404),
        (request("GET", "/healthz"), 200),
        (request("GET", "/readyz"), 200),
        (request("GET", "/metrics"), 200),
    ] {
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    server.stop().await;
    let log = fs::read_to_string(file).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let address_of = |message: &str| {
        let line = lines
            .iter()
            .find(|line| line["message"] == message)
            .unwrap_or_else(|| panic!("{message}: {log}"));
        line["client.address"].as_str().map(str::to_owned)
    };
    let image = "/api/v1/images/{path:.*}";
    for message in [
        "GET /api/v1/images answered 401",
        "GET /director/{name} answered 401",
        &format!("DELETE {image} answered 403"),
        &format!("PUT {image} answered 201"),
        &format!("PUT {image} answered 401"),
    ] {
        assert_eq!(address_of(message).as_deref(), Some("192.0.2.7"), "{message}");
    }
    assert_eq!(address_of("GET /api/v1/vehicles/{vin} answered 404"), None);
    let unknown = lines
        .iter()
        .find(|line| line["message"] == "GET /api/v1/vehicles/{vin} answered 404")
        .unwrap();
    assert_eq!(unknown["code"], "vehicle_not_found");
    for absent in [vin, "healthz", "readyz", "GET /metrics", "/repo", "motorcade_guess"] {
        assert!(!log.contains(absent), "{absent}: {log}");
    }
}
