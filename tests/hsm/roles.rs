//! Role keys in tokens, and what a server does while these are away.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motorcade::app::director::{DirectorFile, DirectorRole};
use motorcade::app::setup::{Opened, StateDir};
use motorcade::app::{Error, Limits};
use motorcade::envelope::key::RecipientPrivateKey;
use motorcade::keys::policy::Policy;
use motorcade::model::{Clock, SystemClock, Timestamp};
use motorcade::telemetry::Metrics;
use motorcade::uptane::client::VerifiedRepository;
use motorcade::uptane::key::{Scheme, SigningKey};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::support::{
    Client, Server, create_token, init, motorcade, refused, sha256, snakeoil, wait_until,
};
use super::token::{Hsm, PIN};

/// An installation some of whose role keys are in tokens.
struct Installation {
    folder: tempfile::TempDir,
    token: String,
}

impl Installation {
    /// Each is the head of a section of the policy, and where its keys are.
    fn new(sources: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir_all(state.join("metadata")).unwrap();
        let mut policy = Policy::DEFAULT.replace("prefix_digits = 2", "prefix_digits = 1");
        for (section, keys) in sources {
            let head = format!("[{section}]\n");
            assert!(policy.contains(&head), "{section}");
            policy = policy.replacen(&head, &format!("{head}keys = {keys}\n"), 1);
        }
        Policy::parse(&policy).unwrap();
        fs::write(state.join("metadata/policy.toml"), policy).unwrap();
        init(&state);
        let token = create_token(&state, "engineer");
        Self { folder, token }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn serve(&self) -> (Server, Client) {
        let server = Server::start(&self.state(), &[]);
        let client = server.client(&self.token);
        (server, client)
    }

    fn first_root(&self) -> Vec<u8> {
        fs::read(self.state().join("repo/1.root.json")).unwrap()
    }
}

fn one(hsm: &Hsm, key: &str) -> String {
    format!("[\"{}\"]", hsm.uri(key))
}

/// What `/readyz` says, and with which status.
async fn readiness(client: &Client) -> (u16, String) {
    let answer = client.http.get(format!("{}/readyz", client.url)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn is_ready(client: &Client) -> bool {
    readiness(client).await.0 == 200
}

/// An upload that waits for a key.
async fn refused_upload(client: &Client, path: &str) -> Value {
    let answer = client.put(path, "", "firmware").await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (503, &"10".parse().unwrap())
    );
    answer.json().await.unwrap()
}

async fn metric(client: &Client, series: &str) -> f64 {
    let metrics = String::from_utf8(client.get("/metrics").await.to_vec()).unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix(series));
    value.unwrap_or_else(|| panic!("no {series}: {metrics}")).trim().parse().unwrap()
}

#[tokio::test]
async fn a_server_goes_on_without_the_token_of_its_roles_and_starts_without_it() {
    let hsm = Hsm::new("roles");
    hsm.make_ed25519("timestamp");
    hsm.make_ecdsa("bins");
    let installation =
        Installation::new(&[("bins", one(&hsm, "bins")), ("timestamp", one(&hsm, "timestamp"))]);
    assert!(!installation.state().join("keys/timestamp.pem").exists());
    let (server, client) = installation.serve();
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    client.upload("gw/1", "", b"firmware").await;
    assert!(is_ready(&client).await);
    assert!(
        metric(&client, "motorcade_signature_duration_seconds_count{backend=\"pkcs11\"}").await
            > 2.0
    );
    assert_eq!(
        metric(&client, "motorcade_signature_failures_total{backend=\"pkcs11\"}").await,
        0.0
    );

    hsm.take_away();
    let problem = refused_upload(&client, "gw/2").await;
    assert_eq!(problem["code"], "role_key_unavailable", "{problem}");
    let (status, said) = readiness(&client).await;
    assert_eq!(status, 503, "{said}");
    let waits =
        format!("the role bins of the Image repository waits for its key ({}", hsm.uri("bins"));
    assert!(said.contains(&waits) && said.contains("what is signed holds until 20"), "{said}");
    assert!(metric(&client, "motorcade_signature_failures_total{backend=\"pkcs11\"}").await > 0.0);
    VerifiedRepository::load(&installation.first_root(), &server.repo_url()).await.unwrap();
    drop(server);

    // A start in vain is none: what is signed is served.
    let (server, client) = installation.serve();
    let seen = VerifiedRepository::load(&installation.first_root(), &server.repo_url()).await;
    let seen = seen.unwrap();
    assert!(seen.find("gw/1").is_some() && seen.find("gw/2").is_none());
    let (status, said) = readiness(&client).await;
    assert_eq!(status, 503);
    for role in ["bins", "timestamp"] {
        assert!(said.contains(&format!("the role {role} of the Image repository waits")), "{said}");
    }
    let mut doctor = motorcade(["doctor", "--data-dir"]);
    let doctor = doctor.arg(installation.state()).output().unwrap();
    let told = String::from_utf8(doctor.stdout).unwrap();
    assert!(!doctor.status.success() && told.contains("hsm-away.md"), "{told}");
    assert!(told.contains(&hsm.uri("timestamp")), "{told}");

    hsm.put_back();
    wait_until("the token is found again", async || is_ready(&client).await).await;
    wait_until("what was accepted is published", async || {
        let seen = VerifiedRepository::load(&installation.first_root(), &server.repo_url()).await;
        seen.unwrap().find("gw/2").is_some()
    })
    .await;
    client.upload("gw/3", "", b"firmware").await;
    assert!(!server.log().contains(PIN), "a PIN is in the log");
    let known = fs::read_to_string(installation.state().join("keys/public-halves.toml")).unwrap();
    assert!(known.contains(&hsm.uri("bins")) && !known.contains(PIN), "{known}");
}

#[tokio::test]
async fn a_wrong_pin_of_role_keys_is_tried_once() {
    let hsm = Hsm::new("role-pin");
    hsm.make_ed25519("timestamp");
    hsm.make_ed25519("snapshot");
    let installation = Installation::new(&[
        ("snapshot", one(&hsm, "snapshot")),
        ("timestamp", one(&hsm, "timestamp")),
    ]);
    hsm.write_pin("snakeoil-8642");
    let (server, client) = installation.serve();
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    let (status, said) = readiness(&client).await;
    assert!(status == 503 && said.contains("refuses the PIN"), "{said}");
    assert!(hsm.has_seen_a_wrong_pin());
    hsm.log_in_and_out(); // which the token counts as the end of wrong ones
    for number in 0..4 {
        refused_upload(&client, &format!("gw/{number}")).await;
        assert_eq!(readiness(&client).await.0, 503);
        tokio::time::sleep(Duration::from_secs(2)).await; // longer than a key rests
    }
    assert!(!hsm.has_seen_a_wrong_pin(), "it was tried again");
    hsm.write_pin(PIN);
    wait_until("the right one is taken", async || is_ready(&client).await).await;
    client.upload("gw/5", "", b"firmware").await;
    for pin in [PIN, "snakeoil-8642"] {
        assert!(!server.log().contains(pin), "a PIN is in the log");
    }
}

#[tokio::test]
async fn a_key_that_was_never_found_is_named_with_its_role_and_nothing_starts() {
    let hsm = Hsm::new("never");
    hsm.make_ed25519("timestamp");
    let installation = Installation::new(&[("timestamp", one(&hsm, "timestamp"))]);
    fs::remove_file(installation.state().join("keys/public-halves.toml")).unwrap();
    hsm.take_away();
    let mut serve = motorcade(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    let told = refused(serve.arg(installation.state()));
    assert!(told.contains("the role timestamp has a key that can't be reached"), "{told}");
    assert!(told.contains(&hsm.uri("timestamp")) && told.contains("is not there"), "{told}");
    hsm.put_back();
    let (_server, client) = installation.serve();
    assert!(is_ready(&client).await);
}

#[tokio::test]
async fn a_role_does_not_wait_for_a_token_that_it_can_do_without() {
    let (first, second) = (Hsm::new("first"), Hsm::new("second"));
    first.make_ed25519("timestamp");
    second.make_ed25519("timestamp");
    let keys = format!("[\"{}\", \"{}\"]", first.uri("timestamp"), second.uri("timestamp"));
    let installation = Installation::new(&[("timestamp", keys)]);
    first.take_away();
    let (server, client) = installation.serve();
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    client.upload("gw/1", "", b"firmware").await;
    assert!(is_ready(&client).await);
    let seen = VerifiedRepository::load(&installation.first_root(), &server.repo_url()).await;
    assert!(seen.unwrap().find("gw/1").is_some());
}

#[tokio::test]
async fn another_key_under_the_same_name_does_not_sign() {
    let hsm = Hsm::new("swapped");
    hsm.make_ed25519("timestamp");
    let installation = Installation::new(&[("timestamp", one(&hsm, "timestamp"))]);
    hsm.take_away();
    let (server, client) = installation.serve();
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    hsm.put_back();
    hsm.destroy("timestamp");
    hsm.make_ed25519("timestamp");
    wait_until("the key is found to be another one", async || {
        readiness(&client).await.1.contains("another key than the one that was found before")
    })
    .await;
    refused_upload(&client, "gw/1").await;
    VerifiedRepository::load(&installation.first_root(), &server.repo_url()).await.unwrap();
}

struct Later(Mutex<Timestamp>);

impl Clock for Later {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// A vehicle that may ask with its token.
async fn register_vehicle(client: &Client) {
    let pem = SigningKey::generate_pem(Scheme::Ed25519).unwrap();
    let signing = SigningKey::from_pem(&pem).unwrap();
    let encryption = RecipientPrivateKey::generate_p256();
    let record = json!({ "vin": "VIN1", "token_sha256": sha256(b"vehicle"), "ecus": [{
        "ecu_serial": "gw-1", "hardware_id": "gw-mk3", "role": "primary",
        "signing_key": signing.public().object(), "encryption_key": encryption.public().to_public_pem(),
    }] });
    let request = client.http.post(format!("{}/api/v1/vehicles", client.url));
    let answer = request.bearer_auth(&client.token).json(&record).send().await.unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
}

/// A server of this process, at a time of its own.
async fn opened_at(state: &Path, clock: &Arc<Later>) -> Opened {
    let clock: Arc<dyn Clock> = Arc::<Later>::clone(clock);
    let metrics = Arc::new(Metrics::new("0"));
    let state = StateDir::new(state);
    let opened = state.open(Limits::default(), clock, metrics, Handle::current()).await.unwrap();
    opened.app.upkeep().recover().await.unwrap();
    opened
}

#[tokio::test]
async fn vehicles_keep_what_was_signed_for_them_for_as_long_as_it_holds() {
    let hsm = Hsm::new("bundles");
    for key in ["targets", "snapshot", "timestamp"] {
        hsm.make_ed25519(key);
    }
    let keys =
        ["targets", "snapshot", "timestamp"].map(|key| format!("{key} = {}", one(&hsm, key)));
    let bundle = format!("{{ {} }}", keys.join(", "));
    let installation = Installation::new(&[("director.bundle", bundle)]);
    let (server, client) = installation.serve();
    register_vehicle(&client).await;
    let vehicle = Client { token: "vehicle".into(), ..client };
    let signed = vehicle.get("/director/timestamp.json").await;
    drop(server);

    hsm.log_out();
    hsm.write_pin("snakeoil-8642");
    let clock = Arc::new(Later(Mutex::new(SystemClock.now())));
    let opened = opened_at(&installation.state(), &clock).await;
    let vin = "VIN1".parse().unwrap();
    let file = DirectorFile { role: DirectorRole::Timestamp, version: None };
    let ask = async |hours: u64| {
        *clock.0.lock().unwrap() = SystemClock.now() + Duration::from_secs(hours * 3600);
        opened.app.director().file(&vin, file).await
    };
    for hours in [1, 13, 23] {
        assert_eq!(ask(hours).await.unwrap(), signed, "{hours} hours later");
    }
    let waits = ask(25).await.unwrap_err();
    assert!(matches!(waits, Error::Unavailable { code: "role_key_unavailable", .. }), "{waits:?}");
    hsm.write_pin(PIN);
    wait_until("it is signed again", async || ask(25).await.is_ok()).await;
}
