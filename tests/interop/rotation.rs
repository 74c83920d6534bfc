//! Stock clients through rotations of all roles that are signed online: from the root that they know,
//! from their cache, and from the first root, not one cycle fails.

use std::path::Path;

use motorcade::uptane::client::VerifiedRepository;
use serde_json::Value;

use super::Fleet;
use super::support::{create_token, motorcade, node, program, run};

const IMAGE: &str = "gw/1.0.0/gateway.bin";

fn rotate(fleet: &Fleet, role: &str) {
    let officer = create_token(&fleet.data_dir(), "officer");
    let mut command = motorcade(["role", "rotate", role]);
    run(command.env("MOTORCADE_SERVER", fleet.server.url()).env("MOTORCADE_TOKEN", officer));
}

/// Walks with python-tuf's client; returns the versions that it has come to.
fn python_tuf(fleet: &Fleet, out: &str) -> Value {
    let url = fleet.server.repo_url();
    let args = ["--repo-url", &url, "--target", IMAGE, "--root"].map(Path::new);
    let mut command = program("tests/interop/ngclient_download.py", args);
    let seen = run(command.arg(fleet.root()).arg("--out").arg(fleet.file(out)));
    serde_json::from_str::<Value>(&seen).unwrap()["versions"].clone()
}

/// The same with tuf-js.
fn tuf_js(fleet: &Fleet, out: &str) -> Value {
    let url = fleet.server.repo_url();
    let args = ["--repo-url", &url, "--target", IMAGE, "--root"].map(Path::new);
    let mut command = node("tests/interop/tuf-js/walk.js", args);
    let seen = run(command.arg(fleet.root()).arg("--out").arg(fleet.file(out)));
    serde_json::from_str::<Value>(&seen).unwrap()["versions"].clone()
}

#[tokio::test]
async fn python_tuf_tough_and_tuf_js_follow_every_rotation() {
    let fleet = Fleet::start(&[]).await;
    fleet.client.upload(IMAGE, "", b"firmware").await;
    let first = std::fs::read(fleet.root()).unwrap();
    let mut root = 1;
    for role in ["none", "timestamp", "snapshot", "targets", "bins"] {
        if role != "none" {
            rotate(&fleet, role);
            root += u64::from(role != "bins");
        }
        for (client, out) in [("a cache", "cache".to_owned()), ("root 1", format!("new-{role}"))] {
            let python = python_tuf(&fleet, &format!("python-{out}"));
            assert_eq!(python["root"], root, "python-tuf from {client}, after {role}: {python}");
            let js = tuf_js(&fleet, &format!("js-{out}"));
            assert_eq!(js["root"], root, "tuf-js from {client}, after {role}: {js}");
        }
        let tough = VerifiedRepository::load(&first, &fleet.server.repo_url()).await.unwrap();
        assert_eq!(tough.versions()[0], root, "tough, after {role}");
        assert!(tough.find(IMAGE).is_some());
    }
}
