//! The escrow key: which there are, and that another one takes its place.

use std::fs;

use motorcade::app::fsck::{self, Damaged};
use motorcade::catalog::{Author, EscrowKeyAdded};
use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::EscrowKey;
use motorcade::model::AccessRole::{Engineer, Officer};
use motorcade::model::{Clock, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestServer, send};
use crate::director::vehicle::TestVehicle;
use crate::state::{TestState, private_key};
use crate::support::{motorcade, run};

const RECIPIENT: &str = "snakeoil_p256";

impl TestServer {
    /// Begins a rotation, and waits for its end.
    async fn escrow_rotation(&self, body: Value) -> Value {
        let job = self.rotated(body).await;
        assert_eq!(job["state"], "done", "{job}");
        job
    }

    /// The escrow keys: of each its id, state and number of envelopes.
    async fn escrow_keys(&self) -> Vec<(String, String, u64)> {
        let shown = send(self.request_as(Officer, Method::GET, "/api/v1/escrow")).await.json();
        assert_eq!(shown["faults"], json!([]));
        let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
        let keys = shown["keys"].as_array().unwrap().iter();
        keys.map(|key| (text(key, "kid"), text(key, "state"), key["envelopes"].as_u64().unwrap()))
            .collect()
    }

    async fn assert_can_be_assigned(&self, vin: &str, path: &str) {
        let mut vehicle = TestVehicle::registered(self, vin).await;
        vehicle.assign(self, &[(0, path)]).await.expect(201);
        let targets = vehicle.targets(self).await;
        assert!(targets["targets"].to_string().contains(path), "{targets}");
    }
}

fn first_key(state: &TestState) -> EscrowKey {
    let text = fs::read_to_string(state.path().join("keys/escrow.jwk")).unwrap();
    EscrowKey::from_jwk(&text).unwrap()
}

/// An image's envelope as the catalog has it.
async fn stored(state: &TestState, path: &str) -> Envelope {
    let catalog = state.dir().open_catalog().await.unwrap();
    let text = catalog.find_envelope(&path.parse().unwrap()).await.unwrap().unwrap();
    Envelope::parse(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn after_a_rotation_the_former_key_opens_nothing_and_may_be_destroyed() {
    let server = TestServer::start().await;
    for path in ["gw/1", "gw/2", "gw/3"] {
        server.upload_for("gw-mk3", path, 1, "").await;
    }
    let old = first_key(&server.state);
    assert_eq!(server.escrow_keys().await, [(old.kid().to_string(), "wraps".into(), 3)]);
    let files = server.state.stored_targets();

    let job = server.escrow_rotation(json!({ "escrow": {} })).await;
    assert_eq!(job["kind"], "escrow_rotation");
    assert_eq!(job["result"]["rewrapped"], 3, "{job}");
    assert_eq!(job["result"]["retired"], old.kid().as_str(), "{job}");
    let keys = server.escrow_keys().await;
    assert_eq!(keys.len(), 1);
    assert_eq!((keys[0].1.as_str(), keys[0].2), ("wraps", 3));
    assert_ne!(keys[0].0, old.kid().as_str());
    assert_eq!(server.state.stored_targets(), files, "what is published stays as it was");
    for path in ["gw/1", "gw/2", "gw/3"] {
        assert!(stored(&server.state, path).await.open_with_escrow(&old).is_err());
    }
    server.assert_can_be_assigned("VIN1", "gw/2").await;
    let kinds = ["escrow_key_added", "escrow_key_retired"];
    for kind in kinds {
        let logged = server.get(&format!("/api/v1/audit?kind={kind}")).await.json();
        assert_eq!(logged["entries"].as_array().unwrap().len(), 1, "{logged}");
    }

    let state = server.stop();
    fs::remove_file(state.path().join("keys/escrow.jwk")).unwrap();
    let server = TestServer::on(state, |_| {}).await;
    server.upload_for("gw-mk3", "gw/4", 2, "").await;
    server.assert_can_be_assigned("VIN2", "gw/1").await;
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn envelopes_from_before_are_bound_when_they_are_wrapped_again() {
    let server = TestServer::start().await;
    for path in ["gw/1", "gw/2"] {
        server.upload_for("gw-mk3", path, 1, "").await;
    }
    let (old, recipient) = (first_key(&server.state), private_key(RECIPIENT));
    let (data_key, algorithm) = stored(&server.state, "gw/1").await.open_with_escrow(&old).unwrap();
    let unbound = Envelope::seal(&data_key, algorithm, &[recipient.public()], Some(&old)).unwrap();
    let unbound = unbound.to_json_with_escrow();
    let update = format!("UPDATE images SET envelope = '{unbound}' WHERE path = 'gw/1'");
    server.state.sql(&update).await;
    assert!(stored(&server.state, "gw/1").await.image().is_none());

    server.escrow_rotation(json!({ "escrow": {} })).await;
    let image = server.image("gw/1").await;
    let bound = stored(&server.state, "gw/1").await;
    assert_eq!(bound.image().map(|image| image.to_string()), Some(image.sealed.sha256));
    assert_eq!(bound.open(&recipient).unwrap(), (data_key, algorithm));
    let published = server.get("/api/v1/images/gw/1/envelope").await;
    assert_eq!(Envelope::parse(&published.body).unwrap().image(), bound.image());
    server.assert_can_be_assigned("VIN1", "gw/1").await;
    let found = fsck::check(&server.stop().dir(), Damaged::Report, |_, _| ()).await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
}

#[tokio::test]
async fn an_envelope_that_cannot_be_wrapped_again_keeps_the_former_key() {
    let server = TestServer::start().await;
    for path in ["gw/1", "gw/2"] {
        server.upload_for("gw-mk3", path, 1, "").await;
    }
    let old = first_key(&server.state).kid().to_string();
    let envelope = "(SELECT envelope FROM images WHERE path = 'gw/2')";
    let damage = format!("UPDATE images SET envelope = {envelope} WHERE path = 'gw/1'");
    server.state.sql(&damage).await;
    let dry = server.escrow_rotation(json!({ "escrow": {}, "dry_run": true })).await;
    assert_eq!(dry["result"]["would_be_rewrapped"], 1, "{dry}");
    assert_eq!(server.escrow_keys().await, [(old.clone(), "wraps".into(), 2)]);

    let job = server.escrow_rotation(json!({ "escrow": {} })).await;
    assert_eq!(job["result"]["rewrapped"], 1, "{job}");
    let problems = job["result"]["problems"].as_array().unwrap();
    assert!(problems.len() == 1 && problems[0].as_str().unwrap().starts_with("gw/1: "), "{job}");
    let keys = server.escrow_keys().await;
    assert_eq!((keys.len(), &keys[1]), (2, &(old.clone(), "opens".into(), 1)));
    server.assert_can_be_assigned("VIN1", "gw/2").await;

    // Another key has to wait until this rotation has ended.
    let other = EscrowKey::generate();
    let path = server.state.path().join("keys/other.jwk");
    motorcade::keys::file::write_secret(&path, other.to_jwk().as_bytes()).unwrap();
    let body = json!({ "escrow": { "key": "file:other.jwk" } });
    server.rotate(body).await.refused(409, "rotation_not_ended");
    let yank = server.request_as(Engineer, Method::DELETE, "/api/v1/images/gw/1");
    send(yank).await.expect(204);
    let state = server.stop();
    let server = TestServer::on(state, |_| {}).await;
    assert_eq!(server.escrow_keys().await.len(), 2, "both are there after a start");
    let job = server.escrow_rotation(json!({ "escrow": {} })).await;
    assert_eq!(job["result"]["retired"], old, "{job}");
    assert_eq!(server.escrow_keys().await.len(), 1);
}

#[tokio::test]
async fn a_key_that_cannot_be_the_escrow_key_is_refused_with_the_reason() {
    let server = TestServer::start().await;
    let before = server.escrow_keys().await;
    for (key, status, code) in [
        ("escrow-2.jwk", 422, "bad_escrow_key"),
        ("file:../escrow.jwk", 422, "bad_escrow_key"),
        ("file:none.jwk", 422, "bad_escrow_key"),
        ("pkcs11:token=none", 422, "bad_escrow_key"),
        ("pkcs11:token=none;object=none", 422, "bad_escrow_key"),
        ("file:escrow.jwk", 409, "escrow_key_in_use"),
    ] {
        for dry_run in [false, true] {
            let body = json!({ "escrow": { "key": key }, "dry_run": dry_run });
            let detail = server.rotate(body).await.refused(status, code);
            assert!(detail.contains(key), "{detail}");
        }
    }
    assert_eq!(server.escrow_keys().await, before);
}

#[tokio::test]
async fn the_command_line_shows_and_rotates() {
    let server = TestServer::start().await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    let old = first_key(&server.state).kid().to_string();
    let command = |args: &[&str]| {
        let mut command = motorcade(args);
        command
            .env("MOTORCADE_SERVER", server.url(""))
            .env("MOTORCADE_TOKEN", server.state.tokens.of(Officer));
        command
    };
    let shown: Value =
        serde_json::from_str(&run(&mut command(&["--json", "escrow", "show"]))).unwrap();
    assert_eq!(shown["kid"], old, "{shown}");
    run(&mut command(&["escrow", "rotate", "--dry-run", "--follow"]));
    assert_eq!(server.escrow_keys().await[0].0, old);
    run(&mut command(&["escrow", "rotate", "--follow"]));
    assert_ne!(server.escrow_keys().await[0].0, old);
}

/// The file of the key that wraps is gone, as with the disk of the one server that had it.
#[tokio::test]
async fn a_key_that_is_lost_in_its_rotation_is_given_up_by_a_person() {
    let server = TestServer::start().await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    let old = first_key(&server.state).kid().to_string();
    let file = server.state.path().join("keys/lost.jwk");
    let lost = EscrowKey::generate();
    motorcade::keys::file::write_secret(&file, lost.to_jwk().as_bytes()).unwrap();
    let catalog = server.state.dir().open_catalog().await.unwrap();
    let added = EscrowKeyAdded { kid: lost.kid().as_str(), source: "file:lost.jwk", after: &old };
    let (proof, author) =
        (format!("escrow_proof.{}", lost.kid()), Author::server(SystemClock.now()));
    catalog.add_escrow_key(&proof, "", added, &author).await.unwrap();
    catalog.close().await;
    server.upload("gw/2", "x").await.refused(503, "escrow_key_differs");
    server.rotate(json!({ "escrow": {} })).await.refused(503, "escrow_key_differs");
    send(server.request_as(Officer, Method::GET, "/readyz"))
        .await
        .refused(503, "escrow_key_differs");

    let state = server.stop();
    let recover = |state: &TestState| {
        let mut command = motorcade(["--json", "recover", "escrow", "--data-dir"]);
        command.arg(state.path());
        command
    };
    let recovered: Value = serde_json::from_str(&run(&mut recover(&state))).unwrap();
    assert_eq!(recovered, json!({ "lost": lost.kid().as_str(), "wraps": old }));
    let again = crate::support::refused(&mut recover(&state));
    assert!(again.contains("nothing was changed"), "{again}");
    let server = TestServer::on(state, |_| {}).await;
    server.upload_for("gw-mk3", "gw/2", 2, "").await;
    let job = server.escrow_rotation(json!({ "escrow": {} })).await;
    assert_eq!(job["result"]["retired"], old, "{job}");
    server.stop().assert_clean().await;
}

/// The former key is not what the installation was made for any more, and the message says so.
#[tokio::test]
async fn a_key_that_was_rotated_out_is_refused_by_name() {
    let server = TestServer::start().await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    let old = first_key(&server.state).kid().to_string();
    server.escrow_rotation(json!({ "escrow": {} })).await;
    let new = server.escrow_keys().await[0].0.clone();
    let state = server.stop();
    fs::remove_file(state.path().join("keys/escrow.toml")).unwrap();
    let detail = crate::wrong_keys::refused(&state).await;
    let expected = format!(
        "escrow.jwk holds the escrow key {old}, where the one that this installation goes by is {new}"
    );
    assert!(detail.contains(&expected), "{detail}");
}
