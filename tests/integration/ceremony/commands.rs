//! A ceremony as people type it: on the server's side with a token, and on an officer's machine with
//! a file, a key and nothing else.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use motorcade::model::AccessRole;
use reqwest::Method;
use serde_json::Value;

use super::Officer;
use crate::app::{TestServer, send};
use crate::support::{create_token, motorcade, refused, run};

/// A folder with the keys of officers, as `NAME.pem`, and their public halves, as `NAME.json`.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
    pub(crate) officers: Vec<Officer>,
}

impl Desk {
    pub(crate) fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let officers = names.iter().map(|name| {
            let pem = Officer::pem();
            let mut file = fs::File::options();
            let file = file.write(true).create_new(true).mode(0o600);
            let mut file = file.open(folder.path().join(format!("{name}.pem"))).unwrap();
            std::io::Write::write_all(&mut file, pem.as_bytes()).unwrap();
            let officer = Officer::with(&pem);
            fs::write(folder.path().join(format!("{name}.json")), officer.public()).unwrap();
            officer
        });
        Self { officers: officers.collect(), folder }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command on a machine that knows of no server and no state directory.
    pub(crate) fn offline(&self, words: &str) -> Command {
        let mut command = motorcade(words.split_whitespace());
        command.env_clear().current_dir(self.folder.path());
        command
    }
}

impl TestServer {
    pub(crate) fn officer(&self, desk: &Desk, words: &str) -> Command {
        let mut command = motorcade(words.split_whitespace());
        command
            .current_dir(desk.folder.path())
            .env("MOTORCADE_SERVER", self.url(""))
            .env("MOTORCADE_TOKEN", &self.state.tokens.officer);
        command
    }

    async fn root_body(&self, side: &str) -> Value {
        send(self.request_as(AccessRole::Viewer, Method::GET, &format!("/api/v1/roots/{side}")))
            .await
            .json()
    }
}

#[tokio::test]
async fn officers_take_root_over_with_files_and_without_a_network() {
    let server = TestServer::start().await;
    let desk = Desk::new(&["anna", "bert", "stranger"]);
    let before = server.root_body("image").await;
    let old = before["roles"][0]["keys"][0]["key_id"].as_str().unwrap().to_owned();
    assert_eq!(before["roles"][0]["name"], "root");
    let words = format!(
        "root stage --threshold root=2 --add root=anna.json --add root=bert.json --remove root={old}"
    );
    let shown = run(&mut server.officer(&desk, &words));
    assert!(
        shown.contains("waits for 1 more signatures by keys of root 1, and 2 by its own"),
        "{shown}"
    );
    let again = refused(&mut server.officer(&desk, &words));
    assert!(again.contains("somebody else was first") && again.contains("412"), "{again}");

    let shown = run(&mut server.officer(&desk, "root diff --out staged.json"));
    for line in [
        "root 1 -> 2",
        "root: 2 of 2 sign, 1 before",
        &format!("  adds {} ed25519", desk.officers[0].id()),
        &format!("  removes {old} ed25519"),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    fs::copy(server.state.blob("1.root.json"), desk.file("trusted.json")).unwrap();
    for name in ["anna", "bert"] {
        let sign = format!("root sign staged.json --key {name}.pem --trusted trusted.json");
        let unasked = refused(&mut desk.offline(&sign));
        assert!(unasked.contains("--yes"), "{unasked}");
        let shown = run(&mut desk.offline(&format!("{sign} --yes --out {name}.signature.json")));
        assert!(shown.contains("to be signed with a root key of version 2"), "{shown}");
        assert!(shown.contains(&format!("  removes {old} ed25519")), "{shown}");
    }
    let words = "root sign --send anna.signature.json bert.signature.json";
    run(&mut server.officer(&desk, words));
    let twice = refused(&mut server.officer(&desk, words));
    assert!(twice.contains("has signed this already"), "{twice}");
    let early = refused(&mut server.officer(&desk, "root publish"));
    assert!(
        early.contains("1 more signatures are needed by root keys of the published root"),
        "{early}"
    );
    let shown = run(&mut server.officer(&desk, "root sign --here"));
    assert!(shown.contains("signed: publish it"), "{shown}");
    let shown = run(&mut server.officer(&desk, "root publish"));
    assert!(shown.starts_with("root 2 of the Image repository"), "{shown}");
    assert!(shown.trim_end().ends_with("nothing is staged"), "{shown}");
    assert_eq!(server.root_body("image").await["version"], 2);
    assert_eq!(server.repository().await.versions()[0], 2);
}

#[tokio::test]
async fn nothing_is_signed_that_is_not_what_it_seems() {
    let server = TestServer::start().await;
    let desk = Desk::new(&["anna", "stranger"]);
    run(&mut server.officer(&desk, "root stage --repository director --add root=anna.json"));
    run(&mut server.officer(&desk, "root diff --repository director --out staged.json"));
    let sign = |key: &str, more: &str| {
        let words = format!("root sign staged.json --yes --key {key} --out none.json {more}");
        refused(&mut desk.offline(&words))
    };
    let stranger = sign("stranger.pem", "");
    assert!(stranger.contains("is no root key"), "{stranger}");
    fs::copy(server.state.blob("1.root.json"), desk.file("other.json")).unwrap();
    let other = sign("anna.pem", "--trusted other.json");
    assert!(other.contains("is not the one in other.json"), "{other}");
    let staged = fs::read(desk.file("staged.json")).unwrap();
    for (from, to, reason) in [
        ("\"threshold\":1", "\"threshold\":2", "is none"), // the published root comes first
        ("\"version\":2", "\"version\":3", "is damaged"),
    ] {
        let text = String::from_utf8(staged.clone()).unwrap().replacen(from, to, 1);
        fs::write(desk.file("staged.json"), text).unwrap();
        let changed = sign("anna.pem", "");
        assert!(changed.contains(reason), "{changed}");
    }
    assert!(!desk.file("none.json").exists());
    fs::write(desk.file("staged.json"), staged).unwrap();
    run(&mut desk.offline("root sign staged.json --yes --key anna.pem --out anna.signature.json"));
    let image = refused(&mut server.officer(&desk, "root sign --send anna.signature.json"));
    assert!(image.contains("say `--repository director`"), "{image}");
    let staged = server.root_body("director").await["staged"]["revision"].as_u64().unwrap();
    let other = create_token(server.state.path(), "officer");
    let cancel = |more: &str| {
        let words = format!("root cancel --repository director {more}");
        let mut command = server.officer(&desk, &words);
        command.env("MOTORCADE_TOKEN", &other);
        command
    };
    let of_anna = refused(&mut cancel(""));
    assert!(of_anna.contains(&format!("--revision {staged}")), "{of_anna}");
    run(&mut cancel(&format!("--revision {staged}")));
    let words = "root sign --repository director --send anna.signature.json";
    let late = refused(&mut server.officer(&desk, words));
    assert!(late.contains("nothing is staged"), "{late}");
    assert!(Path::new(&desk.file("anna.signature.json")).exists());
}
