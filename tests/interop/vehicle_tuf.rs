//! `motorcade-vehicle tuf` against a repository that python-tuf makes and signs: nothing of ours is
//! on the other side.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::support::{Process, files_below, program, refused, run, wait_until};

/// One target each in top-level targets, in a role with a path pattern and an odd name, in hash
/// bins, and in succinct bins.
const TARGETS: [&str; 4] = [
    "gw/gateway.bin",
    "docs/r\u{e9}ad me? #1, 100%+.txt",
    "images/a&b=c;(final).bin",
    "packed/;[x] y.bin",
];

/// A vehicle and the repository that it knows the first root of.
struct Vehicle {
    dir: TempDir,
    _server: Process,
    url: String,
}

impl Vehicle {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Process::spawn(&mut program("tests/interop/tuf_server.py", [dir.path()]));
        let mut url = String::new();
        wait_until("the repository is served", async || {
            url = fs::read_to_string(dir.path().join("url")).unwrap_or_default();
            url.ends_with('\n')
        })
        .await;
        fs::create_dir(dir.path().join("targets")).unwrap();
        let vehicle = Self { dir, _server: server, url: url.trim().to_owned() };
        run(vehicle.tuf("init").arg(vehicle.file("root.json")));
        vehicle
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tuf(&self, command: &str) -> Command {
        let mut tuf = Command::new(crate::support::vehicle_binary());
        tuf.args(["tuf", "--metadata-dir"])
            .arg(self.file("metadata"))
            .arg(command)
            .stdin(Stdio::null());
        tuf
    }

    fn refresh(&self, stage: &str) -> Command {
        let mut tuf = self.tuf("refresh");
        tuf.arg("--metadata-url").arg(format!("{}/{stage}/metadata", self.url));
        tuf
    }

    fn download(&self, stage: &str, target: &str) -> Command {
        let mut tuf = self.tuf("download");
        tuf.arg("--metadata-url").arg(format!("{}/{stage}/metadata/", self.url));
        tuf.args([
            "--target-base-url",
            &format!("{}/{stage}/targets/", self.url),
            "--target-name",
            target,
        ]);
        tuf.arg("--target-dir").arg(self.file("targets"));
        tuf
    }

    /// The files in a folder and what is in them; those that were left half-way, too.
    fn files(&self, folder: &str) -> Vec<(String, String)> {
        let read = |name: String| {
            (name.clone(), fs::read_to_string(self.file(folder).join(name)).unwrap())
        };
        files_below(&self.file(folder)).into_iter().map(read).collect()
    }

    fn versions(&self) -> [u64; 4] {
        ["root", "timestamp", "snapshot", "targets"].map(|role| {
            let file = fs::read(self.file("metadata").join(role).with_extension("json")).unwrap();
            serde_json::from_slice::<Value>(&file).unwrap()["signed"]["version"].as_u64().unwrap()
        })
    }
}

#[tokio::test]
async fn a_vehicle_finds_targets_of_python_tuf_through_delegations_of_each_kind() {
    let vehicle = Vehicle::start().await;
    run(&mut vehicle.refresh("first"));
    assert_eq!(vehicle.versions(), [1, 1, 1, 1]);
    for target in TARGETS {
        run(&mut vehicle.download("first", target));
        let (content, files) = (format!("content of {target}"), vehicle.files("targets"));
        assert!(files.iter().any(|(_, file)| *file == content), "{target}: {files:?}");
    }
    assert_eq!(vehicle.files("targets").len(), TARGETS.len());
    assert!(
        files_below(vehicle.dir.path()).iter().all(|file| !file.starts_with("team")),
        "nothing is written where `../team #1?` leads"
    );
    for missing in ["gw/other.bin", "docs/folder/document.txt", "packed/other.bin"] {
        let error = refused(&mut vehicle.download("first", missing));
        assert!(error.contains(&format!("the repository has no target {missing}")), "{error}");
    }
}

#[tokio::test]
async fn a_vehicle_follows_python_tuf_through_roots_with_other_keys() {
    let vehicle = Vehicle::start().await;
    run(&mut vehicle.refresh("first"));
    run(&mut vehicle.refresh("rotated"));
    assert_eq!(vehicle.versions(), [3, 3, 2, 1]);
    run(&mut vehicle.download("rotated", TARGETS[1]));
}

#[tokio::test]
async fn a_vehicle_refuses_metadata_that_python_tuf_would() {
    let vehicle = Vehicle::start().await;
    run(&mut vehicle.refresh("rotated"));
    let trusted = vehicle.files("metadata");
    for (stage, reason) in [
        ("expired", "timestamp metadata expired at"),
        ("timestamp-rolled-back", "timestamp metadata goes back from version 3 to 2"),
        ("snapshot-rolled-back", "snapshot metadata goes back from version 2 to 1"),
        (
            "half-signed-root",
            "root metadata has 1 valid signatures of distinct keys where 2 are needed",
        ),
        ("nowhere", "the repository has no timestamp.json"),
    ] {
        let error = refused(&mut vehicle.refresh(stage));
        assert!(error.contains(reason), "{stage}: {error}");
        assert!(vehicle.files("metadata") == trusted, "{stage}: what is trusted stays");
    }
    run(&mut vehicle.refresh("rotated"));
}

#[tokio::test]
async fn a_vehicle_refuses_a_target_that_was_changed_and_keeps_none_of_it() {
    let vehicle = Vehicle::start().await;
    for (stage, reason) in
        [("tampered", "is not the file that was signed"), ("longer", "sends more than 25 bytes")]
    {
        let error = refused(&mut vehicle.download(stage, TARGETS[0]));
        assert!(error.contains(reason), "{stage}: {error}");
        assert_eq!(vehicle.files("targets"), [], "{stage}");
    }
    run(&mut vehicle.download("rotated", TARGETS[0]));
}
