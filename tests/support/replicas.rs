//! Servers that have one database and one folder of blobs in common.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::postgres::Postgres;
use super::support::{Launched, Server, motorcade, project, run};

/// State directories, each for a server: the keys in all are the same. There are two.
pub(crate) struct Replicas {
    pub(crate) dir: TempDir,
    pub(crate) database: String,
    /// An engineer's.
    pub(crate) token: String,
}

const NAMES: [&str; 3] = ["state", "other", "third"];

impl Replicas {
    /// With few bins, so that there is more publishing than looking at what was published.
    pub(crate) fn new() -> Self {
        Self::on(Postgres::shared().database())
    }

    pub(crate) fn on(database: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metadata = dir.path().join(NAMES[0]).join("metadata");
        fs::create_dir_all(&metadata).unwrap();
        let policy = fs::read_to_string(project("metadata/policy.toml")).unwrap();
        let policy = policy.replace("prefix_digits = 2", "prefix_digits = 1");
        fs::write(metadata.join("policy.toml"), policy).unwrap();
        let mut this = Self { dir, database, token: String::new() };
        run(&mut this.command(0, &["init"]));
        this.token = this.token("engineer");
        drop(this.serve(0)); // which gives it an id, that is copied
        this.add(1);
        this
    }

    /// Makes another state directory, of the first one.
    pub(crate) fn add(&self, number: usize) {
        run(Command::new("cp").arg("-a").arg(self.state(0)).arg(self.state(number)));
    }

    pub(crate) fn token(&self, role: &str) -> String {
        run(&mut self.command(0, &["token", "create", "--role", role])).trim().to_owned()
    }

    pub(crate) fn state(&self, number: usize) -> PathBuf {
        self.dir.path().join(NAMES[number])
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.path().join("blobs")
    }

    pub(crate) fn serve(&self, number: usize) -> Server {
        self.serve_by(number, &self.database)
    }

    /// A server that reaches the database by another way.
    pub(crate) fn serve_by(&self, number: usize, database: &str) -> Server {
        self.launch(number, &[("MOTORCADE_CATALOG_URL", database)]).listening()
    }

    /// A server that may have more in its environment, and may not listen yet.
    pub(crate) fn launch(&self, number: usize, more: &[(&str, &str)]) -> Launched {
        let blobs = self.blobs().display().to_string();
        let mut environment = vec![
            ("MOTORCADE_CATALOG_URL", self.database.as_str()),
            ("MOTORCADE_SHARED_BLOBS", &*blobs),
        ];
        environment.extend(more);
        Server::launch_in(&environment, &self.state(number), &[])
    }

    pub(crate) fn serve_both(&self) -> [Server; 2] {
        [0, 1].map(|number| self.serve(number))
    }

    /// A command on one of the state directories.
    pub(crate) fn command(&self, number: usize, words: &[&str]) -> Command {
        command(words, &self.state(number), &self.database, &self.blobs())
    }

    pub(crate) fn fsck(&self) {
        let found = run(&mut self.command(0, &["fsck", "--json"]));
        let found: Value = serde_json::from_str(&found).unwrap();
        assert_eq!(found["problems"], serde_json::json!([]));
        run(&mut self.command(0, &["audit", "verify"]));
    }
}

pub(crate) fn command(words: &[&str], state: &Path, database: &str, blobs: &Path) -> Command {
    let mut command = motorcade(words);
    command.arg("--data-dir").arg(state).args(["--catalog", database]);
    command.arg("--shared-blobs").arg(blobs);
    command
}
