//! A parked vehicle: the real `motorcade-vehicle run` against a real server, over mTLS.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use motorcade::config::ServeConfig;
use motorcade::config::VehicleIdFrom::Cn;
use motorcade::model::AccessRole;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::app::{TIMEOUT, TestServer, send};
use crate::ca::{Ca, TlsFiles};
use crate::support::vehicle_binary;

/// A service, ended when dropped.
struct Service {
    child: Child,
    lines: Receiver<String>,
}

impl Service {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(vehicle_binary());
        command.args(["run", "--json", "--interval", "1", "--dir"]).arg(folder);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        Self { child, lines }
    }

    /// What came of the next turn.
    fn turn(&self) -> String {
        let line = self.lines.recv_timeout(TIMEOUT).expect("it goes on");
        let line: Value = serde_json::from_str(&line).unwrap();
        line["outcome"].as_str().unwrap().to_owned()
    }

    fn turns_until(&self, outcome: &str) -> Vec<String> {
        let mut turns = vec![self.turn()];
        while turns.last().is_none_or(|last| last != outcome) {
            assert!(turns.len() < 60, "{turns:?}");
            turns.push(self.turn());
        }
        turns
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const EVERY: Duration = Duration::from_secs(5);

fn configure(files: &TlsFiles) -> impl Fn(&mut ServeConfig) {
    let tls = files.config.clone();
    move |config| {
        config.vehicles.tls = Some(tls.clone());
        config.vehicles.id_from = Cn;
        config.vehicles.report_every = Some(EVERY);
    }
}

/// A vehicle with a client certificate, which it needs to enrol.
async fn provision(server: &TestServer, files: &TlsFiles, ca: &Ca, folder: &Path) -> PathBuf {
    let (certificate, key) = ca.issue("VIN1", None);
    files.write("v.pem", certificate);
    files.write("v.key", key);
    for side in ["director", "repo"] {
        let root = send(server.request(Method::GET, &format!("/{side}/1.root.json"))).await;
        std::fs::write(folder.join(format!("{side}.json")), root.expect(200)).unwrap();
    }
    let path = |name: &str| folder.join(name);
    let mut command = Command::new(vehicle_binary());
    command.args(["provision", "--vin", "VIN1", "--primary", "VIN1-gw:gw-mk3"]);
    command.arg("--server").arg(files.url("")).arg("--dir").arg(path("vehicle"));
    command.arg("--director-root").arg(path("director.json"));
    command.arg("--image-root").arg(path("repo.json"));
    command.arg("--ca-file").arg(path("ca.pem"));
    command.arg("--client-cert").arg(path("v.pem")).arg("--client-key").arg(path("v.key"));
    command.env("MOTORCADE_ENROLMENT_TOKEN", server.state.tokens.of(AccessRole::Enroller));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path("vehicle")
}

async fn metric(server: &TestServer, name: &str) -> u64 {
    let metrics = server.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

const FULL: &str = "motorcade_tls_handshakes_total{kind=\"full\"}";
const RESUMED: &str = "motorcade_tls_handshakes_total{kind=\"resumed\"}";

/// It looks over one connection; a session outlives both the connection and the server.
#[tokio::test]
async fn a_parked_vehicle_keeps_its_session_looks_and_reports_as_often_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let files = TlsFiles::new(folder.path(), &ca);
    let server = TestServer::configured(configure(&files)).await;
    let directory = provision(&server, &files, &ca, folder.path()).await;
    let before = metric(&server, FULL).await;
    let mut service = Service::start(&directory);
    assert_eq!(service.turn(), "up_to_date", "it reports when it starts");
    let turns = service.turns_until("up_to_date");
    let looks = turns.len() - 1;
    assert!(looks >= 2 && turns[..looks].iter().all(|turn| turn == "unchanged"), "{turns:?}");

    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    let assignment = json!({ "assignments": [{ "ecu_serial": "VIN1-gw", "image": "gw/1" }] });
    let path = "/api/v1/vehicles/VIN1/assignments";
    let request = server.request_as(AccessRole::Engineer, Method::POST, path);
    send(request.json(&assignment)).await.expect(201);
    service.turns_until("updated");
    let installed = std::fs::read(directory.join("ecus/VIN1-gw/image.bin")).unwrap();
    assert!(installed.starts_with(b"firmware at "));
    assert_eq!(service.turn(), "up_to_date", "its Targets are empty by now, which is new");
    assert_eq!(service.turn(), "unchanged");
    assert_eq!(metric(&server, FULL).await, before + 1, "one connection for all of it");
    assert_eq!(metric(&server, RESUMED).await, 0);

    let state = server.stop();
    assert!(service.turns_until("failed").len() < 10, "nobody answers");
    let server = TestServer::on(state, configure(&files)).await;
    service.turns_until("unchanged");
    assert_eq!((metric(&server, FULL).await, metric(&server, RESUMED).await), (0, 1));
    kill_process(Pid::from_child(&service.child), Signal::TERM).unwrap();
    assert!(service.child.wait().unwrap().success());
}

/// Whoever renews certificates need not know of the service.
#[tokio::test]
async fn a_certificate_that_is_replaced_is_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let files = TlsFiles::new(folder.path(), &ca);
    let server = TestServer::configured(configure(&files)).await;
    let directory = provision(&server, &files, &ca, folder.path()).await;
    let service = Service::start(&directory);
    assert_eq!(service.turn(), "up_to_date");
    let (strange, strange_key) = Ca::new("stranger").issue("VIN1", None);
    files.write("v.key", strange_key);
    files.write("v.pem", strange);
    service.turns_until("failed");
    let (certificate, key) = ca.issue("VIN1", None);
    files.write("v.key", key);
    files.write("v.pem", certificate);
    assert!(service.turns_until("up_to_date").len() < 8, "it does not wait for long");
}
