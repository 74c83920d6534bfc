//! Assignments, and everything that speaks against one.

use motorcade::api::{AssignmentList, Problem};
use motorcade::model::AccessRole::Engineer;
use reqwest::Method;
use serde_json::json;

use super::vehicle::TestVehicle;
use crate::app::{TestServer, send};

fn codes(problem: &Problem) -> Vec<&str> {
    problem.problems.iter().map(|problem| problem.code.as_str()).collect()
}

#[tokio::test]
async fn everything_that_speaks_against_an_assignment_is_named() {
    let server = TestServer::start().await;
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    server.upload_for("gw-mk3", "gw/yanked", 1, "").await;
    send(server.request_as(Engineer, Method::DELETE, "/api/v1/images/gw/yanked")).await.expect(204);

    let answer = vehicle.assign(&server, &[(0, "gw/none"), (1, "gw/1")]).await;
    assert_eq!(
        (answer.status, codes(&answer.body())),
        (409, vec!["image_not_found", "wrong_hardware"])
    );
    vehicle.assign(&server, &[(0, "gw/yanked")]).await.refused(409, "image_yanked");
    vehicle.assign(&server, &[]).await.refused(400, "bad_assignment");
    vehicle.assign(&server, &[(0, "gw/1"), (0, "gw/1")]).await.refused(400, "bad_assignment");
    let body = json!({ "assignments": [{ "ecu_serial": "nobody", "image": "gw/1" }] });
    let path = "/api/v1/vehicles/VIN1/assignments";
    send(server.request_as(Engineer, Method::POST, path).json(&body))
        .await
        .refused(409, "ecu_not_found");
    assert!(vehicle.shown(&server).await.ecus[0].assigned.is_none());
}

#[tokio::test]
async fn an_assignment_ends_when_the_ecu_reports_the_image() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    for (path, counter) in [("gw/1", 1), ("gw/2", 2), ("gw/3", 3)] {
        server.upload_for("gw-mk3", path, counter, "").await;
    }
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    vehicle.assign(&server, &[(0, "gw/2")]).await.expect(201);
    vehicle.targets(&server).await;
    vehicle.runs(&server, 0, "gw/2").await;
    let third: AssignmentList = vehicle.assign(&server, &[(0, "gw/3")]).await.body();
    let id = &third.assignments[0].id;
    let cancel = || {
        server.request_as(
            Engineer,
            Method::DELETE,
            &format!("/api/v1/vehicles/VIN1/assignments/{id}"),
        )
    };
    send(cancel()).await.expect(204);
    send(cancel()).await.refused(404, "assignment_not_found");
    let list: AssignmentList = server.get("/api/v1/vehicles/VIN1/assignments").await.body();
    let mut outcomes: Vec<(String, String)> = Vec::new();
    for assignment in list.assignments {
        outcomes.push((assignment.image, assignment.outcome.unwrap()));
    }
    outcomes.sort();
    let expected = [("gw/1", "superseded"), ("gw/2", "installed"), ("gw/3", "cancelled")];
    assert_eq!(outcomes, expected.map(|(image, outcome)| (image.to_owned(), outcome.to_owned())));
}

#[tokio::test]
async fn a_release_counter_goes_down_only_with_a_reason_that_is_recorded() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    server.upload_for("gw-mk3", "gw/5", 5, "").await;
    server.upload_for("gw-mk3", "gw/4", 4, "").await;
    vehicle.assign(&server, &[(0, "gw/5")]).await.expect(201);
    let detail =
        vehicle.assign(&server, &[(0, "gw/4")]).await.refused(409, "release_counter_rollback");
    assert!(detail.contains("release counter 4") && detail.contains("with 5"), "{detail}");
    vehicle
        .assign_with(&server, &[(0, "gw/4")], json!({ "rollback_reason": " " }))
        .await
        .refused(400, "bad_assignment");
    vehicle
        .assign_with(&server, &[(0, "gw/4")], json!({ "rollback_reason": "5 overheats" }))
        .await
        .expect(201);
    let (_, detail) =
        vehicle.history(&server).await.into_iter().find(|(kind, _)| kind == "assigned").unwrap();
    assert!(detail.contains("5 overheats"), "{detail}");
}

/// AT-11, AT-19 and Deployment Best Practices 8.0.6.2: the Director assumes nothing about what it
/// has not been told.
#[tokio::test]
async fn dependencies_hold_in_every_state_that_the_vehicle_may_be_in() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    server.upload_for("gw-mk3", "gw/1", 1, "&name=gateway").await;
    server.upload_for("gw-mk3", "gw/2", 2, "&name=gateway").await;
    server.upload_for("brake-2", "brake/8", 8, "&name=brake&requires=gateway%3E%3D2").await;
    server.upload_for("brake-2", "brake/9", 9, "&name=brake&conflicts=gateway%3C2").await;

    vehicle.assign(&server, &[(1, "brake/8")]).await.refused(409, "constraint_violated");
    vehicle.assign(&server, &[(0, "gw/2"), (1, "brake/8")]).await.expect(201); // whole in itself
    vehicle.targets(&server).await;
    vehicle.runs(&server, 0, "gw/2").await; // brake/8 was offered and has not been confirmed
    let shown = vehicle.shown(&server).await;
    assert_eq!(shown.ecus[1].offered, ["brake/8"]);
    let detail = vehicle
        .assign_with(&server, &[(0, "gw/1")], json!({ "rollback_reason": "test" }))
        .await
        .refused(409, "constraint_violated");
    assert!(detail.contains("brake 8 on VIN1-brake requires gateway>=2"), "{detail}");
    vehicle.runs(&server, 1, "brake/8").await;
    vehicle.assign(&server, &[(1, "brake/9")]).await.expect(201);
    let answer =
        vehicle.assign_with(&server, &[(0, "gw/1")], json!({ "rollback_reason": "test" })).await;
    let problem: Problem = answer.body();
    assert_eq!(codes(&problem), ["constraint_violated", "constraint_violated"], "{problem:?}");
}

#[tokio::test]
async fn an_offer_counts_until_newer_targets_are_verified_or_the_image_runs() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    let assigned: AssignmentList = vehicle.assign(&server, &[(0, "gw/1")]).await.body();
    vehicle.targets(&server).await; // the vehicle has verified it, and may install it at any time
    let id = &assigned.assignments[0].id;
    let path = format!("/api/v1/vehicles/VIN1/assignments/{id}");
    send(server.request_as(Engineer, Method::DELETE, &path)).await.expect(204);
    vehicle.report(&server).await;
    assert_eq!(vehicle.shown(&server).await.ecus[0].offered, ["gw/1"]);
    vehicle.targets(&server).await; // without it
    vehicle.report(&server).await;
    assert_eq!(vehicle.shown(&server).await.ecus[0].offered, [""; 0]);
    let server = TestServer::on(server.stop(), |_| ()).await;
    assert_eq!(
        vehicle.shown(&server).await.ecus[0].offered,
        [""; 0],
        "it was stored, though nothing happened"
    );
}

#[tokio::test]
async fn an_image_that_is_yanked_is_withdrawn_and_raised() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    assert_eq!(
        vehicle.targets(&server).await["targets"].as_object().unwrap().len(),
        1,
        "it was signed already"
    );
    send(server.request_as(Engineer, Method::DELETE, "/api/v1/images/gw/1")).await.expect(204);
    assert_eq!(vehicle.targets(&server).await["targets"], json!({}));
    let list: AssignmentList = server.get("/api/v1/vehicles/VIN1/assignments").await.body();
    assert_eq!(list.assignments[0].outcome.as_deref(), Some("withdrawn"));
    assert!(vehicle.history(&server).await.iter().any(|(kind, _)| kind == "assignment_blocked"));
}

/// What was offered and not confirmed counts, also if it is the very image that the new bundle
/// takes the place of.
#[tokio::test]
async fn an_offer_counts_although_its_assignment_is_superseded() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    server.upload_for("gw-mk3", "gw/43", 43, "&name=gateway").await;
    server.upload_for("gw-mk3", "gw/44", 44, "&name=gateway").await;
    server.upload_for("brake-2", "brake/8", 8, "&name=brake&conflicts=gateway%3D43").await;
    vehicle.assign(&server, &[(0, "gw/43")]).await.expect(201);
    vehicle.targets(&server).await;
    let detail = vehicle
        .assign(&server, &[(0, "gw/44"), (1, "brake/8")])
        .await
        .refused(409, "constraint_violated");
    assert!(detail.contains("may be running gateway 43"), "{detail}");
}

#[tokio::test]
async fn what_an_assignment_relies_on_can_not_be_taken_from_under_it() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    server.upload_for("gw-mk3", "gw/43", 43, "&name=gateway").await;
    server.upload_for("gw-mk3", "other/50", 50, "&name=other").await;
    server.upload_for("brake-2", "brake/8", 8, "&name=brake&requires=gateway%3E%3D43").await;
    let assigned: AssignmentList =
        vehicle.assign(&server, &[(0, "gw/43"), (1, "brake/8")]).await.body();
    vehicle.assign(&server, &[(0, "other/50")]).await.refused(409, "constraint_violated");
    let cancel = async |index: usize| {
        let id = &assigned.assignments[index].id;
        send(server.request_as(
            Engineer,
            Method::DELETE,
            &format!("/api/v1/vehicles/VIN1/assignments/{id}"),
        ))
        .await
    };
    let detail = cancel(0).await.refused(409, "constraint_violated");
    assert!(detail.contains("brake 8 on VIN1-brake requires gateway>=43"), "{detail}");
    // An image that is yanked takes with it what relies on it.
    send(server.request_as(Engineer, Method::DELETE, "/api/v1/images/gw/43")).await.expect(204);
    assert_eq!(vehicle.targets(&server).await["targets"], json!({}));
    cancel(1).await.refused(404, "assignment_not_found");
}

#[tokio::test]
async fn a_counter_that_was_offered_stays_the_floor_after_a_fallback() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    let factory = vehicle.ecus[0].report.installed_image.clone();
    server.upload_for("gw-mk3", "gw/50", 50, "").await;
    server.upload_for("gw-mk3", "gw/45", 45, "").await;
    vehicle.assign(&server, &[(0, "gw/50")]).await.expect(201);
    vehicle.targets(&server).await;
    vehicle.runs(&server, 0, "gw/50").await;
    vehicle.ecus[0].report.installed_image = factory;
    vehicle.report(&server).await;
    vehicle.assign(&server, &[(0, "gw/45")]).await.refused(409, "release_counter_rollback");
}

/// A Primary that claims to have verified what was never signed settles nothing.
#[tokio::test]
async fn a_version_that_was_never_signed_settles_no_offer() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    server.upload_for("brake-2", "brake/8", 8, "").await;
    vehicle.assign(&server, &[(1, "brake/8")]).await.expect(201);
    vehicle.targets(&server).await;
    vehicle.targets_version = 1 << 50;
    vehicle.report(&server).await;
    assert_eq!(vehicle.shown(&server).await.ecus[1].offered, ["brake/8"]);
}
