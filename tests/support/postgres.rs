//! A PostgreSQL that runs as long as the tests do, with a database for each that asks for one.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::script::ControlledScript;

/// One of its programs, from where `PGBIN` has it if it does.
pub(crate) fn program(name: &str) -> Command {
    let folder = std::env::var_os("PGBIN").map(PathBuf::from);
    let chosen = folder.map(|folder| folder.join(name)).filter(|path| path.exists());
    Command::new(chosen.unwrap_or_else(|| name.into()))
}

/// A running server; it ends with this, or with this process.
pub(crate) struct Postgres {
    url: String,
    pooler: String,
    folder: PathBuf,
    script: ControlledScript,
}

impl Postgres {
    /// One server that all tests of a process share.
    pub(crate) fn shared() -> &'static Self {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    /// A server of one's own.
    pub(crate) fn start() -> Self {
        let (script, [url, pooler, folder]) = ControlledScript::start("postgres");
        Self { url, pooler, folder: folder.into(), script }
    }

    /// Makes a database, and returns its URL.
    pub(crate) fn database(&self) -> String {
        self.database_with("")
    }

    /// The same with more words of `CREATE DATABASE`.
    pub(crate) fn database_with(&self, more: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("motorcade_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 {more}"));
        format!("{}/{name}", self.url)
    }

    /// The URL of a database by way of pgbouncer, which gives each transaction to any connection.
    pub(crate) fn pooled(&self, database: &str) -> String {
        database.replacen(&self.url, &self.pooler, 1)
    }

    /// Runs SQL in a database, by its name or its URL, and returns what comes of it, a line a row.
    pub(crate) fn run(&self, database: &str, sql: &str) -> String {
        let name = database.rsplit('/').next().unwrap();
        let done = program("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(format!("{}/{name}", self.url))
            .output()
            .expect("psql is there: scripts/test installs it");
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Begins a transaction with some SQL, and leaves it begun until this is dropped.
    pub(crate) fn hold(&self, database: &str, sql: &str) -> Held {
        let name = database.rsplit('/').next().unwrap();
        let mut psql = program("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .arg(format!("{}/{name}", self.url))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql is there: scripts/test installs it");
        writeln!(psql.stdin.as_mut().unwrap(), "BEGIN; {sql}; SELECT 'held';").unwrap();
        let mut said = BufReader::new(psql.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "held"), "{sql}");
        Held(psql)
    }

    /// Where it keeps what it has.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The certificate of the CA that the server's is from.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Ends the server, or starts it again.
    pub(crate) fn tell(&self, command: &str) {
        self.script.tell(command);
    }
}

/// A transaction that was begun, and is given up when this is dropped.
pub(crate) struct Held(Child);

impl Held {
    /// Does something more in it, and commits it.
    pub(crate) fn end_with(mut self, sql: &str) {
        let mut input = self.0.stdin.take().unwrap();
        writeln!(input, "{sql} COMMIT;").unwrap();
        drop(input); // which ends psql
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take()); // which ends psql
        let _ = self.0.wait();
    }
}
