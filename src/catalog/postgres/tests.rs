//! What is PostgreSQL's alone; what every engine has to do is in `conformance/`.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::Row;

use crate::catalog::conformance::server::Postgres;
use crate::catalog::conformance::{images, uploads};
use crate::catalog::{Author, Catalog, Error, Holder, InsertedJob, Mark, NewUpload};
use crate::model::clock::later;
use crate::model::{Clock, DatabaseUrl, RoleName, Timestamp};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn url(text: &str) -> DatabaseUrl {
    text.parse().unwrap()
}

async fn own(database: &str) -> Result<Catalog, Error> {
    Catalog::own_postgres(&url(database), NOW).await
}

/// Why a database can't be used.
async fn fault(database: &str) -> String {
    match own(database).await {
        Err(Error::Unusable { catalog, fault }) => {
            assert!(!catalog.contains("postgres@"), "{catalog}");
            fault
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn servers_that_start_at_once_bring_the_tables_up_to_date_once() {
    let server = Postgres::shared();
    let database = server.database();
    assert!(Catalog::open_postgres(&url(&database)).await.unwrap().is_none());
    let pooled = server.pooled(&database);
    let both = [&database, &pooled, &database, &pooled];
    for catalog in join_all(both.iter().map(|database| own(database))).await {
        let catalog = catalog.unwrap();
        catalog.ensure_roles(&[RoleName::Snapshot]).await.unwrap();
        catalog.close().await;
    }
    let applied =
        server.run(&database, "SELECT COUNT(*) - COUNT(DISTINCT version) FROM _sqlx_migrations");
    assert_eq!(applied, "0");
    let opened = Catalog::open_postgres(&url(&database)).await.unwrap().unwrap();
    assert_eq!(opened.list_roles().await.unwrap().len(), 1);
}

#[tokio::test]
async fn replicas_on_one_database_are_never_given_one_version() {
    let server = Postgres::shared();
    let database = server.database();
    let replicas = [own(&database).await.unwrap(), own(&server.pooled(&database)).await.unwrap()];
    replicas[0].ensure_roles(&[RoleName::Snapshot]).await.unwrap();
    let reserve = async |number: usize| {
        let reserved = replicas[number % 2].reserve_versions(&[RoleName::Snapshot]).await;
        reserved.unwrap()[0].version
    };
    let versions = join_all((0..40).map(reserve)).await;
    let versions: BTreeSet<u64> = versions.into_iter().collect();
    assert_eq!(versions, (1..=40).collect());
}

#[tokio::test]
async fn a_version_before_serves_on_tables_that_say_it_can() {
    let server = Postgres::shared();
    let database = server.database();
    own(&database).await.unwrap().close().await;
    let newest = server.run(&database, "SELECT MAX(version) FROM _sqlx_migrations");
    let later = |oldest: &str, after: &str| {
        server.run(&database, &format!(
            "INSERT INTO _sqlx_migrations VALUES (9999, 'later', now(), true, '', 1) ON CONFLICT DO NOTHING; \
             UPDATE installation SET value = '{oldest} {after}' WHERE name = 'oldest_version'"
        ));
    };
    later(&newest, "9999");
    let beside = own(&database).await.unwrap();
    beside.ensure_roles(&[RoleName::Snapshot]).await.unwrap();
    beside.close().await;
    assert!(Catalog::open_postgres(&url(&database)).await.unwrap().is_some());
    let noted =
        server.run(&database, "SELECT value FROM installation WHERE name = 'oldest_version'");
    assert_eq!(noted, format!("{newest} 9999"), "an older version changes no word of a newer one");
    for (oldest, after) in [("9999", "9999"), (newest.as_str(), "9998"), ("x", "9999")] {
        later(oldest, after);
        assert!(fault(&database).await.contains("is from version"), "{oldest} {after}");
    }
}

#[tokio::test]
async fn replicas_add_one_job_of_a_kind_that_is_to_be_alone() {
    let server = Postgres::shared();
    let database = server.database();
    let replicas = [own(&database).await.unwrap(), own(&server.pooled(&database)).await.unwrap()];
    let author = Author::server(NOW);
    let insert = async |number: usize| {
        let parameters = serde_json::json!({ "path": "gw/1", "to": number });
        let (id, author) = (number.to_string(), &author);
        let catalog = &replicas[number % 2];
        catalog.insert_job(&id, "image_reseal", &parameters, Some("path"), author).await.unwrap()
    };
    let inserted = join_all((0..16).map(insert)).await;
    let new = inserted.iter().filter(|job| matches!(job, InsertedJob::New(_))).count();
    assert_eq!(new, 1, "{inserted:?}");
}

#[tokio::test]
async fn leases_go_by_the_clock_of_the_database() {
    struct Wrong(i64);
    impl Clock for Wrong {
        fn now(&self) -> Timestamp {
            let seconds = Timestamp::now().as_second() + self.0;
            Timestamp::from_second(seconds).unwrap()
        }
    }
    let database = Postgres::shared().database();
    let (slow, fast) = (Wrong(-3000), Wrong(5000));
    let (one, other) = (own(&database).await.unwrap(), own(&database).await.unwrap());
    let ahead =
        [one.compare_clocks(&slow).await.unwrap(), other.compare_clocks(&fast).await.unwrap()];
    assert!((2_998_000..3_003_000).contains(&ahead[0]), "{ahead:?}");
    assert!((-5_003_000..-4_997_000).contains(&ahead[1]), "{ahead:?}");
    let take = async |catalog: &Catalog, owner: &str, clock: &dyn Clock| {
        let now = clock.now();
        let lease_until = later(now, Duration::from_secs(30));
        catalog.take_lease("publish", Holder { owner, now, lease_until }).await.unwrap()
    };
    assert_eq!(take(&one, "slow", &slow).await, Some(1));
    assert_eq!(take(&other, "fast", &fast).await, None, "an hour later by its own clock");
    one.end_lease("publish", 1).await.unwrap();
    assert_eq!(take(&other, "fast", &fast).await, Some(2));
    assert_eq!(take(&one, "slow", &slow).await, None);

    let now = fast.now();
    let upload = NewUpload { expires_at: later(now, Duration::from_secs(1)), ..uploads::new("a") };
    assert!(other.insert_upload(&upload, "escrow", 9).await.unwrap());
    let lease_until = later(now, Duration::from_secs(60));
    let holder = Holder { owner: "fast", now, lease_until };
    other.take_upload("a", holder).await.unwrap().unwrap();
    let expired = later(now, Duration::from_secs(2));
    let ended = other.end_expired_uploads(expired, expired, 9).await.unwrap();
    assert_eq!(ended, [""; 0], "a request has it");
}

#[tokio::test]
async fn a_mark_is_its_own_until_it_is_copied_whatever_cleans_up() {
    let server = Postgres::shared();
    let database = server.database();
    let catalog = own(&database).await.unwrap();
    let mark = async || catalog.find_mark().await.unwrap();
    assert_eq!(mark().await, Mark::Missing);
    for _ in 0..2 {
        catalog.insert_mark().await.unwrap();
        assert_eq!(mark().await, Mark::Own);
    }
    server.run(&database, "VACUUM (FULL, FREEZE) installation");
    assert_eq!(mark().await, Mark::Own);
    let copy = "CREATE TABLE kept AS SELECT * FROM installation; DELETE FROM installation; \
                INSERT INTO installation SELECT * FROM kept; DROP TABLE kept";
    server.run(&database, copy);
    catalog.insert_mark().await.unwrap();
    assert_eq!(mark().await, Mark::Copied);
    catalog.replace_mark().await.unwrap();
    assert_eq!(mark().await, Mark::Own);
}

/// Tables with their columns, and indexes.
async fn shape(catalog: &Catalog, tables: &'static str, indexes: &'static str) -> BTreeSet<String> {
    let mut shape = BTreeSet::new();
    for query in [tables, indexes] {
        for row in sqlx::query(query).fetch_all(&catalog.pool).await.unwrap() {
            let line: String = row.get(0);
            shape.insert(line.to_lowercase());
        }
    }
    shape
}

#[tokio::test]
async fn both_engines_have_the_same_tables() {
    let postgres = own(&Postgres::shared().database()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.sqlite");
    let sqlite = Catalog::own_sqlite(&file, NOW).await.unwrap();
    let of_postgres = shape(
        &postgres,
        "SELECT CAST(table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable AS TEXT) \
         FROM information_schema.columns WHERE table_schema = current_schema() AND table_name NOT LIKE '\\_sqlx%'",
        "SELECT CAST(indexname AS TEXT) FROM pg_indexes WHERE schemaname = current_schema() \
         AND indexname NOT LIKE '%\\_pkey' AND indexname NOT LIKE '%\\_key'",
    );
    let of_sqlite = shape(
        &sqlite,
        "SELECT m.name || '.' || c.name || ' ' || \
         CASE c.type WHEN 'INTEGER' THEN 'bigint' WHEN 'BLOB' THEN 'bytea' ELSE c.type END || ' ' || \
         CASE c.\"notnull\" WHEN 1 THEN 'no' ELSE 'yes' END \
         FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\'",
        "SELECT name FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    );
    let (in_postgres, in_sqlite) = (of_postgres.await, of_sqlite.await);
    let only = |ours: &BTreeSet<String>, others: &BTreeSet<String>| -> Vec<String> {
        ours.difference(others).cloned().collect()
    };
    assert_eq!(only(&in_sqlite, &in_postgres), Vec::<String>::new(), "in SQLite alone");
    assert_eq!(only(&in_postgres, &in_sqlite), Vec::<String>::new(), "in PostgreSQL alone");
}

#[tokio::test]
async fn what_can_hold_no_catalog_is_named() {
    let server = Postgres::shared();
    let foreign = server.database();
    server.run(&foreign, "CREATE TABLE jobs (id BIGINT)");
    assert!(fault(&foreign).await.contains("holds tables of something else"));
    let ascii = server.database_with("ENCODING 'SQL_ASCII' LOCALE 'C'");
    assert!(fault(&ascii).await.contains("has the encoding SQL_ASCII"));
    let missing = format!("{foreign}_missing");
    assert!(fault(&missing).await.contains("is not there: "));
    let later = server.database();
    own(&later).await.unwrap().close().await;
    server.run(&later, "INSERT INTO _sqlx_migrations VALUES (9999, 'later', now(), true, '', 1)");
    assert!(fault(&later).await.contains("is from version"));
    server.run(&later, "DELETE FROM _sqlx_migrations WHERE version > 100");
    server.run(&later, "CREATE ROLE somebody LOGIN PASSWORD 'right'; ALTER DATABASE template1 ALLOW_CONNECTIONS true");
    let somebody = |password: &str| later.replace("postgres@", &format!("somebody:{password}@"));
    assert!(fault(&somebody("wrong")).await.contains("refuses this user or password"));
    let empty = server.database().replace("postgres@", "somebody:right@");
    let may_not = fault(&empty).await;
    assert!(may_not.contains("does not let this user make tables"), "{may_not}");
    assert!(fault("postgresql://127.0.0.1:9/x").await.contains("can't be reached"));
}

#[tokio::test]
async fn tls_is_verified_against_the_ca_that_is_named() {
    let server = Postgres::shared();
    let database = server.database().replace("127.0.0.1", "localhost");
    let ca = server.ca_file().display().to_string();
    let verified = format!("{database}?sslmode=verify-full&sslrootcert={ca}");
    let catalog = own(&verified).await.unwrap();
    let row = sqlx::query("SELECT CAST(ssl AS TEXT) FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    let row = row.fetch_one(&catalog.pool).await.unwrap();
    assert_eq!(row.get::<String, _>(0), "true");
    let unknown = fault(&format!("{database}?sslmode=verify-full")).await;
    assert!(
        unknown.contains("can't be reached over TLS") && unknown.contains("sslrootcert"),
        "{unknown}"
    );
}

#[tokio::test]
async fn a_database_that_goes_away_is_told_from_one_that_is_wrong() {
    let server = Postgres::start();
    let catalog = own(&server.database()).await.unwrap();
    catalog.ping().await.unwrap();
    server.tell("stop");
    let gone = catalog.ping().await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone:?}");
    let gone = catalog.reserve_versions(&[RoleName::Snapshot]).await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone:?}");
    server.tell("start");
    catalog.ping().await.unwrap();
    catalog.ensure_roles(&[RoleName::Snapshot]).await.unwrap();
    let wrong = sqlx::query("SELECT nothing").execute(&catalog.pool).await.unwrap_err();
    assert!(matches!(Error::backend("x")(wrong), Error::Backend { .. }));
    let broken = sqlx::Error::Protocol("unexpected response from SSLRequest: 0x00".into());
    assert!(matches!(Error::backend("x")(broken), Error::Unreachable { .. }));
}

#[tokio::test]
async fn a_change_that_is_given_up_while_it_begins_leaves_nothing_begun() {
    let server = Postgres::shared();
    let database = server.database();
    for database in [database.clone(), server.pooled(&database)] {
        let catalog = own(&format!("{database}?connections=2")).await.unwrap();
        let other = catalog.pool.begin().await.unwrap();
        for _ in 0..3 {
            let begun =
                tokio::time::timeout(std::time::Duration::from_millis(100), catalog.pool.begin());
            assert!(begun.await.is_err(), "it waits for the other one");
        }
        other.commit().await.unwrap();
        catalog.insert_installed(&database, "written").await.unwrap();
        let written = own(&database).await.unwrap().find_installed(&database).await.unwrap();
        assert_eq!(written.as_deref(), Some("written"));
    }
}

#[tokio::test]
async fn other_defaults_of_the_database_change_nothing_for_what_writes() {
    let server = Postgres::shared();
    let database = server.database();
    for default in [
        "default_transaction_isolation = 'repeatable read'",
        "synchronous_commit = off",
        "default_transaction_read_only = on", // last: it holds for what sets defaults too
    ] {
        let name = database.rsplit('/').next().unwrap();
        server.run(&database, &format!("ALTER DATABASE {name} SET {default}"));
    }
    for database in [database.clone(), server.pooled(&database)] {
        let catalog = own(&database).await.unwrap();
        let mut first = catalog.pool.begin().await.unwrap();
        let how = sqlx::query(
            "SELECT current_setting('transaction_isolation') || ', ' || current_setting('synchronous_commit')",
        );
        let how: String = how.fetch_one(&mut *first).await.unwrap().get(0);
        assert_eq!(how, "read committed, on");
        let second = catalog.pool.begin(); // which waits, and has to see what the first one writes
        let write = async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            sqlx::query("INSERT INTO installation (name, value) VALUES ($1, 'written')")
                .bind(&database)
                .execute(&mut *first)
                .await
                .unwrap();
            first.commit().await.unwrap();
        };
        let (second, ()) = tokio::join!(second, write);
        let seen = sqlx::query("SELECT value FROM installation WHERE name = $1").bind(&database);
        assert!(seen.fetch_optional(&mut *second.unwrap()).await.unwrap().is_some());
    }
}

/// Everybody else who writes waits for it.
#[tokio::test]
async fn a_migration_whose_server_is_gone_does_not_go_on_for_long() {
    let server = Postgres::shared();
    let database = server.database();
    for database in [database.clone(), server.pooled(&database)] {
        let catalog = own(&database).await.unwrap();
        let mut migrating = catalog.pool.begin_to_migrate().await.unwrap();
        let how = sqlx::query(
            "SELECT current_setting('client_connection_check_interval') || ', ' || \
             current_setting('idle_in_transaction_session_timeout')",
        );
        let how: String = how.fetch_one(&mut *migrating).await.unwrap().get(0);
        assert_eq!(how, "5s, 30s");
    }
}

#[tokio::test]
async fn whether_an_image_was_accepted_waits_for_a_commit_in_doubt() {
    let server = Postgres::shared();
    let database = server.database();
    let catalog = own(&database).await.unwrap();
    let image = images::image("gw/1/a.bin", 10);
    images::with_bins(&catalog).await;
    images::insert(&catalog, std::slice::from_ref(&image)).await.unwrap();
    server.run(&database, "CREATE TABLE aside AS SELECT * FROM images; DELETE FROM images");
    let (path, sha256) = (&image.record.path, image.record.sealed.sha256);
    assert!(!catalog.has_accepted_image(path, sha256).await.unwrap());
    let mut in_doubt = catalog.pool.begin().await.unwrap();
    let insert = sqlx::query("INSERT INTO images SELECT * FROM aside");
    insert.execute(&mut *in_doubt).await.unwrap();
    let land = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        in_doubt.commit().await.unwrap();
    };
    let (accepted, ()) = tokio::join!(catalog.has_accepted_image(path, sha256), land);
    assert!(accepted.unwrap());
}
