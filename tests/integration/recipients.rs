//! `/api/v1/recipients`: which keys are taken, and that nothing is left of those that are not.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use motorcade::api::{RecipientBody, RecipientList, RegisteredRecipient};
use motorcade::envelope::key::RecipientKey;
use motorcade::model::AccessRole::{Engineer, Viewer};
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::app::{DESCRIPTION, Log, TestServer, send};
use crate::state::{key_file, private_key};

async fn register(server: &TestServer, hardware_ids: &[&str], public_key: Value) -> Answer {
    let body = json!({ "hardware_ids": hardware_ids, "public_key": public_key });
    send(server.request_as(Engineer, Method::POST, "/api/v1/recipients").json(&body)).await
}

async fn list(server: &TestServer) -> Vec<RecipientBody> {
    server.get("/api/v1/recipients").await.body::<RecipientList>().recipients
}

#[tokio::test]
async fn a_key_is_registered_listed_used_and_removed() {
    let server = TestServer::start().await;
    let before = list(&server).await;
    let key = private_key("snakeoil_p256_other");
    let answer =
        register(&server, &["gw-mk9", "gw-mk8"], key_file("snakeoil_p256_other.pub.pem").into())
            .await;
    assert_eq!((answer.status, answer.json()), (201, json!({ "kid": key.kid().as_str() })));
    let after = list(&server).await;
    let new: Vec<_> = after.iter().filter(|entry| !before.contains(entry)).collect();
    assert_eq!(new.len(), 2);
    for (entry, hardware_id) in new.into_iter().zip(["gw-mk8", "gw-mk9"]) {
        assert_eq!(entry.hardware_id, hardware_id);
        assert_eq!(entry.kid, key.kid().as_str());
        assert_eq!(entry.public_key, key.public().to_jwk());
    }

    let path = "/api/v1/images/gw/1/a.bin?hardware_id=gw-mk9&version=1&release_counter=1";
    send(server.request_as(Engineer, Method::PUT, path).body("for gw-mk9")).await.expect(201);
    assert_eq!(server.open("gw/1/a.bin", "snakeoil_p256_other").await, b"for gw-mk9");

    let remove = |query: &str| {
        let path = format!("/api/v1/recipients/{}{query}", key.kid());
        send(server.request_as(Engineer, Method::DELETE, &path))
    };
    remove("?hardware_id=gw-mk9").await.expect(204);
    remove("?hardware_id=gw-mk9").await.refused(404, "recipient_not_found");
    remove("").await.expect(204);
    remove("").await.refused(404, "recipient_not_found");
    assert_eq!(list(&server).await, before);
    let path = "/api/v1/images/gw/2/a.bin?hardware_id=gw-mk9&version=1&release_counter=1";
    send(server.request_as(Engineer, Method::PUT, path).body("x"))
        .await
        .refused(422, "no_recipient");
    assert_eq!(
        server.open("gw/1/a.bin", "snakeoil_p256_other").await,
        b"for gw-mk9",
        "what is sealed stays so"
    );
}

#[tokio::test]
async fn registering_again_is_200_and_changes_nothing() {
    let server = TestServer::start().await;
    let before = list(&server).await;
    for name in ["snakeoil_p256", "snakeoil_rsa2048"] {
        let (pem, jwk) =
            (key_file(&format!("{name}.pub.pem")), private_key(name).public().to_jwk());
        for form in [Value::String(pem), Value::String(jwk.to_string()), jwk] {
            let answer = register(&server, &["gw-mk3"], form).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let registered: RegisteredRecipient = answer.body();
            assert_eq!(registered.kid, private_key(name).kid().as_str());
        }
    }
    assert_eq!(list(&server).await, before);
    let rsa = private_key("snakeoil_rsa2048").public().to_jwk();
    assert_eq!(
        register(&server, &["gw-mk3", "gw-mk4"], rsa).await.status,
        201,
        "it is new for gw-mk4"
    );
}

#[tokio::test]
async fn public_members_are_all_that_is_kept_of_a_jwk() {
    let server = TestServer::start().await;
    let mut jwk = private_key("snakeoil_rsa3072").public().to_jwk();
    jwk["kid"] = "a name of its own".into();
    jwk["use"] = "enc".into();
    let answer = register(&server, &["gw-mk3"], jwk).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let listed = list(&server).await;
    let registered: RegisteredRecipient = answer.body();
    let entry = listed.iter().find(|entry| entry.kid == registered.kid).unwrap();
    assert_eq!(entry.public_key, private_key("snakeoil_rsa3072").public().to_jwk());
}

/// A key that is refused: its name, what is sent, what the answer says, and what must be found
/// nowhere afterwards.
struct Refused {
    name: &'static str,
    key: Value,
    rule: &'static str,
    secrets: Vec<Vec<u8>>,
}

impl Refused {
    fn new(name: &'static str, key: impl Into<Value>, rule: &'static str) -> Self {
        Self { name, key: key.into(), rule, secrets: Vec::new() }
    }

    fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secrets.push(secret.into());
        self
    }
}

/// A line from the middle of a PEM file.
fn middle_line(pem: &str) -> Vec<u8> {
    let lines: Vec<_> = pem.trim().lines().collect();
    lines[lines.len() / 2].as_bytes().to_vec()
}

fn private_keys() -> Vec<Refused> {
    const RULE: &str = "this is a private key, and it was not stored";
    let pem = key_file("snakeoil_p256_other.pem");
    let secret = p256::SecretKey::from_pkcs8_pem(&pem).unwrap();
    let d = secret.to_bytes();
    let mut jwk = private_key("snakeoil_p256_other").public().to_jwk();
    jwk["d"] = URL_SAFE_NO_PAD.encode(d).into();
    let rsa = key_file("snakeoil_rsa3072.pem");
    let both = format!("{}{pem}", key_file("snakeoil_p256_other.pub.pem"));
    let encoded = URL_SAFE_NO_PAD.encode(d);
    vec![
        Refused::new("PEM, EC", pem.clone(), RULE).secret(middle_line(&pem)).secret(d.to_vec()),
        Refused::new("PEM, RSA", rsa.clone(), RULE).secret(middle_line(&rsa)),
        Refused::new("JWK", jwk.clone(), RULE).secret(encoded.clone()).secret(d.to_vec()),
        Refused::new("JWK in a string", jwk.to_string(), RULE).secret(encoded),
        Refused::new("PEM, both halves", both, "").secret(middle_line(&pem)).secret(d.to_vec()),
    ]
}

fn unfit_keys() -> Vec<Refused> {
    let p256 = private_key("snakeoil_p256_other").public().to_jwk();
    let with = |member: &str, value: Value| {
        let mut jwk = p256.clone();
        jwk[member] = value;
        jwk
    };
    let weak = |bytes: usize| json!({ "kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(vec![0xc5; bytes]) });
    let ed25519 = [&hex::decode("302a300506032b6570032100").unwrap()[..], &[7; 32]].concat();
    let ed25519 = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(ed25519)
    );
    vec![
        Refused::new("RSA of 1024 bits", weak(128), "an RSA key of 1024 bits is too weak"),
        Refused::new("RSA of 2040 bits", weak(255), "an RSA key of 2040 bits is too weak"),
        Refused::new("RSA of 8192 bits", weak(1024), "too large"),
        Refused::new(
            "off the curve",
            with("x", URL_SAFE_NO_PAD.encode([7; 32]).into()),
            "not a point on the curve",
        ),
        Refused::new("another curve", with("crv", "P-384".into()), "P-384"),
        Refused::new("use: sig", with("use", "sig".into()), "a signing key"),
        Refused::new("key_ops: verify", with("key_ops", json!(["verify"])), "a signing key"),
        Refused::new("alg: ES256", with("alg", "ES256".into()), ""),
        Refused::new("Ed25519", ed25519, "signing key"),
        Refused::new(
            "OKP",
            json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 32]) }),
            "",
        ),
        Refused::new(
            "oct",
            json!({ "kty": "oct", "k": "c2VjcmV0IG9mIG9jdGV0cyB0aGF0IG5vYm9keSBrbm93cw" }),
            "symmetric",
        )
        .secret("c2VjcmV0IG9mIG9jdGV0cyB0aGF0IG5vYm9keSBrbm93cw"),
        Refused::new("nothing", "", "neither PEM nor a JWK"),
        Refused::new("garbage", "garbage-8d1f that is no key", "neither PEM nor a JWK")
            .secret("garbage-8d1f"),
        Refused::new(
            "a certificate",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "a certificate",
        ),
        Refused::new(
            "damaged PEM",
            "-----BEGIN PUBLIC KEY-----\nMIIB!\n-----END PUBLIC KEY-----\n",
            "damaged",
        ),
        Refused::new("a number", 42, "neither PEM nor a JWK"),
        Refused::new("a list", json!([p256]), "more than one key"),
        Refused::new("an empty object", json!({}), "no `kty`"),
    ]
}

#[tokio::test]
async fn a_key_that_is_refused_is_422_and_leaves_no_trace() {
    let server = TestServer::start().await;
    let before = list(&server).await;
    for Refused { name, key, rule, secrets } in private_keys().into_iter().chain(unfit_keys()) {
        let answer = register(&server, &["gw-mk9"], key).await;
        let detail = answer.refused(422, "key_refused");
        assert!(detail.contains(rule), "{name}: {detail}");
        let log = Log::text();
        for secret in &secrets {
            let has_it = |text: &[u8]| text.windows(secret.len()).any(|window| window == secret);
            assert!(!has_it(&answer.body), "{name}: echoed in {answer:?}");
            assert!(!has_it(log.as_bytes()), "{name}: logged");
            assert_eq!(server.state.files_with(secret), Vec::<String>::new(), "{name}: stored");
        }
    }
    assert_eq!(list(&server).await, before);
    // What finds nothing has to be able to find something: a public key is in the database.
    let kid = private_key("snakeoil_p256").kid().to_string();
    assert!(!server.state.files_with(kid.as_bytes()).is_empty());
}

/// A parser's message could repeat what was sent.
#[tokio::test]
async fn a_private_key_in_the_wrong_place_is_not_echoed_either() {
    let server = TestServer::start().await;
    let secret = "c2VjcmV0IGluIHRoZSB3cm9uZyBwbGFjZSwgNDIgYnl0ZXM";
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n");
    for body in [
        json!({ "hardware_ids": ["gw-mk9"], "private_key": pem }).to_string(),
        json!({ "hardware_ids": ["gw-mk9"], "public_key": "x", (secret): "x" }).to_string(),
        json!({ "hardware_ids": pem, "public_key": "x" }).to_string(),
        json!({ "hardware_ids": ["gw-mk9"] }).to_string(),
        json!(secret).to_string(),
        pem.clone(),
    ] {
        let request = server.request_as(Engineer, Method::POST, "/api/v1/recipients");
        let answer =
            send(request.header("content-type", "application/json").body(body.clone())).await;
        answer.refused(400, "bad_json");
        assert!(!String::from_utf8_lossy(&answer.body).contains(secret), "{body}: {answer:?}");
    }
    assert!(!Log::text().contains(secret));
    assert_eq!(server.state.files_with(secret.as_bytes()), Vec::<String>::new());
}

/// Readers disagree on which of two members counts, so a key with both is not one key.
#[tokio::test]
async fn a_jwk_with_a_member_twice_is_refused() {
    let server = TestServer::start().await;
    let jwk = private_key("snakeoil_p256_other").public().to_jwk().to_string();
    let twice = jwk.replacen('{', "{\"use\":\"sig\",\"use\":\"enc\",", 1);
    for public_key in [twice.clone(), json!(twice).to_string()] {
        let body = format!("{{\"hardware_ids\":[\"gw-mk9\"],\"public_key\":{public_key}}}");
        let request = server.request_as(Engineer, Method::POST, "/api/v1/recipients");
        let answer = send(request.header("content-type", "application/json").body(body)).await;
        let detail = answer.refused(422, "key_refused");
        assert!(detail.contains("`use` twice"), "{detail}");
    }
}

#[tokio::test]
async fn hardware_ids_are_checked() {
    let server = TestServer::start().await;
    let key = || Value::from(key_file("snakeoil_p256_other.pub.pem"));
    register(&server, &[], key()).await.refused(400, "hardware_ids_missing");
    for bad in ["", "gw mk3", "gw\n", "gw-é", &"x".repeat(65)] {
        let detail =
            register(&server, &["gw-mk3", bad], key()).await.refused(400, "bad_hardware_id");
        assert!(detail.contains("`hardware_id` must"), "{bad}: {detail}");
    }
    assert_eq!(list(&server).await.len(), 2, "all or none");
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused() {
    let server = TestServer::start().await;
    let answer = register(&server, &["gw-mk3"], "x".repeat(70_000).into()).await;
    assert!(answer.refused(413, "too_large").contains("65536"), "{answer:?}");
}

/// A key that signs metadata must not receive, too (Uptane 2.1.0, 5.2.2: each role has keys of its
/// own).
#[tokio::test]
async fn a_role_key_is_refused_as_a_recipient() {
    let state = crate::state::TestState::prepared(|folder| {
        let role_key =
            p256::SecretKey::from_pkcs8_pem(&key_file("snakeoil_p256_other.pem")).unwrap();
        let pem = role_key.to_pkcs8_pem(LineEnding::LF).unwrap();
        std::fs::DirBuilder::new().mode(0o700).create(folder.join("keys")).unwrap();
        let file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join("keys/timestamp.pem"));
        file.unwrap().write_all(pem.as_bytes()).unwrap();
    });
    let server = TestServer::on(state, |_| ()).await;
    let public = private_key("snakeoil_p256_other").public().to_jwk();
    let answer = register(&server, &["gw-mk9"], public).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(list(&server).await.len(), 2);
}

#[tokio::test]
async fn a_public_key_is_the_same_in_pem_and_jwk() {
    let pem = RecipientKey::parse(&key_file("snakeoil_p256.pub.pem")).unwrap();
    let secret = p256::SecretKey::from_pkcs8_pem(&key_file("snakeoil_p256.pem")).unwrap();
    let point = secret.public_key().to_sec1_point(false);
    let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "x": coordinate(point.x().unwrap()), "y": coordinate(point.y().unwrap()),
    });
    assert_eq!(pem.to_jwk(), jwk);
}

#[tokio::test]
async fn a_viewer_sees_public_keys_and_changes_nothing() {
    let server = TestServer::start().await;
    assert_eq!(list(&server).await.len(), 2);
    let kid = private_key("snakeoil_p256").kid().to_string();
    let remove = server.request_as(Viewer, Method::DELETE, &format!("/api/v1/recipients/{kid}"));
    send(remove).await.refused(403, "forbidden");
    let upload = format!("/api/v1/images/gw/1/a.bin?{DESCRIPTION}");
    send(server.request_as(Viewer, Method::PUT, &upload).body("x")).await.refused(403, "forbidden");
    assert_eq!(list(&server).await.len(), 2);
}
