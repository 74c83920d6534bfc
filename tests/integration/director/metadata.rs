//! What the Director signs for a vehicle.

use motorcade::envelope::jwe::Envelope;
use motorcade::model::AccessRole::Engineer;
use reqwest::Method;
use serde_json::{Value, json};

use super::vehicle::TestVehicle;
use crate::app::{TestServer, send, sha256_hex};

#[tokio::test]
async fn every_file_names_its_vehicle_and_the_next_one() {
    let server = TestServer::start().await;
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    let timestamp = vehicle.fetch(&server, "timestamp.json").await.json()["signed"].clone();
    let version = timestamp["version"].as_u64().unwrap();
    let snapshot_file = vehicle.fetch(&server, &format!("{version}.snapshot.json")).await;
    let targets_file = vehicle.fetch(&server, &format!("{version}.targets.json")).await;
    assert_eq!(
        timestamp["meta"]["snapshot.json"]["hashes"]["sha256"],
        sha256_hex(&snapshot_file.body)
    );
    let snapshot = snapshot_file.json()["signed"].clone();
    assert_eq!(
        snapshot["meta"]["targets.json"]["hashes"]["sha256"],
        sha256_hex(&targets_file.body)
    );
    let targets = targets_file.json()["signed"].clone();
    for signed in [&timestamp, &snapshot, &targets] {
        assert_eq!(
            (&signed["vin"], &signed["version"]),
            (&json!("VIN1"), &json!(version)),
            "{signed}"
        );
        assert!(signed["delegations"].is_null());
    }
    assert_eq!(targets["targets"], json!({}));
    assert_eq!(targets_file.header("cache-control"), Some("private, no-cache"));
    vehicle
        .fetch(&server, &format!("{}.targets.json", version + 1))
        .await
        .refused(404, "file_not_found");
    for name in ["mirrors.json", "targets", "1.timestamp.json", "0.root.json", "99.root.json"] {
        vehicle.fetch(&server, name).await.refused(404, "file_not_found");
    }
    let root = send(server.request(Method::GET, "/director/1.root.json")).await.json();
    assert_eq!(root["signed"]["consistent_snapshot"], true);
}

#[tokio::test]
async fn metadata_is_kept_until_what_it_lists_changes() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let mut other = TestVehicle::registered(&server, "VIN2").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    let first = vehicle.targets(&server).await["version"].as_u64().unwrap();
    vehicle.report(&server).await;
    assert_eq!(vehicle.targets(&server).await["version"], first);
    let theirs = other.targets(&server).await["version"].as_u64().unwrap();
    assert!(theirs > first, "one sequence for all vehicles");
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let second = vehicle.targets(&server).await;
    assert!(second["version"].as_u64().unwrap() > theirs);
    let server = TestServer::on(server.stop(), |_| ()).await;
    assert_eq!(vehicle.targets(&server).await, second, "a restart signs nothing anew");
    vehicle.runs(&server, 0, "gw/1").await;
    assert_eq!(vehicle.targets(&server).await["targets"], json!({}), "what runs is not listed");
}

#[tokio::test]
async fn each_ecu_gets_the_data_key_under_its_own_key() {
    let server = TestServer::start().await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await; // before the vehicle exists
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let target = vehicle.targets(&server).await["targets"]["gw/1"].clone();
    let image = server.image("gw/1").await;
    assert_eq!(
        (&target["length"], &target["hashes"]["sha256"]),
        (&json!(image.sealed.length), &json!(image.sealed.sha256))
    );
    let ours = &target["custom"]["ecuIdentifiers"]["VIN1-gw"];
    assert_eq!(ours["hardwareId"], "gw-mk3");
    let envelope = Envelope::parse(ours["envelope"].to_string().as_bytes()).unwrap();
    assert!(envelope.open(&vehicle.ecus[0].encryption).is_ok());
    assert!(envelope.open(&vehicle.ecus[1].encryption).is_err());
    // The rest of `custom` is what the Image repository says (Uptane 2.1.0, 5.4.4.2 step 10).
    let mut rest = target["custom"].clone();
    rest.as_object_mut().unwrap().remove("ecuIdentifiers");
    let listed = server.repository().await.find("gw/1").unwrap().custom;
    assert_eq!(rest, listed);
}

#[tokio::test]
async fn one_image_for_two_ecus_is_listed_once_with_both() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::new("VIN1");
    vehicle.ecus[1].hardware_id = "gw-mk3".into();
    let request =
        server.request_as(Engineer, Method::POST, "/api/v1/vehicles").json(&vehicle.record());
    send(request).await.expect(201);
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.assign(&server, &[(0, "gw/1"), (1, "gw/1")]).await.expect(201);
    let targets = vehicle.targets(&server).await["targets"].clone();
    assert_eq!(targets.as_object().unwrap().len(), 1);
    let ecus: Vec<&String> =
        targets["gw/1"]["custom"]["ecuIdentifiers"].as_object().unwrap().keys().collect();
    assert_eq!(ecus, ["VIN1-brake", "VIN1-gw"]);
}

#[tokio::test]
async fn an_ecu_without_an_encryption_key_gets_no_envelope() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::new("VIN1");
    let mut record = vehicle.record();
    record["ecus"][0]["encryption_key"] = Value::Null;
    send(server.request_as(Engineer, Method::POST, "/api/v1/vehicles").json(&record))
        .await
        .expect(201);
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let targets = vehicle.targets(&server).await;
    let ecu = &targets["targets"]["gw/1"]["custom"]["ecuIdentifiers"]["VIN1-gw"];
    assert_eq!(ecu, &json!({ "hardwareId": "gw-mk3" }));
}

#[tokio::test]
async fn versions_are_never_used_twice_however_many_ask() {
    let server = TestServer::start().await;
    let vehicles =
        futures_util::future::join_all((0..20).map(|i| async move { format!("VIN{i}") })).await;
    let mut registered = Vec::new();
    for vin in &vehicles {
        registered.push(TestVehicle::registered(&server, vin).await);
    }
    let fetching = registered
        .iter()
        .flat_map(|vehicle| (0..3).map(|_| vehicle.fetch(&server, "timestamp.json")));
    let answers = futures_util::future::join_all(fetching).await;
    let mut seen: std::collections::BTreeMap<u64, String> = Default::default();
    for answer in &answers {
        let signed = answer.json()["signed"].clone();
        let vin = signed["vin"].as_str().unwrap().to_owned();
        let known = seen.insert(signed["version"].as_u64().unwrap(), vin.clone());
        assert!(known.is_none_or(|known| known == vin));
    }
    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn if_none_match_is_a_list_here_as_anywhere_else() {
    let server = TestServer::start().await;
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    let etag = vehicle.fetch(&server, "targets.json").await.header("etag").unwrap().to_owned();
    for (field, status) in [
        (etag.clone(), 304),
        (format!("\"x\", W/{etag}"), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
        (etag.trim_matches('"').to_owned(), 200),
    ] {
        let request = server.request(Method::GET, "/director/targets.json");
        let request = request.bearer_auth(&vehicle.token).header("if-none-match", &field);
        assert_eq!(send(request).await.status, status, "{field}");
    }
}

#[tokio::test]
async fn an_image_is_never_given_out_with_the_data_key_of_another() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    for (path, counter) in [("gw/1", 1), ("gw/2", 2)] {
        server.upload_for("gw-mk3", path, counter, "").await;
    }
    let envelope = "SELECT envelope FROM images WHERE path =";
    server.state.sql("UPDATE images SET created_by = envelope WHERE path = 'gw/1'").await;
    let moved = format!("UPDATE images SET envelope = ({envelope} 'gw/2') WHERE path = 'gw/1'");
    server.state.sql(&moved).await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    vehicle.fetch(&server, "timestamp.json").await.refused(500, "file_damaged");
    server.state.sql("UPDATE images SET envelope = created_by WHERE path = 'gw/1'").await;
    let targets = vehicle.targets(&server).await;
    assert!(targets.to_string().contains("gw/1"), "{targets}");
}
