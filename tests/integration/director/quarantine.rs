//! Which reports put a vehicle into quarantine, and how it gets out again.

use reqwest::Method;
use serde_json::{Value, json};

use super::vehicle::TestVehicle;
use crate::app::{TestServer, send};
use motorcade::model::AccessRole::Engineer;

async fn reported(server: &TestServer, vin: &str, attacks: &str) -> TestVehicle {
    let mut vehicle = TestVehicle::registered(server, vin).await;
    vehicle.ecus[0].report.attacks_detected = attacks.into();
    vehicle.report(server).await;
    vehicle.ecus[0].report.attacks_detected.clear();
    vehicle
}

#[tokio::test]
async fn weak_evidence_is_recorded_and_quarantines_nobody() {
    let server = TestServer::start().await;
    for (number, attack) in ["freeze", "slow-retrieval", "endless-data", "malformed"].into_iter().enumerate() {
        let vehicle = reported(&server, &format!("VIN{number}"), attack).await;
        assert!(vehicle.shown(&server).await["quarantine"].is_null(), "{attack}");
        assert_eq!(vehicle.events(&server, "attack_reported").await, [attack]);
        assert!(server.metrics().await.contains(&format!("motorcade_attacks_total{{kind=\"{attack}\"}} 1")));
    }
    let vehicle = reported(&server, "VIN9", "freeze, rollback,a thing of its own").await;
    let quarantine = vehicle.shown(&server).await["quarantine"].clone();
    assert_eq!(quarantine["kinds"], json!(["other", "rollback"]));
    assert_eq!(quarantine["reason"], "VIN9-gw reported: freeze, rollback,a thing of its own");
    let mut events = vehicle.events(&server, "attack_reported").await;
    events.sort();
    assert_eq!(events, ["a thing of its own", "freeze", "rollback"], "each kind is an event");
}

#[tokio::test]
async fn the_policy_is_a_setting() {
    let quarantine_on =
        |kinds: &'static str| TestServer::configured(move |config| config.vehicles.quarantine_on = Some(kinds.into()));
    let server = quarantine_on("none").await;
    let mut vehicle = reported(&server, "VIN1", "arbitrary-software").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.runs(&server, 0, "gw/1").await;
    let shown = vehicle.shown(&server).await;
    assert_eq!((shown["quarantine"].clone(), &shown["ecus"][0]["unexpected"]), (Value::Null, &json!(true)));
    let server = quarantine_on("freeze").await;
    let mut vehicle = reported(&server, "VIN1", "freeze").await;
    assert_eq!(vehicle.shown(&server).await["quarantine"]["kinds"], json!(["freeze"]));
    vehicle.ecus[1].report.attacks_detected = "rollback".into();
    vehicle.report(&server).await;
    assert_eq!(vehicle.shown(&server).await["quarantine"]["kinds"], json!(["freeze"]), "not of this policy");
    let clear = server.request_as(Engineer, Method::DELETE, "/api/v1/vehicles/VIN1/quarantine");
    send(clear.json(&json!({ "reason": "a wrong clock" }))).await.expect(204);
    assert_eq!(server.vehicles("quarantined=true").await, Vec::<String>::new());
}
