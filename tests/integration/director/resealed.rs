//! An image that is sealed again: its assignments move along.

use motorcade::model::AccessRole::Officer;
use reqwest::Method;
use serde_json::json;

use super::vehicle::TestVehicle;
use crate::app::{TestServer, send};

#[tokio::test]
async fn the_assignments_of_a_resealed_image_move_to_the_new_one() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let mut other = TestVehicle::registered(&server, "VIN2").await;
    vehicle.report(&server).await;
    other.report(&server).await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    server.upload_for("gw-mk3", "gw/2", 2, "").await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    other.assign(&server, &[(0, "gw/2")]).await.expect(201);
    vehicle.targets(&server).await;
    let url = "/api/v1/images/gw/1/reseal";
    let begun = send(server.request_as(Officer, Method::POST, url).json(&json!({}))).await;
    let ended = server.ended_job(&begun.json()["id"]).await;
    assert_eq!(
        [&ended["state"], &ended["result"]["assignments_moved"]],
        [&json!("done"), &json!(1)]
    );
    assert_eq!(ended["result"]["problems"], json!([]), "{ended}");
    let new = ended["result"]["image"].as_str().unwrap();
    assert_eq!(new, "gw/resealed-1/1");
    let targets = vehicle.targets(&server).await;
    let listed: Vec<_> = targets["targets"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(listed, [new]);
    vehicle.runs(&server, 0, new).await;
    assert!(vehicle.shown(&server).await.ecus[0].assigned.is_none());
    let targets = other.targets(&server).await;
    assert!(targets["targets"].as_object().unwrap().contains_key("gw/2"));
}

#[tokio::test]
async fn no_vehicle_installs_the_copy_of_an_image_that_was_yanked_meanwhile() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    for path in ["gw/1/a.bin", "gw/2/a.bin"] {
        let upload = server.upload_request(path, "").body("bad");
        send(upload).await.expect(201);
    }
    vehicle.assign(&server, &[(0, "gw/1/a.bin")]).await.expect(201);
    server.yank("gw/1/a.bin").await;
    let sealed = json!({ "after": "", "moved": 0, "problems": [], "left_out": 0 });
    let job = server.goes_on_to_reseal(&sealed).await;
    assert_eq!(job["state"], "failed", "{job}");
    let targets = vehicle.targets(&server).await;
    assert_eq!(targets["targets"], json!({}), "{targets}");
    assert!(server.image("gw/2/a.bin").await.yanked_at.is_some());
}
