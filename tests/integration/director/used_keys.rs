//! Keys of ECUs that have, or had, another use: a recipient's that was revoked, and one that signs
//! metadata.

use std::fs;

use motorcade::api::{BulkBody, DoctorBody};
use motorcade::keys::file::add;
use motorcade::model::AccessRole::{Engineer, Officer};
use motorcade::uptane::key::{Scheme, SigningKey};
use reqwest::Method;
use serde_json::{Value, json};

use super::key_changes::accepting;
use super::vehicle::TestVehicle;
use crate::app::{TestServer, send};
use crate::state::private_key;

const STOLEN: &str = "snakeoil_p256";

/// A vehicle whose Secondary has the key of a recipient.
fn with_stolen_key(vin: &str) -> TestVehicle {
    let mut vehicle = TestVehicle::new(vin);
    vehicle.ecus[1].encryption = private_key(STOLEN);
    vehicle
}

async fn revoke(server: &TestServer) {
    let revocation = json!({ "revocation": { "kid": private_key(STOLEN).kid() } });
    let job = server.rotated(revocation).await;
    assert_eq!(job["state"], "done", "{job}");
}

#[tokio::test]
async fn a_revoked_key_comes_in_as_an_ecu_s_by_no_door() {
    let server = accepting().await;
    let mut known = TestVehicle::registered(&server, "VIN1").await;
    known.report(&server).await;
    revoke(&server).await;
    let (vehicle, kid) = (with_stolen_key("VIN2"), private_key(STOLEN).kid().to_string());
    let register = server.request_as(Engineer, Method::POST, "/api/v1/vehicles");
    let told = send(register.json(&vehicle.record())).await.refused(422, "key_refused");
    assert!(told.contains(&kid) && told.contains("was revoked"), "{told}");
    let enrol = server.request(Method::POST, "/director/ecus");
    let enrol = enrol.bearer_auth(&server.state.tokens.enroller).json(&vehicle.enrolment());
    send(enrol).await.refused(422, "key_refused");
    let bulk = server.request_as(Engineer, Method::POST, "/api/v1/vehicles");
    let bulk = bulk.header("Content-Type", "application/jsonl").body(vehicle.record().to_string());
    let report = send(bulk).await.body::<BulkBody>();
    assert_eq!(
        (report.registered, report.refused, report.faults[0].code.as_str()),
        (0, 1, "key_refused")
    );

    let change = known.key_change(1, &private_key(STOLEN));
    known.send_key(&server, 1, &change).await.refused(422, "key_refused");
    let path = format!("/api/v1/vehicles/VIN1/ecus/{}/key-change", known.ecus[1].serial);
    let body = json!({ "kid": kid, "expires_in_seconds": 60 });
    let approve = server.request_as(Engineer, Method::POST, &path).json(&body);
    send(approve).await.refused(422, "key_refused");

    // Approved by a person, one ECU alone and all anew.
    known.ecus[1].encryption = private_key(STOLEN);
    for approval in [format!("ecus/{}/replacement", known.ecus[1].serial), "re-enrolment".into()] {
        let path = format!("/api/v1/vehicles/VIN1/{approval}");
        let approve = server.request_as(Engineer, Method::POST, &path);
        send(approve.json(&json!({ "expires_in_seconds": 60 }))).await.expect(201);
        let claim = server.request(Method::POST, "/director/ecus").bearer_auth(&known.token);
        send(claim.json(&known.enrolment())).await.refused(422, "key_refused");
    }
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn nothing_more_is_wrapped_for_an_ecu_whose_key_was_revoked_and_the_doctor_names_it() {
    let server = accepting().await;
    for (hardware, path) in [("brake-2", "brake/1"), ("gw-mk3", "gw/1")] {
        server.upload_for(hardware, path, 1, "").await;
    }
    let mut vehicle = with_stolen_key("VIN1");
    let register = server.request_as(Engineer, Method::POST, "/api/v1/vehicles");
    send(register.json(&vehicle.record())).await.expect(201);
    vehicle.report(&server).await;
    vehicle.assign(&server, &[(0, "gw/1"), (1, "brake/1")]).await.expect(201);
    revoke(&server).await;
    let targets = vehicle.targets(&server).await;
    let listed: Vec<&String> = targets["targets"].as_object().unwrap().keys().collect();
    assert_eq!(listed, ["gw/1"], "the other ECU goes on");
    let blocked = vehicle.events(&server, "assignment_blocked").await;
    assert!(blocked[0].contains("was revoked"), "{blocked:?}");
    let body: DoctorBody = server.get("/api/v1/doctor").await.body();
    let keys = body.checks.iter().find(|check| check.check == "keys").unwrap();
    let problem = &keys.findings[0].problem;
    assert!(problem.contains("VIN1-brake in VIN1") && problem.contains("change-key"), "{problem}");

    // With another key it is an ECU like any other.
    vehicle.change_key(&server, 1).await.expect(204);
    vehicle.assign(&server, &[(1, "brake/1")]).await.expect(201);
    let targets = vehicle.targets(&server).await;
    assert_eq!(targets["targets"].as_object().unwrap().len(), 2, "{targets}");
}

#[tokio::test]
async fn no_ecu_s_key_comes_into_a_root_nor_a_role_s_key_into_an_ecu() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::new("VIN1");
    let p256 = SigningKey::generate_pem(Scheme::EcdsaSha2Nistp256).unwrap();
    vehicle.ecus[1].signing = SigningKey::from_pem(&p256).unwrap();
    let register = async |vehicle: &TestVehicle| {
        let request = server.request_as(Engineer, Method::POST, "/api/v1/vehicles");
        send(request.json(&vehicle.record())).await
    };
    register(&vehicle).await.expect(201);
    let pem = vehicle.ecus[1].signing.public().object()["keyval"]["public"].as_str().unwrap();
    let unbroken =
        pem.replace('\n', "").replace("KEY-----", "KEY-----\n").replace("-----END", "\n-----END");
    let keys = [
        (vehicle.ecus[0].signing.public().object().clone(), "signs the reports of VIN1-gw"),
        (vehicle.ecus[1].signing.public().object().clone(), "signs the reports of VIN1-brake"),
        (json!(unbroken), "signs the reports of VIN1-brake"),
        (json!(vehicle.ecus[0].encryption.public().to_public_pem()), "opens the images of VIN1-gw"),
    ];
    for repository in ["image", "director"] {
        for (key, use_) in &keys {
            let path = format!("/api/v1/roots/{repository}/staged");
            let body = json!({ "roles": [{ "name": "root", "add": [key] }] });
            let answer = send(server.request_as(Officer, Method::PUT, &path).json(&body)).await;
            assert_eq!(answer.status, 409, "{answer:?}");
            let problem = &answer.json()["problems"][0];
            assert_eq!(problem["code"], "key_in_use", "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(use_), "{problem}");
        }
    }
    // One that is in a file here, and that nobody has read yet.
    let file = add(&server.state.path().join("keys"), "snapshot", Scheme::Ed25519).unwrap();
    let mut other = TestVehicle::new("VIN2");
    other.ecus[0].signing = SigningKey::from_pem(&fs::read_to_string(&file).unwrap()).unwrap();
    register(&other).await.expect(201);
    let named = format!("file:{}", file.file_name().unwrap().to_str().unwrap());
    let url = "/api/v1/roles/image/snapshot/rotate";
    let rotate = server.request_as(Officer, Method::POST, url).json(&json!({ "keys": [named] }));
    let refused = send(rotate).await;
    assert_eq!(refused.json()["problems"][0]["code"], "key_in_use", "{refused:?}");

    let timestamp = fs::read_to_string(server.state.path().join("keys/timestamp.pem")).unwrap();
    let mut other = TestVehicle::new("VIN3");
    other.ecus[1].signing = SigningKey::from_pem(&timestamp).unwrap();
    let told = register(&other).await.refused(422, "key_refused");
    assert!(told.contains("signs metadata"), "{told}");
}

/// Who may enrol vehicles can't keep officers from changing a root whose keys he knows.
#[tokio::test]
async fn a_key_that_is_in_the_root_already_stays_though_a_vehicle_claims_it() {
    let server = TestServer::start().await;
    let new_key =
        || SigningKey::from_pem(&SigningKey::generate_pem(Scheme::Ed25519).unwrap()).unwrap();
    let call = async |method: Method, path: &str, body: Value| {
        let path = format!("/api/v1/roots/image/staged{path}");
        send(server.request_as(Officer, method, &path).json(&body)).await.expect(200)
    };
    let add =
        |key: &SigningKey| json!({ "roles": [{ "name": "root", "add": [key.public().object()] }] });
    let officer = new_key();
    call(Method::PUT, "", add(&officer)).await;
    call(Method::POST, "/sign", json!({})).await;
    call(Method::POST, "/publish", json!({})).await;
    let mut vehicle = TestVehicle::new("VIN1");
    vehicle.ecus[0].signing = officer;
    let register = server.request_as(Engineer, Method::POST, "/api/v1/vehicles");
    send(register.json(&vehicle.record())).await.expect(201);
    call(Method::PUT, "", add(&new_key())).await;
}
