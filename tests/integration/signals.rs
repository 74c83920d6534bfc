//! The real binary under a service manager: what it says, and which signals end it.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::app::{TIMEOUT, eventually};
use crate::ca::{Ca, TlsFiles, client};
use crate::state::TestState;

/// `motorcade serve`, ended when dropped.
struct Binary {
    child: Child,
    manager: UnixDatagram,
    url: String,
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
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
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
        Self { child, manager, url: format!("http://{address}/healthz") }
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
