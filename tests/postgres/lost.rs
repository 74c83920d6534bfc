//! Databases that have lost what they had: restored from a dump, or gone back under a server.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::Site;
use crate::postgres::{Postgres, program};
use crate::replicas::{code, readiness};
use crate::support::{Client, refused, run, snakeoil, wait_until};

/// The version of the timestamp that is served.
async fn version(client: &Client) -> u64 {
    let timestamp: Value =
        serde_json::from_slice(&client.get("/repo/timestamp.json").await).unwrap();
    timestamp["signed"]["version"].as_u64().unwrap()
}

#[tokio::test]
async fn a_dump_that_was_restored_is_served_once_its_versions_were_recovered() {
    let postgres = Postgres::shared();
    let mut site = Site::new(postgres.database());
    let token = site.token();
    let server = site.serve();
    let client = server.client(&token);
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    client.upload("gw/1", "", b"firmware").await;
    let before = version(&client).await;
    drop(server);
    let dump = site.data_dir().with_file_name("dump.sql");
    run(program("pg_dump").arg("-f").arg(&dump).arg(&site.database));
    site.database = postgres.database();
    let restored = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"];
    run(program("psql").args(restored).arg(&dump).arg(&site.database));
    for _ in 0..2 {
        let refusal = refused(&mut site.command(&["serve", "--listen", "127.0.0.1:0"]));
        assert!(refusal.contains("restored from a dump"), "{refusal}");
        assert!(refusal.contains("motorcade recover versions"), "{refusal}");
    }
    run(&mut site.command(&["recover", "versions"]));
    let server = site.serve();
    let client = server.client(&token);
    wait_until("it is ready", async || readiness(&client).await.0 == 200).await;
    assert!(version(&client).await > before + 1000);
    client.upload("gw/2", "", b"firmware").await;
    drop(server);
    site.fsck();
    drop(site.serve());
}

/// As after a failover to a standby that lagged. Nothing is signed twice with one number.
#[tokio::test]
async fn a_server_whose_database_goes_back_signs_nothing_until_its_versions_were_recovered() {
    let postgres = Postgres::start();
    let site = Site::new(postgres.database());
    let token = site.token();
    let server = site.serve();
    let client = server.client(&token);
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    client.upload("gw/1", "", b"one").await;
    postgres.tell("stop");
    let (data, old) = (postgres.folder().join("data"), postgres.folder().join("old"));
    run(Command::new("cp").arg("-a").arg(&data).arg(&old));
    postgres.tell("start");
    wait_until("it is ready again", async || readiness(&client).await.0 == 200).await;
    client.upload("gw/2", "", b"two").await;
    client.upload("gw/3", "", b"three").await;
    let shown = client.get("/repo/timestamp.json").await;
    let before = version(&client).await;
    postgres.tell("stop");
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&old, &data).unwrap();
    postgres.tell("start");

    wait_until("the database is back", async || {
        let answer = client.put("gw/4", "", "four").await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_ne!(answer["path"], "gw/4", "{answer}");
        answer["code"] == "catalog_is_older"
    })
    .await;
    assert_eq!(client.get("/repo/timestamp.json").await, shown, "what is signed is served");
    wait_until("it says so", async || code(&readiness(&client).await.1) == "catalog_is_older")
        .await;
    drop(server);
    let refusal = refused(&mut site.command(&["serve", "--listen", "127.0.0.1:0"]));
    assert!(refusal.contains("motorcade recover versions"), "{refusal}");
    run(&mut site.command(&["recover", "versions"]));
    let server = site.serve();
    let client = server.client(&token);
    wait_until("it is ready", async || readiness(&client).await.0 == 200).await;
    assert!(version(&client).await > before);
    client.upload("gw/5", "", b"five").await;
    drop(server);
}

/// Whoever hardens a database takes away what it says of itself; whoever restores a dump in its place
/// leaves the number that it has.
#[test]
fn a_database_that_says_less_of_itself_is_served_and_one_that_was_restored_in_its_place_is_not() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let name = database.rsplit('/').next().unwrap();
    postgres.run("postgres", "CREATE ROLE hardened LOGIN PASSWORD 'snakeoil'");
    postgres.run("postgres", &format!("ALTER DATABASE {name} OWNER TO hardened"));
    let privilege = |words: &str| {
        let (verb, from) = words.split_once(' ').unwrap();
        let change = format!("{verb} EXECUTE ON FUNCTION pg_control_system() {from}");
        postgres.run(&database, &change);
    };
    let site = Site::new(database.replacen("postgres@", "hardened:snakeoil@", 1));
    drop(site.serve());
    privilege("REVOKE FROM PUBLIC");
    for _ in 0..2 {
        drop(site.serve());
    }
    let refusal = || refused(&mut site.command(&["serve", "--listen", "127.0.0.1:0"]));
    let dump = site.data_dir().with_file_name("dump.sql");
    let words = ["--clean", "--if-exists", "--no-privileges", "-f"];
    run(program("pg_dump").args(words).arg(&dump).arg(&site.database));
    let restored = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"];
    run(program("psql").args(restored).arg(&dump).arg(&site.database));
    assert!(refusal().contains("restored from a dump"));
    run(&mut site.command(&["recover", "versions"]));
    drop(site.serve());
    privilege("GRANT TO hardened");
    drop(site.serve());

    // A version before has left no mark.
    let unmark = || postgres.run(&database, "DELETE FROM installation WHERE name = 'mark'");
    unmark();
    privilege("REVOKE FROM hardened");
    let told = refusal();
    assert!(told.contains("GRANT EXECUTE ON FUNCTION pg_control_system() TO hardened"), "{told}");
    privilege("GRANT TO hardened");
    drop(site.serve());
    privilege("REVOKE FROM hardened");
    drop(site.serve());
}
