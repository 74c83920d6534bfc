//! A catalog that moves from SQLite to PostgreSQL.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use motorcade::uptane::key::SigningKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::postgres::Postgres;
use crate::support::{
    Client, Process, Server, create_token, fsck, init, motorcade, noise, refused, run, sha256,
    snakeoil,
};

/// A state directory that was used with SQLite.
struct Used {
    folder: TempDir,
    token: String,
    /// What it has served, by path.
    served: Vec<(String, Vec<u8>)>,
}

impl Used {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("state");
        init(&data_dir);
        let token = create_token(&data_dir, "engineer");
        let server = Server::start(&data_dir, &[]);
        let client = server.client(&token);
        client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
        for number in 0..3 {
            client.upload(&format!("gw/{number}"), "", &noise("image", 50_000 + number)).await;
        }
        register_vehicles(&client, 0..2500).await;
        let mut served = Vec::new();
        for (name, folder) in [("0", "gw"), ("1", "gw"), ("2", "gw")] {
            let image: Value = serde_json::from_slice(
                &client.get(&format!("/api/v1/images/{folder}/{name}")).await,
            )
            .unwrap();
            let digest = image["sealed"]["sha256"].as_str().unwrap();
            let path = format!("/repo/targets/{folder}/{digest}.{name}");
            served.push((path.clone(), client.get(&path).await.to_vec()));
        }
        served.push(("/repo/1.root.json".into(), client.get("/repo/1.root.json").await.to_vec()));
        served.push((
            "/director/1.root.json".into(),
            client.get("/director/1.root.json").await.to_vec(),
        ));
        drop(server);
        assert_eq!(fsck(&data_dir), [""; 0]);
        Self { folder, token, served }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = motorcade(words);
        command.arg("--data-dir").arg(self.data_dir());
        command
    }

    fn migrate(&self, database: &str) -> Command {
        let mut command = self.command(&["migrate-store", "--json"]);
        command.env("MOTORCADE_TO_CATALOG_URL", database);
        command
    }

    fn serve_on(&self, database: &str) -> Command {
        let mut serve = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        serve.args(["--catalog", database]);
        serve
    }

    fn serve_here(&self) -> Command {
        self.command(&["serve", "--listen", "127.0.0.1:0"])
    }
}

async fn register_vehicles(client: &Client, numbers: std::ops::Range<u64>) {
    let vehicle = |number: u64| {
        let ecu = |(index, role): (u64, &str)| {
            let seed = sha256(format!("{number} {index}").as_bytes());
            let seed: [u8; 32] = hex::decode(seed).unwrap().try_into().unwrap();
            json!({
                "ecu_serial": format!("V{number}-{index}"), "hardware_id": "gw-mk3", "role": role,
                "signing_key": SigningKey::ed25519_from_seed(&seed).public().object(),
            })
        };
        let ecus: Vec<Value> = [(0, "primary"), (1, "secondary")].map(ecu).into();
        json!({ "vin": format!("V{number}"), "ecus": ecus }).to_string()
    };
    let body: Vec<String> = numbers.clone().map(vehicle).collect();
    let request = client.http.post(format!("{}/api/v1/vehicles", client.url));
    let request = request.bearer_auth(&client.token).header("content-type", "application/jsonl");
    let report: Value = request.body(body.join("\n")).send().await.unwrap().json().await.unwrap();
    assert_eq!(report["registered"], numbers.end - numbers.start, "{report}");
}

fn rows(postgres: &Postgres, database: &str, table: &str) -> u64 {
    postgres.run(database, &format!("SELECT COUNT(*) FROM {table}")).parse().unwrap()
}

#[tokio::test]
async fn a_catalog_moves_whole_though_its_move_is_killed_again_and_again() {
    let postgres = Postgres::shared();
    let (site, database) = (Used::new().await, postgres.database());
    let mut kills = 0;
    let moved = loop {
        let mut migrate = site.migrate(&database);
        let process = Process::spawn(migrate.stdout(Stdio::null()).stderr(Stdio::null()));
        // Later each time, so that it gets on.
        tokio::time::sleep(Duration::from_millis(40 * kills + rand::random::<u64>() % 60)).await;
        process.kill();
        kills += 1;
        if site.data_dir().join("moving.json").exists() && kills == 6 {
            let here = refused(&mut site.serve_here());
            assert!(here.contains("on its way to") || here.contains("was moved to"), "{here}");
        }
        if kills > 8 {
            break run(&mut site.migrate(&database));
        }
    };
    let moved: Value = serde_json::from_str(&moved).unwrap();
    assert!(moved["rows"].as_u64().unwrap() > 15_000 || moved["tables"] == json!([]), "{moved}");
    assert_eq!(rows(postgres, &database, "vehicles"), 2500);
    assert_eq!(rows(postgres, &database, "ecus"), 5000);

    let server = Server::start_in(&[("MOTORCADE_CATALOG_URL", &database)], &site.data_dir());
    let client = server.client(&site.token);
    for (path, bytes) in &site.served {
        assert_eq!(client.get(path).await, bytes, "{path}");
    }
    client.get("/api/v1/vehicles/V2499").await;
    client.upload("gw/3", "", b"after the move").await;
    register_vehicles(&client, 2500..2510).await;
    let events = client.get("/api/v1/vehicles/V2505/history").await;
    assert!(String::from_utf8_lossy(&events).contains("registered"), "their numbers go on");
    drop(server);
    let on_database = |words: &[&str]| {
        let mut command = site.command(words);
        command.args(["--catalog", &database]);
        command
    };
    let findings: Value =
        serde_json::from_str(&run(&mut on_database(&["fsck", "--json"]))).unwrap();
    assert_eq!(findings["problems"], json!([]));
    run(&mut on_database(&["audit", "verify"]));
    assert_eq!(rows(postgres, &database, "audit WHERE kind = 'catalog_moved'"), 1);
}

/// What is there is compared, and neither side is used before all of it is.
#[tokio::test(flavor = "multi_thread")] // a process is waited for in between
async fn an_unfinished_move_is_served_on_neither_side_and_a_finished_one_on_one() {
    let postgres = Postgres::shared();
    let (site, database) = (Used::new().await, postgres.database());
    // A row that comes from nowhere is found at the end, and so the move does not end.
    postgres_takes_a_stray(postgres, &site, &database);
    let there = refused(&mut site.serve_on(&database));
    assert!(there.contains("not all of it is there"), "{there}");
    for words in [&["serve", "--listen", "127.0.0.1:0"][..], &["token", "list"], &["backup", "b"]] {
        let here = refused(&mut site.command(words));
        assert!(here.contains("on its way to"), "{here}");
    }
    let elsewhere = refused(&mut site.migrate(&postgres.database()));
    assert!(elsewhere.contains("on its way to"), "{elsewhere}");
    postgres.run(&database, "DELETE FROM tokens WHERE id = 'stray'");
    run(&mut site.migrate(&database));
    let again = run(&mut site.migrate(&database));
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["tables"], json!([]), "{again}");
    // The same if it was killed before it could write that down.
    let record = site.data_dir().join("moving.json");
    let mut unended: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    unended["ended_at"] = Value::Null;
    fs::write(&record, unended.to_string()).unwrap();
    run(&mut site.migrate(&database));
    let here = refused(&mut site.serve_here());
    assert!(here.contains("was moved to postgresql://"), "{here}");
    drop(Server::start_in(&[("MOTORCADE_CATALOG_URL", &database)], &site.data_dir()));
}

fn postgres_takes_a_stray(postgres: &Postgres, site: &Used, database: &str) {
    let mut migrate = site.migrate(database);
    let mut process = Process::spawn(migrate.stdout(Stdio::null()).stderr(Stdio::null()));
    let insert = "INSERT INTO tokens (id, sha256, role, label, created_at) VALUES ('stray', 'x', 'viewer', '', 0)";
    let is_there = "SELECT COUNT(*) FROM pg_tables WHERE tablename = 'installation'";
    while postgres.run(database, is_there) == "0"
        || postgres.run(database, "SELECT COUNT(*) FROM installation WHERE name = 'moving'") == "0"
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    postgres.run(database, insert);
    let runtime = tokio::runtime::Handle::current();
    let status = tokio::task::block_in_place(|| runtime.block_on(process.ended()));
    assert!(!status.success(), "the stray row is found");
}

#[tokio::test]
async fn a_database_that_holds_anything_is_refused_and_left_as_it_is() {
    let postgres = Postgres::shared();
    let site = Used::new().await;
    let foreign = postgres.database();
    postgres.run(&foreign, "CREATE TABLE jobs (id TEXT)");
    let refusal = refused(&mut site.migrate(&foreign));
    assert!(refusal.contains("tables of something else"), "{refusal}");
    let theirs = crate::Site::new(postgres.database());
    let refusal = refused(&mut site.migrate(&theirs.database));
    let id = fs::read_to_string(theirs.data_dir().join("installation-id")).unwrap();
    assert!(refusal.contains(id.trim()), "{refusal}");
    theirs.fsck();
    assert!(!site.data_dir().join("moving.json").exists(), "the directory is as it was");
    let running = Server::start(&site.data_dir(), &[]);
    let refusal = refused(&mut site.migrate(&postgres.database()));
    assert!(refusal.contains("another server runs"), "{refusal}");
    drop(running);
    let none = refused(&mut {
        let mut command = motorcade(["migrate-store", "--data-dir"]);
        command.arg(site.folder.path().join("none")).args(["--to-catalog", &postgres.database()]);
        command
    });
    assert!(none.contains("is not initialized"), "{none}");
}

/// The database stays empty, so that the catalog can move there.
#[test]
fn a_catalog_in_a_file_is_not_begun_again_in_a_database_that_is_named_for_it() {
    let postgres = Postgres::shared();
    let (folder, database) = (tempfile::tempdir().unwrap(), postgres.database());
    let data_dir = folder.path().join("state");
    let command = |words: &[&str], more: &[&str]| {
        let mut command = motorcade(words);
        command.arg("--data-dir").arg(&data_dir).args(more);
        command
    };
    let on_database = |words: &[&str]| command(words, &["--catalog", &database]);
    run(&mut command(&["init"], &[]));
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    for words in [&["init"][..], &["init", "--if-needed"], &serve, &["recover", "versions"]] {
        let refusal = refused(&mut on_database(words));
        assert!(refusal.contains("motorcade migrate-store --data-dir"), "{words:?}: {refusal}");
    }
    let tables = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(postgres.run(&database, tables), "0");
    assert!(!data_dir.join("installation-id").exists());
    // What is left of it without its catalog is no new installation either.
    let (file, away) = (data_dir.join("catalog.sqlite"), folder.path().join("away"));
    fs::rename(&file, &away).unwrap();
    let refusal = refused(&mut on_database(&["init"]));
    assert!(refusal.contains("holds a published repository"), "{refusal}");
    fs::rename(&away, &file).unwrap();

    run(&mut command(&["migrate-store"], &["--to-catalog", &database]));
    let again = refused(&mut on_database(&["init"]));
    assert!(again.contains("is initialized already"), "{again}");
    run(&mut on_database(&["init", "--if-needed"]));
    drop(Server::start_in(&[("MOTORCADE_CATALOG_URL", &database)], &data_dir));
    let elsewhere = postgres.database();
    let refusal = refused(&mut command(&["init"], &["--catalog", &elsewhere]));
    assert!(refusal.contains("was moved to postgresql://"), "{refusal}");
    let name = database.rsplit('/').next().unwrap();
    postgres.run("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
    postgres.run("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
    let refusal = refused(&mut on_database(&["init"]));
    assert!(refusal.contains("restore that database from a backup"), "{refusal}");
    assert_eq!(postgres.run(&database, tables), "0");
}
