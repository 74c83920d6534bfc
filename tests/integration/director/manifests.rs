//! Manifests: what is accepted, and each reason for a refusal (Uptane 2.1.0, 5.3.2.1).

use reqwest::Method;
use serde_json::json;

use super::vehicle::{TestEcu, TestVehicle};
use crate::app::{TestServer, send};

#[tokio::test]
async fn an_accepted_manifest_is_what_the_fleet_shows() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    vehicle.report(&server).await;
    let shown = vehicle.shown(&server).await;
    assert_eq!(shown.ecus[0].installed.as_ref().unwrap().path, "factory-VIN1-gw");
    assert_eq!((shown.ecus[1].counter, shown.seen_at.is_none()), (Some(2), false));
    assert!(server.metrics().await.contains("motorcade_manifests_total{outcome=\"accepted\"} 2"));
    let events = vehicle.history(&server).await.len();
    assert_eq!(events, 3, "a registration and two images; a poll without news is no event");
}

#[tokio::test]
async fn each_bad_manifest_is_refused_recorded_and_changes_nothing() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let mut other = TestVehicle::registered(&server, "VIN2").await;
    vehicle.report(&server).await;
    let good = vehicle.next_manifest();
    let stranger = TestEcu::new("VIN1-gw", "gw-mk3");
    let reports =
        || vehicle.ecus.iter().map(|ecu| (ecu.serial.clone(), ecu.report.sign(&ecu.signing)));

    let mut forged = good.clone();
    forged["signed"]["ecu_version_reports"]["VIN1-brake"]["signed"]["counter"] = 9.into();
    let mut swapped = reports().collect::<std::collections::BTreeMap<_, _>>();
    let brake = swapped[&vehicle.ecus[1].serial].clone();
    swapped.insert(vehicle.ecus[0].serial.clone(), brake);
    let mut foreign = reports().collect::<std::collections::BTreeMap<_, _>>();
    let mut report = vehicle.ecus[1].report.clone();
    report.counter += 1;
    foreign.insert(vehicle.ecus[1].serial.clone(), report.sign(&stranger.signing)); // AT-42: the Primary speaks for it
    let one = reports().take(1).collect();
    let three = reports()
        .chain([(other.ecus[1].serial.clone(), other.ecus[1].report.sign(&other.ecus[1].signing))]);

    let cases = [
        (forged, 422, "wrong_signature"),
        (vehicle.sign(foreign), 422, "wrong_report_signature"),
        (vehicle.sign(swapped), 422, "wrong_serial"),
        (vehicle.sign(one), 422, "ecu_missing"),
        (vehicle.sign(three.collect()), 422, "ecu_unknown"),
        (other.next_manifest(), 403, "forbidden"),
        (json!({ "signatures": [], "signed": good["signed"] }), 422, "wrong_signature"),
        (json!({ "signed": good["signed"] }), 400, "manifest_malformed"),
    ];
    for (manifest, status, code) in cases {
        vehicle.send(&server, &manifest).await.refused(status, code);
    }
    for body in
        ["", "{}", "[[[[[", "{\"a\":1,\"a\":2}", "\u{feff}{}"].map(|text| text.as_bytes().to_vec())
    {
        let request = server.request(Method::PUT, "/director/manifest").bearer_auth(&vehicle.token);
        send(request.body(body)).await.refused(400, "manifest_malformed");
    }
    for body in [vec![0xff; 10], vec![b' '; 200_000], "[".repeat(100_000).into_bytes()] {
        let request = server.request(Method::PUT, "/director/manifest").bearer_auth(&vehicle.token);
        send(request.body(body)).await.refused(400, "manifest_malformed");
    }
    vehicle.send(&server, &good).await.expect(204);
    vehicle.send(&server, &good).await.refused(409, "counter_replayed"); // AT-41

    let history = vehicle.history(&server).await;
    for code in [
        "wrong_signature",
        "wrong_report_signature",
        "ecu_missing",
        "ecu_unknown",
        "counter_replayed",
        "wrong_vehicle",
    ] {
        let recorded = history
            .iter()
            .any(|(kind, detail)| kind == "manifest_refused" && detail.starts_with(code));
        assert!(recorded, "{code}: {history:?}");
    }
    let metrics = server.metrics().await;
    assert!(
        metrics.contains("motorcade_manifests_total{outcome=\"wrong_signature\"} 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("motorcade_manifests_total{outcome=\"manifest_malformed\"} 9"),
        "{metrics}"
    );
}

#[tokio::test]
async fn one_of_many_equal_manifests_is_accepted_however_many_come_at_once() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let manifest = vehicle.next_manifest();
    let sending = (0..16).map(|_| vehicle.send(&server, &manifest));
    let answers = futures_util::future::join_all(sending).await;
    let accepted = answers.iter().filter(|answer| answer.status == 204).count();
    assert_eq!(accepted, 1);
    assert!(answers.iter().all(|answer| [204, 409].contains(&answer.status)), "{answers:?}");
}

#[tokio::test]
async fn an_attack_report_keeps_a_vehicle_from_new_assignments_until_a_person_clears_it() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.ecus[1].report.attacks_detected = "rollback".into();
    vehicle.report(&server).await;
    vehicle.ecus[1].report.attacks_detected.clear();
    vehicle.report(&server).await;
    assert_eq!(
        vehicle.shown(&server).await.quarantine.unwrap().reason,
        "VIN1-brake reported: rollback"
    );
    let detail = vehicle.assign(&server, &[(0, "gw/1")]).await.refused(409, "vehicle_quarantined");
    assert!(detail.contains("rollback"), "{detail}");
    assert!(
        vehicle.fetch(&server, "timestamp.json").await.status == 200,
        "it still gets valid metadata"
    );
    assert_eq!(server.vehicles("quarantined=true").await.len(), 1);
    let clear = |body| {
        server
            .request_as(
                motorcade::model::AccessRole::Engineer,
                Method::DELETE,
                "/api/v1/vehicles/VIN1/quarantine",
            )
            .json(&body)
    };
    send(clear(json!({ "reason": "a lab vehicle" }))).await.expect(204);
    send(clear(json!({ "reason": "again" }))).await.refused(404, "not_quarantined");
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let history = vehicle.history(&server).await;
    assert!(
        history
            .iter()
            .any(|(kind, detail)| kind == "quarantine_cleared" && detail.contains("a lab vehicle"))
    );
}

#[tokio::test]
async fn a_clock_that_is_off_is_recorded_and_not_refused() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.ecus[0].report.time = "1970-01-01T00:00:00Z".parse().unwrap();
    vehicle.report(&server).await;
    vehicle.report(&server).await;
    let history = vehicle.history(&server).await;
    let off: Vec<_> = history.iter().filter(|(kind, _)| kind == "clock_off").collect();
    assert_eq!(off.len(), 1, "{history:?}");
}

#[tokio::test]
async fn counters_survive_a_restart() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let manifest = vehicle.next_manifest();
    vehicle.send(&server, &manifest).await.expect(204);
    let server = TestServer::on(server.stop(), |_| ()).await;
    vehicle.send(&server, &manifest).await.refused(409, "counter_replayed");
    vehicle.report(&server).await;
}
