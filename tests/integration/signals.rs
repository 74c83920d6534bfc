//! The real binary under a service manager: what it says, and which signals end it.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::app::{TIMEOUT, eventually};
use crate::ca::{Ca, TlsFiles, client};
use crate::state::TestState;
use crate::support::FreePort;

/// `motorcade serve`, ended when dropped.
struct Binary {
    child: Child,
    manager: UnixDatagram,
    url: String,
    _port: FreePort,
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Binary {
    fn start(state: &TestState, files: &TlsFiles) -> Self {
        let socket = files.config.certificate.with_file_name("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(TIMEOUT)).unwrap();
        let port = FreePort::new();
        let address = port.address();
        let child = Command::new(env!("CARGO_BIN_EXE_motorcade"))
            .arg("serve")
            .args(["--data-dir".as_ref(), state.path().as_os_str()])
            .args([
                "--listen",
                &address.to_string(),
                "--tls-listen",
                &files.config.listen.to_string(),
            ])
            .args(["--tls-cert".as_ref(), files.config.certificate.as_os_str()])
            .args(["--tls-key".as_ref(), files.config.key.as_os_str()])
            .env("NOTIFY_SOCKET", socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, manager, url: format!("http://{address}/healthz"), _port: port }
    }

    fn is_told(&self, expected: &str) {
        let mut buffer = [0; 64];
        let count = self.manager.recv(&mut buffer).expect("the service manager is told");
        assert_eq!(std::str::from_utf8(&buffer[..count]).unwrap(), expected);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    async fn is_healthy(&self) -> bool {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().unwrap();
        client.get(&self.url).send().await.is_ok_and(|answer| answer.status() == 200)
    }
}

#[tokio::test]
async fn only_signals_to_stop_end_the_server_and_systemd_knows_what_it_is_at() {
    let state = TestState::new();
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let files = TlsFiles::new(folder.path(), &old);
    let mut binary = Binary::start(&state, &files);
    binary.is_told("READY=1");
    assert!(binary.is_healthy().await);
    for signal in [Signal::USR1, Signal::USR2, Signal::HUP] {
        binary.signal(signal);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(binary.is_healthy().await, "{signal:?}");
    }
    files.write_server_certificate(new.issue("server", None));
    binary.signal(Signal::HUP);
    eventually("the new certificate is shown", async || {
        client(&new, None).get(files.url("/healthz")).send().await.is_ok()
    })
    .await;
    binary.signal(Signal::TERM);
    binary.is_told("STOPPING=1");
    assert!(binary.child.wait().unwrap().success());
}

/// As the first process of a container it would not even be ended by a SIGTERM that it does not
/// await.
#[tokio::test]
async fn a_server_that_is_still_starting_is_told_to_stop_too() {
    let state = TestState::new();
    let options = SqliteConnectOptions::new().filename(state.path().join("catalog.sqlite"));
    let mut held = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut held).await.unwrap(); // it waits for 20 seconds
    let mut child = Command::new(env!("CARGO_BIN_EXE_motorcade"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(state.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it awaits SIGTERM", async || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(caught, 16).unwrap() & (1 << 14) != 0
    })
    .await;
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let started = Instant::now();
    let status = child.wait().unwrap();
    assert!(status.success() && started.elapsed() < Duration::from_secs(10), "{status:?}");
    held.close().await.unwrap();
}

/// Whoever starts it again would wait for its end.
#[test]
fn a_server_that_cannot_start_ends_though_nobody_reads_why() {
    let script = "head -c 65536 /dev/zero >&2; exec \"$0\" serve --data-dir /dev/null/none";
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_motorcade")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped()) // which is full then
        .spawn()
        .unwrap();
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(1));
            return;
        }
        if started.elapsed() > TIMEOUT {
            child.kill().unwrap();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
