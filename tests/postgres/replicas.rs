//! Two servers on one database and one folder of blobs: what one is told holds at the other.

use std::fs;

use motorcade::model::{Clock, EcuSerial, InstalledImage, Sha256Digest, SystemClock};
use motorcade::uptane::client::VerifiedRepository;
use motorcade::uptane::key::{Scheme, SigningKey};
use motorcade::uptane::manifest::{EcuReport, VehicleManifest};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::shared::{Replicas, command};
use crate::support::{Client, HARDWARE, motorcade, refused, run, sha256, snakeoil, wait_until};

/// A request of whom a client is.
pub(crate) fn call(client: &Client, method: Method, path: &str) -> RequestBuilder {
    client.http.request(method, format!("{}{path}", client.url)).bearer_auth(&client.token)
}

async fn status(client: &Client, path: &str) -> StatusCode {
    call(client, Method::GET, path).send().await.unwrap().status()
}

/// What is signed of a file for the vehicle that a client is.
async fn signed(client: &Client, file: &str) -> Value {
    let bytes = client.get(&format!("/director/{file}")).await;
    serde_json::from_slice::<Value>(&bytes).unwrap()["signed"].take()
}

/// Registers a vehicle with one ECU, which has a token; returns the ECU's key.
pub(crate) async fn register(engineer: &Client, vin: &str, token: &str) -> SigningKey {
    let key = SigningKey::from_pem(&SigningKey::generate_pem(Scheme::Ed25519).unwrap()).unwrap();
    let ecu = json!({
        "ecu_serial": format!("{vin}-gw"), "hardware_id": HARDWARE, "role": "primary",
        "signing_key": key.public().object(),
    });
    let vehicle = json!({ "vin": vin, "token_sha256": sha256(token.as_bytes()), "ecus": [ecu] });
    let response = call(engineer, Method::POST, "/api/v1/vehicles").json(&vehicle).send().await;
    let response = response.unwrap();
    assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
    key
}

/// What the vehicle's manifest with this counter comes to.
async fn report(vehicle: &Client, vin: &str, key: &SigningKey, counter: u64) -> StatusCode {
    let serial: EcuSerial = format!("{vin}-gw").parse().unwrap();
    let report = EcuReport {
        attacks_detected: String::new(),
        counter,
        ecu_serial: serial.clone(),
        faults_detected: String::new(),
        installed_image: InstalledImage {
            path: "factory".into(),
            length: 1,
            sha256: Sha256Digest::from_bytes([0; 32]),
        },
        time: SystemClock.now(),
    };
    let reports = [(serial.clone(), report.sign(key))].into();
    let manifest = VehicleManifest::sign(&vin.parse().unwrap(), &serial, 0, reports, key);
    let put = call(vehicle, Method::PUT, "/director/manifest").json(&manifest);
    put.send().await.unwrap().status()
}

#[tokio::test]
async fn what_is_told_to_one_replica_holds_at_the_other_one() {
    let replicas = Replicas::new();
    let servers = replicas.serve_both();
    let [here, there] = servers.each_ref().map(|server| server.client(&replicas.token));
    here.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    let token = "a token that is long enough to be one";
    let key = register(&here, "VIN1", token).await;
    let vehicles = servers.each_ref().map(|server| server.client(token));
    let mut version = 0;
    for (number, vehicle) in [0, 1, 0, 1].map(|at| (at, &vehicles[at])) {
        let timestamp = signed(vehicle, "timestamp.json").await;
        let shown = timestamp["version"].as_u64().unwrap();
        assert!(shown >= version, "replica {number} shows {shown} after {version}");
        version = shown;
    }

    // Both have the vehicle in memory now.
    here.upload("gw/1", "", b"firmware").await;
    let assigned = json!({ "assignments": [{ "ecu_serial": "VIN1-gw", "image": "gw/1" }] });
    let assign = call(&here, Method::POST, "/api/v1/vehicles/VIN1/assignments").json(&assigned);
    assert_eq!(assign.send().await.unwrap().status(), 201);
    let timestamp = signed(&vehicles[1], "timestamp.json").await;
    assert!(timestamp["version"].as_u64().unwrap() > version);
    let version = timestamp["version"].as_u64().unwrap();
    let targets = signed(&vehicles[1], &format!("{version}.targets.json")).await;
    assert!(targets["targets"].get("gw/1").is_some(), "{targets}");
    assert_eq!(signed(&vehicles[0], "timestamp.json").await, timestamp, "one bundle for both");

    for (at, counter) in [(0, 1), (1, 2), (0, 3), (1, 4), (1, 5), (0, 6)] {
        assert_eq!(report(&vehicles[at], "VIN1", &key, counter).await, 204, "{counter}");
    }
    for vehicle in &vehicles {
        assert!(report(vehicle, "VIN1", &key, 6).await.is_client_error(), "it was sent before");
    }

    let renewed = call(&there, Method::POST, "/api/v1/vehicles/VIN1/token").send().await.unwrap();
    assert!(renewed.status().is_success(), "{}", renewed.text().await.unwrap());
    for vehicle in &vehicles {
        assert_eq!(status(vehicle, "/director/timestamp.json").await, 401);
    }

    let tokens = run(&mut replicas.command(0, &["token", "list"]));
    let id = tokens.lines().find(|line| line.contains("engineer")).unwrap();
    let id = id.split_whitespace().next().unwrap();
    run(&mut replicas.command(1, &["token", "revoke", id]));
    for client in [&here, &there] {
        assert_eq!(status(client, "/api/v1/vehicles").await, 401);
    }
}

#[tokio::test]
async fn a_server_without_what_the_others_have_is_refused_and_told_why() {
    let replicas = Replicas::new();
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let state = replicas.state(1);

    let mut alone = motorcade(serve);
    alone.arg("--data-dir").arg(&state).args(["--catalog", &replicas.database]);
    let alone = refused(&mut alone);
    assert!(alone.contains("--shared-blobs"), "{alone}");

    let mut sqlite = motorcade(serve);
    sqlite.arg("--data-dir").arg(&state).arg("--shared-blobs").arg(replicas.blobs());
    let sqlite = refused(&mut sqlite);
    assert!(sqlite.contains("add `--catalog`") || sqlite.contains("not initialized"), "{sqlite}");

    let others = Replicas::new();
    let mixed = refused(&mut command(&serve, &state, &replicas.database, &others.blobs()));
    for replicas in [&replicas, &others] {
        let id = fs::read_to_string(replicas.state(0).join("installation-id")).unwrap();
        assert!(mixed.contains(id.trim()), "{mixed}");
    }

    // Nothing that takes the numbers of versions on may run beside any of them.
    let server = replicas.serve(0);
    wait_until("it shows that it is there", async || {
        replicas.sql("SELECT COUNT(*) FROM leases WHERE name LIKE 'server/%'") == "1"
    })
    .await;
    let beside = refused(&mut replicas.command(1, &["recover", "versions"]));
    assert!(beside.contains("other servers of this installation run"), "{beside}");
    drop(server);
}

/// Whether a server is ready, and what it says of that.
pub(crate) async fn readiness(client: &Client) -> (StatusCode, Value) {
    let ready = call(client, Method::GET, "/readyz").send().await.unwrap();
    (ready.status(), ready.json().await.unwrap())
}

/// The code of a problem.
pub(crate) fn code(problem: &Value) -> &str {
    problem["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_replica_that_misses_the_keys_of_a_role_says_which_and_publishes_nothing_without_them() {
    let replicas = Replicas::new();
    let servers = replicas.serve_both();
    let officer = servers[0].client(&replicas.token("officer"));
    let rotate = call(&officer, Method::POST, "/api/v1/roles/image/timestamp/rotate");
    let rotated = rotate.json(&json!({})).send().await.unwrap();
    assert!(rotated.status().is_success(), "{}", rotated.text().await.unwrap());

    let [here, there] = servers.each_ref().map(|server| server.client(&replicas.token));
    let (status, said) = readiness(&there).await;
    let said = said.to_string();
    assert_eq!(status, 503, "{said}");
    assert!(said.contains("role timestamp") && said.contains("not on this replica"), "{said}");
    here.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    let waits = there.put("gw/1", "", "firmware").await.unwrap();
    assert_eq!(waits.status(), 503, "it is accepted, and published by whoever has the keys");
    here.upload("gw/2", "", b"firmware").await;
    let trusted = fs::read(replicas.blobs().join("repo/1.root.json")).unwrap();
    let repository = VerifiedRepository::load(&trusted, &servers[1].repo_url()).await.unwrap();
    assert!(repository.find("gw/1").is_some() && repository.find("gw/2").is_some());

    replicas.copy_keys();
    wait_until("the other replica has the keys", async || readiness(&there).await.0 == 200).await;
    there.upload("gw/3", "", b"firmware").await;
    drop(servers);
    replicas.fsck();
}

#[tokio::test]
async fn the_escrow_key_is_not_replaced_beside_other_replicas() {
    let replicas = Replicas::new();
    let servers = replicas.serve_both();
    let officer = servers[0].client(&replicas.token("officer"));
    wait_until("both show that they are there", async || {
        let shown = "SELECT COUNT(*) FROM leases WHERE name LIKE 'server/%' AND lease_until > 0";
        replicas.sql(shown) == "2"
    })
    .await;
    let rotate = call(&officer, Method::POST, "/api/v1/rotations").json(&json!({ "escrow": {} }));
    let refused = rotate.send().await.unwrap();
    assert_eq!(refused.status(), 409);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "other_replicas", "{problem}");
}
