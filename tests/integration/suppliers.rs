//! Suppliers: folders whose images are signed with keys of their own.

use std::fs;
use std::path::PathBuf;

use motorcade::api::{ImageList, RecipientList, RemovedSupplierBody, SupplierBody, SupplierList};
use motorcade::app::access::{self, NewToken};
use motorcade::model::{AccessRole, Clock, HardwareId, RoleName, SystemClock};
use motorcade::uptane::verify::{Rules, Search, TrustedSet};
use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::app::{DESCRIPTION, TestServer, send};
use crate::state::TestState;

pub(crate) async fn add(server: &TestServer, body: Value) -> Answer {
    let request = server.request_as(AccessRole::Officer, Method::POST, "/api/v1/suppliers");
    send(request.json(&body)).await
}

pub(crate) async fn remove(server: &TestServer, name: &str) -> Answer {
    let path = format!("/api/v1/suppliers/{name}");
    send(server.request_as(AccessRole::Officer, Method::DELETE, &path)).await
}

/// A token that is bound to a folder.
pub(crate) async fn token(state: &TestState, folder: &str) -> String {
    let catalog = state.dir().open_catalog().await.unwrap();
    let new =
        NewToken { path_prefix: Some(folder), ..NewToken::of(AccessRole::Uploader, "supplier") };
    let token = access::create_token(&catalog, new, SystemClock.now()).await.unwrap();
    catalog.close().await;
    token.to_string()
}

pub(crate) async fn upload(server: &TestServer, token: &str, path: &str, more: &str) -> Answer {
    let path = format!("/api/v1/images/{path}?{DESCRIPTION}{more}");
    send(server.request(Method::PUT, &path).bearer_auth(token).body(format!("of {path}"))).await
}

/// A published metadata file by the role's name, as the newest snapshot lists it.
pub(crate) async fn published(server: &TestServer, role: &str) -> Value {
    let timestamp = server.download("timestamp.json").await;
    let snapshot = snapshot_of(server, &timestamp).await;
    if role == "snapshot" { snapshot } else { listed(server, &snapshot, role).await }
}

async fn read(server: &TestServer, name: String) -> Value {
    serde_json::from_slice(&server.download(&name).await).unwrap()
}

async fn snapshot_of(server: &TestServer, timestamp: &[u8]) -> Value {
    let timestamp: Value = serde_json::from_slice(timestamp).unwrap();
    let version = timestamp["signed"]["meta"]["snapshot.json"]["version"].as_u64().unwrap();
    read(server, format!("{version}.snapshot.json")).await
}

async fn listed(server: &TestServer, snapshot: &Value, role: &str) -> Value {
    let version = &snapshot["signed"]["meta"][format!("{role}.json")]["version"];
    let version = version.as_u64().expect("the snapshot lists it");
    read(server, format!("{version}.{role}.json")).await
}

/// Where our verifier finds a target for some hardware, and whom it asks on the way.
pub(crate) async fn search(server: &TestServer, path: &str, hardware: &str) -> (Vec<String>, bool) {
    let root = server.state.first_root();
    let mut set = TrustedSet::new(&root, Rules::Image, SystemClock.now()).unwrap();
    for version in 2.. {
        let Ok(root) = fs::read(server.state.blob(&format!("{version}.root.json"))) else { break };
        set.update_root(&root).unwrap();
    }
    let timestamp = server.download("timestamp.json").await;
    set.update_timestamp(&timestamp).unwrap();
    let bytes = |value: &Value| serde_json::to_vec(value).unwrap();
    let snapshot = snapshot_of(server, &timestamp).await;
    set.update_snapshot(&bytes(&snapshot)).unwrap();
    set.update_targets(&bytes(&listed(server, &snapshot, "targets").await)).unwrap();
    let hardware: Vec<HardwareId> = vec![hardware.parse().unwrap()];
    let mut asked = Vec::new();
    loop {
        let (role, delegator) = match set.search(path, &hardware).unwrap() {
            Search::Found(_) => return (asked, true),
            Search::Missing => return (asked, false),
            Search::Needs { role, delegator } => (role, delegator),
        };
        let file = listed(server, &snapshot, role.as_str()).await;
        set.update_delegated(&role, &delegator, &bytes(&file)).unwrap();
        asked.push(role.to_string());
    }
}

#[tokio::test]
async fn a_supplier_s_images_are_signed_with_its_own_keys_and_found_by_every_client() {
    let server = TestServer::start().await;
    let acme = json!({ "supplier": "acme", "hardware_ids": ["gw-mk3"], "threshold": 2, "keys": 3 });
    let added: SupplierBody =
        serde_json::from_slice(&add(&server, acme).await.expect(201)).unwrap();
    assert_eq!((added.delegated_role.as_str(), added.keys.len()), ("supplier-acme", 3));
    assert_eq!((added.folder.as_str(), added.terminating), ("acme/", true));
    let own = token(&server.state, "acme/").await;
    upload(&server, &own, "acme/brakes/1/a.bin", "").await.expect(201);
    server.upload("gw/1/a.bin", "of the car maker").await.expect(201);

    let targets = published(&server, "targets").await;
    let delegation = &targets["signed"]["delegations"]["roles"][0];
    assert_eq!(delegation["name"], "supplier-acme", "it is asked before the bins");
    assert_eq!((&delegation["threshold"], &delegation["terminating"]), (&json!(2), &json!(true)));
    assert_eq!(delegation["paths"][1], "acme/*/*");
    let ids = &targets["signed"]["delegation_hardware_ids"];
    assert_eq!(*ids, json!({ "supplier-acme": ["gw-mk3"] }));
    let file = published(&server, "supplier-acme").await;
    let listed: Vec<_> = file["signed"]["targets"].as_object().unwrap().keys().collect();
    assert_eq!(listed, ["acme/brakes/1/a.bin", "acme/brakes/1/a.bin.jwe"]);
    assert_eq!(file["signatures"].as_array().unwrap().len(), 3);

    for path in ["acme/brakes/1/a.bin", "acme/brakes/1/a.bin.jwe"] {
        let asked = search(&server, path, "gw-mk3").await;
        assert_eq!(asked, (vec!["supplier-acme".to_owned()], true), "{path}");
        let (asked, is_found) = search(&server, path, "door-1").await;
        assert!(asked[0].starts_with("bin-") && !is_found, "{path} {asked:?}");
    }
    let stock = server.repository().await;
    assert!(stock.find("acme/brakes/1/a.bin").is_some() && stock.find("gw/1/a.bin").is_some());
    let to = server.state.folder.path().join("sealed");
    stock.download("acme/brakes/1/a.bin", &to).await.unwrap();
    server.state.assert_clean().await;

    // The keys are there again after a start, and what comes then is signed with them.
    let server = TestServer::on(server.stop(), |_| ()).await;
    upload(&server, &own, "acme/doors/1/a.bin", "").await.expect(201);
    assert!(server.repository().await.find("acme/doors/1/a.bin").is_some());
}

#[tokio::test]
async fn each_upload_is_checked_against_the_delegations() {
    let server = TestServer::start().await;
    let acme = json!({ "supplier": "acme", "hardware_ids": ["gw-mk3"] });
    add(&server, acme).await.expect(201);
    let bolt = json!({ "supplier": "bolt", "hardware_ids": ["door-1"], "terminating": false });
    add(&server, bolt).await.expect(201);
    let (acme, bolt) = (token(&server.state, "acme/").await, token(&server.state, "bolt/").await);
    let maker = server.state.tokens.uploader.clone();

    let detail = upload(&server, &maker, "acme/a.bin", "").await.refused(403, "forbidden");
    assert!(detail.contains("supplier acme") && detail.contains("--path-prefix acme/"), "{detail}");
    upload(&server, &bolt, "acme/a.bin", "").await.refused(403, "forbidden");
    upload(&server, &acme, "gw/a.bin", "").await.refused(403, "forbidden");
    let other = upload(&server, &acme, "acme/a.bin", "&hardware_id=gw-mk4").await;
    let detail = other.refused(422, "hardware_not_delegated");
    assert!(detail.contains("and not for gw-mk4"), "{detail}");
    let other = upload(&server, &bolt, "bolt/a.bin", "").await;
    other.refused(422, "hardware_not_delegated");

    upload(&server, &acme, "acme/a.bin", "").await.expect(201);
    // A folder whose delegation doesn't end the search: what is for other hardware is the maker's.
    upload(&server, &maker, "bolt/a.bin", "").await.expect(201);
    let (asked, is_found) = search(&server, "bolt/a.bin", "gw-mk3").await;
    assert!(asked[0].starts_with("bin-") && is_found, "{asked:?}");
    assert!(server.repository().await.find("bolt/a.bin").is_some());
}

#[tokio::test]
async fn a_supplier_s_image_is_resealed_in_its_folder_alone() {
    let server = TestServer::start().await;
    let acme = json!({ "supplier": "acme", "hardware_ids": ["gw-mk3"] });
    add(&server, acme).await.expect(201);
    let bolt = json!({ "supplier": "bolt", "hardware_ids": ["door-1"], "terminating": false });
    add(&server, bolt).await.expect(201);
    let (acme, maker) = (token(&server.state, "acme/").await, server.state.tokens.uploader.clone());
    upload(&server, &acme, "acme/a.bin", "").await.expect(201);
    upload(&server, &maker, "gw/a.bin", "").await.expect(201);
    upload(&server, &maker, "bolt/a.bin", "").await.expect(201);
    let reseal = async |path: &str, body: Value| {
        let url = format!("/api/v1/images/{path}/reseal");
        send(server.request_as(AccessRole::Officer, Method::POST, &url).json(&body)).await
    };
    let detail = reseal("acme/a.bin", json!({ "to": "gw/b.bin" })).await;
    let detail = detail.refused(422, "supplier_folder");
    assert!(detail.contains("supplier acme") && detail.contains("a path in it"), "{detail}");
    let detail = reseal("gw/a.bin", json!({ "to": "acme/b.bin" })).await;
    let detail = detail.refused(422, "supplier_folder");
    assert!(detail.contains("name a path outside"), "{detail}");
    let jobs = server.get("/api/v1/jobs").await.json();
    assert_eq!(jobs["jobs"], json!([]), "refused before anything is made");
    // What is the maker's own in a folder.
    reseal("bolt/a.bin", json!({})).await.expect(201);

    let before = server.open("acme/a.bin", "snakeoil_p256").await;
    let job = server.resealed("acme/a.bin", json!({})).await;
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(job["result"]["image"], "acme/resealed-1/a.bin");
    assert_eq!(server.open("acme/resealed-1/a.bin", "snakeoil_p256").await, before);
    let (asked, is_found) = search(&server, "acme/resealed-1/a.bin", "gw-mk3").await;
    assert_eq!((asked, is_found), (vec!["supplier-acme".to_owned()], true));
    assert!(server.image("acme/a.bin").await.yanked_at.is_some());
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn a_supplier_sees_its_own_folder() {
    let server = TestServer::start().await;
    for name in ["acme", "bolt"] {
        let supplier = json!({ "supplier": name, "hardware_ids": ["gw-mk3"] });
        add(&server, supplier).await.expect(201);
    }
    let (acme, bolt) = (token(&server.state, "acme/").await, token(&server.state, "bolt/").await);
    for number in 1..=3 {
        upload(&server, &acme, &format!("acme/{number}.bin"), "").await.expect(201);
    }
    upload(&server, &bolt, "bolt/1.bin", "").await.expect(201);
    server.upload("aa/1.bin", "before all of them").await.expect(201);

    let get = async |path: &str| {
        send(server.request(Method::GET, &format!("/api/v1/{path}")).bearer_auth(&acme)).await
    };
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page: ImageList = get(&format!("images?limit=2&cursor={cursor}")).await.body();
        seen.extend(page.images.into_iter().map(|image| image.path));
        let Some(next) = page.next_cursor else { break };
        cursor = next;
    }
    assert_eq!(seen, ["acme/1.bin", "acme/2.bin", "acme/3.bin"]);
    get("images/acme/1.bin").await.expect(200);
    for path in ["images/bolt/1.bin", "images/bolt/1.bin/envelope", "images/aa/1.bin"] {
        get(path).await.refused(404, "image_not_found");
    }
    let suppliers: SupplierList = get("suppliers").await.body();
    let names: Vec<_> = suppliers.suppliers.iter().map(|s| s.supplier.as_str()).collect();
    assert_eq!(names, ["acme"]);
    let key = crate::state::key_file("snakeoil_p256_other.pub.pem");
    let request = server.request_as(AccessRole::Engineer, Method::POST, "/api/v1/recipients");
    let body = json!({ "hardware_ids": ["secret-project"], "public_key": key });
    send(request.json(&body)).await.expect(201);
    let recipients: RecipientList = get("recipients").await.body();
    assert!(!recipients.recipients.is_empty());
    assert!(recipients.recipients.iter().all(|recipient| recipient.hardware_id == "gw-mk3"));
}

#[tokio::test]
async fn a_removed_supplier_is_gone_and_no_client_takes_that_for_a_rollback() {
    let server = TestServer::start().await;
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    let own = token(&server.state, "acme/").await;
    upload(&server, &own, "acme/1.bin", "").await.expect(201);
    server.upload("gw/1.bin", "of the car maker").await.expect(201);
    let before = published(&server, "snapshot").await;
    let version = &before["signed"]["meta"]["supplier-acme.json"]["version"];

    let removed: RemovedSupplierBody =
        serde_json::from_slice(&remove(&server, "acme").await.expect(200)).unwrap();
    assert_eq!((removed.images, removed.tokens.len()), (1, 1));
    remove(&server, "acme").await.refused(404, "supplier_not_found");
    upload(&server, &own, "acme/2.bin", "").await.refused(401, "unauthenticated");
    let after = published(&server, "snapshot").await;
    assert_eq!(after["signed"]["meta"]["supplier-acme.json"]["version"], *version);
    let targets = published(&server, "targets").await;
    assert_eq!(targets["signed"].get("delegation_hardware_ids"), None);
    assert!(targets["signed"]["delegations"]["roles"][0]["name"] != "supplier-acme");
    let image = server.image("acme/1.bin").await;
    assert!(image.yanked_at.is_some());

    // What our verifier trusted before leads on to what is published now (TUF 1.0.34, 5.5.5).
    let root = server.state.first_root();
    let mut set = TrustedSet::new(&root, Rules::Image, SystemClock.now()).unwrap();
    let timestamp = server.download("timestamp.json").await;
    set.update_timestamp(&timestamp).unwrap();
    set.update_snapshot(&serde_json::to_vec(&before).unwrap()).unwrap_err();
    set.update_snapshot(&serde_json::to_vec(&after).unwrap()).unwrap();
    let stock = server.repository().await;
    assert!(stock.find("acme/1.bin").is_none() && stock.find("gw/1.bin").is_some());

    // Another one takes the folder over, under another name.
    let detail = add(&server, json!({ "supplier": "acme" })).await;
    let detail = detail.refused(409, "supplier_name_used");
    assert!(detail.contains("acme-2"), "{detail}");
    let next = json!({ "supplier": "acme-2", "folder": "acme/" });
    add(&server, next).await.expect(201);
    let next = token(&server.state, "acme/").await;
    upload(&server, &next, "acme/2.bin", "").await.expect(201);
    assert!(server.repository().await.find("acme/2.bin").is_some());
    server.state.assert_clean().await;
    let retired = fs::read_dir(server.state.path().join("keys/retired")).unwrap();
    assert_eq!(retired.count(), 1, "its key signs nothing any more");
    let server = TestServer::on(server.stop(), |_| ()).await;
    assert!(server.repository().await.find("acme/2.bin").is_some());
}

#[tokio::test]
async fn a_supplier_gets_other_keys_and_every_image_stays_found() {
    let server = TestServer::start().await;
    let body = json!({ "supplier": "acme", "threshold": 2, "keys": 2 });
    let before: SupplierBody =
        serde_json::from_slice(&add(&server, body).await.expect(201)).unwrap();
    let own = token(&server.state, "acme/").await;
    upload(&server, &own, "acme/1.bin", "").await.expect(201);
    let rotate = "/api/v1/suppliers/acme/rotation";
    let after = send(server.request_as(AccessRole::Officer, Method::POST, rotate)).await;
    let after: SupplierBody = serde_json::from_slice(&after.expect(200)).unwrap();
    assert_eq!(after.keys.len(), 2);
    assert!(before.keys.iter().all(|key| !after.keys.contains(key)));
    let (asked, is_found) = search(&server, "acme/1.bin", "gw-mk3").await;
    assert_eq!((asked.as_slice(), is_found), (&["supplier-acme".to_owned()][..], true));
    assert!(server.repository().await.find("acme/1.bin").is_some());
    let retired = fs::read_dir(server.state.path().join("keys/retired")).unwrap();
    assert_eq!(retired.count(), 2);
    let server = TestServer::on(server.stop(), |_| ()).await;
    upload(&server, &own, "acme/2.bin", "").await.expect(201);
    assert!(server.repository().await.find("acme/2.bin").is_some());
    server.state.assert_clean().await;
}

#[tokio::test]
async fn suppliers_that_nobody_could_rely_on_are_refused() {
    let server = TestServer::start().await;
    server.upload("gw/1.bin", "of the car maker").await.expect(201);
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    for (body, status, code) in [
        (json!({ "supplier": "acme" }), 409, "supplier_exists"),
        (json!({ "supplier": "bolt", "folder": "acme/eu/" }), 409, "folder_taken"),
        (json!({ "supplier": "gw" }), 409, "folder_has_images"),
        (json!({ "supplier": "bolt", "threshold": 0 }), 422, "bad_threshold"),
        (json!({ "supplier": "bolt", "threshold": 2, "keys": 1 }), 422, "bad_threshold"),
        (json!({ "supplier": "bolt", "keys": 17 }), 422, "bad_threshold"),
        (json!({ "supplier": "Bolt" }), 400, "bad_supplier"),
        (json!({ "supplier": "bolt", "folder": "bolt" }), 400, "bad_folder"),
        (json!({ "supplier": "bolt", "hardware_ids": ["a b"] }), 400, "bad_hardware_id"),
        (json!({ "supplier": "bolt", "x": 1 }), 400, "bad_json"),
    ] {
        add(&server, body).await.refused(status, code);
    }
    let shared = json!({ "supplier": "gw", "terminating": false });
    add(&server, shared).await.expect(201);
    assert!(server.repository().await.find("gw/1.bin").is_some(), "the search goes on");
    let (asked, is_found) = search(&server, "gw/1.bin", "gw-mk3").await;
    assert_eq!((asked[0].as_str(), is_found), ("supplier-gw", true));
}

#[tokio::test]
async fn a_start_without_a_supplier_s_keys_says_which_file_is_missing() {
    let server = TestServer::start().await;
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    let state = server.stop();
    let files = fs::read_dir(state.path().join("keys")).unwrap().map(|file| file.unwrap().path());
    let is_acme_s = |path: &PathBuf| path.to_string_lossy().contains("/supplier-acme-");
    let file = files.into_iter().find(is_acme_s).expect("the key has a file");
    let aside = state.path().join("aside.pem");
    fs::rename(&file, &aside).unwrap();
    let refused = crate::wrong_keys::refused(&state).await;
    assert!(refused.contains("of the role supplier-acme"), "{refused}");
    fs::rename(&aside, &file).unwrap();
    let server = TestServer::on(state, |_| ()).await;
    let role: RoleName = "supplier-acme".parse().unwrap();
    assert!(published(&server, role.as_str()).await["signed"]["targets"].is_object());
}
