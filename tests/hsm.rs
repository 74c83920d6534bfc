//! Keys in tokens, with SoftHSM 2.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "hsm/ceremony.rs"]
mod ceremony;
#[path = "hsm/roles.rs"]
mod roles;
#[path = "support/mod.rs"]
mod support;
#[path = "support/hsm.rs"]
mod token;

use std::path::Path;

use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::{Cek, EscrowKey, RecipientPrivateKey};
use motorcade::envelope::wrap::{self, WrappedKey};
use motorcade::keys::pkcs11::{Pkcs11Escrow, Pkcs11Signer, TokenError};
use motorcade::keys::{BackendError, Escrow, EscrowEntry, RingFile, Signer};
use motorcade::model::SealAlgorithm;
use serde_json::Value;
use support::Server;
use token::{Hsm, PIN, extractable};

async fn escrow(hsm: &Hsm, key: &str) -> Result<Pkcs11Escrow, TokenError> {
    Pkcs11Escrow::find(hsm.uri(key).parse().unwrap()).await
}

fn fault(error: &BackendError) -> &TokenError {
    error.downcast_ref().unwrap()
}

#[tokio::test]
async fn both_kinds_of_escrow_keys_wrap_and_unwrap_and_are_found_again() {
    let hsm = Hsm::new("kinds");
    hsm.make_aes("aes");
    hsm.make_p256("p256");
    for name in ["aes", "p256"] {
        let key = escrow(&hsm, name).await.unwrap();
        let cek = Cek::generate();
        let wrapped = key.wrap_key(&cek).await.unwrap();
        match (name, &wrapped) {
            ("aes", WrappedKey::A256kw(_)) | ("p256", WrappedKey::EcdhEsA256kw(_)) => {}
            other => panic!("{other:?}"),
        }
        let again = escrow(&hsm, name).await.unwrap();
        assert_eq!(again.kid(), key.kid());
        assert_eq!(again.public().is_some(), name == "p256");
        let known = Pkcs11Escrow::known(
            hsm.uri(name).parse().unwrap(),
            key.kid().clone(),
            key.public().cloned(),
        );
        for key in [again, known.unwrap()] {
            let unwrapped = key.unwrap_key(&wrapped).await.unwrap().unwrap();
            assert_eq!(unwrapped.as_bytes(), cek.as_bytes());
        }
    }
}

#[tokio::test]
async fn what_another_key_wrapped_is_not_unwrapped() {
    let hsm = Hsm::new("others");
    for name in ["aes", "aes-2"] {
        hsm.make_aes(name);
    }
    for name in ["p256", "p256-2"] {
        hsm.make_p256(name);
    }
    let file = wrap::wrap_key(&EscrowKey::generate(), &Cek::generate());
    for (one, other) in [("aes", "aes-2"), ("p256", "p256-2")] {
        let (one, other) = (escrow(&hsm, one).await.unwrap(), escrow(&hsm, other).await.unwrap());
        assert_ne!(one.kid(), other.kid());
        let foreign = other.wrap_key(&Cek::generate()).await.unwrap();
        assert!(one.unwrap_key(&foreign).await.unwrap().is_none());
        assert!(one.unwrap_key(&file).await.unwrap().is_none());
        // The key is none the worse for it.
        let cek = Cek::generate();
        let own = one.wrap_key(&cek).await.unwrap();
        assert_eq!(one.unwrap_key(&own).await.unwrap().unwrap().as_bytes(), cek.as_bytes());
    }
}

#[tokio::test]
async fn many_at_once_share_the_sessions_of_the_token() {
    let hsm = Hsm::new("many");
    hsm.make_aes("aes");
    let key = std::sync::Arc::new(escrow(&hsm, "aes").await.unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let key = std::sync::Arc::clone(&key);
        tasks.spawn(async move {
            let cek = Cek::generate();
            let wrapped = key.wrap_key(&cek).await.unwrap();
            assert_eq!(key.unwrap_key(&wrapped).await.unwrap().unwrap().as_bytes(), cek.as_bytes());
        });
    }
    assert_eq!(tasks.join_all().await.len(), 200);
}

#[tokio::test]
async fn keys_that_are_missing_or_not_fit_are_refused_by_name() {
    let hsm = Hsm::new("unfit");
    hsm.make_aes_that("loose", &extractable());
    hsm.make_ed25519("signing");
    for name in ["twice", "twice"] {
        hsm.make_aes(name);
    }
    for (name, expected) in [
        ("none", "has no key"),
        ("loose", "can be taken out of the token"),
        ("signing", "an escrow key is an AES key"),
        ("twice", "several keys"),
    ] {
        let error = escrow(&hsm, name).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
        assert!(!error.contains(PIN), "{error}");
    }
}

#[tokio::test]
async fn an_aes_key_that_was_exchanged_does_not_wrap() {
    let hsm = Hsm::new("exchanged");
    hsm.make_aes("aes");
    let before = escrow(&hsm, "aes").await.unwrap();
    hsm.destroy("aes");
    hsm.make_aes("aes");
    let uri = hsm.uri("aes").parse().unwrap();
    let known = Pkcs11Escrow::known(uri, before.kid().clone(), None).unwrap();
    let error = known.wrap_key(&Cek::generate()).await.unwrap_err();
    assert!(fault(&error).to_string().contains("another key than the one"), "{error}");
}

#[tokio::test]
async fn an_envelope_in_escrow_of_a_token_opens_there_and_for_its_recipient() {
    let hsm = Hsm::new("envelope");
    hsm.make_p256("p256");
    let key = escrow(&hsm, "p256").await.unwrap();
    let (recipient, cek) = (RecipientPrivateKey::generate_p256(), Cek::generate());
    let data_key = motorcade::envelope::key::DataKey::from_bytes([7; 32]);
    let algorithm = SealAlgorithm::default();
    let escrowed = (key.kid().clone(), key.wrap_key(&cek).await.unwrap());
    let sealed = Envelope::seal_with(
        &cek,
        (&data_key, algorithm),
        None,
        &[recipient.public()],
        Some(escrowed),
    );
    let stored = sealed.unwrap().to_json_with_escrow();
    let envelope = Envelope::parse(stored.as_bytes()).unwrap();
    let cek = key.unwrap_key(envelope.escrowed(key.kid()).unwrap()).await.unwrap().unwrap();
    assert_eq!(envelope.open_with(&cek).unwrap(), (data_key, algorithm));
    assert!(envelope.open(&recipient).is_ok());
    assert!(!envelope.public_json().unwrap().contains(key.kid().as_str()));
}

#[tokio::test]
async fn ed25519_and_p256_sign_as_tuf_has_it() {
    let hsm = Hsm::new("signers");
    hsm.make_ed25519("ed25519");
    hsm.make_ecdsa("ecdsa");
    for name in ["ed25519", "ecdsa"] {
        let key = Pkcs11Signer::find(hsm.uri(name).parse().unwrap()).await.unwrap();
        for message in [&b"a message"[..], &[7; 100_000]] {
            for _ in 0..8 {
                let signature = key.sign(message).await.unwrap();
                assert!(key.public().verifies(message, &signature), "{name}");
            }
        }
        assert_eq!(key.place(), hsm.uri(name));
    }
    hsm.make_aes("aes");
    let refused = Pkcs11Signer::find(hsm.uri("aes").parse().unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("a role key is Ed25519"), "{refused}");
}

/// A process of its own: who is logged in is the same for a whole process.
#[tokio::test]
async fn a_wrong_pin_is_tried_once_and_a_corrected_one_is_taken() {
    let hsm = Hsm::new("pin");
    hsm.make_aes("aes");
    hsm.log_out();
    hsm.write_pin("8642");
    let first = escrow(&hsm, "aes").await.unwrap_err();
    assert!(matches!(first, TokenError::PinRefused { .. }), "{first}");
    assert!(hsm.has_seen_a_wrong_pin());
    hsm.log_in_and_out(); // which the token counts as the end of wrong ones
    for _ in 0..5 {
        let again = escrow(&hsm, "aes").await.unwrap_err();
        assert!(matches!(again, TokenError::PinRefused { .. }), "{again}");
    }
    assert!(!hsm.has_seen_a_wrong_pin(), "it was tried again");
    hsm.write_pin(PIN);
    escrow(&hsm, "aes").await.unwrap();
}

/// Puts a token's key in front of the escrow key that `init` has made.
async fn put_into_escrow(data_dir: &Path, hsm: &Hsm, key: &str) {
    let (keys, uri) = (data_dir.join("keys"), hsm.uri(key).parse().unwrap());
    let found = Pkcs11Escrow::find(hsm.uri(key).parse().unwrap()).await.unwrap();
    let ring = RingFile::read(&keys).unwrap();
    ring.with(EscrowEntry::of_token(&uri, &found)).write(&keys).unwrap();
}

#[tokio::test]
async fn a_server_waits_for_its_escrow_key_and_serves_what_is_signed() {
    let hsm = Hsm::new("away");
    hsm.make_aes("aes");
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("state");
    support::init(&data_dir);
    put_into_escrow(&data_dir, &hsm, "aes").await;
    let token = support::create_token(&data_dir, "engineer");
    let server = Server::start(&data_dir, &[]);
    let client = server.client(&token);
    client.register(&support::snakeoil("snakeoil_p256.pub.pem")).await;
    client.upload("gw/1", "", b"one").await;
    client.get("/readyz").await;

    hsm.take_away();
    let refused = client.put("gw/2", "", "two").await.unwrap();
    assert_eq!(refused.status(), 503);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "escrow_unavailable", "{problem}");
    let ready = client.http.get(format!("{}/readyz", client.url)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let problem: Value = ready.json().await.unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("the escrow key") && detail.contains(&hsm.label), "{problem}");
    client.get("/repo/timestamp.json").await;
    client.get("/api/v1/images/gw/1/envelope").await;
    let metrics = String::from_utf8(client.get("/metrics").await.to_vec()).unwrap();
    let failures = "motorcade_key_operation_failures_total{operation=\"escrow_wrap\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(failures)).unwrap();
    assert_ne!(count, "0");

    hsm.put_back();
    support::wait_until("the token is found again", async || {
        let ready = client.http.get(format!("{}/readyz", client.url)).send().await.unwrap();
        ready.status() == 200
    })
    .await;
    client.upload("gw/2", "", b"two").await;
    assert!(!server.log().contains(PIN), "a PIN is in the log");
}

#[tokio::test]
async fn a_wrong_pin_of_a_token_that_has_two_names_is_tried_once() {
    let hsm = Hsm::new("names");
    hsm.make_p256("escrow");
    hsm.write_pin("8642");
    hsm.log_out();
    let by_label: String = hsm.uri("escrow");
    let by_serial =
        by_label.replace(&format!("token={}", hsm.label), &format!("serial={}", hsm.serial()));
    assert_ne!(by_label, by_serial);
    let find = async |uri: &str| Pkcs11Escrow::find(uri.parse().unwrap()).await;
    let refused = find(&by_label).await.unwrap_err();
    assert!(matches!(refused, TokenError::PinRefused { .. }), "{refused}");
    hsm.log_in_and_out(); // which the token counts as the end of wrong ones
    let refused = find(&by_serial).await.unwrap_err();
    assert!(matches!(refused, TokenError::PinRefused { .. }), "{refused}");
    assert!(!hsm.has_seen_a_wrong_pin(), "it was tried again under the other name");
    hsm.write_pin(PIN);
    let [label, serial] = [find(&by_label).await.unwrap(), find(&by_serial).await.unwrap()];
    assert_eq!(label.kid(), serial.kid());
}

#[tokio::test]
async fn a_server_starts_without_its_token_and_never_tries_a_wrong_pin_twice() {
    let hsm = Hsm::new("start");
    hsm.make_p256("p256");
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("state");
    support::init(&data_dir);
    put_into_escrow(&data_dir, &hsm, "p256").await;
    let token = support::create_token(&data_dir, "engineer");
    drop(Server::start(&data_dir, &[])); // which makes an envelope to know the key by
    hsm.take_away();
    let server = Server::start(&data_dir, &[]);
    let client = server.client(&token);
    client.register(&support::snakeoil("snakeoil_p256.pub.pem")).await;
    // The public half is enough to wrap.
    client.upload("gw/1", "", b"one").await;
    drop(server);
    hsm.put_back();

    hsm.write_pin("8642");
    for _ in 0..4 {
        let server = Server::start(&data_dir, &[]);
        let ready = server.client(&token);
        let ready = ready.http.get(format!("{}/readyz", ready.url)).send().await.unwrap();
        assert_eq!(ready.status(), 503);
        let problem = ready.text().await.unwrap();
        assert!(problem.contains("PIN") && !problem.contains("8642"), "{problem}");
    }
    assert!(!hsm.is_locked());
}

/// Only for other processes: a server that looks for a token in vain starts the library anew, and
/// other tests of this one use it.
fn aes_of_nowhere(hsm: &Hsm) -> String {
    hsm.uri("aes").replace("token=", "token=x")
}

#[tokio::test]
async fn the_escrow_key_moves_into_a_token_and_out_again() {
    let hsm = Hsm::new("moves");
    hsm.make_aes("aes");
    hsm.make_p256("p256");
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("state");
    support::init(&data_dir);
    let token = support::create_token(&data_dir, "engineer");
    let officer = support::create_token(&data_dir, "officer");
    let server = Server::start(&data_dir, &[]);
    let client = server.client(&token);
    client.register(&support::snakeoil("snakeoil_p256.pub.pem")).await;
    for number in 0..20 {
        client.upload(&format!("gw/{number}"), "", b"firmware").await;
    }
    let motorcade = |args: &[&str]| {
        let mut command = support::motorcade(args);
        command.env("MOTORCADE_SERVER", &client.url).env("MOTORCADE_TOKEN", &officer);
        support::run(&mut command)
    };
    let missing = aes_of_nowhere(&hsm);
    let mut refused = support::motorcade(["escrow", "rotate", "--key", &missing]);
    refused.env("MOTORCADE_SERVER", &client.url).env("MOTORCADE_TOKEN", &officer);
    let refused = support::refused(&mut refused);
    assert!(refused.contains("is not there"), "{refused}");
    let (aes, p256) = (hsm.uri("aes"), hsm.uri("p256"));
    for key in [Some(&aes), Some(&p256), None] {
        let mut args = vec!["--json", "escrow", "rotate", "--follow"];
        args.extend(key.iter().flat_map(|key| ["--key", key.as_str()]));
        let job: Value = serde_json::from_str(&motorcade(&args)).unwrap();
        assert_eq!(job["result"]["rewrapped"], 20, "{job}");
        assert!(job["result"]["retired"].is_string(), "{job}");
        let shown: Value = serde_json::from_str(&motorcade(&["--json", "escrow", "show"])).unwrap();
        assert_eq!(shown["envelopes"], 20, "{shown}");
        match key {
            Some(key) => assert_eq!(shown["source"], key.as_str()),
            None => assert!(shown["source"].as_str().unwrap().starts_with("file:"), "{shown}"),
        }
        assert_eq!(support::fsck(&data_dir), [""; 0]);
    }
    assert!(!server.log().contains(PIN), "a PIN is in the log");
    for file in support::files_below(&data_dir) {
        let bytes = std::fs::read(data_dir.join(&file)).unwrap();
        let is_there = bytes.windows(PIN.len()).any(|bytes| bytes == PIN.as_bytes());
        assert!(!is_there, "a PIN is in {file}");
    }
}

#[tokio::test]
async fn an_officer_signs_a_root_with_a_token() {
    let hsm = Hsm::new("officer");
    hsm.make_ed25519("root");
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("state");
    support::init(&data_dir);
    let officer = support::create_token(&data_dir, "officer");
    let server = Server::start(&data_dir, &[]);
    let client = server.client(&officer);
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let motorcade = |args: &[&str]| {
        let mut command = support::motorcade(args);
        command.env("MOTORCADE_SERVER", &client.url).env("MOTORCADE_TOKEN", &officer);
        support::run(&mut command)
    };
    let uri = hsm.uri("root");
    let key = Pkcs11Signer::find(uri.parse().unwrap()).await.unwrap();
    std::fs::write(file("officer.json"), key.public().object().to_string()).unwrap();
    motorcade(&["root", "stage", "--add", &format!("root={}", file("officer.json"))]);
    motorcade(&["root", "diff", "--out", &file("staged.json")]);
    let offline =
        ["root", "sign", &file("staged.json"), "--key", &uri, "--yes", "--out", &file("sig")];
    support::run(&mut support::motorcade(offline)); // which knows no server
    motorcade(&["root", "sign", "--send", &file("sig")]);
    motorcade(&["root", "sign", "--here"]);
    motorcade(&["root", "publish"]);
    let root: Value = serde_json::from_slice(&client.get("/repo/2.root.json").await).unwrap();
    let id = key.id().to_string();
    let signatures = root["signatures"].as_array().unwrap();
    assert!(signatures.iter().any(|signature| signature["keyid"] == id.as_str()), "{root}");
    assert!(root["signed"]["roles"]["root"]["keyids"].to_string().contains(&id), "{root}");
}
