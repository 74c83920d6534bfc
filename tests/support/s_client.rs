//! Somebody else's TLS client: `openssl s_client`, which keeps its sessions and comes back with them.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a vehicle is to have in its folder: `ca.pem`, `v.pem` and `v.key`.
pub(crate) struct SClient<'a> {
    pub(crate) folder: &'a Path,
    /// `-tls1_3` or `-tls1_2`.
    pub(crate) version: &'a str,
}

impl SClient<'_> {
    /// What it says of one request of a vehicle's. It comes with the session that is in a file of
    /// the folder, if there is one, and keeps the one that it gets in another.
    pub(crate) fn ask(&self, address: &str, (known, kept): (&str, &str)) -> String {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new("openssl");
        command.args(["s_client", self.version, "-ign_eof", "-connect", address]);
        command.args(["-CAfile", &path("ca.pem"), "-cert", &path("v.pem")]);
        command.args(["-key", &path("v.key"), "-sess_out", &path(kept)]);
        if self.folder.join(known).exists() {
            command.args(["-sess_in", &path(known)]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is there");
        let request =
            "GET /director/timestamp.json HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        let _ = child.stdin.take().unwrap().write_all(request.as_bytes()); // it may be gone already
        let output = child.wait_with_output().unwrap();
        let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
        said.concat()
    }
}
