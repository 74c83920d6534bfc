//! A rolling upgrade: servers of two versions on one database. Each that can use the tables serves,
//! and tables change once, all of them or none.
//!
//! The version before is stood for by this one on tables without one of its migrations, an index
//! that a server can do without; a later one by tables with more in them than this one knows, and
//! by what it notes of itself.

use std::fs;

use motorcade::uptane::client::VerifiedRepository;

use crate::postgres::Postgres;
use crate::replicas::readiness;
use crate::shared::Replicas;
use crate::support::{Client, Launched, Server, refused, snakeoil, wait_until};

/// Takes a migration back.
fn put_before(replicas: &Replicas) {
    replicas.sql(
        "DROP INDEX superseded_envelopes_by_role; DELETE FROM _sqlx_migrations WHERE version = 24; \
         DELETE FROM installation WHERE name = 'oldest_version'",
    );
    assert_eq!(migrated(replicas), "0 0 0");
}

/// How often that migration was run, how many indexes there are of it, and whether it is noted who
/// can use the tables.
fn migrated(replicas: &Replicas) -> String {
    replicas.sql(
        "SELECT (SELECT COUNT(*) FROM _sqlx_migrations WHERE version = 24 AND success) || ' ' || \
         (SELECT COUNT(*) FROM pg_indexes WHERE indexname = 'superseded_envelopes_by_role') || ' ' || \
         (SELECT COUNT(*) FROM installation WHERE name = 'oldest_version' \
          AND value LIKE '% ' || (SELECT MAX(version) FROM _sqlx_migrations))",
    )
}

/// Has each server publish an image, and sees that all of them show it.
async fn all_publish(replicas: &Replicas, servers: &[&Server], round: &str) {
    for (number, server) in servers.iter().enumerate() {
        let path = format!("gw/{round}-{number}");
        server.client(&replicas.token).upload(&path, "", path.as_bytes()).await;
    }
    let trusted = fs::read(replicas.blobs().join("repo/1.root.json")).unwrap();
    for server in servers {
        let repository = VerifiedRepository::load(&trusted, &server.repo_url()).await.unwrap();
        for number in 0..servers.len() {
            assert!(repository.find(&format!("gw/{round}-{number}")).is_some(), "{round} {number}");
        }
    }
}

/// Whoever runs that migration, and waits.
async fn wait_for_migrations(replicas: &Replicas, count: &str) {
    wait_until(&format!("{count} servers are in the middle of it"), async || {
        replicas.sql(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND wait_event_type = 'Lock' AND query LIKE '%CREATE INDEX superseded%'",
        ) == count
    })
    .await;
}

#[tokio::test]
async fn servers_that_start_at_once_beside_an_older_one_bring_the_tables_up_to_date_once() {
    let replicas = Replicas::new();
    replicas.add(2);
    let older = replicas.serve(0);
    older.client(&replicas.token).register(&snakeoil("snakeoil_p256.pub.pem")).await;
    all_publish(&replicas, &[&older], "before").await;
    put_before(&replicas);
    let early = refused(&mut replicas.command(1, &["fsck"]));
    assert!(early.contains("is from an earlier version (migration 24 was not run)"), "{early}");

    let newer = [1, 2].map(|number| replicas.launch(number, &[]));
    all_publish(&replicas, &[&older], "meanwhile").await;
    let [one, other] = newer.map(Launched::listening);
    assert_eq!(migrated(&replicas), "1 1 1");
    all_publish(&replicas, &[&older, &one, &other], "beside").await;
    drop(older);
    let last = replicas.serve(0);
    all_publish(&replicas, &[&last, &one, &other], "after").await;
    assert_eq!(migrated(&replicas), "1 1 1");
    drop([last, one, other]);
    replicas.fsck();
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_migrates_leaves_the_tables_to_the_next_one() {
    let replicas = Replicas::new();
    let older = replicas.serve(0);
    older.client(&replicas.token).register(&snakeoil("snakeoil_p256.pub.pem")).await;
    put_before(&replicas);
    let held = Postgres::shared()
        .hold(&replicas.database, "LOCK TABLE superseded_envelopes IN ROW EXCLUSIVE MODE");
    let killed = replicas.launch(1, &[]);
    wait_for_migrations(&replicas, "1").await;
    killed.process.kill();
    // What it was at ends with it, and not once the table is free: all that write wait for it.
    wait_for_migrations(&replicas, "0").await;
    assert_eq!(migrated(&replicas), "0 0 0");
    all_publish(&replicas, &[&older], "meanwhile").await;

    let newer = replicas.launch(1, &[]);
    wait_for_migrations(&replicas, "1").await;
    assert_eq!(migrated(&replicas), "0 0 0", "nobody sees half of it");
    drop(held);
    let newer = newer.listening();
    assert_eq!(migrated(&replicas), "1 1 1");
    all_publish(&replicas, &[&older, &newer], "beside").await;
    drop([older, newer]);
    replicas.fsck();
}

/// What a later version does to the tables when it starts, with the word of which can still use them.
fn migrate_later(database: &str, change: &str, oldest: &str) {
    Postgres::shared().run(
        database,
        &format!(
            "SELECT pg_advisory_xact_lock(7091026); {change}; \
             INSERT INTO _sqlx_migrations VALUES (9999, 'later', now(), true, '', 1) ON CONFLICT DO NOTHING; \
             INSERT INTO program_versions (version, first_used_at) VALUES ('99.0.0', 9000000000000) \
             ON CONFLICT DO NOTHING; \
             UPDATE installation SET value = '{oldest} 9999' WHERE name = 'oldest_version'"
        ),
    );
}

async fn publish_some(client: &Client, name: &str) {
    for number in 0..4 {
        client.upload(&format!("gw/{name}-{number}"), "", name.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_server_goes_on_beneath_a_later_version_until_that_says_it_is_too_old() {
    let replicas = Replicas::new();
    let [here, there] = replicas.serve_both();
    let [one, other] = [&here, &there].map(|server| server.client(&replicas.token));
    one.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    let newest = replicas.sql("SELECT MAX(version) FROM _sqlx_migrations");
    // It adds what is its own while both are at work, and both go on.
    let (database, noted) = (replicas.database.clone(), newest.clone());
    let migrating = tokio::task::spawn_blocking(move || {
        let change =
            "ALTER TABLE images ADD COLUMN said_later TEXT; CREATE TABLE later (id BIGINT)";
        migrate_later(&database, change, &noted);
    });
    let (migrated, ..) =
        tokio::join!(migrating, publish_some(&one, "one"), publish_some(&other, "other"));
    migrated.unwrap();
    all_publish(&replicas, &[&here, &there], "beside").await;
    // They can be started again, and commands work on what they leave.
    drop(there);
    let there = replicas.serve(1);
    all_publish(&replicas, &[&here, &there], "restarted").await;
    let noted = replicas.sql("SELECT value FROM installation WHERE name = 'oldest_version'");
    assert_eq!(noted, format!("{newest} 9999"), "the later one's word stands");

    drop([here, there]);
    replicas.fsck();
    // The version after that takes something away: none of these is to serve any more.
    let late = replicas.serve(0);
    migrate_later(&replicas.database, "ALTER TABLE images DROP COLUMN said_later", "9999");
    let (status, said) = readiness(&late.client(&replicas.token)).await;
    assert!(
        status == 503 && said.to_string().contains("catalog_of_later_version"),
        "{status} {said}"
    );
    drop(late);
    for words in [&["serve", "--listen", "127.0.0.1:0"][..], &["fsck"]] {
        let said = refused(&mut replicas.command(1, words));
        let versions = format!(
            "is from version 99.0.0 or newer, and this is {}: install that version",
            env!("CARGO_PKG_VERSION")
        );
        assert!(said.contains(&versions), "{said}");
    }
}
