//! Keys that anybody breaks, at every door through which a public key comes in.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use crypto_bigint::{BoxedUint, ConcatenatingMul};
use crypto_primes::{Flavor, is_prime, random_prime};
use motorcade::api::{BulkBody, RecipientList, VehicleList};
use motorcade::app::fsck::{self, Damaged};
use motorcade::model::AccessRole::Engineer;
use motorcade::model::{EcuRecord, EcuRole, NewVehicle, RecipientRecord};
use reqwest::Method;
use rsa::RsaPublicKey;
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use serde_json::{Value, json};

use crate::app::{TestServer, send};
use crate::director::vehicle::TestVehicle;
use crate::state::HARDWARE_ID;

/// An RSA modulus, and what the refusal says of it.
struct Weak {
    modulus: BoxedUint,
    reason: &'static str,
}

impl Weak {
    fn pem(&self) -> String {
        let key = RsaPublicKey::new(self.modulus.clone(), BoxedUint::from(65537_u64)).unwrap();
        key.to_public_key_pem(LineEnding::LF).unwrap()
    }

    fn jwk(&self) -> Value {
        json!({ "kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(self.modulus.to_be_bytes()) })
    }
}

static WEAK: LazyLock<Vec<Weak>> = LazyLock::new(|| {
    let prime = |bits| random_prime::<BoxedUint, _>(&mut rand::rng(), Flavor::Any, bits);
    let (p, cube) = (prime(1025), prime(684)); // so that no product is too small
    let mut next = &p + BoxedUint::from(2_u64);
    while !is_prime(Flavor::Any, &next) {
        next += BoxedUint::from(2_u64);
    }
    vec![
        Weak { modulus: p.concatenating_mul(&next), reason: "so close together" },
        Weak { modulus: p.concatenating_mul(&p), reason: "a power of one number" },
        Weak {
            modulus: cube.concatenating_mul(&cube).concatenating_mul(&cube),
            reason: "a power of one number",
        },
        Weak { modulus: prime(2048), reason: "is a prime" },
        Weak { modulus: BoxedUint::from_be_slice_vartime(&[0xff; 256]), reason: "divisible by 3" },
    ]
});

/// A point of order 8 on edwards25519: signatures for it are made by trying a few messages.
const SMALL_ORDER: &str = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";

fn ed25519_pem() -> String {
    let spki = hex::decode(format!("302a300506032b6570032100{SMALL_ORDER}")).unwrap();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(spki))
}

/// A vehicle's registration with one key of its Secondary replaced, for each key of which something
/// is wrong.
fn weak_vehicles() -> Vec<(Value, &'static str)> {
    let mut vehicles = Vec::new();
    let mut add = |member: &str, key: Value, reason| {
        let mut record = TestVehicle::new(&format!("VIN{}", vehicles.len())).record();
        record["ecus"][1][member] = key;
        vehicles.push((record, reason));
    };
    for weak in WEAK.iter() {
        add("encryption_key", weak.pem().into(), weak.reason);
        add("encryption_key", weak.jwk(), weak.reason);
        add("signing_key", weak.pem().into(), weak.reason);
        let object = json!({ "keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": { "public": weak.pem() } });
        add("signing_key", object, weak.reason);
    }
    add("signing_key", ed25519_pem().into(), "small order");
    let object =
        json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": SMALL_ORDER } });
    add("signing_key", object, "small order");
    vehicles
}

#[tokio::test]
async fn no_recipient_is_registered_with_a_key_that_anybody_breaks() {
    let server = TestServer::start().await;
    for weak in WEAK.iter() {
        for public_key in [Value::from(weak.pem()), weak.jwk(), weak.jwk().to_string().into()] {
            let body = json!({ "hardware_ids": [HARDWARE_ID], "public_key": public_key });
            let answer =
                send(server.request_as(Engineer, Method::POST, "/api/v1/recipients").json(&body))
                    .await;
            let detail = answer.refused(422, "key_refused");
            assert!(detail.contains(weak.reason), "{detail}");
        }
    }
    let registered: RecipientList = server.get("/api/v1/recipients").await.body();
    assert_eq!(registered.recipients.len(), 2);
}

#[tokio::test]
async fn no_vehicle_is_registered_or_enrolled_with_a_key_that_anybody_breaks() {
    let server = TestServer::start().await;
    for (record, reason) in weak_vehicles() {
        let answer =
            send(server.request_as(Engineer, Method::POST, "/api/v1/vehicles").json(&record)).await;
        let detail = answer.refused(422, "key_refused");
        assert!(detail.contains(reason) && detail.contains("-brake"), "{detail}");

        let mut enrolment = record.clone();
        enrolment["primary_ecu_serial"] = record["ecus"][0]["ecu_serial"].clone();
        for ecu in enrolment["ecus"].as_array_mut().unwrap() {
            ecu.as_object_mut().unwrap().remove("role");
        }
        let request = server
            .request(Method::POST, "/director/ecus")
            .bearer_auth(&server.state.tokens.enroller);
        let detail = send(request.json(&enrolment)).await.refused(422, "key_refused");
        assert!(detail.contains(reason), "{detail}");
    }
    assert_eq!(server.get("/api/v1/vehicles").await.body::<VehicleList>().vehicles, []);
}

#[tokio::test]
async fn lists_of_vehicles_name_the_line_of_a_key_that_anybody_breaks() {
    let server = TestServer::start().await;
    let vehicles = weak_vehicles();
    let bulk = async |content_type: &str, body: String| {
        let request = server
            .request_as(Engineer, Method::POST, "/api/v1/vehicles")
            .header("Content-Type", content_type);
        send(request.body(body)).await.body::<BulkBody>()
    };
    let lines: Vec<String> = vehicles.iter().map(|(record, _)| record.to_string()).collect();
    let report = bulk("application/jsonl", lines.join("\n")).await;
    let all = vehicles.len() as u64;
    assert_eq!((report.registered, report.refused), (0, all), "{report:?}");
    for (fault, (_, reason)) in report.faults.iter().zip(&vehicles) {
        assert_eq!(fault.code, "key_refused", "{fault:?}");
        assert!(fault.detail.contains(reason), "{fault:?}");
    }

    let cell = |value: &Value| {
        value.as_str().map_or_else(|| value.to_string(), str::to_owned).replace('"', "\"\"")
    };
    let mut csv = "vin,ecu_serial,hardware_id,role,signing_key,encryption_key\n".to_owned();
    for (record, _) in &vehicles {
        for ecu in record["ecus"].as_array().unwrap() {
            let cells = ["ecu_serial", "hardware_id", "role", "signing_key", "encryption_key"];
            let cells: Vec<String> =
                cells.iter().map(|member| format!("\"{}\"", cell(&ecu[member]))).collect();
            csv += &format!("{},{}\n", record["vin"].as_str().unwrap(), cells.join(","));
        }
    }
    let report = bulk("text/csv", csv).await;
    let all = vehicles.len() as u64;
    assert_eq!((report.registered, report.refused), (0, all), "{report:?}");
}

#[tokio::test]
async fn an_ecu_is_not_replaced_by_one_whose_key_anybody_breaks() {
    let server = TestServer::start().await;
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    let claim = async |enrolment: &Value| {
        send(
            server
                .request(Method::POST, "/director/ecus")
                .bearer_auth(&vehicle.token)
                .json(enrolment),
        )
        .await
    };
    let weak_enrolment = |weak: &Weak| {
        let mut enrolment = vehicle.enrolment();
        enrolment["ecus"][1]["encryption_key"] = weak.pem().into();
        enrolment
    };
    // The check takes long, so keys that nobody has approved are not checked.
    claim(&weak_enrolment(&WEAK[0])).await.refused(409, "replacement_not_approved");
    let mut several = weak_enrolment(&WEAK[0]);
    several["ecus"][0]["encryption_key"] = WEAK[1].pem().into();
    claim(&several).await.refused(409, "not_a_replacement");

    let path = format!("/api/v1/vehicles/VIN1/ecus/{}/replacement", vehicle.ecus[1].serial);
    let request = server
        .request_as(Engineer, Method::POST, &path)
        .json(&json!({ "expires_in_seconds": 3600 }));
    send(request).await.expect(201);
    for weak in WEAK.iter() {
        let detail = claim(&weak_enrolment(weak)).await.refused(422, "key_refused");
        assert!(detail.contains(weak.reason), "{detail}");
    }
    claim(&several).await.refused(409, "not_a_replacement");
    let request = server.request_as(Engineer, Method::POST, "/api/v1/vehicles/VIN1/re-enrolment");
    send(request.json(&json!({ "expires_in_seconds": 3600 }))).await.expect(201);
    claim(&several).await.refused(422, "key_refused");
}

#[test]
fn the_command_line_refuses_a_key_that_anybody_breaks_before_it_asks_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weak.pem");
    for weak in WEAK.iter() {
        std::fs::write(&file, weak.pem()).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_motorcade"));
        command
            .args(["recipient", "add", "--server", "http://127.0.0.1:1", "--hardware-id", "gw"])
            .arg(&file);
        let output = command.env("MOTORCADE_TOKEN", "mct_none").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(weak.reason), "{text}");
    }
}

/// Keys from before there was a check, or before it was this strict.
#[tokio::test]
async fn fsck_names_stored_keys_that_anybody_breaks() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "x").await.expect(201);
    let state = server.stop();
    state.assert_clean().await;
    let catalog = state.dir().open_catalog().await.unwrap();
    let weak = &WEAK[0];
    let now = motorcade::model::Clock::now(&motorcade::model::SystemClock);
    let author = motorcade::app::audit::Author::server(now);
    let record = RecipientRecord {
        hardware_id: HARDWARE_ID.parse().unwrap(),
        kid: "weak-one".into(),
        jwk: weak.jwk().to_string(),
        created_at: now,
        created_by: "before".into(),
    };
    assert!(catalog.insert_recipient(&record, &author).await.unwrap());
    let ecu = EcuRecord {
        serial: "gw-1".parse().unwrap(),
        hardware_id: HARDWARE_ID.parse().unwrap(),
        role: EcuRole::Primary,
        signing_key: json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": SMALL_ORDER } }).into(),
        encryption_key: Some(WEAK[3].jwk().into()),
    };
    let vehicle = NewVehicle { vin: "VIN1".parse().unwrap(), ecus: vec![ecu], token_sha256: None };
    catalog.register_vehicles(&[vehicle], &author).await.unwrap();
    catalog.close().await;

    let findings = fsck::check(&state.dir(), Damaged::Report, |_, _| ()).await.unwrap();
    let found = |parts: [&str; 3]| {
        findings.problems.iter().any(|line| parts.iter().all(|part| line.contains(part)))
    };
    assert!(found(["weak-one", HARDWARE_ID, weak.reason]), "{:#?}", findings.problems);
    assert!(found(["gw-1", "signing", "small order"]), "{:#?}", findings.problems);
    assert!(found(["gw-1", "encryption", WEAK[3].reason]), "{:#?}", findings.problems);
    assert_eq!(findings.problems.len(), 3, "{:#?}", findings.problems);
}
