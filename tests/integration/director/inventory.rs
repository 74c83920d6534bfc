//! Registration, in bulk and by vehicles; replacement of ECUs.

use motorcade::api::{BulkBody, FaultBody, VehicleList};
use motorcade::model::AccessRole::{Engineer, Enroller, Viewer};
use motorcade::uptane::key::{Scheme, SigningKey};
use reqwest::Method;
use serde_json::{Value, json};

use super::vehicle::{TestEcu, TestVehicle, role};
use crate::answer::Answer;
use crate::app::{TestServer, send};

async fn register(server: &TestServer, record: &Value) -> Answer {
    send(server.request_as(Engineer, Method::POST, "/api/v1/vehicles").json(record)).await
}

async fn register_many(
    server: &TestServer,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> BulkBody {
    let request = server
        .request_as(Engineer, Method::POST, "/api/v1/vehicles")
        .header("Content-Type", content_type);
    send(request.body(body)).await.body()
}

async fn enrol(server: &TestServer, token: &str, enrolment: &Value) -> Answer {
    send(server.request(Method::POST, "/director/ecus").bearer_auth(token).json(enrolment)).await
}

#[tokio::test]
async fn the_first_registration_of_a_vehicle_and_of_an_ecu_stands() {
    let server = TestServer::start().await;
    let first = TestVehicle::registered(&server, "VIN1").await;
    register(&server, &first.record()).await.expect(200);
    let other = TestVehicle::new("VIN1");
    register(&server, &other.record()).await.refused(409, "already_registered");
    let mut thief = TestVehicle::new("VIN2").record();
    thief["ecus"][1]["ecu_serial"] = first.ecus[1].serial.as_str().into();
    let detail = register(&server, &thief).await.refused(409, "already_registered");
    assert!(detail.contains("VIN1-brake"), "{detail}");
    let shown = first.shown(&server).await;
    assert_eq!(shown.ecus[0].signing_key, *first.ecus[0].signing.public().object());
    assert_eq!((shown.ecus[0].role.as_str(), shown.seen_at.is_none()), ("primary", true));
    server.get("/api/v1/vehicles/VIN2").await.refused(404, "vehicle_not_found");
}

#[tokio::test]
async fn what_can_not_be_registered_is_refused_with_the_reason() {
    let server = TestServer::start().await;
    let good = TestVehicle::new("VIN1").record();
    let private = SigningKey::generate_pem(Scheme::EcdsaSha2Nistp256).unwrap();
    let p256 = SigningKey::from_pem(&private).unwrap();
    let public = &p256.public().object()["keyval"]["public"];
    let changes: [(&str, Value, u16, &str); 11] = [
        ("/vin", json!("a/b"), 400, "bad_vehicle"),
        ("/ecus/0/ecu_serial", json!(""), 400, "bad_vehicle"),
        ("/ecus/0/hardware_id", json!("gw mk3"), 400, "bad_vehicle"),
        ("/ecus/0/role", json!("secondary"), 400, "bad_vehicle"),
        ("/ecus/1/role", json!("primary"), 400, "bad_vehicle"),
        ("/ecus", json!([]), 400, "bad_vehicle"),
        ("/token_sha256", json!("abc"), 400, "bad_vehicle"),
        ("/ecus/0/signing_key", json!(private.as_str()), 422, "key_refused"),
        ("/ecus/0/signing_key", json!("hello"), 422, "key_refused"),
        ("/ecus/0/encryption_key", json!(private.as_str()), 422, "key_refused"),
        ("/ecus/0/signing_key", good["ecus"][1]["signing_key"].clone(), 422, "key_refused"),
    ];
    for (place, value, status, code) in changes {
        let mut record = good.clone();
        *record.pointer_mut(place).unwrap() = value;
        let detail = register(&server, &record).await.refused(status, code);
        assert!(!detail.contains("BEGIN"), "{detail}");
    }
    // One key that signs and decrypts.
    let mut both = good.clone();
    both["ecus"][0]["signing_key"] = public.clone();
    both["ecus"][0]["encryption_key"] = public.clone();
    let detail = register(&server, &both).await.refused(422, "key_refused");
    assert!(detail.contains("it signs, too"), "{detail}");
    let mut unknown = good.clone();
    unknown["colour"] = json!("red");
    register(&server, &unknown).await.refused(400, "bad_json");
    server.get("/api/v1/vehicles/VIN1").await.refused(404, "vehicle_not_found");
    register(&server, &good).await.expect(201);
}

#[tokio::test]
async fn many_vehicles_come_in_one_stream_and_bad_lines_keep_nobody_out() {
    let server = TestServer::start().await;
    let vehicles: Vec<TestVehicle> =
        (0..1200).map(|i| TestVehicle::new(&format!("VIN{i:04}"))).collect();
    let mut lines: Vec<String> =
        vehicles.iter().map(|vehicle| vehicle.record().to_string()).collect();
    lines.insert(700, "{\"vin\": 5}".to_owned());
    lines.insert(3, lines[0].replace("VIN0000-gw", "VINx-gw"));
    let report = register_many(&server, "application/jsonl", lines.join("\n")).await;
    assert_eq!((report.registered, report.refused), (1200, 2), "{report:?}");
    let faults: Vec<(u64, &str)> = report.faults.iter().map(fault).collect();
    assert_eq!(faults, [(4, "already_registered"), (702, "bad_vehicle")]);
    let report = register_many(&server, "application/jsonl", lines.join("\n")).await;
    assert_eq!((report.registered, report.unchanged), (0, 1200), "{report:?}");
    let page: VehicleList = server.get("/api/v1/vehicles?limit=1000").await.body();
    assert_eq!((page.vehicles.len(), page.next_cursor.as_deref()), (1000, Some("VIN0999")));
    let page: VehicleList = server.get("/api/v1/vehicles?limit=1000&cursor=VIN0999").await.body();
    assert_eq!((page.vehicles.len(), page.next_cursor), (200, None));
}

fn fault(fault: &FaultBody) -> (u64, &str) {
    (fault.line, &fault.code)
}

#[tokio::test]
async fn csv_has_an_ecu_a_line() {
    let server = TestServer::start().await;
    let vehicles = ["VIN1", "VIN2"].map(TestVehicle::new);
    let mut csv = "vin,ecu_serial,hardware_id,role,signing_key,encryption_key\n".to_owned();
    for vehicle in &vehicles {
        for (index, ecu) in vehicle.ecus.iter().enumerate() {
            let key = ecu.signing.public().object().to_string().replace('"', "\"\"");
            let pem = ecu.encryption.public().to_public_pem();
            let (serial, hardware_id) = (&ecu.serial, &ecu.hardware_id);
            csv += &format!(
                "{},{serial},{hardware_id},{},\"{key}\",\"{pem}\"\n",
                vehicle.vin,
                role(index)
            );
        }
    }
    let report = register_many(&server, "text/csv; charset=utf-8", csv.clone()).await;
    assert_eq!(report.registered, 2, "{report:?}");
    let shown = vehicles[1].shown(&server).await;
    assert_eq!(shown.ecus[1].signing_key, *vehicles[1].ecus[1].signing.public().object());
    // A line that can't be read keeps nobody else out.
    let third = TestVehicle::new("VIN3");
    let ecu = &third.ecus[0];
    let key = ecu.signing.public().object().to_string().replace('"', "\"\"");
    let more = format!("VIN4,too,few\nVIN3,{},gw-mk3,primary,\"{key}\",\n", ecu.serial);
    let report = register_many(&server, "text/csv", csv.clone() + &more).await;
    assert_eq!((report.registered, report.unchanged, report.refused), (1, 2, 1));

    let request = server
        .request_as(Engineer, Method::POST, "/api/v1/vehicles")
        .header("Content-Type", "text/csv");
    let detail =
        send(request.body(csv.replace("hardware_id", "hwid"))).await.refused(400, "bad_vehicle");
    assert!(detail.contains("hardware_id"), "{detail}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_keeps_what_was_whole_and_can_be_repeated() {
    let server = TestServer::start().await;
    let lines: Vec<String> = (0..600)
        .map(|i| TestVehicle::new(&format!("VIN{i:04}")).record().to_string() + "\n")
        .collect();
    let whole = lines.concat();
    let mut raw = server.connect().await;
    let head = format!(
        "POST /api/v1/vehicles HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\nContent-Type: application/jsonl\r\n\
         Content-Length: {}\r\n\r\n",
        server.state.tokens.engineer,
        whole.len()
    );
    raw.send(head).await;
    raw.send(&whole[..whole.len() - 1000]).await;
    drop(raw);
    let report = register_many(&server, "application/jsonl", whole).await;
    assert_eq!((report.registered + report.unchanged, report.refused), (600, 0), "{report:?}");
}

#[tokio::test]
async fn a_factory_enrols_vehicles_and_sees_nothing() {
    let server = TestServer::start().await;
    let vehicle = TestVehicle::new("VIN1");
    let enroller = server.state.tokens.enroller.clone();
    enrol(&server, server.state.tokens.of(Viewer), &vehicle.enrolment())
        .await
        .refused(403, "forbidden");
    enrol(&server, &enroller, &vehicle.enrolment()).await.expect(201);
    enrol(&server, &enroller, &vehicle.enrolment()).await.expect(200);
    enrol(&server, &enroller, &TestVehicle::new("VIN1").enrolment())
        .await
        .refused(409, "already_registered");
    for path in ["/api/v1/vehicles", "/api/v1/vehicles/VIN1", "/api/v1/images"] {
        send(server.request_as(Enroller, Method::GET, path)).await.refused(403, "forbidden");
    }
    enrol(&server, &vehicle.token, &vehicle.enrolment()).await.expect(200);
}

#[tokio::test]
async fn an_ecu_is_replaced_with_an_approval_once_and_in_time() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    let old = vehicle.ecus[1].serial.clone();
    vehicle.ecus[1] = TestEcu::new("brake-new", "brake-2");
    enrol(&server, &vehicle.token, &vehicle.enrolment())
        .await
        .refused(409, "replacement_not_approved");
    let manifest = vehicle.next_manifest();
    vehicle.send(&server, &manifest).await.refused(422, "ecu_missing");

    let approval = format!("/api/v1/vehicles/VIN1/ecus/{old}/replacement");
    let approve = async |seconds: u64| {
        let request = server.request_as(Engineer, Method::POST, &approval);
        send(request.json(&json!({ "expires_in_seconds": seconds }))).await
    };
    approve(0).await.refused(400, "bad_vehicle");
    approve(31 * 86_400).await.refused(400, "bad_vehicle");
    approve(3600).await.expect(201);
    let request = server.request(Method::POST, "/director/ecus").bearer_auth(&vehicle.token);
    let request = request.header("x-request-id", "replaced").json(&vehicle.enrolment());
    send(request).await.expect(201);
    enrol(&server, &vehicle.token, &vehicle.enrolment()).await.expect(200);
    let audited = server.get("/api/v1/audit?kind=ecu_replaced").await.json();
    assert_eq!(audited["entries"][0]["request_id"], "replaced");
    vehicle.report(&server).await;

    // Used up: the next one takes another approval.
    vehicle.ecus[1] = TestEcu::new("brake-newer", "brake-2");
    enrol(&server, &vehicle.token, &vehicle.enrolment())
        .await
        .refused(409, "replacement_not_approved");
    let kinds: Vec<String> =
        vehicle.history(&server).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds[..2], ["replacement_refused", "installed"]);
    assert!(
        kinds.contains(&"ecu_replaced".to_owned())
            && kinds.contains(&"replacement_approved".to_owned())
    );
    // A serial that was ever used stays with its vehicle.
    let mut other = TestVehicle::new("VIN2").record();
    other["ecus"][1]["ecu_serial"] = old.as_str().into();
    register(&server, &other).await.refused(409, "already_registered");
}

#[tokio::test]
async fn an_approval_expires_by_itself() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let path = format!("/api/v1/vehicles/VIN1/ecus/{}/replacement", vehicle.ecus[1].serial);
    let request =
        server.request_as(Engineer, Method::POST, &path).json(&json!({ "expires_in_seconds": 1 }));
    send(request).await.expect(201);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    vehicle.ecus[1] = TestEcu::new("brake-new", "brake-2");
    enrol(&server, &vehicle.token, &vehicle.enrolment())
        .await
        .refused(409, "replacement_not_approved");
}
