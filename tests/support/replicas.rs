//! Servers that have one database in common, and one folder of blobs or one bucket.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::postgres::Postgres;
use super::support::{Launched, Server, choose_few_bins, motorcade, run};

/// State directories, each for a server: the keys in all are the same. There are two.
pub(crate) struct Replicas {
    pub(crate) dir: TempDir,
    pub(crate) database: String,
    /// An engineer's.
    pub(crate) token: String,
    /// What says where the blobs are, for servers and commands.
    environment: Vec<(String, String)>,
}

const NAMES: [&str; 3] = ["state", "other", "third"];

impl Replicas {
    /// With few bins.
    pub(crate) fn new() -> Self {
        Self::on(Postgres::shared().database())
    }

    pub(crate) fn on(database: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs").display().to_string();
        Self::made_in(dir, database, &[("MOTORCADE_SHARED_BLOBS", &blobs)])
    }

    /// The same with blobs where the environment says.
    pub(crate) fn with(database: String, environment: &[(&str, &str)]) -> Self {
        Self::made_in(tempfile::tempdir().unwrap(), database, environment)
    }

    fn made_in(dir: TempDir, database: String, environment: &[(&str, &str)]) -> Self {
        choose_few_bins(&dir.path().join(NAMES[0]));
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let environment = environment.collect();
        let mut this = Self { dir, database, token: String::new(), environment };
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
        self.serve_in(number, &[])
    }

    /// The same in an environment with more in it, or other things.
    pub(crate) fn serve_in(&self, number: usize, more: &[(&str, &str)]) -> Server {
        self.launch(number, more).listening()
    }

    /// A server that may have more in its environment, and may not listen yet.
    pub(crate) fn launch(&self, number: usize, more: &[(&str, &str)]) -> Launched {
        let mut environment = vec![("MOTORCADE_CATALOG_URL", self.database.as_str())];
        environment.extend(self.environment.iter().map(|(name, value)| (&**name, &**value)));
        environment.extend_from_slice(more); // of two of one name the last one holds
        Server::launch_in(&environment, &self.state(number), &[])
    }

    pub(crate) fn serve_both(&self) -> [Server; 2] {
        [0, 1].map(|number| self.serve(number))
    }

    /// A command on one of the state directories.
    pub(crate) fn command(&self, number: usize, words: &[&str]) -> Command {
        let mut command = motorcade(words);
        command.arg("--data-dir").arg(self.state(number)).args(["--catalog", &self.database]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs SQL in their database, which is one of the PostgreSQL that all share, and returns what
    /// comes of it.
    pub(crate) fn sql(&self, sql: &str) -> String {
        Postgres::shared().run(&self.database, sql)
    }

    /// Gives the second state directory the keys that are in the first one.
    pub(crate) fn copy_keys(&self) {
        let (from, to) = (self.state(0).join("keys/."), self.state(1).join("keys"));
        run(Command::new("cp").arg("-a").arg(from).arg(to));
    }

    pub(crate) fn fsck(&self) {
        let found = run(&mut self.command(0, &["fsck", "--json"]));
        let found: Value = serde_json::from_str(&found).unwrap();
        assert_eq!(found["problems"], serde_json::json!([]));
        run(&mut self.command(0, &["audit", "verify"]));
    }
}

/// A command on a state directory, with a database and a folder of blobs.
pub(crate) fn command(words: &[&str], state: &Path, database: &str, blobs: &Path) -> Command {
    let mut command = motorcade(words);
    command.arg("--data-dir").arg(state).args(["--catalog", database]);
    command.arg("--shared-blobs").arg(blobs);
    command
}
