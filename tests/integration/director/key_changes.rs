//! Encryption keys of ECUs that are changed: by the ECU's own signature, and a person's approval.

use std::process::Command;

use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::RecipientPrivateKey;
use motorcade::model::AccessRole::{Engineer, Viewer};
use motorcade::model::{Clock, SystemClock, VehicleId};
use motorcade::uptane::counter::MAX_COUNTER;
use motorcade::uptane::key::{Scheme, SigningKey};
use motorcade::uptane::key_change::KeyChange;
use reqwest::Method;
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::{BoxedUint, RsaPublicKey};
use serde_json::{Value, json};

use super::vehicle::{TestEcu, TestVehicle};
use crate::answer::Answer;
use crate::app::{TestServer, send};

fn kid(key: &RecipientPrivateKey) -> String {
    key.public().kid().to_string()
}

impl TestVehicle {
    /// A change that an ECU has signed, with its next counter.
    pub(super) fn key_change(&mut self, ecu: usize, key: &RecipientPrivateKey) -> Value {
        let ecu = &mut self.ecus[ecu];
        ecu.report.counter += 1;
        let pem = key.public().to_public_pem();
        change(&self.vin, ecu, pem).sign(&ecu.signing)
    }

    pub(super) async fn send_key(&self, server: &TestServer, ecu: usize, change: &Value) -> Answer {
        let path = format!("/director/ecus/{}/encryption-key", self.ecus[ecu].serial);
        let request = server.request(Method::PUT, &path).bearer_auth(&self.token);
        send(request.body(change.to_string())).await
    }

    pub(super) async fn change_key(&mut self, server: &TestServer, ecu: usize) -> Answer {
        let key = RecipientPrivateKey::generate_p256();
        let change = self.key_change(ecu, &key);
        self.ecus[ecu].encryption = key;
        self.send_key(server, ecu, &change).await
    }

    /// Which of its keys opens what the Director has wrapped for an ECU.
    async fn opens(
        &mut self,
        server: &TestServer,
        path: &str,
        keys: &[&RecipientPrivateKey],
    ) -> Vec<bool> {
        let targets = self.targets(server).await;
        let custom = &targets["targets"][path]["custom"]["ecuIdentifiers"];
        let envelope = custom[self.ecus[0].serial.as_str()]["envelope"].to_string();
        let envelope = Envelope::parse(envelope.as_bytes()).unwrap();
        keys.iter().map(|key| envelope.open(key).is_ok()).collect()
    }
}

fn change(vin: &VehicleId, ecu: &TestEcu, pem: String) -> KeyChange {
    KeyChange::new(vin.clone(), ecu.serial.clone(), ecu.report.counter, SystemClock.now(), pem)
}

async fn approve(server: &TestServer, vehicle: &TestVehicle, ecu: usize, kid: &str) -> Answer {
    let serial = &vehicle.ecus[ecu].serial;
    let path = format!("/api/v1/vehicles/{}/ecus/{serial}/key-change", vehicle.vin);
    let body = json!({ "kid": kid, "expires_in_seconds": 3600 });
    send(server.request_as(Engineer, Method::POST, &path).json(&body)).await
}

pub(super) async fn accepting() -> TestServer {
    TestServer::configured(|config| config.vehicles.ecu_key_changes = Some("accept".into())).await
}

#[tokio::test]
async fn a_key_is_changed_once_a_person_has_approved_that_very_key() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    let new = RecipientPrivateKey::generate_p256();
    let change = vehicle.key_change(0, &new);
    vehicle.send_key(&server, 0, &change).await.refused(409, "key_change_not_approved");
    assert_eq!(vehicle.events(&server, "key_change_refused").await, [format!("to {}", kid(&new))]);

    let other = kid(&RecipientPrivateKey::generate_p256());
    approve(&server, &vehicle, 0, &other).await.expect(201);
    vehicle.send_key(&server, 0, &change).await.refused(409, "key_change_not_approved");
    approve(&server, &vehicle, 1, &kid(&new)).await.expect(201); // another ECU's
    vehicle.send_key(&server, 0, &change).await.refused(409, "key_change_not_approved");
    approve(&server, &vehicle, 0, &kid(&new)).await.expect(201);
    vehicle.send_key(&server, 0, &change).await.expect(204);
    vehicle.send_key(&server, 0, &change).await.expect(204); // its answer did not arrive
    let old = kid(&vehicle.ecus[0].encryption);
    let said = format!("from {old} to {}", kid(&new));
    assert_eq!(
        vehicle.events(&server, "encryption_key_changed").await,
        std::slice::from_ref(&said)
    );
    let audited = server.get("/api/v1/audit?kind=encryption_key_changed").await.json();
    assert_eq!(audited["entries"][0]["detail"]["text"], said);
    assert_eq!(audited["entries"].as_array().unwrap().len(), 1);
    let approved = server.get("/api/v1/audit?kind=key_change_approved").await.json();
    assert_eq!(approved["entries"].as_array().unwrap().len(), 3);

    // What was changed is what the vehicle enrols with from now on, and reports go on.
    vehicle.ecus[0].encryption = new;
    let request = server.request(Method::POST, "/director/ecus").bearer_auth(&vehicle.token);
    send(request.json(&vehicle.enrolment())).await.expect(200);
    vehicle.report(&server).await;
    // Used up, also for the way back.
    vehicle.change_key(&server, 0).await.refused(409, "key_change_not_approved");
}

#[tokio::test]
async fn what_is_signed_for_the_vehicle_is_wrapped_for_the_new_key_at_once() {
    let server = accepting().await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let old = RecipientPrivateKey::parse(&vehicle.ecus[0].encryption.to_pkcs8_pem()).unwrap();
    assert_eq!(vehicle.opens(&server, "gw/1", &[&old]).await, [true]);
    let before = vehicle.targets_version;
    vehicle.change_key(&server, 0).await.expect(204);
    let new = RecipientPrivateKey::parse(&vehicle.ecus[0].encryption.to_pkcs8_pem()).unwrap();
    assert_eq!(vehicle.opens(&server, "gw/1", &[&old, &new]).await, [false, true]);
    assert!(vehicle.targets_version > before);
    // Kept, also by the next server.
    let server = TestServer::on(server.stop(), |_| ()).await;
    assert_eq!(vehicle.opens(&server, "gw/1", &[&old, &new]).await, [false, true]);
    vehicle.runs(&server, 0, "gw/1").await;
}

#[tokio::test]
async fn only_the_ecu_itself_changes_its_key_and_only_once() {
    let server = accepting().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let stranger = TestVehicle::registered(&server, "VIN2").await;
    vehicle.report(&server).await;
    let key = RecipientPrivateKey::generate_p256();
    let pem = || key.public().to_public_pem();
    // The Primary can't have a Secondary's images sealed for itself.
    vehicle.ecus[1].report.counter += 1;
    let forged = change(&vehicle.vin, &vehicle.ecus[1], pem()).sign(&vehicle.ecus[0].signing);
    vehicle.send_key(&server, 1, &forged).await.refused(422, "wrong_signature");
    let change_of_other = vehicle.key_change(0, &key);
    vehicle.send_key(&server, 1, &change_of_other).await.refused(400, "bad_key_change");
    stranger.send_key(&server, 0, &change_of_other).await.refused(400, "bad_key_change");
    vehicle.send_key(&server, 0, &json!({ "signed": {} })).await.refused(400, "bad_key_change");
    let path = "/director/ecus/nobody/encryption-key";
    let request = server.request(Method::PUT, path).bearer_auth(&vehicle.token);
    let mut nobody = TestEcu::new("nobody", "gw-mk3");
    nobody.report.counter = 1;
    let nobody = change(&vehicle.vin, &nobody, pem()).sign(&nobody.signing);
    send(request.body(nobody.to_string())).await.refused(404, "ecu_not_found");
    send(server.request(Method::PUT, path).body("{}")).await.refused(401, "unauthenticated");

    // There and back: the first can't be sent again, nor a report from before.
    let first = vehicle.key_change(0, &key);
    vehicle.send_key(&server, 0, &first).await.expect(204);
    vehicle.change_key(&server, 0).await.expect(204);
    vehicle.send_key(&server, 0, &first).await.refused(409, "counter_replayed");
    vehicle.ecus[0].report.counter -= 1;
    vehicle.ecus[1].report.counter += 1;
    let manifest = vehicle.manifest();
    vehicle.send(&server, &manifest).await.refused(409, "counter_replayed");
    vehicle.ecus[0].report.counter += 1;
    vehicle.report(&server).await;
}

#[tokio::test]
async fn keys_that_protect_nothing_and_keys_that_sign_are_refused() {
    let server = accepting().await;
    let mut vehicle = TestVehicle::new("VIN1");
    let pem = SigningKey::generate_pem(Scheme::EcdsaSha2Nistp256).unwrap();
    vehicle.ecus[0].signing = SigningKey::from_pem(&pem).unwrap();
    let request = server.request_as(Engineer, Method::POST, "/api/v1/vehicles");
    send(request.json(&vehicle.record())).await.expect(201);
    let own = vehicle.ecus[0].signing.public().object()["keyval"]["public"].clone();
    for (pem, why) in [
        (own.as_str().unwrap().to_owned(), "it signs"),
        (divisible_by_three(), "divisible by 3"),
        ("hello".to_owned(), "key"),
    ] {
        vehicle.ecus[0].report.counter += 1;
        let change = change(&vehicle.vin, &vehicle.ecus[0], pem).sign(&vehicle.ecus[0].signing);
        let answer = vehicle.send_key(&server, 0, &change).await;
        assert!(answer.json()["detail"].as_str().unwrap().contains(why), "{answer:?}");
        answer.refused(422, "key_refused");
    }
    let path = format!("/api/v1/vehicles/VIN1/ecus/{}/key-change", vehicle.ecus[0].serial);
    let ask = |role, body: Value| send(server.request_as(role, Method::POST, &path).json(&body));
    let kid = kid(&vehicle.ecus[0].encryption);
    let body = |kid: &str, seconds: u64| json!({ "kid": kid, "expires_in_seconds": seconds });
    ask(Viewer, body(&kid, 60)).await.refused(403, "forbidden");
    ask(Engineer, body("nobody", 60)).await.refused(400, "bad_key_change");
    ask(Engineer, body(&kid, 31 * 86_400)).await.refused(400, "bad_vehicle");
    approve(&server, &TestVehicle::new("VIN9"), 0, &kid).await.refused(404, "vehicle_not_found");
}

/// With the highest counter accepted, its next report would have none.
#[tokio::test]
async fn no_message_takes_an_ecu_to_the_end_of_its_counter() {
    let server = accepting().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    for counter in [MAX_COUNTER, MAX_COUNTER - 1, MAX_COUNTER + 1] {
        vehicle.ecus[0].report.counter = counter - 1;
        let change = vehicle.key_change(0, &RecipientPrivateKey::generate_p256());
        vehicle.send_key(&server, 0, &change).await.refused(400, "bad_key_change");
        vehicle.ecus[1].report.counter = 1_000;
        let manifest = vehicle.manifest();
        vehicle.send(&server, &manifest).await.refused(400, "manifest_malformed");
    }
    for ecu in &mut vehicle.ecus {
        ecu.report.counter = 1;
    }
    vehicle.report(&server).await;
    vehicle.change_key(&server, 0).await.expect(204);
    vehicle.report(&server).await;
}

fn divisible_by_three() -> String {
    let modulus = BoxedUint::from_be_slice_vartime(&[0xff; 256]);
    let key = RsaPublicKey::new_unchecked(modulus, BoxedUint::from(65537_u64));
    key.to_public_key_pem(LineEnding::LF).unwrap()
}

/// An ECU of a registered vehicle signs with what vehicles and their hardware have.
#[tokio::test]
async fn no_ecu_is_registered_with_a_signing_key_of_ml_dsa() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::new("VIN1");
    let pem = SigningKey::generate_pem(Scheme::MlDsa65).unwrap();
    vehicle.ecus[1].signing = SigningKey::from_pem(&pem).unwrap();
    let request = server.request_as(Engineer, Method::POST, "/api/v1/vehicles");
    send(request.json(&vehicle.record())).await.refused(422, "key_refused");
}

/// Both programs: the vehicle asks, a person approves, and the image that was waiting is installed.
#[tokio::test]
async fn the_reference_vehicle_changes_the_key_of_an_ecu_that_waits_for_an_image() {
    let server = TestServer::start().await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    let folder = tempfile::tempdir().unwrap();
    let root = send(server.request(Method::GET, "/director/1.root.json")).await.expect(200);
    std::fs::write(folder.path().join("d.json"), &root[..]).unwrap();
    let root = server.download("1.root.json").await;
    std::fs::write(folder.path().join("i.json"), root).unwrap();
    let vehicle = |arguments: &str| {
        let mut command = Command::new(crate::support::vehicle_binary());
        command.current_dir(folder.path()).args(arguments.split(' '));
        command.env("MOTORCADE_ENROLMENT_TOKEN", &server.state.tokens.enroller).output().unwrap()
    };
    let provisioned = vehicle(&format!(
        "provision --dir v --vin VIN1 --server {} --primary gw-1:gw-mk3 --secondary gw-2:gw-mk3:rsa \
         --director-root d.json --image-root i.json",
        server.url("")
    ));
    assert!(provisioned.status.success(), "{provisioned:?}");
    let body = json!({ "assignments": [{ "ecu_serial": "gw-2", "image": "gw/1" }] });
    let request = server.request_as(Engineer, Method::POST, "/api/v1/vehicles/VIN1/assignments");
    send(request.json(&body)).await.expect(201);
    let change = || {
        let output = vehicle("change-key --dir v --json gw-2");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (told["kid"].as_str().unwrap().to_owned(), told["changed"].clone(), output)
    };
    let (new, changed, output) = change();
    assert_eq!((changed, output.status.success()), (json!(false), false));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&format!("vehicle approve-key VIN1 gw-2 {new}")), "{error}");
    let path = "/api/v1/vehicles/VIN1/ecus/gw-2/key-change";
    let body = json!({ "kid": new, "expires_in_seconds": 3600 });
    send(server.request_as(Engineer, Method::POST, path).json(&body)).await.expect(201);
    let (again, changed, output) = change();
    assert_eq!((&again, changed), (&new, json!(true)), "{output:?}");
    let key = std::fs::read_to_string(folder.path().join("v/keys/gw-2.encryption.pem")).unwrap();
    assert_eq!(kid(&RecipientPrivateKey::parse(&key).unwrap()), new);
    let updated = vehicle("update --dir v --json");
    let outcome: Value = serde_json::from_slice(&updated.stdout).unwrap();
    assert_eq!(outcome["outcome"], "updated", "{outcome}");
    let installed = std::fs::read(folder.path().join("v/ecus/gw-2/image.bin")).unwrap();
    assert!(installed.starts_with(b"firmware at /api/v1/images/gw/1"));
}
