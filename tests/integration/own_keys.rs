//! Suppliers who keep their keys: what they list is public once they have signed it, and not
//! before.

use std::fs;
use std::time::Duration;

use motorcade::api::{SupplierBody, TargetsBody};
use motorcade::app::images::precondition::{Precondition, Tags};
use motorcade::app::owners::StageTargets;
use motorcade::app::suppliers::NewSupplier;
use motorcade::model::AccessRole;
use motorcade::uptane::metadata::{Authority, Unsigned};
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::app::{TestServer, send};
use crate::ceremony::{Officer, officer};
use crate::collection::{collect, yanked_long_ago};
use crate::director::vehicle::TestVehicle;
use crate::publication::Node;
use crate::state::{TestState, key_file};
use crate::suppliers::{add, published, remove, search, token, upload};

const ACME: &str = "/api/v1/targets/supplier-acme";

/// A supplier with keys that no server has, and a token for its folder.
pub(crate) struct Supplier {
    pub(crate) keys: Vec<Officer>,
    pub(crate) token: String,
}

impl Supplier {
    /// Adds `acme` with so many keys, all of which have to sign.
    pub(crate) async fn added(server: &TestServer, keys: usize) -> Self {
        let keys: Vec<Officer> = (0..keys).map(|_| Officer::new()).collect();
        let body = json!({
            "supplier": "acme", "threshold": keys.len(), "public_keys": public(&keys),
        });
        let added: SupplierBody =
            serde_json::from_slice(&add(server, body).await.expect(201)).unwrap();
        assert!(added.offline && added.keys.len() == keys.len());
        Self { keys, token: token(&server.state, "acme/").await }
    }

    pub(crate) async fn call(
        &self,
        server: &TestServer,
        method: Method,
        path: &str,
        body: Value,
    ) -> Answer {
        let request = server.request(method, &format!("{ACME}{path}")).bearer_auth(&self.token);
        send(request.json(&body)).await
    }

    pub(crate) async fn state(&self, server: &TestServer) -> TargetsBody {
        send(server.request(Method::GET, ACME).bearer_auth(&self.token)).await.body()
    }

    pub(crate) async fn stage(&self, server: &TestServer) -> TargetsBody {
        self.call(server, Method::PUT, "/staged", json!({})).await.body()
    }

    pub(crate) async fn sign(&self, server: &TestServer, key: &Officer) -> Answer {
        let file =
            send(server.request(Method::GET, &format!("{ACME}/staged")).bearer_auth(&self.token));
        let file: Value = file.await.json();
        self.call(server, Method::POST, "/staged/signatures", signed(key, &file)).await
    }

    pub(crate) async fn publish(&self, server: &TestServer) -> Answer {
        self.call(server, Method::POST, "/staged/publish", json!(null)).await
    }

    /// Stages what waits, has all keys sign it and publishes it.
    pub(crate) async fn publish_all(&self, server: &TestServer) {
        self.stage(server).await;
        for key in &self.keys {
            self.sign(server, key).await.expect(200);
        }
        self.publish(server).await.expect(200);
    }
}

pub(crate) fn public(keys: &[Officer]) -> Vec<Value> {
    keys.iter().map(|key| key.key.public().object().clone()).collect()
}

/// A signature of a staged file, as it is brought.
fn signed(key: &Officer, file: &Value) -> Value {
    let role = file["targets_role"].as_str().unwrap().parse().unwrap();
    let staged = serde_json::to_vec(&file["staged"]).unwrap();
    let alone = Authority { key_ids: [key.id()].into(), threshold: 1 };
    let unsigned = Unsigned::of_file(role, &staged).unwrap().authorize(&alone, [key.id()]).unwrap();
    let sig = hex::encode(key.key.sign(unsigned.message()));
    json!({
        "payload_sha256": file["payload_sha256"],
        "signatures": [{ "keyid": key.id().to_string(), "sig": sig }],
    })
}

/// Whether the published targets delegate to `acme`, and with which keys.
async fn delegated(server: &TestServer) -> Option<Value> {
    let targets = published(server, "targets").await;
    let roles = targets["signed"]["delegations"]["roles"].as_array().unwrap().clone();
    let acme = roles.into_iter().find(|role| role["name"] == "supplier-acme");
    acme.map(|role| role["keyids"].clone())
}

async fn found(server: &TestServer, path: &str) -> bool {
    let ours = search(server, path, "gw-mk3").await.1;
    assert_eq!(server.repository().await.find(path).is_some(), ours, "{path}");
    ours
}

#[tokio::test]
async fn nothing_is_public_before_the_supplier_has_signed_it() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 2).await;
    let files = fs::read_dir(server.state.path().join("keys")).unwrap();
    let is_acme_s = |name: std::ffi::OsString| name.to_string_lossy().contains("supplier");
    assert!(!files.into_iter().any(|file| is_acme_s(file.unwrap().file_name())));
    let answer = upload(&server, &acme.token, "acme/1.bin", "").await;
    assert_eq!(answer.json()["awaits_signature_of"], "supplier-acme");
    answer.expect(201);
    server.upload("gw/1.bin", "of the car maker").await.expect(201);
    assert_eq!(delegated(&server).await, None);
    let listed = published(&server, "snapshot").await["signed"]["meta"].clone();
    assert!(listed.get("supplier-acme.json").is_none(), "{listed}");
    assert!(!found(&server, "acme/1.bin").await && found(&server, "gw/1.bin").await);
    server.state.assert_clean().await;

    let waiting = acme.state(&server).await;
    assert_eq!((waiting.version, waiting.waiting.len()), (None, 2), "{waiting:?}");
    assert!(waiting.waiting[0].starts_with("+ \"acme/1.bin\", name "), "{waiting:?}");
    let staged = acme.stage(&server).await.staged.unwrap();
    assert_eq!((staged.missing, staged.signatures.len()), (2, 0));
    acme.sign(&server, &acme.keys[0]).await.expect(200);
    let detail = acme.publish(&server).await.refused(409, "signatures_missing");
    assert!(detail.contains("1 more signatures"), "{detail}");
    acme.sign(&server, &acme.keys[0]).await.refused(409, "already_signed");
    acme.sign(&server, &Officer::new()).await.refused(409, "unknown_key");
    assert_eq!(delegated(&server).await, None, "nobody has seen anything of it");
    acme.sign(&server, &acme.keys[1]).await.expect(200);
    acme.publish(&server).await.expect(200);
    assert_eq!(delegated(&server).await.unwrap().as_array().unwrap().len(), 2);
    assert!(found(&server, "acme/1.bin").await && found(&server, "acme/1.bin.jwe").await);
    let file = published(&server, "supplier-acme").await;
    assert_eq!(file["signatures"].as_array().unwrap().len(), 2);
    let state = acme.state(&server).await;
    assert_eq!((state.version, state.waiting.len(), state.staged), (Some(1), 0, None));

    // What comes then waits, also across a start, which asks for no key.
    let server = TestServer::on(server.stop(), |_| ()).await;
    upload(&server, &acme.token, "acme/2.bin", "").await.expect(201);
    server.upload("gw/2.bin", "of the car maker, again").await.expect(201);
    assert!(found(&server, "acme/1.bin").await && !found(&server, "acme/2.bin").await);
    assert_eq!(published(&server, "supplier-acme").await, file);
    acme.publish_all(&server).await;
    assert!(found(&server, "acme/1.bin").await && found(&server, "acme/2.bin").await);
    server.state.assert_clean().await;
    let log = server.get("/api/v1/audit?kind=metadata_published").await.json();
    let entries = log["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{log}");
    assert!(entries.iter().all(|entry| entry["subject"] == "supplier-acme"), "{log}");
}

#[tokio::test]
async fn two_who_stage_do_not_get_in_each_other_s_way() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    upload(&server, &acme.token, "acme/1.bin", "").await.expect(201);
    let first = acme.stage(&server).await.staged.unwrap();
    let file =
        send(server.request(Method::GET, &format!("{ACME}/staged")).bearer_auth(&acme.token));
    let file: Value = file.await.json();
    let again = acme.call(&server, Method::PUT, "/staged", json!({})).await;
    let detail = again.refused(412, "precondition_failed");
    assert!(detail.contains(&format!("revision {}", first.revision)), "{detail}");
    let at = |method: Method, path: &str, revision: u64| {
        let request = server.request(method, &format!("{ACME}{path}")).bearer_auth(&acme.token);
        request.header(IF_MATCH, format!("\"{revision}\""))
    };
    let other = at(Method::PUT, "/staged", first.revision).json(&json!({ "expires_days": 7 }));
    let second: TargetsBody = send(other).await.body();
    let second = second.staged.unwrap();
    assert!(second.version > first.version, "a version is of one file, ever");
    let late = signed(&acme.keys[0], &file);
    let late = acme.call(&server, Method::POST, "/staged/signatures", late).await;
    late.refused(409, "wrong_payload");
    send(at(Method::DELETE, "/staged", first.revision)).await.refused(412, "precondition_failed");
    let careless = acme.call(&server, Method::DELETE, "/staged", json!(null)).await;
    careless.refused(412, "precondition_failed");
    send(at(Method::DELETE, "/staged", second.revision)).await.expect(204);
    acme.publish(&server).await.refused(404, "nothing_staged");
    acme.publish_all(&server).await;
    assert!(found(&server, "acme/1.bin").await);
}

#[tokio::test]
async fn an_image_that_was_yanked_since_is_not_published() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    for path in ["acme/1.bin", "acme/2.bin"] {
        upload(&server, &acme.token, path, "").await.expect(201);
    }
    acme.stage(&server).await;
    acme.sign(&server, &acme.keys[0]).await.expect(200);
    let yank = "/api/v1/images/acme/1.bin";
    send(server.request_as(AccessRole::Engineer, Method::DELETE, yank)).await.expect(204);
    let detail = acme.publish(&server).await.refused(409, "image_yanked");
    assert!(detail.contains("acme/1.bin"), "{detail}");
    let revision = acme.state(&server).await.staged.unwrap().revision;
    let drop = server.request(Method::DELETE, &format!("{ACME}/staged")).bearer_auth(&acme.token);
    send(drop.header(IF_MATCH, format!("\"{revision}\""))).await.expect(204);
    acme.publish_all(&server).await;
    assert!(!found(&server, "acme/1.bin").await && found(&server, "acme/2.bin").await);
}

#[tokio::test]
async fn other_keys_sign_from_the_first_file_on_that_they_have_signed() {
    let server = TestServer::start().await;
    let mut acme = Supplier::added(&server, 1).await;
    upload(&server, &acme.token, "acme/1.bin", "").await.expect(201);
    acme.publish_all(&server).await;
    let before = delegated(&server).await;
    acme.stage(&server).await;
    acme.sign(&server, &acme.keys[0]).await.expect(200);
    let rotate = "/api/v1/suppliers/acme/rotation";
    let rotated = send(server.request_as(AccessRole::Officer, Method::POST, rotate)).await;
    let detail = rotated.refused(409, "keys_elsewhere");
    assert!(detail.contains("motorcade supplier keys acme"), "{detail}");

    let give = async |keys: &[Officer]| {
        let request =
            server.request_as(AccessRole::Officer, Method::PUT, "/api/v1/suppliers/acme/keys");
        send(request.json(&json!({ "public_keys": public(keys) }))).await
    };
    let former = std::mem::replace(&mut acme.keys, vec![Officer::new(), Officer::new()]);
    give(&acme.keys).await.expect(200);
    acme.publish(&server).await.refused(404, "nothing_staged"); // it was for the former key
    server.upload("gw/1.bin", "has everything but targets signed").await.expect(201);
    add(&server, json!({ "supplier": "bolt" })).await.expect(201); // and now targets, too
    assert_eq!(delegated(&server).await, before, "the file that is published has no other");
    assert!(found(&server, "acme/1.bin").await);
    acme.stage(&server).await;
    acme.sign(&server, &former[0]).await.refused(409, "unknown_key");
    acme.sign(&server, &acme.keys[0]).await.expect(200);
    acme.publish(&server).await.expect(200);
    let after = delegated(&server).await.unwrap();
    assert!(after.as_array().unwrap().iter().all(|id| *id != former[0].id().to_string()));
    assert!(found(&server, "acme/1.bin").await);
    server.state.assert_clean().await;
}

#[tokio::test]
async fn a_supplier_takes_its_folder_over_from_the_server_s_keys() {
    let server = TestServer::start().await;
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    let acme = Supplier { keys: vec![Officer::new()], token: token(&server.state, "acme/").await };
    upload(&server, &acme.token, "acme/1.bin", "").await.expect(201);
    let here = send(server.request(Method::GET, ACME).bearer_auth(&acme.token)).await;
    here.refused(409, "keys_here");
    let give = server.request_as(AccessRole::Officer, Method::PUT, "/api/v1/suppliers/acme/keys");
    send(give.json(&json!({ "public_keys": public(&acme.keys) }))).await.expect(200);
    upload(&server, &acme.token, "acme/2.bin", "").await.expect(201);
    assert!(found(&server, "acme/1.bin").await && !found(&server, "acme/2.bin").await);
    acme.publish_all(&server).await;
    assert!(found(&server, "acme/1.bin").await && found(&server, "acme/2.bin").await);
    let retired = fs::read_dir(server.state.path().join("keys/retired")).unwrap();
    assert_eq!(retired.count(), 1, "the server's key signs nothing any more");
    let server = TestServer::on(server.stop(), |_| ()).await;
    assert!(found(&server, "acme/2.bin").await);
    server.state.assert_clean().await;
}

#[tokio::test]
async fn what_is_staged_is_the_supplier_s_and_the_officers_affair() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    add(&server, json!({ "supplier": "bolt" })).await.expect(201);
    let bolt = token(&server.state, "bolt/").await;
    let part = token(&server.state, "acme/eu/").await;
    let stage = async |token: &str| {
        let request = server.request(Method::PUT, &format!("{ACME}/staged")).bearer_auth(token);
        send(request.json(&json!({}))).await
    };
    stage(&bolt).await.refused(404, "supplier_not_found");
    let show = send(server.request(Method::GET, ACME).bearer_auth(&bolt)).await;
    show.refused(404, "supplier_not_found");
    for token in [&part, &server.state.tokens.uploader] {
        let detail = stage(token).await.refused(403, "forbidden");
        assert!(detail.contains("--path-prefix acme/"), "{detail}");
    }
    server.get(ACME).await.expect(200);
    stage(&server.state.tokens.officer).await.expect(200);
    acme.sign(&server, &acme.keys[0]).await.expect(200);
    let publish =
        server.request_as(AccessRole::Officer, Method::POST, &format!("{ACME}/staged/publish"));
    send(publish).await.expect(200);
    server.get("/api/v1/targets/targets").await.refused(409, "keys_here");
    for path in ["/api/v1/targets/bin-0", "/api/v1/targets/root"] {
        server.get(path).await.refused(400, "bad_path");
    }
}

#[tokio::test]
async fn keys_that_have_another_use_are_refused() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    let new = async |keys: Value, more: Value| {
        let mut body = json!({ "supplier": "bolt", "public_keys": keys });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        add(&server, body).await
    };
    let root: Value = serde_json::from_slice(&server.state.first_root()).unwrap();
    let root_key = root["signed"]["keys"].as_object().unwrap().values().next().unwrap().clone();
    let bins = published(&server, "targets").await["signed"]["delegations"]["keys"].clone();
    let bin_key = bins.as_object().unwrap().values().next().unwrap().clone();
    let recipient = key_file("snakeoil_p256.pub.pem");
    let of_acme = public(&acme.keys).remove(0);
    for (key, use_) in [
        (root_key, "signs a role of the Image repository"),
        (bin_key, "signs the hash bins"),
        (of_acme, "signs a supplier's folder"),
        (recipient.into(), "is a recipient of"),
    ] {
        let detail = new(json!([key]), json!({})).await.refused(409, "key_in_use");
        assert!(detail.contains(use_), "{use_}: {detail}");
    }
    let own = public(&[Officer::new()]).remove(0);
    new(json!([own, own]), json!({})).await.refused(422, "key_refused");
    new(json!(["no key"]), json!({})).await.refused(422, "key_refused");
    new(json!([own]), json!({ "threshold": 2 })).await.refused(422, "bad_threshold");
    new(json!([own]), json!({ "keys": 2 })).await.refused(422, "bad_threshold");
    let staged = server.request_as(AccessRole::Officer, Method::PUT, "/api/v1/roots/image/staged");
    let change = json!({ "roles": [{ "name": "root", "add": public(&acme.keys) }] });
    let detail = send(staged.json(&change)).await.refused(409, "key_in_use");
    assert!(detail.contains("a supplier's folder"), "{detail}");
    new(json!([own]), json!({})).await.expect(201);
}

#[tokio::test]
async fn a_removed_supplier_takes_what_was_staged_with_it() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    upload(&server, &acme.token, "acme/1.bin", "").await.expect(201);
    acme.publish_all(&server).await;
    upload(&server, &acme.token, "acme/2.bin", "").await.expect(201);
    acme.stage(&server).await;
    remove(&server, "acme").await.expect(200);
    server.get(ACME).await.refused(404, "supplier_not_found");
    assert_eq!(delegated(&server).await, None);
    assert!(!found(&server, "acme/1.bin").await);
    let listed = published(&server, "snapshot").await["signed"]["meta"].clone();
    assert_eq!(listed["supplier-acme.json"]["version"], 1, "clients would see a rollback");
    server.state.assert_clean().await;
    // One that never signed leaves nothing.
    let body = json!({ "supplier": "bolt", "public_keys": public(&[Officer::new()]) });
    add(&server, body).await.expect(201);
    remove(&server, "bolt").await.expect(200);
    let listed = published(&server, "snapshot").await["signed"]["meta"].clone();
    assert!(listed.get("supplier-bolt.json").is_none());
}

/// The server has no key for it, so that time alone can't make it due; its owner is told in time.
#[tokio::test]
async fn a_supplier_s_file_is_never_due_by_itself_and_its_expiry_is_told() {
    let node = Node::open(TestState::new(), Duration::from_secs(3600)).await;
    let key = Officer::new();
    let acme = NewSupplier {
        name: "acme".parse().unwrap(),
        folder: None,
        hardware_ids: Vec::new(),
        threshold: None,
        keys: None,
        public_keys: vec![key.public()],
        terminating: true,
    };
    node.app.suppliers().add(acme, &officer()).await.unwrap();
    let (owners, role) = (node.app.owners(), "supplier-acme".parse().unwrap());
    let any = Precondition::default();
    owners.stage(&role, &StageTargets::default(), &any, &officer()).await.unwrap();
    let staged = owners.state(&role, &officer()).await.unwrap().staged.unwrap();
    let offer = {
        let alone = Authority { key_ids: [key.id()].into(), threshold: 1 };
        let unsigned = staged.staging.unsigned().unwrap().authorize(&alone, [key.id()]).unwrap();
        let signature = hex::encode(key.key.sign(unsigned.message()));
        let key_id = key.id().to_string();
        let signatures = vec![motorcade::app::ceremony::OfferedSignature { key_id, signature }];
        motorcade::app::ceremony::Offer { payload: Some(staged.payload), signatures }
    };
    owners.sign(&role, &offer, &any, &officer()).await.unwrap();
    let expected = Precondition { matches: Some(Tags::Of(vec![staged.staging.tag()])), ..any };
    owners.publish(&role, &expected, &officer()).await.unwrap();
    node.app.upkeep().check_ready().await.unwrap();

    node.after_hours(80 * 24).await; // of 90 days
    let waiting = node.app.upkeep().check_ready().await.unwrap();
    let lines: Vec<String> = waiting.iter().map(|expiry| expiry.describe()).collect();
    assert!(lines.iter().any(|line| line.contains("supplier-acme")), "{lines:?}");
    let published = owners.state(&role, &officer()).await.unwrap();
    assert_eq!(published.published.unwrap().version, 1, "nobody has signed another one");
    node.after_hours(11 * 24).await;
    let waiting = node.app.upkeep().check_ready().await.unwrap(); // nobody else is kept from anything
    assert!(waiting.iter().any(|expiry| expiry.describe().contains("expired")), "{waiting:?}");
    node.close().await;
}

/// What waits for a signature may be published as it is, so what it lists stays.
#[tokio::test]
async fn a_yanked_image_is_not_collected_while_a_file_that_waits_lists_it() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    upload(&server, &acme.token, "acme/1.bin", "").await.expect(201);
    acme.stage(&server).await;
    let path = "/api/v1/images/acme/1.bin";
    send(server.request_as(AccessRole::Engineer, Method::DELETE, path)).await.expect(204);
    yanked_long_ago(&server).await;
    let result = collect(&server);
    assert_eq!((&result["collected"], &result["kept"]), (&json!(0), &json!(1)), "{result}");
}

#[tokio::test]
async fn a_resealed_image_waits_for_its_supplier_and_the_old_one_stays_until_then() {
    let server = TestServer::start().await;
    let acme = Supplier::added(&server, 1).await;
    upload(&server, &acme.token, "acme/1.bin", "").await.expect(201);
    acme.publish_all(&server).await;
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.assign(&server, &[(0, "acme/1.bin")]).await.expect(201);
    let job = server.resealed("acme/1.bin", json!({})).await;
    assert_eq!(job["state"], "done", "{job}");
    let (result, to) = (&job["result"], "acme/resealed-1/1.bin");
    assert_eq!(result["awaits_signature_of"], "supplier-acme", "{result}");
    assert_eq!((&result["image"], &result["yanked"]), (&json!(to), &Value::Null));
    assert!(result["note"].as_str().unwrap().contains(&format!("--to {to}")), "{result}");
    assert!(found(&server, "acme/1.bin").await && !found(&server, to).await);
    let assigned = vehicle.shown(&server).await.ecus[0].assigned.clone();
    assert_eq!(assigned.as_deref(), Some("acme/1.bin"));

    acme.publish_all(&server).await;
    assert!(found(&server, "acme/1.bin").await && found(&server, to).await);
    let job = server.resealed("acme/1.bin", json!({ "to": to })).await;
    let result = &job["result"];
    assert_eq!(
        (&result["yanked"], &result["assignments_moved"]),
        (&json!("acme/1.bin"), &json!(1))
    );
    let assigned = vehicle.shown(&server).await.ecus[0].assigned.clone();
    assert_eq!(assigned.as_deref(), Some(to));
    server.state.assert_clean().await;
}
