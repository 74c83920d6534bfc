//! The real process with its catalog in a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/authority.rs"]
mod authority;
#[path = "postgres/lost.rs"]
mod lost;
#[path = "postgres/moves.rs"]
mod moves;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "postgres/presence.rs"]
mod presence;
#[path = "postgres/replicas.rs"]
mod replicas;
#[path = "postgres/rotations.rs"]
mod rotations;
#[path = "support/s_client.rs"]
mod s_client;
#[path = "support/script.rs"]
mod script;
#[path = "support/replicas.rs"]
mod shared;
mod support;
#[path = "postgres/tickets.rs"]
mod tickets;
#[path = "support/tus.rs"]
mod tus;
#[path = "postgres/upgrades.rs"]
mod upgrades;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use postgres::Postgres;
use replicas::readiness;
use serde_json::Value;
use support::{Server, motorcade, refused, run, snakeoil, wait_until};
use tempfile::TempDir;

/// A state directory whose catalog is in a database.
struct Site {
    folder: TempDir,
    database: String,
}

impl Site {
    /// One that is initialized.
    fn new(database: String) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), database };
        run(&mut site.command(&["init"]));
        site
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A command on the directory.
    fn command(&self, words: &[&str]) -> Command {
        command(words, &self.data_dir(), &self.database)
    }

    fn token(&self) -> String {
        run(&mut self.command(&["token", "create", "--role", "engineer"])).trim().to_owned()
    }

    fn serve(&self) -> Server {
        Server::start_in(&[("MOTORCADE_CATALOG_URL", &self.database)], &self.data_dir())
    }

    fn fsck(&self) {
        let findings = run(&mut self.command(&["fsck", "--json"]));
        let findings: Value = serde_json::from_str(&findings).unwrap();
        assert_eq!(findings["problems"], serde_json::json!([]));
    }
}

fn command(words: &[&str], data_dir: &Path, database: &str) -> Command {
    let mut command = motorcade(words);
    command.arg("--data-dir").arg(data_dir).args(["--catalog", database]);
    command
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill_and_under_another_server() {
    let site = Site::new(Postgres::shared().database());
    assert!(!site.data_dir().join("catalog.sqlite").exists());
    let token = site.token();
    let server = site.serve();
    server.client(&token).register(&snakeoil("snakeoil_p256.pub.pem")).await;
    let mut version = 0;
    let mut server = Some(server);
    for number in 0..5 {
        let running = server.take().unwrap_or_else(|| site.serve());
        let client = running.client(&token);
        client.get("/readyz").await;
        client.upload(&format!("gw/{number}"), "", b"firmware").await;
        let timestamp: Value =
            serde_json::from_slice(&client.get("/repo/timestamp.json").await).unwrap();
        let shown = timestamp["signed"]["version"].as_u64().unwrap();
        assert!(shown > version, "{shown} after {version}");
        version = shown;
        running.process.kill();
    }
    let server = site.serve();
    for number in 0..5 {
        server.client(&token).get(&format!("/api/v1/images/gw/{number}")).await;
    }
    drop(server);
    site.fsck();
    run(&mut site.command(&["audit", "verify"]));
}

#[test]
fn the_demo_runs_on_postgresql() {
    let database = Postgres::shared().database();
    let mut demo = motorcade(["demo", "--size", "4", "--catalog", &database]);
    run(&mut demo);
    let images = Postgres::shared().run(&database, "SELECT COUNT(*) > 0 FROM images");
    assert_eq!(images, "t");
}

#[test]
fn a_database_belongs_to_one_installation() {
    let ours = Site::new(Postgres::shared().database());
    let again = refused(&mut ours.command(&["init"]));
    assert!(again.contains("is initialized already"), "{again}");

    let theirs = Site::new(Postgres::shared().database());
    let id = |site: &Site| fs::read_to_string(site.data_dir().join("installation-id")).unwrap();
    let mixed = refused(&mut command(
        &["serve", "--listen", "127.0.0.1:0"],
        &ours.data_dir(),
        &theirs.database,
    ));
    for id in [id(&ours), id(&theirs)] {
        assert!(mixed.contains(id.trim()), "{mixed}");
    }

    let empty = Postgres::shared().database();
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let unmade = refused(&mut command(&serve, &ours.data_dir(), &empty));
    assert!(unmade.contains("is not initialized"), "{unmade}");
}

#[test]
fn a_password_is_never_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("state");
    let file = folder.path().join("url");
    for wrong in ["mysql://u:s3cret@h/d", "postgresql://u:s3cret@127.0.0.1:9/d"] {
        fs::write(&file, format!("{wrong}\n")).unwrap();
        let mut by_file = motorcade(["init", "--data-dir"]);
        by_file.arg(&data_dir).env("MOTORCADE_CATALOG_URL_FILE", &file);
        for mut init in [command(&["init"], &data_dir, wrong), by_file] {
            let output = init.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success());
            assert!(!said.contains("s3cret") && said.contains("postgresql://"), "{said}");
        }
    }
    assert!(!data_dir.exists(), "nothing is made before the database can be used");
}

#[tokio::test]
async fn a_database_that_goes_away_and_comes_back_needs_no_restart() {
    let postgres = Postgres::start();
    let site = Site::new(postgres.database());
    let token = site.token();
    let server = site.serve();
    let client = server.client(&token);
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    client.upload("gw/1", "", b"one").await;

    postgres.tell("stop");
    let refused = client.put("gw/2", "", "two").await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "catalog_unreachable", "{problem}");
    assert_eq!(readiness(&client).await.0, 503);
    client.get("/repo/timestamp.json").await;

    postgres.tell("start");
    wait_until("the server is ready again", async || readiness(&client).await.0 == 200).await;
    client.upload("gw/2", "", b"two").await;
    drop(server);
    site.fsck();
}

#[tokio::test]
async fn a_server_behind_pgbouncer_says_what_is_slower_and_works() {
    let postgres = Postgres::shared();
    let site = Site::new(postgres.pooled(&postgres.database()));
    let token = site.token();
    let server = site.serve();
    assert!(server.log().contains("keeps no sessions"), "{}", server.log());
    let client = server.client(&token);
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    for number in 0..3 {
        client.upload(&format!("gw/{number}"), "", b"firmware").await;
    }
    drop(server);
    site.fsck();
}
