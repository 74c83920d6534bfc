//! Which ECUs run something older than a release.

use motorcade::model::AccessRole::Engineer;
use reqwest::Method;
use serde_json::json;

use super::vehicle::{TestEcu, TestVehicle};
use crate::app::{TestServer, send};

#[tokio::test]
async fn ecus_below_a_release_are_found_by_what_they_report() {
    let server = TestServer::start().await;
    for (path, counter) in [("gw/1", 1), ("gw/41", 41), ("gw/42", 42)] {
        server.upload_for("gw-mk3", path, counter, "").await;
    }
    let mut vehicles = Vec::new();
    for (vin, path) in [("VIN1", "gw/1"), ("VIN2", "gw/41"), ("VIN3", "gw/42")] {
        let mut vehicle = TestVehicle::registered(&server, vin).await;
        vehicle.runs(&server, 0, path).await;
        vehicles.push(vehicle);
    }
    let mut unknown = TestVehicle::registered(&server, "VIN4").await;
    unknown.report(&server).await; // what its factory has installed
    TestVehicle::registered(&server, "VIN5").await;

    assert_eq!(server.vehicles("hardware_id=gw-mk3&below_release=42").await, ["VIN1", "VIN2"]);
    assert_eq!(server.vehicles("hardware_id=gw-mk3&below_release=1").await, [""; 0]);
    assert_eq!(server.vehicles("hardware_id=brake-2&below_release=42").await, [""; 0]);
    assert_eq!(server.vehicles("below_release=42&limit=1").await, ["VIN1"]);
    assert_eq!(server.vehicles("hardware_id=gw-mk3").await.len(), 5);
    assert_eq!(server.vehicles("hardware_id=gw-mk4").await, [""; 0]);

    vehicles[0].assign(&server, &[(0, "gw/42")]).await.expect(201);
    vehicles[0].targets(&server).await;
    vehicles[0].runs(&server, 0, "gw/42").await;
    assert_eq!(server.vehicles("hardware_id=gw-mk3&below_release=42").await, ["VIN2"]);

    let other = server.installed("gw/1").await;
    let other = motorcade::model::InstalledImage { length: other.length + 1, ..other };
    vehicles[1].runs_image(&server, 0, other).await; // the name of a known image, and other bytes
    assert_eq!(server.vehicles("hardware_id=gw-mk3&below_release=42").await, [""; 0]);

    server.get("/api/v1/vehicles?hardware_id=a%20b").await.refused(400, "bad_query");
    server.get("/api/v1/vehicles?below_release=9007199254740992").await.refused(400, "bad_query");
}

#[tokio::test]
async fn an_ecu_that_comes_under_the_old_serial_is_found_as_what_it_is() {
    let server = TestServer::start().await;
    server.upload_for("brake-3", "brake/1", 1, "").await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let serial = vehicle.ecus[1].serial.clone();
    let approval = format!("/api/v1/vehicles/VIN1/ecus/{serial}/replacement");
    let request = server.request_as(Engineer, Method::POST, &approval);
    send(request.json(&json!({ "expires_in_seconds": 3600 }))).await.expect(201);
    vehicle.ecus[1] = TestEcu::new(serial.as_str(), "brake-3");
    let request = server.request(Method::POST, "/director/ecus").bearer_auth(&vehicle.token);
    send(request.json(&vehicle.enrolment())).await.expect(201);
    vehicle.runs(&server, 1, "brake/1").await;
    assert_eq!(server.vehicles("hardware_id=brake-3").await, ["VIN1"]);
    assert_eq!(server.vehicles("hardware_id=brake-3&below_release=2").await, ["VIN1"]);
    assert_eq!(server.vehicles("hardware_id=brake-2").await, [""; 0]);
}
