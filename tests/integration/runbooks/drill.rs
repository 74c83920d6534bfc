//! A page of docs/runbooks/, carried out: its shell blocks run as they stand, on a machine that has
//! a server, the two programs, and a `systemctl` that starts and stops it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::state::TestState;
use crate::support::{Client, FreePort, http, project, vehicle_binary};

/// A machine on which pages are carried out.
pub(crate) struct Drill {
    pub(crate) state: TestState,
    folder: TempDir,
    variables: Vec<(String, String)>,
    port: FreePort,
}

impl Drill {
    pub(crate) fn on(state: TestState) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_motorcade"), bin.join("motorcade")).unwrap();
        symlink(vehicle_binary(), bin.join("motorcade-vehicle")).unwrap();
        fs::write(bin.join("systemctl"), SYSTEMCTL).unwrap();
        fs::set_permissions(bin.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { state, folder, variables: Vec::new(), port: FreePort::new() }
    }

    /// A file that is on this machine and not the server's.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets one of the variables that a page names.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<Path>) {
        self.variables.push((name.into(), value.as_ref().to_str().unwrap().into()));
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    pub(crate) fn client(&self) -> Client {
        Client { http: http(), url: self.url(), token: self.state.tokens.engineer.clone() }
    }

    /// Carries out all blocks of a page, one after the other, and returns what they said.
    #[track_caller]
    pub(crate) fn follow(&self, page: &str) -> String {
        let blocks = blocks(page);
        assert!(!blocks.is_empty(), "{page} has something to do");
        self.shell(&blocks.join("\n"))
    }

    /// Runs a script as a page's; it has to succeed.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        let (status, said) = self.try_shell(script);
        assert!(status, "{script}\n{said}\n{}", self.server_log());
        said
    }

    /// Runs a script, and returns whether it succeeded and what it said.
    pub(crate) fn try_shell(&self, script: &str) -> (bool, String) {
        let path = format!("{}:{}", self.file("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{script}")]);
        let said = shell
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("DRILL", self.folder.path())
            .env("LISTEN", self.port.address().to_string())
            .env("MOTORCADE_DATA_DIR", self.state.path())
            .env("MOTORCADE_SERVER", self.url())
            .env("MOTORCADE_TOKEN", &self.state.tokens.officer)
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (said.status.success(), String::from_utf8_lossy(&said.stdout).into_owned())
    }

    fn server_log(&self) -> String {
        fs::read_to_string(self.file("server.log")).unwrap_or_default()
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        let _ = self.try_shell("systemctl stop motorcade");
    }
}

/// The shell blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let text = fs::read_to_string(project("docs/runbooks").join(page)).unwrap();
    let blocks = text.split("\n```sh\n").skip(1);
    blocks.map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

/// What pages ask of an init system: the unit of docs/OPERATIONS.md, without systemd.
const SYSTEMCTL: &str = r#"#!/usr/bin/env bash
set -euo pipefail
unit=${2:-motorcade}
if [ "$unit" != motorcade ]; then exec "$DRILL/$unit-$1"; fi # what the drill has put there
pid_file=$DRILL/server.pid
runs() { [ -e "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
case $1 in
stop)
    [ -e "$pid_file" ] || exit 0
    pid=$(cat "$pid_file")
    kill "$pid" 2>/dev/null || true
    while runs "$pid"; do sleep 0.05; done
    rm "$pid_file"
    ;;
start)
    setsid motorcade serve --listen "$LISTEN" ${SERVE_ARGS:-} >>"$DRILL/server.log" 2>&1 </dev/null &
    echo $! >"$pid_file"
    for _ in $(seq 600); do
        if curl --noproxy '*' -fso /dev/null "$MOTORCADE_SERVER/readyz"; then exit 0; fi
        runs "$(cat "$pid_file")" || { echo "it does not start"; tail -5 "$DRILL/server.log"; exit 1; }
        sleep 0.1
    done
    exit 1
    ;;
restart) "$0" stop; "$0" start ;;
reload) kill -HUP "$(cat "$pid_file")" ;;
*) echo "systemctl $1 is not known here"; exit 1 ;;
esac
"#;

#[test]
fn every_page_is_in_the_list_and_carried_out_by_a_test() {
    let folder = project("docs/runbooks");
    let list = fs::read_to_string(folder.join("README.md")).unwrap();
    let tests: String = fs::read_dir(project("tests/integration/runbooks"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let mut pages = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "README.md" {
            assert!(list.contains(&format!("]({name})")), "{name} is not in the list");
            assert!(tests.contains(&format!("follow(\"{name}\")")), "no test carries {name} out");
            pages += 1;
        }
    }
    assert!(pages >= 2);
}
