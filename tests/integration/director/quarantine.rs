//! Which reports put a vehicle into quarantine, and how it gets out again.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::vehicle::TestVehicle;
use crate::app::{TestServer, send};
use motorcade::api::ClearedBody;
use motorcade::model::AccessRole::{Engineer, Viewer};
use motorcade::model::{Clock, SystemClock};

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
    for (number, attack) in
        ["freeze", "slow-retrieval", "endless-data", "malformed"].into_iter().enumerate()
    {
        let vehicle = reported(&server, &format!("VIN{number}"), attack).await;
        assert!(vehicle.shown(&server).await.quarantine.is_none(), "{attack}");
        assert_eq!(vehicle.events(&server, "attack_reported").await, [attack]);
        assert!(
            server
                .metrics()
                .await
                .contains(&format!("motorcade_attacks_total{{kind=\"{attack}\"}} 1"))
        );
    }
    let vehicle = reported(&server, "VIN9", "freeze, rollback,a thing of its own").await;
    let quarantine = vehicle.shown(&server).await.quarantine.unwrap();
    assert_eq!(quarantine.kinds, ["other", "rollback"]);
    assert_eq!(quarantine.reason, "VIN9-gw reported: freeze, rollback,a thing of its own");
    let mut events = vehicle.events(&server, "attack_reported").await;
    events.sort();
    assert_eq!(events, ["a thing of its own", "freeze", "rollback"], "each kind is an event");
}

#[tokio::test]
async fn a_fault_is_an_event_and_no_suspicion() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.ecus[0].report.faults_detected = "clock,disk-full, rollback".into();
    vehicle.report(&server).await;
    let mut events = vehicle.events(&server, "fault_reported").await;
    events.sort();
    assert_eq!(events, ["clock", "disk-full", "rollback"]);
    assert!(vehicle.shown(&server).await.quarantine.is_none());
    let metrics = server.metrics().await;
    assert!(metrics.contains("motorcade_vehicle_faults_total{kind=\"disk-full\"} 1"), "{metrics}");
    assert!(metrics.contains("motorcade_vehicle_faults_total{kind=\"other\"} 1"), "{metrics}");
}

#[tokio::test]
async fn the_policy_is_a_setting() {
    let quarantine_on = |kinds: &'static str| {
        TestServer::configured(move |config| config.vehicles.quarantine_on = Some(kinds.into()))
    };
    let server = quarantine_on("none").await;
    let mut vehicle = reported(&server, "VIN1", "arbitrary-software").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.runs(&server, 0, "gw/1").await;
    let shown = vehicle.shown(&server).await;
    assert_eq!((&shown.quarantine, shown.ecus[0].unexpected), (&None, true));
    let server = quarantine_on("freeze").await;
    let mut vehicle = reported(&server, "VIN1", "freeze").await;
    assert_eq!(vehicle.shown(&server).await.quarantine.unwrap().kinds, ["freeze"]);
    vehicle.ecus[1].report.attacks_detected = "rollback".into();
    vehicle.report(&server).await;
    assert_eq!(
        vehicle.shown(&server).await.quarantine.unwrap().kinds,
        ["freeze"],
        "not of this policy"
    );
    let clear = server.request_as(Engineer, Method::DELETE, "/api/v1/vehicles/VIN1/quarantine");
    send(clear.json(&json!({ "reason": "a wrong clock" }))).await.expect(204);
    assert_eq!(server.vehicles("quarantined=true").await, Vec::<String>::new());
}

async fn clear(server: &TestServer, body: Value) -> ClearedBody {
    send(server.request_as(Engineer, Method::POST, "/api/v1/quarantine/clear").json(&body))
        .await
        .body()
}

#[tokio::test]
async fn many_are_cleared_by_a_list_or_a_filter() {
    let server = TestServer::configured(|config| {
        config.vehicles.quarantine_on = Some("freeze,rollback".into())
    })
    .await;
    let mut both = reported(&server, "BOTH", "freeze").await;
    both.ecus[1].report.attacks_detected = "rollback".into();
    both.report(&server).await;
    for vin in ["FREEZE1", "FREEZE2"] {
        reported(&server, vin, "freeze").await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let since = SystemClock.now();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    reported(&server, "ROLL1", "rollback").await;
    reported(&server, "ROLL2", "rollback").await;

    let nothing = [
        json!({ "reason": "r" }),
        json!({ "reason": "r", "vins": ["ROLL1"], "all": true }),
        json!({ "reason": "r", "attacks": ["freezing"] }),
        json!({ "reason": "r", "since": "yesterday" }),
        json!({ "reason": "r", "vins": ["a b"] }),
    ];
    for body in nothing {
        let request =
            server.request_as(Engineer, Method::POST, "/api/v1/quarantine/clear").json(&body);
        let detail = send(request).await.refused(400, "bad_selection");
        assert!(!body["attacks"].is_array() || detail.contains("rollback, freeze"), "{detail}");
    }
    let request = server.request_as(Engineer, Method::POST, "/api/v1/quarantine/clear");
    send(request.json(&json!({ "reason": "", "all": true }))).await.refused(400, "bad_vehicle");
    let viewer = server.request_as(Viewer, Method::POST, "/api/v1/quarantine/clear");
    send(viewer.json(&json!({ "reason": "r", "all": true }))).await.refused(403, "forbidden");
    assert_eq!(server.vehicles("quarantined=true").await.len(), 5);

    let report = clear(&server, json!({ "reason": "clocks", "attacks": ["freeze"] })).await;
    assert_eq!((report.cleared, report.more), (2, false));
    assert_eq!(
        server.vehicles("quarantined=true").await,
        ["BOTH", "ROLL1", "ROLL2"],
        "not one that told of more"
    );
    let report =
        clear(&server, json!({ "reason": "r", "vins": ["ROLL1", "FREEZE1", "NOBODY"] })).await;
    assert_eq!(report.cleared, 1);
    assert_eq!(report.not_quarantined, ["FREEZE1", "NOBODY"]);
    let report = clear(
        &server,
        json!({ "reason": "r", "since": since.to_string(), "attacks": ["rollback", "freeze"] }),
    )
    .await;
    assert_eq!(report.cleared, 1);
    assert_eq!(server.vehicles("quarantined=true").await, ["BOTH"]);
    assert_eq!(clear(&server, json!({ "reason": "all of it", "all": true })).await.cleared, 1);
    assert_eq!(
        both.events(&server, "quarantine_cleared").await,
        ["all of it (it was: BOTH-gw reported: freeze)"]
    );
}

/// Far more than one request clears.
#[tokio::test]
async fn a_whole_fleet_is_cleared_in_steps() {
    let server = TestServer::start().await;
    let vehicles: Vec<String> =
        (0..1100).map(|i| TestVehicle::new(&format!("VIN{i:04}")).record().to_string()).collect();
    let request = server
        .request_as(Engineer, Method::POST, "/api/v1/vehicles")
        .header("Content-Type", "application/jsonl");
    send(request.body(vehicles.join("\n"))).await.expect(200);
    let state = server.stop();
    let options = SqliteConnectOptions::new().filename(state.path().join("catalog.sqlite"));
    let mut catalog = SqliteConnection::connect_with(&options).await.unwrap();
    // As a version that kept no kinds left them.
    let sql =
        "UPDATE vehicle_status SET quarantined_at = 1, quarantine_reason = 'gw reported: freeze'";
    sqlx::query(sql).execute(&mut catalog).await.unwrap();
    catalog.close().await.unwrap();
    let server = TestServer::on(state, |_| ()).await;
    let body = json!({ "reason": "a captive portal", "attacks": ["freeze"] });
    let report = clear(&server, body.clone()).await;
    assert_eq!((report.cleared, report.more), (1000, true));
    let report = clear(&server, body).await;
    assert_eq!((report.cleared, report.more), (100, false));
    assert_eq!(server.vehicles("quarantined=true").await, Vec::<String>::new());
}
