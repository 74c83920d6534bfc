//! The ways back: vehicles that leave, and vehicles that start anew.

use std::collections::BTreeSet;
use std::time::Duration;

use motorcade::api::{AssignmentList, BulkBody, EventBody, History};
use motorcade::model::AccessRole::{Engineer, Viewer};
use motorcade::model::{Clock, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};

use super::vehicle::{TestEcu, TestVehicle};
use crate::answer::Answer;
use crate::app::{TestServer, send};

async fn enrol(server: &TestServer, token: &str, vehicle: &TestVehicle) -> Answer {
    send(
        server
            .request(Method::POST, "/director/ecus")
            .bearer_auth(token)
            .json(&vehicle.enrolment()),
    )
    .await
}

async fn approve(server: &TestServer, vin: &str, take: &[&str]) -> Answer {
    let path = format!("/api/v1/vehicles/{vin}/re-enrolment");
    let body = json!({ "expires_in_seconds": 3600, "take_ecus": take });
    send(server.request_as(Engineer, Method::POST, &path).json(&body)).await
}

async fn remove(server: &TestServer, vin: &str) -> Answer {
    let path = format!("/api/v1/vehicles/{vin}?reason=scrapped");
    send(server.request_as(Engineer, Method::DELETE, &path).header("X-Request-Id", "scrap-1")).await
}

async fn event(server: &TestServer, vin: &str, kind: &str) -> EventBody {
    let history: History = server.get(&format!("/api/v1/vehicles/{vin}/history")).await.body();
    let event = history.events.iter().find(|event| event.kind == kind);
    event.unwrap_or_else(|| panic!("no {kind}: {history:?}")).clone()
}

#[tokio::test]
async fn a_vehicle_that_is_removed_is_nobody_any_more_and_its_history_stays() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let mut other = TestVehicle::registered(&server, "VIN2").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.report(&server).await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let version = vehicle.targets(&server).await["version"].as_u64().unwrap();
    let viewer = server.request_as(Viewer, Method::DELETE, "/api/v1/vehicles/VIN1");
    send(viewer).await.refused(403, "forbidden");
    send(server.request_as(Engineer, Method::DELETE, "/api/v1/vehicles/VIN1?reason="))
        .await
        .refused(400, "bad_vehicle");
    remove(&server, "VIN1").await.expect(204);
    remove(&server, "VIN1").await.refused(404, "vehicle_not_found");

    let manifest = vehicle.next_manifest();
    vehicle.send(&server, &manifest).await.refused(401, "unauthenticated");
    vehicle.fetch(&server, "timestamp.json").await.refused(401, "unauthenticated");
    enrol(&server, &vehicle.token, &vehicle).await.refused(401, "unauthenticated");
    server.get("/api/v1/vehicles/VIN1").await.refused(404, "vehicle_not_found");
    assert_eq!(server.vehicles("").await, ["VIN2"]);
    other.report(&server).await;
    let removed = event(&server, "VIN1", "removed").await;
    assert_eq!((&*removed.detail, removed.request_id.as_deref()), ("scrapped", Some("scrap-1")));
    assert_eq!(removed.actor.len(), 12, "{removed:?}");
    event(&server, "VIN1", "registered").await;

    // Its id and its serials are free again, nothing of before is left, and versions go on.
    let mut again = TestVehicle::new("VIN1");
    again.token = vehicle.token.clone();
    enrol(&server, &server.state.tokens.enroller, &again).await.expect(201);
    let shown = again.shown(&server).await;
    assert_eq!((&shown.ecus[0].assigned, shown.ecus[0].counter), (&None, None));
    let list: AssignmentList = server.get("/api/v1/vehicles/VIN1/assignments").await.body();
    assert_eq!(list.assignments, []);
    assert!(again.targets(&server).await["version"].as_u64().unwrap() > version);
    again.report(&server).await;
    vehicle.send(&server, &manifest).await.refused(422, "wrong_signature");
    let server = TestServer::on(server.stop(), |_| ()).await;
    again.report(&server).await;
}

/// What was decided of a vehicle that is removed meanwhile is never made to the next one.
#[tokio::test]
async fn a_number_is_never_another_vehicle_s() {
    let server = TestServer::start().await;
    let mut numbers = BTreeSet::new();
    for round in 0..3 {
        let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
        let manifest = vehicle.next_manifest();
        let racing = (0..8).map(|_| vehicle.send(&server, &manifest));
        let (answers, removed) =
            tokio::join!(futures_util::future::join_all(racing), remove(&server, "VIN1"));
        removed.expect(204);
        assert!(
            answers.iter().all(|answer| [204, 401, 404, 409].contains(&answer.status)),
            "{answers:?}"
        );
        let next = TestVehicle::registered(&server, &format!("NEXT{round}")).await;
        let shown = next.shown(&server).await;
        assert!(numbers.insert(shown.id) && shown.seen_at.is_none(), "{shown:?}");
    }
}

/// Wiped, with other keys and another token: nothing of before is there to prove who it is.
#[tokio::test]
async fn a_wiped_vehicle_enrols_anew_once_and_in_time() {
    let server = TestServer::start().await;
    let enroller = server.state.tokens.enroller.clone();
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    server.upload_for("gw-mk3", "gw/5", 5, "").await;
    server.upload_for("gw-mk3", "gw/4", 4, "").await;
    vehicle.report(&server).await;
    vehicle.assign(&server, &[(0, "gw/5")]).await.expect(201);
    let version = vehicle.targets(&server).await["version"].as_u64().unwrap();
    vehicle.runs(&server, 0, "gw/5").await;

    let mut wiped = TestVehicle::new("VIN1");
    wiped.token = "another one".into();
    let detail = enrol(&server, &enroller, &wiped).await.refused(409, "already_registered");
    assert!(detail.contains("motorcade vehicle re-enrol VIN1"), "{detail}");
    let path = "/api/v1/vehicles/VIN1/re-enrolment";
    for seconds in [0, 31 * 86_400] {
        let request = server
            .request_as(Engineer, Method::POST, path)
            .json(&json!({ "expires_in_seconds": seconds }));
        send(request).await.refused(400, "bad_vehicle");
    }
    approve(&server, "VIN2", &[]).await.refused(404, "vehicle_not_found");
    let viewer =
        server.request_as(Viewer, Method::POST, path).json(&json!({ "expires_in_seconds": 60 }));
    send(viewer).await.refused(403, "forbidden");
    let request =
        server.request_as(Engineer, Method::POST, path).header("X-Request-Id", "ticket-9");
    send(request.json(&json!({ "expires_in_seconds": 3600 }))).await.expect(201);
    // The old one goes on until then.
    vehicle.report(&server).await;
    enrol(&server, &enroller, &wiped).await.expect(201);
    enrol(&server, &enroller, &wiped).await.expect(200);
    enrol(&server, &enroller, &vehicle).await.refused(409, "already_registered");
    vehicle.fetch(&server, "timestamp.json").await.refused(401, "unauthenticated");
    wiped.report(&server).await;
    assert_eq!(wiped.ecus[0].report.counter, 1, "counters start again");
    let targets = wiped.targets(&server).await;
    assert!(targets["version"].as_u64().unwrap() > version, "versions do not");
    assert_eq!(targets["targets"], json!({}));
    wiped.assign(&server, &[(0, "gw/4")]).await.refused(409, "release_counter_rollback");
    wiped.assign(&server, &[(0, "gw/5")]).await.expect(201);
    wiped.targets(&server).await;
    wiped.runs(&server, 0, "gw/5").await;

    let approved = event(&server, "VIN1", "re_enrolment_approved").await;
    assert_eq!(approved.request_id.as_deref(), Some("ticket-9"));
    let renewed = event(&server, "VIN1", "re_enrolled").await;
    let by = approved.actor;
    assert!(renewed.detail.ends_with(&format!("approved by {by}")), "{renewed:?}");
    assert!(renewed.request_id.as_ref().is_some_and(|id| !id.is_empty()), "{renewed:?}");

    let request =
        server.request_as(Engineer, Method::POST, path).json(&json!({ "expires_in_seconds": 1 }));
    send(request).await.expect(201);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    enrol(&server, &enroller, &TestVehicle::new("VIN1")).await.refused(409, "already_registered");
    let server = TestServer::on(server.stop(), |_| ()).await;
    wiped.report(&server).await;
}

/// It has its keys and its token, and its counters start at 1 again. Whoever recorded what it said
/// before can't send that again.
#[tokio::test]
async fn a_vehicle_that_lost_its_counters_alone_starts_them_again() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    for ecu in &mut vehicle.ecus {
        ecu.report.counter = 500;
        ecu.report.time = SystemClock.now() - Duration::from_secs(3600);
    }
    let recorded = vehicle.next_manifest();
    vehicle.send(&server, &recorded).await.expect(204);
    for ecu in &mut vehicle.ecus {
        ecu.report.counter = 0;
        ecu.report.time = SystemClock.now();
    }
    let manifest = vehicle.next_manifest();
    vehicle.send(&server, &manifest).await.refused(409, "counter_replayed");
    enrol(&server, &vehicle.token, &vehicle).await.expect(200);
    let manifest = vehicle.next_manifest();
    vehicle.send(&server, &manifest).await.refused(409, "counter_replayed");
    approve(&server, "VIN1", &[]).await.expect(201);
    // A list of vehicles that is sent again does not use the approval up.
    let list =
        server.request_as(Engineer, Method::POST, "/api/v1/vehicles").json(&vehicle.record());
    send(list).await.expect(200);
    enrol(&server, &vehicle.token, &vehicle).await.expect(201);
    vehicle.send(&server, &recorded).await.refused(409, "counter_replayed");
    vehicle.report(&server).await;
    vehicle.send(&server, &recorded).await.refused(409, "counter_replayed");
    let server = TestServer::on(server.stop(), |_| ()).await;
    vehicle.send(&server, &recorded).await.refused(409, "counter_replayed");
    vehicle.report(&server).await;
    assert_eq!(vehicle.shown(&server).await.ecus[0].counter, Some(4));
}

/// An ECU that was replaced comes back with the others that it had.
#[tokio::test]
async fn a_retired_serial_comes_back_with_an_approval() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let first = vehicle.ecus.pop().unwrap();
    vehicle.ecus.push(TestEcu::new("brake-new", "brake-2"));
    approve(&server, "VIN1", &[]).await.expect(201);
    enrol(&server, &vehicle.token, &vehicle).await.expect(201);
    vehicle.ecus[1] = first;
    vehicle.ecus.push(TestEcu::new("radio-1", "radio"));
    enrol(&server, &vehicle.token, &vehicle).await.refused(409, "not_a_replacement");
    approve(&server, "VIN1", &[]).await.expect(201);
    enrol(&server, &vehicle.token, &vehicle).await.expect(201);
    vehicle.report(&server).await;
    assert_eq!(vehicle.shown(&server).await.ecus.len(), 3);
    let mut thief = TestVehicle::new("VIN2");
    thief.ecus[1] = TestEcu::new("brake-new", "brake-2");
    let detail = enrol(&server, &server.state.tokens.enroller, &thief)
        .await
        .refused(409, "already_registered");
    assert!(
        detail.contains("re-enrol VIN2 --take brake-new"),
        "a retired one stays with its vehicle: {detail}"
    );
}

/// Somebody else has registered a serial first.
#[tokio::test]
async fn a_squatted_serial_goes_to_whom_a_person_gives_it() {
    let server = TestServer::start().await;
    let enroller = server.state.tokens.enroller.clone();
    let mut squatter = TestVehicle::new("VIN2");
    squatter.ecus[1] = TestEcu::new("VIN1-brake", "brake-2");
    enrol(&server, &enroller, &squatter).await.expect(201);
    server.upload_for("brake-2", "brake/1", 1, "").await;
    squatter.assign(&server, &[(1, "brake/1")]).await.expect(201);
    assert_eq!(squatter.targets(&server).await["targets"].as_object().unwrap().len(), 1);
    let mut rightful = TestVehicle::new("VIN1");
    enrol(&server, &enroller, &rightful).await.refused(409, "already_registered");

    approve(&server, "VIN1", &["nobody"]).await.refused(404, "ecu_not_found");
    approve(&server, "VIN1", &["a b"]).await.refused(400, "bad_vehicle");
    let detail = approve(&server, "VIN1", &["VIN2-gw"]).await.refused(409, "ecu_is_primary");
    assert!(detail.contains("remove that vehicle first"), "{detail}");
    approve(&server, "VIN1", &["VIN1-brake"]).await.expect(201);
    // No other serial than was named.
    let mut greedy = TestVehicle::new("VIN1");
    let bystander = TestVehicle::registered(&server, "VIN3").await;
    greedy.ecus.push(TestEcu::new("VIN3-brake", "brake-2"));
    let detail = enrol(&server, &enroller, &greedy).await.refused(409, "already_registered");
    assert!(detail.contains("VIN3-brake"), "{detail}");
    assert_eq!(bystander.shown(&server).await.ecus.len(), 2);
    enrol(&server, &enroller, &rightful).await.expect(201);
    rightful.report(&server).await;

    let left = squatter.shown(&server).await;
    assert_eq!(left.ecus.len(), 1);
    assert_eq!(
        squatter.targets(&server).await["targets"],
        json!({}),
        "its metadata is signed again"
    );
    let taken = event(&server, "VIN2", "ecu_taken").await;
    assert!(taken.detail.starts_with("VIN1 has it now, as approved by "), "{taken:?}");
    let manifest = squatter.next_manifest();
    squatter.send(&server, &manifest).await.refused(422, "ecu_unknown");
    squatter.ecus.pop();
    squatter.report(&server).await;
    // A Primary's serial is freed with its vehicle.
    remove(&server, "VIN2").await.expect(204);
    let mut heir = TestVehicle::new("VIN4");
    heir.ecus[0] = TestEcu::new("VIN2-gw", "gw-mk3");
    enrol(&server, &enroller, &heir).await.expect(201);
}

/// Of many that enrol at once one starts anew.
#[tokio::test]
async fn an_approval_is_used_once_however_it_is_used() {
    let server = TestServer::start().await;
    TestVehicle::registered(&server, "VIN1").await;
    approve(&server, "VIN1", &[]).await.expect(201);
    let anew: Vec<TestVehicle> = (0..6).map(|_| TestVehicle::new("VIN1")).collect();
    let enroller = server.state.tokens.enroller.clone();
    let answers = futures_util::future::join_all(
        anew.iter().map(|vehicle| enrol(&server, &enroller, vehicle)),
    )
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| [201, 409].contains(&answer.status)), "{answers:?}");
}

/// The factory's file of long ago, sent again, must not put keys back that the vehicle has lost.
#[tokio::test]
async fn a_registration_that_is_sent_again_uses_no_approval_up() {
    let server = TestServer::start().await;
    let current = TestVehicle::registered(&server, "VIN1").await;
    approve(&server, "VIN1", &[]).await.expect(201);
    let stale = TestVehicle::new("VIN1");
    let request = || server.request_as(Engineer, Method::POST, "/api/v1/vehicles");
    send(request().json(&stale.record())).await.refused(409, "already_registered");
    let lines = format!("{}\n{}\n", stale.record(), TestVehicle::new("VIN2").record());
    let many = request().header("Content-Type", "application/jsonl").body(lines);
    let report: BulkBody = send(many).await.body();
    assert_eq!((report.registered, report.refused), (1, 1), "{report:?}");
    assert_eq!(report.faults[0].code, "already_registered", "{report:?}");
    let key = current.shown(&server).await.ecus[0].signing_key.clone();
    assert_eq!(key, *current.ecus[0].signing.public().object());

    let mut wiped = TestVehicle::new("VIN1");
    wiped.token = current.token.clone();
    enrol(&server, &server.state.tokens.enroller, &wiped).await.expect(201);
    wiped.report(&server).await;
}

/// An hour ago, with counters that are high by now.
fn say_what_was_long_ago(vehicle: &mut TestVehicle) -> Value {
    for ecu in &mut vehicle.ecus {
        ecu.report.counter = 500;
        ecu.report.time = SystemClock.now() - Duration::from_secs(3600);
    }
    vehicle.next_manifest()
}

fn start_again(vehicle: &mut TestVehicle) {
    for ecu in &mut vehicle.ecus {
        ecu.report.counter = 0;
        ecu.report.time = SystemClock.now();
    }
}

/// Sold and bought back: what it said before can't be sent again, and what it ran counts.
#[tokio::test]
async fn a_vehicle_that_is_removed_and_comes_back_has_its_counters() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    server.upload_for("gw-mk3", "gw/5", 5, "").await;
    server.upload_for("gw-mk3", "gw/4", 4, "").await;
    vehicle.report(&server).await;
    vehicle.assign(&server, &[(0, "gw/5")]).await.expect(201);
    vehicle.targets(&server).await;
    vehicle.runs(&server, 0, "gw/5").await;
    let recorded = say_what_was_long_ago(&mut vehicle);
    vehicle.send(&server, &recorded).await.expect(204);

    for door in ["one", "list", "itself"] {
        remove(&server, "VIN1").await.expect(204);
        let staff = || server.request_as(Engineer, Method::POST, "/api/v1/vehicles");
        match door {
            "one" => drop(send(staff().json(&vehicle.record())).await.expect(201)),
            "list" => {
                let list = staff().header("Content-Type", "application/jsonl");
                let list = list.body(format!("{}\n", vehicle.record()));
                assert_eq!(send(list).await.json()["registered"], 1);
            }
            _ => drop(enrol(&server, &server.state.tokens.enroller, &vehicle).await.expect(201)),
        }
        vehicle.send(&server, &recorded).await.refused(409, "counter_replayed");
        vehicle.assign(&server, &[(0, "gw/4")]).await.refused(409, "release_counter_rollback");
        start_again(&mut vehicle);
        vehicle.report(&server).await;
        vehicle.send(&server, &recorded).await.refused(409, "counter_replayed");
    }
    let server = TestServer::on(server.stop(), |_| ()).await;
    vehicle.send(&server, &recorded).await.refused(409, "counter_replayed");
    vehicle.report(&server).await;
}

/// An ECU keeps its counters under its key in whatever vehicle it is, and whichever way it went.
#[tokio::test]
async fn an_ecu_that_comes_back_under_its_key_has_its_counters() {
    let server = TestServer::start().await;
    let enroller = server.state.tokens.enroller.clone();
    let mut first = TestVehicle::registered(&server, "VIN1").await;
    let recorded = say_what_was_long_ago(&mut first);
    first.send(&server, &recorded).await.expect(204);
    let old = recorded["signed"]["ecu_version_reports"]["VIN1-brake"].clone();
    assert_eq!(old["signed"]["counter"], 501, "{recorded}");
    let replays = |vehicle: &TestVehicle| {
        let mut reports: std::collections::BTreeMap<_, _> = vehicle
            .ecus
            .iter()
            .map(|ecu| (ecu.serial.clone(), ecu.report.sign(&ecu.signing)))
            .collect();
        reports.insert("VIN1-brake".parse().unwrap(), old.clone());
        vehicle.sign(reports)
    };
    // With another vehicle.
    let brake = first.ecus.pop().unwrap();
    let mut second = TestVehicle::new("VIN2");
    second.ecus[1] = brake;
    approve(&server, "VIN2", &["VIN1-brake"]).await.expect(201);
    enrol(&server, &enroller, &second).await.expect(201);
    start_again(&mut second);
    second.send(&server, &replays(&second)).await.refused(409, "counter_replayed");
    second.report(&server).await;
    // Retired there, and back.
    let brake = std::mem::replace(&mut second.ecus[1], TestEcu::new("VIN2-brake", "brake-2"));
    approve(&server, "VIN2", &[]).await.expect(201);
    enrol(&server, &second.token, &second).await.expect(201);
    second.report(&server).await;
    second.ecus[1] = brake;
    approve(&server, "VIN2", &[]).await.expect(201);
    enrol(&server, &second.token, &second).await.expect(201);
    start_again(&mut second);
    second.send(&server, &replays(&second)).await.refused(409, "counter_replayed");
    second.report(&server).await;
    // Replaced by one of the same serial with another key, and back.
    let other = TestEcu::new("VIN1-brake", "brake-2");
    let brake = std::mem::replace(&mut second.ecus[1], other);
    for comes in [None, Some(brake)] {
        let path = "/api/v1/vehicles/VIN2/ecus/VIN1-brake/replacement";
        let approval = server.request_as(Engineer, Method::POST, path);
        send(approval.json(&json!({ "expires_in_seconds": 3600 }))).await.expect(201);
        if let Some(brake) = comes {
            second.ecus[1] = brake;
        }
        enrol(&server, &second.token, &second).await.expect(201);
    }
    second.ecus[0].report.counter += 1;
    second.send(&server, &replays(&second)).await.refused(409, "counter_replayed");
    second.ecus[1].report.time = SystemClock.now();
    second.report(&server).await;
}
