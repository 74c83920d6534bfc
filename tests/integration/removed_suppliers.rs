//! What is left of a supplier that was removed: for how long its last file is named, and when its
//! images and files go.

use std::collections::BTreeSet;

use motorcade::app::images::collect::CollectMode;
use motorcade::model::{AccessRole, RepositorySide, RoleKind};
use reqwest::Method;
use serde_json::json;

use crate::app::{TestServer, send};
use crate::ceremony::Desk;
use crate::collection::{collect, yanked_long_ago};
use crate::director::vehicle::TestVehicle;
use crate::offline_targets::{found, publish, with_acme};
use crate::publication::{NEVER, Node, engineer};
use crate::suppliers::{add, published, remove, token, upload};

/// The metadata files of the supplier acme.
fn files_of_acme(node: &Node) -> BTreeSet<String> {
    let files = node.state.stored_files().into_iter();
    files.filter(|name| name.ends_with(".supplier-acme.json")).collect()
}

#[tokio::test]
async fn the_last_file_of_a_removed_supplier_gets_old_and_people_are_told_while_targets_name_it() {
    let desk = Desk::new(&["anna"]);
    let server = with_acme(&desk).await;
    remove(&server, "acme").await.expect(200);
    let node = Node::open(server.stop(), NEVER).await;
    let upkeep = node.app.upkeep();
    let last = async || {
        let mut all = upkeep.expiries().await.unwrap().into_iter();
        all.find(|expiry| expiry.kind == RoleKind::Suppliers)
    };
    assert!(!last().await.unwrap().awaits_person(), "it is fresh");
    node.after_hours(46 * 24).await; // of 90 days
    let expiry = last().await.unwrap();
    assert!(expiry.awaits_person(), "{expiry:?}");
    assert_eq!((expiry.side, expiry.name().as_str()), (RepositorySide::Image, "supplier-acme"));
    node.after_hours(34 * 24).await;
    let waiting = upkeep.check_ready().await.unwrap();
    let told = waiting.iter().find(|expiry| expiry.name() == "supplier-acme").unwrap();
    assert!(told.describe().contains("supplier-acme metadata"), "{told:?}");
    assert!(told.action().contains("`motorcade targets stage`"), "{told:?}");
    let report = node.app.doctor().examine().await.unwrap();
    let mut findings = report.checks.iter().flat_map(|check| &check.findings);
    let finding = findings.find(|found| found.problem.contains("supplier-acme metadata"));
    let finding = finding.unwrap_or_else(|| panic!("{report:?}"));
    assert!(finding.action.contains("`motorcade targets stage`"), "{finding:?}");
    node.close().await;
}

#[tokio::test]
async fn a_removed_supplier_that_nobody_names_any_more_expires_for_nobody() {
    let server = TestServer::start().await;
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    let own = token(&server.state, "acme/").await;
    upload(&server, &own, "acme/1.bin", "").await.expect(201);
    let gauge = "motorcade_metadata_expiry_seconds{repository=\"image\",role=\"suppliers\"}";
    assert!(server.metrics().await.contains(gauge));
    remove(&server, "acme").await.expect(200);
    assert!(!server.metrics().await.contains(gauge), "nothing of it can expire");
    let node = Node::open(server.stop(), NEVER).await;
    let roles = node.app.upkeep().expiries().await.unwrap();
    assert!(roles.iter().all(|role| role.kind != RoleKind::Suppliers), "{roles:?}");
    node.close().await;
}

#[tokio::test]
async fn images_and_files_of_a_removed_supplier_go_after_their_time_and_nothing_else_does() {
    let server = TestServer::start().await;
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    let own = token(&server.state, "acme/").await;
    let paths = ["acme/1.bin", "acme/2.bin", "acme/3.bin"];
    for path in paths {
        upload(&server, &own, path, "").await.expect(201);
    }
    server.upload("gw/1.bin", "of the car maker").await.expect(201);
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.assign(&server, &[(0, "acme/3.bin")]).await.expect(201);
    let retained = "/api/v1/retentions/acme/2.bin";
    let put = server.request_as(AccessRole::Engineer, Method::PUT, retained);
    send(put.json(&json!({ "retain_until": "2100-01-01T00:00:00Z" }))).await.expect(200);
    let last = published(&server, "supplier-acme").await["signed"]["version"].as_u64().unwrap();
    assert!(last > 1);
    remove(&server, "acme").await.expect(200);

    let node = Node::open(server.stop(), NEVER).await;
    let result = node.collect(1, CollectMode::Remove).await;
    assert_eq!((&result["collected"], &result["kept"]), (&json!(0), &json!(0)), "{result}");
    node.after_hours(26).await;
    let all = node.state.stored_files();
    let result = node.collect(1, CollectMode::DryRun).await;
    assert_eq!(result["images"], json!(["acme/1.bin"]), "{result}");
    let reasons = result["reasons"].to_string();
    assert!(reasons.contains("acme/2.bin: it is to be kept until 2100"), "{reasons}");
    assert!(reasons.contains("acme/3.bin: a vehicle is to install it"), "{reasons}");
    assert_eq!(node.state.stored_files(), all, "nothing was changed");
    assert_eq!(node.collect(1, CollectMode::Remove).await["images"], json!(["acme/1.bin"]));
    let left = paths.map(|path| node.files_of(path).len());
    assert_eq!(left, [0, 4, 4]);
    let kept = "acme/2.bin".parse().unwrap();
    node.app.images().retain(&kept, None, &engineer()).await.unwrap();
    assert_eq!(node.collect(1, CollectMode::Remove).await["images"], json!(["acme/2.bin"]));

    // Snapshots go on listing the last file, and lead to no other one.
    node.app.upkeep().remove_superseded_metadata().await.unwrap();
    assert_eq!(files_of_acme(&node), BTreeSet::from([format!("{last}.supplier-acme.json")]));
    assert!(node.state.blob("1.root.json").exists());
    assert_eq!(node.files_of("gw/1.bin").len(), 4);
    node.close().await.assert_clean().await;
}

#[tokio::test]
async fn its_images_stay_while_targets_that_people_sign_lead_to_them() {
    let desk = Desk::new(&["anna"]);
    let server = with_acme(&desk).await;
    remove(&server, "acme").await.expect(200);
    yanked_long_ago(&server).await;
    let result = collect(&server);
    assert_eq!((&result["collected"], &result["kept"]), (&json!(0), &json!(1)), "{result}");
    assert!(found(&server, "acme/1.bin").await, "the published targets lead there");
    publish(&server, &desk, 2);
    // Until the timestamp of before has expired, somebody may go by it.
    let result = collect(&server);
    assert_eq!((&result["collected"], &result["kept"]), (&json!(0), &json!(1)), "{result}");
    yanked_long_ago(&server).await;
    assert_eq!(collect(&server)["images"], json!(["acme/1.bin"]));
    server.state.assert_clean().await;
}
