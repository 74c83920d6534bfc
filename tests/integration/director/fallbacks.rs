//! What an ECU runs is told by its bytes; and one that goes back to something older is not up to
//! date.

use motorcade::api::{AssignmentList, FallenBody};
use motorcade::model::{InstalledImage, Sha256Digest};
use serde_json::json;

use super::vehicle::TestVehicle;
use crate::app::TestServer;

/// A vehicle that runs gw/2 after gw/1.
async fn updated_twice(server: &TestServer) -> TestVehicle {
    let mut vehicle = TestVehicle::registered(server, "VIN1").await;
    vehicle.report(server).await;
    for (path, counter) in [("gw/1", 1), ("gw/2", 2)] {
        server.upload_for("gw-mk3", path, counter, "").await;
        vehicle.assign(server, &[(0, path)]).await.expect(201);
        vehicle.targets(server).await;
        vehicle.runs(server, 0, path).await;
    }
    assert_eq!(vehicle.shown(server).await.to_update, 0);
    vehicle
}

/// It named the path with other bytes, before the image was uploaded under it.
#[tokio::test]
async fn an_ecu_that_once_had_other_bytes_of_that_name_gets_the_image() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let other = InstalledImage {
        path: "gw/1".into(),
        length: 9,
        sha256: Sha256Digest::from_bytes([3; 32]),
    };
    vehicle.runs_image(&server, 0, other).await;
    server.upload_for("gw-mk3", "gw/1", 1, "&name=gateway").await;
    server.upload_for("brake-2", "brake/1", 1, "&requires=gateway%3E%3D1").await;
    // Its name alone fulfils nothing.
    vehicle.assign(&server, &[(1, "brake/1")]).await.refused(409, "constraint_violated");
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    for _ in 0..2 {
        vehicle.report(&server).await;
        assert_eq!(vehicle.targets(&server).await["targets"].as_object().unwrap().len(), 1);
    }
    let shown = vehicle.shown(&server).await;
    assert_eq!(
        (shown.ecus[0].assigned.as_deref(), &*shown.ecus[0].offered),
        (Some("gw/1"), &["gw/1".to_owned()][..])
    );
    let open: AssignmentList = server.get("/api/v1/vehicles/VIN1/assignments").await.body();
    assert_eq!(open.assignments[0].outcome, None);
    let real = server.installed("gw/1").await;
    let shorter = InstalledImage { length: real.length - 1, ..real.clone() };
    vehicle.runs_image(&server, 0, shorter).await;
    assert_eq!(
        vehicle.shown(&server).await.ecus[0].assigned.as_deref(),
        Some("gw/1"),
        "the length counts, too"
    );
    vehicle.runs_image(&server, 0, real).await;
    assert_eq!(vehicle.shown(&server).await.to_update, 0);
    let done: AssignmentList = server.get("/api/v1/vehicles/VIN1/assignments").await.body();
    assert_eq!(done.assignments[0].outcome.as_deref(), Some("installed"));
}

#[tokio::test]
async fn a_fall_back_is_an_event_of_its_own_and_shown_in_the_list() {
    let server = TestServer::start().await;
    let mut vehicle = updated_twice(&server).await;
    TestVehicle::registered(&server, "VIN2").await;
    vehicle.runs(&server, 0, "gw/1").await;
    assert_eq!(
        vehicle.events(&server, "release_counter_fell").await,
        ["from gw/2 (2) to gw/1 (1)"]
    );
    let shown = vehicle.shown(&server).await;
    assert_eq!(shown.to_update, 1);
    let from = FallenBody { path: "gw/2".into(), release_counter: 2 };
    assert_eq!(shown.ecus[0].fallen_from, Some(from));
    assert!(shown.quarantine.is_none(), "it had it before");
    assert_eq!(server.vehicles("fallen_back=true").await, ["VIN1"]);
    assert!(server.metrics().await.contains("motorcade_fallbacks_total 1"));

    // Further back, and half of the way up again: it is still behind what it ran.
    let factory = InstalledImage {
        path: "factory-VIN1-gw".into(),
        length: 1,
        sha256: Sha256Digest::from_bytes([0; 32]),
    };
    vehicle.runs_image(&server, 0, factory).await;
    let fell = vehicle.events(&server, "release_counter_fell").await;
    assert_eq!(fell[0], "from gw/1 (1) to factory-VIN1-gw, which it had at first");
    vehicle.runs(&server, 0, "gw/1").await;
    assert_eq!(vehicle.shown(&server).await.to_update, 1);
    let server = TestServer::on(server.stop(), |_| ()).await;
    assert_eq!(server.vehicles("fallen_back=true").await, ["VIN1"]);
    vehicle.runs(&server, 0, "gw/2").await;
    assert_eq!(
        (vehicle.shown(&server).await.to_update, server.vehicles("fallen_back=true").await.len()),
        (0, 0)
    );
}

#[tokio::test]
async fn who_assigns_the_older_image_gets_it_and_the_event() {
    let server = TestServer::start().await;
    let mut vehicle = updated_twice(&server).await;
    let reason = json!({ "rollback_reason": "2 overheats" });
    vehicle.assign_with(&server, &[(0, "gw/1")], reason).await.expect(201);
    vehicle.targets(&server).await;
    vehicle.runs(&server, 0, "gw/1").await;
    assert_eq!(vehicle.events(&server, "release_counter_fell").await.len(), 1);
    assert_eq!(vehicle.shown(&server).await.to_update, 0, "it runs what it is to run");
}
