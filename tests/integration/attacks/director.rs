//! The rows that the server defends: who may read, who may report, who may upload, and what a flood
//! costs.

use motorcade::app::access::{self, NewToken};
use motorcade::model::AccessRole::{self, Engineer, Uploader};
use motorcade::model::{Clock, SystemClock};
use reqwest::Method;
use serde_json::json;

use crate::app::{TestServer, send};
use crate::director::vehicle::{TestEcu, TestVehicle};
use crate::state::files_below;

/// Nothing that anybody can read without a key has plaintext in it: no file that is served, and
/// nothing on the disk.
#[tokio::test]
async fn at_01_eavesdrop() {
    const MARKER: &str = "this firmware is nobody's business but the ECU's";
    let server = TestServer::start().await;
    let firmware = MARKER.repeat(50_000);
    server.upload("gw/1/a.bin", firmware.clone()).await.expect(201);
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.assign(&server, &[(0, "gw/1/a.bin")]).await.expect(201);
    let targets = vehicle.targets(&server).await.to_string();
    assert!(targets.contains("ciphertext") && !targets.contains(MARKER));
    let names = files_below(&server.state.path().join("repo"));
    assert!(names.iter().any(|name| name.contains("a.bin")));
    for name in names {
        let body = server.download(&name).await;
        assert!(!body.windows(MARKER.len()).any(|part| part == MARKER.as_bytes()), "{name}");
    }
    assert_eq!(server.state.files_with(MARKER.as_bytes()), Vec::<String>::new());
    assert_eq!(server.open("gw/1/a.bin", "snakeoil_p256").await, firmware.as_bytes());
}

/// A vehicle that is kept from reporting is found by the time of its last report.
#[tokio::test]
async fn at_04_drop_request() {
    let server = TestServer::start().await;
    let mut heard = TestVehicle::registered(&server, "VIN1").await;
    let mut silenced = TestVehicle::registered(&server, "VIN2").await;
    silenced.report(&server).await;
    // The catalog's times are in milliseconds, and both reports can be made in one.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let since = SystemClock.now();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    heard.report(&server).await;
    assert_eq!(server.vehicles(&format!("silent_since={since}")).await, ["VIN2"]);
    // The gauge that an operator has an alert on is there from the start.
    assert!(server.metrics().await.contains("motorcade_vehicles{state=\"silent\"} 0"));
    silenced.report(&server).await; // it comes back
}

/// What a flood of rubbish costs is bounded: each is refused by its size or its first fault,
/// nothing grows, and a vehicle is served all the while.
#[tokio::test]
async fn at_12_denial_of_service_on_repositories() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let oversize = "x".repeat(1_000_000);
    let deep = format!("{}1{}", "{\"a\":".repeat(20_000), "}".repeat(20_000));
    for _ in 0..50 {
        for body in [oversize.as_str(), deep.as_str(), "{\"signatures\":[],\"signed\":{}}"] {
            let request =
                server.request(Method::PUT, "/director/manifest").bearer_auth(&vehicle.token);
            match request.body(body.to_owned()).send().await {
                Ok(answer) => assert_eq!(answer.status(), 400),
                Err(error) => assert!(error.is_request() || error.is_body(), "{error}"), // cut off while it was sent
            }
        }
    }
    vehicle.report(&server).await;
    let refused: Vec<_> = vehicle
        .history(&server)
        .await
        .into_iter()
        .filter(|(kind, _)| kind == "manifest_refused")
        .collect();
    assert!(refused.len() <= 2, "events that are alike are one: {refused:?}"); // two, if the hour has ended meanwhile
}

/// A manifest that was recorded on its way is refused when it is sent again.
#[tokio::test]
async fn at_41_manifest_replay() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let recorded = vehicle.next_manifest();
    vehicle.send(&server, &recorded).await.expect(204);
    vehicle.send(&server, &recorded).await.refused(409, "counter_replayed");
    vehicle.report(&server).await;
    vehicle.send(&server, &recorded).await.refused(409, "counter_replayed");
    // One old report among new ones, signed by its ECU and by the Primary.
    let old = vehicle.ecus[1].report.sign(&vehicle.ecus[1].signing);
    vehicle.next_manifest();
    let new = vehicle.ecus[0].report.sign(&vehicle.ecus[0].signing);
    let mixed = [(vehicle.ecus[0].serial.clone(), new), (vehicle.ecus[1].serial.clone(), old)];
    let mixed = vehicle.sign(mixed.into());
    vehicle.send(&server, &mixed).await.refused(409, "counter_replayed");
    // Polls without news count as well, and a server that was started again still knows.
    vehicle.report(&server).await;
    let last = vehicle.next_manifest();
    vehicle.send(&server, &last).await.expect(204);
    let server = TestServer::on(server.stop(), |_| ()).await;
    vehicle.send(&server, &last).await.refused(409, "counter_replayed");
    vehicle.report(&server).await;
}

/// A Primary that is taken over can't say what a Secondary runs.
#[tokio::test]
async fn at_42_forged_secondary_report() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.next_manifest();
    let (primary, secondary) = (&vehicle.ecus[0], &vehicle.ecus[1]);
    let ours = primary.report.sign(&primary.signing);
    let mut changed = secondary.report.sign(&secondary.signing);
    changed["signed"]["installed_image"]["filepath"] = "another".into();
    for forged in [changed, secondary.report.sign(&primary.signing)] {
        let reports = [(primary.serial.clone(), ours.clone()), (secondary.serial.clone(), forged)];
        vehicle
            .send(&server, &vehicle.sign(reports.into()))
            .await
            .refused(422, "wrong_report_signature");
    }
    assert!(vehicle.shown(&server).await.seen_at.is_none());
}

/// Who is not the vehicle, not one of its ECUs, or leaves one out.
#[tokio::test]
async fn at_43_impersonated_vehicle_or_ecu() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let mut other = TestVehicle::registered(&server, "VIN2").await;
    let good = vehicle.next_manifest();
    other.send(&server, &good).await.refused(403, "forbidden");
    let stranger = TestVehicle { token: vehicle.token.clone(), ..TestVehicle::new("VIN1") };
    stranger.send(&server, &stranger.manifest()).await.refused(422, "wrong_signature");
    let nobody = TestVehicle::new("VIN3");
    nobody.send(&server, &nobody.manifest()).await.refused(401, "unauthenticated");
    let report = |ecu: &TestEcu| (ecu.serial.clone(), ecu.report.sign(&ecu.signing));
    let omitted = vehicle.sign([report(&vehicle.ecus[0])].into());
    vehicle.send(&server, &omitted).await.refused(422, "ecu_missing");
    let unknown = TestEcu::new("VIN1-radio", "radio-1");
    let added =
        vehicle.sign([report(&vehicle.ecus[0]), report(&vehicle.ecus[1]), report(&unknown)].into());
    vehicle.send(&server, &added).await.refused(422, "ecu_unknown");
    other.report(&server).await;
    let history = vehicle.history(&server).await;
    for code in ["wrong_signature", "ecu_missing", "ecu_unknown"] {
        assert!(
            history.iter().any(|(_, detail)| detail.starts_with(code)),
            "{code} is recorded: {history:?}"
        );
    }
    assert!(
        server.metrics().await.contains("motorcade_manifests_total{outcome=\"ecu_unknown\"} 1")
    );
}

/// A vehicle that reports an attack is raised, keeps its valid metadata, and gets nothing new until
/// a person clears it.
#[tokio::test]
async fn at_44_attack_report_raised() {
    let server = TestServer::start().await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.ecus[0].report.attacks_detected = "rollback,freeze".into();
    vehicle.report(&server).await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.refused(409, "vehicle_quarantined");
    vehicle.fetch(&server, "timestamp.json").await.expect(200);
    assert!(server.metrics().await.contains("motorcade_attack_reports_total 1"));
    let clear = server.request_as(Engineer, Method::DELETE, "/api/v1/vehicles/VIN1/quarantine");
    send(clear.json(&json!({ "reason": "a stale proxy" }))).await.expect(204);
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
}

/// A supplier's token uploads below its folder and nowhere else, also where the body is never sent.
#[tokio::test]
async fn at_45_unauthorized_upload() {
    let server = TestServer::start().await;
    let catalog = server.state.dir().open_catalog().await.unwrap();
    let new = NewToken { path_prefix: Some("supplier-a/"), ..NewToken::of(Uploader, "supplier A") };
    let token = access::create_token(&catalog, new, SystemClock.now()).await.unwrap().to_string();
    catalog.close().await;
    let query = "hardware_id=gw-mk3&version=1&release_counter=1";
    let upload = async |path: &str| {
        let path = format!("/api/v1/images/{path}?{query}");
        send(server.request(Method::PUT, &path).bearer_auth(&token).body("firmware")).await
    };
    upload("supplier-a/gw/1").await.expect(201);
    for path in [
        "supplier-b/gw/1",
        "gw/1",
        "supplier-a",
        "supplier-ab/gw",
        "supplier-a/../gw/1",
        "supplier-a%2F..%2Fgw/1",
    ] {
        let answer = upload(path).await;
        assert!([400, 403].contains(&answer.status), "{path}: {answer:?}");
    }
    let head = format!(
        "PUT /api/v1/images/gw/1?{query} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    server.raw(head).await.refused(403, "forbidden");
    send(
        server
            .request_as(AccessRole::Viewer, Method::PUT, &format!("/api/v1/images/gw/1?{query}"))
            .body("x"),
    )
    .await
    .refused(403, "forbidden");
    assert_eq!(
        server.state.stored_targets().len(),
        2 * 2,
        "one image and its envelope, each under two names"
    );
}
