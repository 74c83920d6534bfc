//! The doctor, readiness and what has expired: each thing that can be wrong is found, and it is said
//! what to do.

use std::fs;
use std::time::Duration;

use motorcade::api::{CheckBody, DoctorBody, FindingBody};
use motorcade::app::Error;
use motorcade::app::doctor::{self, Around, Certificate, Report, Severity};
use motorcade::app::expiry::Stage;
use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::{EscrowKey, RecipientPrivateKey};
use motorcade::model::{AccessRole, Clock, RoleKind, SystemClock, Timestamp};
use motorcade::uptane::key::{Scheme, SigningKey};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestServer, eventually, send};
use crate::publication::{NEVER, Node};
use crate::state::{TestState, key_file, private_key};
use crate::support::{motorcade, refused, run};

const CHECKS: [&str; 10] = [
    "clock",
    "root_chain",
    "policy",
    "keys",
    "expiry",
    "versions",
    "blobs",
    "disk",
    "certificates",
    "limits",
];

async fn examine_at(state: &TestState, now: Timestamp) -> Report {
    doctor::examine(&state.dir(), now, Around::default()).await.unwrap()
}

async fn examine(state: &TestState) -> Report {
    examine_at(state, SystemClock.now()).await
}

/// The one check that finds something; every finding says what to do.
#[track_caller]
fn only(report: &Report, name: &str, severity: Severity) -> String {
    let bad: Vec<_> = report.checks.iter().filter(|check| !check.findings.is_empty()).collect();
    assert_eq!(bad.iter().map(|check| check.name).collect::<Vec<_>>(), [name], "{report:#?}");
    assert_eq!(bad[0].worst(), Some(severity), "{report:#?}");
    assert!(bad[0].findings.iter().all(|finding| finding.action.len() > 10), "{report:#?}");
    bad[0].findings.iter().map(|finding| format!("{}\n", finding.problem)).collect()
}

#[tokio::test]
async fn a_healthy_installation_has_no_finding() {
    let state = TestState::new();
    let report = examine(&state).await;
    assert_eq!(report.worst(), None, "{report:#?}");
    assert_eq!(report.checks.iter().map(|check| check.name).collect::<Vec<_>>(), CHECKS);
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let body: DoctorBody = server.get("/api/v1/doctor").await.body();
    assert_eq!(body.status, "ok", "{body:#?}");
    let names: Vec<_> = body.checks.iter().map(|check| check.check.as_str()).collect();
    assert_eq!(names, [&CHECKS[..], &["service"]].concat());
    let blobs = body.checks.iter().find(|check| check.check == "blobs").unwrap();
    assert!(blobs.looked_at.starts_with("1 images"), "{blobs:?}");
}

#[tokio::test]
async fn the_command_says_what_the_call_says_and_exits_with_1_for_a_warning() {
    let state = TestState::new();
    let path = state.path().to_str().unwrap();
    let body: DoctorBody =
        serde_json::from_str(&run(&mut motorcade(["--json", "doctor", "--data-dir", path])))
            .unwrap();
    assert_eq!((body.status.as_str(), body.checks.len()), ("ok", CHECKS.len()));
    let text = run(&mut motorcade(["doctor", "--data-dir", path]));
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), CHECKS.len(), "{text}");
    let policy = state.path().join("metadata/policy.toml");
    let changed =
        fs::read_to_string(&policy).unwrap().replacen("threshold = 1", "threshold = 2", 1);
    fs::write(&policy, changed).unwrap();
    let output = motorcade(["--json", "doctor", "--data-dir", path]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let body: DoctorBody = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(body.status, "warning", "{body:#?}");
    let CheckBody { findings, .. } = body.checks.iter().find(|c| c.check == "policy").unwrap();
    let [FindingBody { severity, problem, action }] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(severity, "warning");
    assert!(problem.contains("asks for 2 of 2 keys of the role root"), "{problem}");
    assert!(action.contains("metadata/policy.toml"), "{action}");
    let nothing = state.path().join("none");
    let said = refused(&mut motorcade(["doctor", "--data-dir", nothing.to_str().unwrap()]));
    assert!(said.contains("motorcade init"), "{said}");
}

#[tokio::test]
async fn a_clock_behind_the_last_signing_and_a_long_silence_are_found() {
    let state = TestState::new();
    let now = SystemClock.now();
    let behind = examine_at(&state, now - Duration::from_secs(3600)).await;
    assert!(only(&behind, "clock", Severity::Error).contains("nothing is signed until then"));
    let silent = examine_at(&state, now + Duration::from_secs(25 * 3600)).await;
    let clock = &silent.checks[0].findings[0];
    assert_eq!(clock.severity, Severity::Warning);
    assert!(clock.action.contains("recover versions"), "{clock:?}");
}

#[tokio::test]
async fn roots_that_clients_stop_at_are_found() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.after_hours(183 * 24).await; // both roots are renewed
    let now = node.clock.now();
    let state = node.close().await;
    let second = state.blob("2.root.json");
    let good = fs::read(&second).unwrap();
    fs::write(
        &second,
        String::from_utf8(good.clone()).unwrap().replace("\"sig\":\"", "\"sig\":\"00"),
    )
    .unwrap();
    let report = examine_at(&state, now).await;
    let roots = &report.checks[1];
    assert_eq!(roots.worst(), Some(Severity::Error), "{report:#?}");
    assert!(roots.findings[0].problem.contains("root 2 of the Image repository"), "{roots:?}");
    fs::write(&second, good).unwrap();
    fs::rename(state.blob("1.root.json"), state.path().join("kept")).unwrap();
    let report = examine_at(&state, now).await;
    assert!(report.checks[1].findings[0].problem.contains("root 1"), "{report:#?}");
    fs::rename(state.path().join("kept"), state.blob("1.root.json")).unwrap();
    fs::remove_file(second).unwrap();
    let report = examine_at(&state, now).await;
    assert!(
        report.checks[1].findings[0].problem.contains("root 2 was published, and 1 is the newest"),
        "{report:#?}"
    );
}

#[tokio::test]
async fn a_key_that_is_another_one_is_found() {
    let state = TestState::new();
    let timestamp = state.path().join("keys/timestamp.pem");
    fs::write(timestamp, SigningKey::generate_pem(Scheme::Ed25519).unwrap().as_bytes()).unwrap();
    let report = examine(&state).await;
    let problems = only(&report, "keys", Severity::Error);
    assert!(problems.contains("timestamp.pem holds the key"), "{problems}");
    fs::remove_dir_all(state.path().join("keys")).unwrap();
    let report = examine(&state).await;
    assert!(only(&report, "keys", Severity::Warning).contains("keys/ is not here"));
}

#[tokio::test]
async fn blobs_that_the_catalog_does_not_agree_with_are_found() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    server.upload("gw/2/a.bin", "firmware of another kind").await.expect(201);
    let state = server.stop();
    let (gone, long): (Vec<_>, Vec<_>) = state
        .stored_targets()
        .into_iter()
        .filter(|name| name.ends_with("a.bin"))
        .partition(|name| name.contains("/1/"));
    assert!(!gone.is_empty() && !long.is_empty());
    gone.iter().for_each(|name| fs::remove_file(state.blob(name)).unwrap());
    fs::OpenOptions::new().append(true).open(state.blob(&long[0])).unwrap().set_len(5).unwrap();
    let problems = only(&examine(&state).await, "blobs", Severity::Error);
    assert!(problems.contains("is missing") && problems.contains("is 5 bytes long"), "{problems}");
    state.sql("DELETE FROM targets; DELETE FROM images").await;
    let problems = only(&examine(&state).await, "blobs", Severity::Warning);
    assert!(problems.contains("belongs to no image"), "{problems}");
}

#[tokio::test]
async fn an_older_catalog_is_found_before_the_server_refuses_it() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.upload("gw/1/a.bin").await;
    let state = node.close().await;
    state.sql("UPDATE roles SET reserved = 1, version = 1 WHERE name = 'timestamp'").await;
    let report = examine(&state).await;
    let versions = report.checks.iter().find(|check| check.name == "versions").unwrap();
    assert_eq!(versions.worst(), Some(Severity::Error), "{report:#?}");
    assert!(versions.findings[0].action.contains("motorcade recover versions"), "{versions:?}");
}

#[tokio::test]
async fn what_clients_take_at_most_is_known() {
    let state = TestState::new();
    let long = |bytes: u64| format!("UPDATE roles SET length = {bytes} WHERE name = 'timestamp'");
    state.sql(&long(13_000)).await;
    let problems = only(&examine(&state).await, "limits", Severity::Warning);
    assert!(problems.contains("python-tuf takes 16384"), "{problems}");
    state.sql(&long(66_000)).await;
    let problems = only(&examine(&state).await, "limits", Severity::Error);
    assert!(problems.contains("aktualizr takes 65536"), "{problems}");
    assert!(!problems.contains("tough"), "{problems}");
}

#[tokio::test]
async fn certificates_and_room_are_looked_at() {
    let state = TestState::new();
    let now = SystemClock.now();
    let around = |expires| Around {
        certificates: vec![Certificate {
            what: "the server's certificate in x.pem".into(),
            expires,
            consequence: "clients refuse to connect",
        }],
        ..Around::default()
    };
    let days = |days: u64| Ok(now + Duration::from_secs(days * 86_400));
    for (expires, severity, said) in [
        (days(13), Severity::Warning, "expires at"),
        (days(0), Severity::Error, "clients refuse to connect"),
        (Err("it is empty".into()), Severity::Error, "it is empty"),
    ] {
        let report = doctor::examine(&state.dir(), now, around(expires)).await.unwrap();
        assert!(only(&report, "certificates", severity).contains(said), "{report:#?}");
    }
    let report = doctor::examine(&state.dir(), now, around(days(15))).await.unwrap();
    assert_eq!(report.worst(), None, "{report:#?}");
    let full = Around { reserved_space: Some(1 << 60), ..Around::default() };
    let report = doctor::examine(&state.dir(), now, full).await.unwrap();
    assert!(only(&report, "disk", Severity::Error).contains("uploads are refused"), "{report:#?}");
}

/// The root's key is elsewhere; its last quarter is said in `/readyz`, which is green until it has
/// expired.
#[tokio::test]
async fn a_root_that_a_person_has_to_sign_is_announced_well_ahead() {
    let state = TestState::new();
    fs::remove_file(state.path().join("keys/root.pem")).unwrap();
    let node = Node::open(state, Duration::from_millis(10)).await;
    let ready = async || node.app.upkeep().check_ready().await;
    let after = async |days: u64| {
        node.clock.advance_hours(days * 24);
        eventually("the timestamp is signed again", async || {
            let expiries = node.app.upkeep().expiries().await.unwrap();
            expiries
                .iter()
                .all(|expiry| expiry.kind == RoleKind::Root || expiry.stage == Stage::Fresh)
        })
        .await;
    };
    assert_eq!(ready().await.unwrap(), []);
    after(200).await;
    assert_eq!(ready().await.unwrap(), [], "it can be signed, and there is time");
    let report = examine_at(&node.state, node.clock.now()).await;
    assert!(only(&report, "expiry", Severity::Note).contains("the root metadata of the Image"));
    after(100).await;
    let waiting = ready().await.unwrap();
    assert_eq!(waiting.len(), 1, "the Director's key is here: {waiting:?}");
    assert_eq!((waiting[0].name().as_str(), waiting[0].stage), ("root", Stage::Soon));
    let report = examine_at(&node.state, node.clock.now()).await;
    only(&report, "expiry", Severity::Warning);
    after(50).await;
    let report = examine_at(&node.state, node.clock.now()).await;
    only(&report, "expiry", Severity::Error);
    after(20).await;
    let refused = ready().await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { code: "metadata_expired", .. }), "{refused}");
    assert!(refused.to_string().contains("docs/runbooks/root-about-to-expire.md"), "{refused}");
    node.close().await;
}

#[tokio::test]
async fn a_timestamp_that_has_expired_is_not_served() {
    let node = Node::open(TestState::new(), NEVER).await;
    node.upload("gw/1/a.bin").await;
    node.clock.advance_hours(25);
    let refused = node.app.images().deliver("timestamp.json").await.map(drop).unwrap_err();
    assert!(matches!(refused, Error::Unavailable { code: "metadata_expired", .. }), "{refused}");
    let refused = node.app.upkeep().check_ready().await.unwrap_err();
    assert!(refused.to_string().contains("timestamp metadata of the Image repository expired"));
    let report = examine_at(&node.state, node.clock.now()).await;
    let expiry = report.checks.iter().find(|check| check.name == "expiry").unwrap();
    assert_eq!(expiry.worst(), Some(Severity::Error), "{expiry:?}");
    node.upload("gw/1/a.bin").await; // and with it a round
    node.app.images().deliver("timestamp.json").await.unwrap();
    node.app.upkeep().check_ready().await.unwrap();
    node.close().await;
}

#[tokio::test]
async fn a_server_says_in_readiness_and_metrics_what_a_person_has_to_sign() {
    let state = TestState::new();
    fs::remove_file(state.path().join("keys/root.pem")).unwrap();
    let soon = (SystemClock.now() + Duration::from_secs(80 * 86_400)).as_millisecond();
    state.sql(&format!("UPDATE roles SET expires_at = {soon} WHERE name = 'root'")).await;
    let server = TestServer::on(state, |_| ()).await;
    let answer: Value = send(server.request(Method::GET, "/readyz")).await.json();
    assert_eq!(answer["status"], json!("ready"));
    let line = answer["attention"][0].as_str().unwrap();
    assert!(line.contains("the root metadata of the Image repository expires at"), "{line}");
    let gauge = "motorcade_metadata_awaits_person{repository=\"image\",role=\"root\"} 1";
    eventually("the gauge says so", async || server.metrics().await.contains(gauge)).await;
    let others = "motorcade_metadata_awaits_person{repository=\"director\",role=\"root\"} 0";
    assert!(server.metrics().await.contains(others));
    let body: DoctorBody =
        send(server.request_as(AccessRole::Officer, Method::GET, "/api/v1/doctor")).await.body();
    assert_eq!(body.status, "warning", "{body:#?}");
    let state = server.stop();
    state.sql("UPDATE roles SET expires_at = 1000 WHERE name = 'root'").await;
    let server = TestServer::on(state, |_| ()).await;
    send(server.request(Method::GET, "/readyz")).await.refused(503, "metadata_expired");
}

/// The problems of a check, as the API says them.
async fn problems_of(server: &TestServer, check: &str) -> Vec<String> {
    let body: DoctorBody = server.get("/api/v1/doctor").await.body();
    let found = body.checks.into_iter().find(|found| found.check == check).unwrap();
    found.findings.into_iter().map(|finding| finding.problem).collect()
}

#[tokio::test]
async fn an_envelope_that_was_put_in_the_place_of_another_is_not_served_and_is_found() {
    let server = TestServer::start().await;
    for path in ["gw/1/a.bin", "gw/2/a.bin"] {
        server.upload(path, "firmware").await.expect(201);
    }
    server.state.sql("UPDATE images SET created_by = envelope WHERE path = 'gw/1/a.bin'").await;
    let escrow = fs::read_to_string(server.state.path().join("keys/escrow.jwk")).unwrap();
    let escrow = EscrowKey::from_jwk(&escrow).unwrap();
    let own = server.get("/api/v1/images/gw/1/a.bin/envelope").await;
    let stored = server.state.dir().open_catalog().await.unwrap();
    let stored = stored.find_envelope(&"gw/1/a.bin".parse().unwrap()).await.unwrap().unwrap();
    let (data_key, algorithm) =
        Envelope::parse(stored.as_bytes()).unwrap().open_with_escrow(&escrow).unwrap();
    // Opens under the right key, and is for somebody whom nobody has published.
    let thief = RecipientPrivateKey::generate_p256();
    let of_thief = Envelope::seal(&data_key, algorithm, &[thief.public()], Some(&escrow)).unwrap();
    let kid = private_key("snakeoil_p256").kid().to_string();
    for (envelope, said) in [
        (
            "SELECT envelope FROM images WHERE path = 'gw/2/a.bin'".to_owned(),
            "is bound to the sealed image",
        ),
        (format!("SELECT '{}'", of_thief.to_json_with_escrow()), "another one than the catalog's"),
    ] {
        let swap = format!("UPDATE images SET envelope = ({envelope}) WHERE path = 'gw/1/a.bin'");
        server.state.sql(&swap).await;
        for query in [String::new(), format!("?kid={kid}"), format!("?kid={}", thief.kid())] {
            let path = format!("/api/v1/images/gw/1/a.bin/envelope{query}");
            server.get(&path).await.refused(500, "file_damaged");
        }
        let found = problems_of(&server, "blobs").await;
        assert!(
            found.len() == 1 && found[0].starts_with("the envelope of gw/1/a.bin"),
            "{found:?}"
        );
        assert!(found[0].contains(said), "{found:?}");
    }
    server.state.sql("UPDATE images SET envelope = created_by WHERE path = 'gw/1/a.bin'").await;
    assert_eq!(server.get("/api/v1/images/gw/1/a.bin/envelope").await.body, own.body);
    assert_eq!(problems_of(&server, "blobs").await, [""; 0]);
}

#[tokio::test]
async fn images_that_are_still_sealed_for_a_revoked_key_are_named() {
    let server = TestServer::start().await;
    let kid = private_key("snakeoil_p256").kid().to_string();
    let alone = server.upload_request("gw/1/a.bin", &format!("&recipient={kid}"));
    send(alone.body("x")).await.expect(201);
    assert_eq!(problems_of(&server, "blobs").await, [""; 0]);
    server.rotated(json!({ "revocation": { "kid": kid } })).await;
    let expected = format!("1 images are still sealed for {kid}, which was revoked");
    assert_eq!(problems_of(&server, "blobs").await, [expected]);
    let new = key_file("snakeoil_p256_other.pub.pem");
    server.rotated(json!({ "recipient": { "kid": kid, "public_key": new } })).await;
    assert_eq!(problems_of(&server, "blobs").await, [""; 0]);
}
