//! The audit log: what is in it, and what is noticed of changes to it.

use motorcade::app::audit::{self, AuditHead};
use motorcade::model::AccessRole::{Engineer, Officer, Uploader, Viewer};
use motorcade::model::{AccessRole, Sha256Digest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestServer, send, sha256_hex};
use crate::director::vehicle::TestVehicle;
use crate::state::{HARDWARE_ID, TestState, key_file};
use crate::support::{Server, motorcade, run, wait_until};

impl TestServer {
    /// Entries that a filter leaves, the newest first.
    async fn audit(&self, filter: &str) -> Vec<Value> {
        let page = self.get(&format!("/api/v1/audit?{filter}")).await.json();
        page["entries"].as_array().unwrap().clone()
    }

    async fn audited(&self, kind: &str) -> Value {
        let found = self.audit(&format!("kind={kind}&limit=1")).await;
        found.into_iter().next().unwrap_or_else(|| panic!("no entry is of the kind {kind}"))
    }

    async fn id_of(&self, role: AccessRole) -> String {
        let digest = sha256_hex(self.state.tokens.of(role).as_bytes());
        let digest: Sha256Digest = digest.parse().unwrap();
        let catalog = self.state.dir().open_catalog().await.unwrap();
        let id = catalog.find_token(&digest).await.unwrap().unwrap().id;
        catalog.close().await;
        id
    }

    async fn as_engineer(&self, method: Method, path: &str, body: Value) -> u16 {
        let path = format!("/api/v1/{path}");
        let request = self.request_as(Engineer, method, &path).header("x-request-id", "by-hand");
        send(request.json(&body)).await.status
    }
}

async fn problems(state: &TestState, known: &[AuditHead]) -> Vec<String> {
    audit::verify(&state.dir(), known).await.unwrap().problems
}

#[tokio::test]
async fn each_change_of_an_image_or_a_recipient_says_who_made_it() {
    let server = TestServer::start().await;
    let upload = server.upload_request("gw/1/a.bin", "").header("x-request-id", "upload-1");
    send(upload.body("x")).await.expect(201);
    let entry = server.audited("image_published").await;
    let image = server.image("gw/1/a.bin").await;
    assert_eq!(entry["subject"], "gw/1/a.bin");
    assert_eq!(entry["actor"], server.id_of(Uploader).await);
    assert_eq!([&entry["actor_kind"], &entry["actor_role"]], ["token", "uploader"]);
    assert_eq!(entry["request_id"], "upload-1");
    assert_eq!(entry["detail"]["sealed_sha256"], image.sealed.sha256);
    server.upload("gw/1/a.bin", "x").await.expect(200);
    assert_eq!(server.audit("kind=image_published").await.len(), 1, "nothing has changed");

    let yank = || server.request_as(Officer, Method::DELETE, "/api/v1/images/gw/1/a.bin");
    send(yank()).await.expect(204);
    send(yank()).await.expect(204);
    let entries = server.audit("kind=image_yanked").await;
    assert_eq!(entries.len(), 1, "a second yank changes nothing");
    assert_eq!(entries[0]["actor"], server.id_of(Officer).await);

    let body = json!({ "hardware_ids": ["brake-2", HARDWARE_ID], "public_key": key_file("snakeoil_rsa3072.pub.pem") });
    assert_eq!(server.as_engineer(Method::POST, "recipients", body.clone()).await, 201);
    assert_eq!(server.as_engineer(Method::POST, "recipients", body).await, 200);
    let added = server.audit("kind=recipient_registered&limit=2").await;
    let kid = added[0]["subject"].as_str().unwrap().to_owned();
    assert_eq!(added[1]["detail"], json!({ "hardware_id": "brake-2" }));
    let path = format!("recipients/{kid}");
    assert_eq!(server.as_engineer(Method::DELETE, &path, json!({})).await, 204);
    let entry = server.audited("recipient_removed").await;
    assert_eq!(
        [&entry["subject"], &entry["detail"]["hardware_ids"], &entry["request_id"]],
        [&json!(kid), &json!(["brake-2", HARDWARE_ID]), &json!("by-hand")]
    );
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn each_change_of_a_vehicle_by_a_person_says_who_made_it() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let shown = server.get("/api/v1/vehicles/VIN1/assignments").await.json();
    let id = shown["assignments"][0]["id"].as_str().unwrap();
    let change = async |method: Method, path: &str, body: Value, status: u16| {
        let path = format!("vehicles/VIN1{path}");
        assert_eq!(server.as_engineer(method, &path, body).await, status, "{path}");
    };
    change(Method::DELETE, &format!("/assignments/{id}"), json!({}), 204).await;
    vehicle.ecus[0].report.attacks_detected = "rollback".into();
    vehicle.report(&server).await;
    vehicle.report(&server).await; // in quarantine already
    change(Method::DELETE, "/quarantine", json!({ "reason": "a test" }), 204).await;
    let hour = json!({ "expires_in_seconds": 3600 });
    change(Method::POST, "/ecus/VIN1-brake/replacement", hour.clone(), 201).await;
    change(Method::POST, "/re-enrolment", hour, 201).await;
    change(Method::POST, "/token", json!({}), 201).await;
    change(Method::DELETE, "?reason=scrapped", json!({}), 204).await;
    let entries = server.audit("subject=VIN1").await;
    let kinds: Vec<&str> = entries.iter().rev().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "vehicle_registered",
            "assigned",
            "assignment_cancelled",
            "vehicle_quarantined",
            "quarantine_cleared",
            "replacement_approved",
            "re_enrolment_approved",
            "vehicle_token_issued",
            "vehicle_removed",
        ]
    );
    let engineer = server.id_of(Engineer).await;
    for entry in &entries {
        let by = [&entry["actor_kind"], &entry["actor_role"], &entry["actor"]];
        match entry["kind"].as_str() {
            Some("vehicle_quarantined") => {
                assert_eq!(by, [&json!("server"), &Value::Null, &json!("")])
            }
            _ => assert_eq!(by, [&json!("token"), &json!("engineer"), &json!(engineer)], "{entry}"),
        }
    }
    assert_eq!(entries[0]["detail"]["text"], "scrapped");
    assert_eq!(entries[7]["detail"], json!({ "ecu_serial": "VIN1-gw", "text": "gw/1" }));
    assert_eq!(entries[5]["detail"]["kinds"], json!(["rollback"]));
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn what_vehicles_do_by_themselves_names_them_and_their_reports_are_no_changes() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let before = server.audit("").await.len();
    vehicle.report(&server).await;
    assert_eq!(server.audit("").await.len(), before, "a report is no change");
    let hour = json!({ "expires_in_seconds": 3600 });
    assert_eq!(server.as_engineer(Method::POST, "vehicles/VIN1/re-enrolment", hour).await, 201);
    let anew = TestVehicle::new("VIN1"); // with other keys
    let request = server.request(Method::POST, "/director/ecus").bearer_auth(&anew.token);
    assert!(send(request.json(&anew.enrolment())).await.status < 300);
    let entry = server.audited("re_enrolled").await;
    assert_eq!(
        [&entry["actor_kind"], &entry["actor"], &entry["subject"]],
        ["vehicle", "VIN1", "VIN1"]
    );
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn vehicles_that_are_registered_together_are_one_entry_with_their_digest() {
    let server = TestServer::start().await;
    let vehicles: Vec<TestVehicle> =
        (0..3).map(|number| TestVehicle::new(&format!("VIN{number}"))).collect();
    let lines: Vec<String> = vehicles.iter().map(|vehicle| vehicle.record().to_string()).collect();
    let request = server.request_as(Engineer, Method::POST, "/api/v1/vehicles");
    let request = request.header("content-type", "application/jsonl").body(lines.join("\n"));
    assert_eq!(send(request).await.json()["registered"], 3);
    let entries = server.audit("kind=vehicles_registered").await;
    assert_eq!(entries.len(), 1);
    let sha256 = sha256_hex(b"VIN0\nVIN1\nVIN2\n");
    assert_eq!(entries[0]["detail"], json!({ "vehicles": 3, "sha256": sha256 }));
    assert_eq!(server.audit("kind=vehicle_registered").await.len(), 0);
}

#[tokio::test]
async fn the_command_line_is_an_author_too_and_no_secret_is_written_down() {
    let server = TestServer::start().await;
    let state = &server.state;
    let mut create =
        motorcade(["token", "create", "--role", "viewer", "--label", "auditor", "--data-dir"]);
    let token = run(create.arg(state.path())).trim().to_owned();
    let entry = server.audited("token_created").await;
    let id = entry["subject"].as_str().unwrap().to_owned();
    assert_eq!(entry["actor_kind"], "local");
    assert!(entry["actor"].as_str().unwrap().parse::<u32>().is_ok(), "{entry}");
    assert_eq!([&entry["detail"]["role"], &entry["detail"]["label"]], ["viewer", "auditor"]);
    run(motorcade(["token", "revoke", &id, "--data-dir"]).arg(state.path()));
    assert_eq!(server.audited("token_revoked").await["subject"], id);

    TestVehicle::registered(&server, "VIN1").await;
    let request = server.request_as(Engineer, Method::POST, "/api/v1/vehicles/VIN1/token");
    let vehicle_token = send(request).await.json()["token"].as_str().unwrap().to_owned();
    let written = server.get("/api/v1/audit?limit=1000").await;
    let written = String::from_utf8(written.expect(200).to_vec()).unwrap();
    for secret in [&token, &vehicle_token, &sha256_hex(token.as_bytes())] {
        assert!(!written.contains(secret.as_str()));
    }
    assert!(written.contains("role_keys_loaded") && written.contains("policy_loaded"), "{written}");
    assert_eq!(server.audit("kind=root_published").await.len(), 2, "one of each repository");
}

#[tokio::test]
async fn the_log_is_listed_by_kind_actor_subject_and_time_in_pages() {
    let server = TestServer::start().await;
    for number in 0..5 {
        server.upload(&format!("gw/{number}/a.bin"), "x").await.expect(201);
    }
    let uploader = server.id_of(Uploader).await;
    let of_uploader = server.audit(&format!("actor={uploader}&kind=image_published")).await;
    assert_eq!(of_uploader.len(), 5);
    assert_eq!(server.audit("subject=gw/3/a.bin").await, [of_uploader[1].clone()]);
    let (since, until) = (&of_uploader[3]["at"], &of_uploader[1]["at"]);
    let between = format!(
        "kind=image_published&since={}&until={}",
        since.as_str().unwrap(),
        until.as_str().unwrap()
    );
    assert_eq!(server.audit(&between).await, of_uploader[2..4]);

    let mut walked = Vec::new();
    let mut path = "/api/v1/audit?kind=image_published&limit=2".to_owned();
    loop {
        let page = server.get(&path).await.json();
        walked.extend(page["entries"].as_array().unwrap().clone());
        let Some(before) = page["next_before"].as_i64() else { break };
        path = format!("/api/v1/audit?kind=image_published&limit=2&before={before}");
    }
    assert_eq!(walked, of_uploader);
    for bad in ["kind=nothing", "since=yesterday", "until=x", "limit=0", "limit=1001", "x=1"] {
        server.get(&format!("/api/v1/audit?{bad}")).await.refused(400, "bad_query");
    }

    let listed = run(server
        .motorcade("--json audit list --kind image_published --limit 3")
        .env("MOTORCADE_TOKEN", server.state.tokens.of(Viewer)));
    let listed: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed, of_uploader[..3]);
}

/// A state directory with a log of some entries, and its head.
async fn with_entries() -> (TestState, AuditHead) {
    let server = TestServer::start().await;
    for number in 0..4 {
        server.upload(&format!("gw/{number}/a.bin"), "x").await.expect(201);
    }
    let found = audit::verify(&server.state.dir(), &[]).await.unwrap(); // beside the server
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.entries, found.head.seq);
    (server.stop(), found.head)
}

#[tokio::test]
async fn an_entry_that_is_missing_changed_or_moved_is_found() {
    let (state, head) = with_entries().await;
    let whole = state.catalog_bytes().await;
    let last = head.seq;
    let (second, third) = (last - 2, last - 1);
    let swapped = format!(
        "UPDATE audit SET seq = -1 WHERE seq = {second}; UPDATE audit SET seq = {second} WHERE seq = {third}; \
         UPDATE audit SET seq = {third} WHERE seq = -1"
    );
    let closed_up = format!(
        "DELETE FROM audit WHERE seq = {second}; UPDATE audit SET seq = seq - 1 WHERE seq > {second}; \
         UPDATE audit_head SET seq = seq - 1"
    );
    let put_before = |number: i64| {
        format!(
            "INSERT INTO audit SELECT {number}, at, kind, actor_kind, actor, actor_role, 'x', detail, request_id, hash \
             FROM audit WHERE seq = {second}"
        )
    };
    for (change, expected) in [
        (
            format!("DELETE FROM audit WHERE seq = {second}"),
            format!("entries {second} to {second} are missing"),
        ),
        ("DELETE FROM audit WHERE seq = 1".into(), "entries 1 to 1 are missing".into()),
        (
            format!("DELETE FROM audit WHERE seq = {last}"),
            format!("entries {last} to {last} are missing"),
        ),
        ("DELETE FROM audit".into(), format!("entries 1 to {last} are missing")),
        ("DELETE FROM audit_head".into(), "the head of the log is missing".into()),
        (format!("UPDATE audit_head SET seq = {third}"), format!("the head of the log is {third}")),
        (
            format!("UPDATE audit_head SET hash = '{}'", "0".repeat(64)),
            "the head of the log is".into(),
        ),
        (
            format!("UPDATE audit SET subject = 'x' WHERE seq = {second}"),
            format!("entry {second} ("),
        ),
        (format!("UPDATE audit SET actor = 'x' WHERE seq = {last}"), format!("entry {last} (")),
        (format!("UPDATE audit SET at = at + 1 WHERE seq = {second}"), format!("entry {second} (")),
        (
            format!("UPDATE audit SET request_id = NULL WHERE seq = {second}"),
            format!("entry {second} ("),
        ),
        (
            format!("UPDATE audit SET hash = '{}' WHERE seq = {second}", "0".repeat(64)),
            format!("entry {second} ("),
        ),
        (swapped, format!("entry {second} (")),
        (closed_up, format!("entry {second} (")),
        (put_before(0), "rows with numbers below 1 were put in: 1".into()),
        (put_before(-7), "rows with numbers below 1 were put in: 1".into()),
    ] {
        state.sql(&change).await;
        let found = problems(&state, &[]).await;
        assert!(found.iter().any(|line| line.starts_with(&expected)), "{change}: {found:?}");
        state.put_catalog_back(&whole).await;
    }
    state.assert_clean().await;
}

/// What was put before the first entry is not taken for one.
#[tokio::test]
async fn an_entry_without_a_place_in_the_log_is_not_listed() {
    let (state, head) = with_entries().await;
    let put = "INSERT INTO audit SELECT -seq, at, kind, actor_kind, actor, actor_role, 'x', detail, request_id, hash \
               FROM audit; INSERT INTO audit SELECT 0, at, kind, actor_kind, actor, actor_role, 'x', detail, request_id, \
               hash FROM audit WHERE seq = 1";
    state.sql(put).await;
    let server = TestServer::on(state, |_| ()).await;
    assert_eq!(server.audit("limit=1000").await.len() as u64, head.seq);
    assert_eq!(server.audit("subject=x").await, Vec::<Value>::new());
}

/// A log that can't be read takes nothing from what fsck has found besides.
#[tokio::test]
async fn an_entry_that_cannot_be_read_is_a_problem_among_others() {
    let (state, head) = with_entries().await;
    state.sql(&format!("UPDATE audit SET detail = x'00' WHERE seq = {}", head.seq)).await;
    std::fs::write(state.path().join("repo/targets/stray"), "x").unwrap();
    let mut fsck = motorcade(["--json", "fsck", "--data-dir"]);
    let output = fsck.arg(state.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("audit log: ") && said.contains("targets/stray"), "{said}");
}

/// A log that was cut off and whose head was set back can't be told from a shorter one, but by
/// somebody who remembers where it ended.
#[tokio::test]
async fn an_end_that_was_cut_off_is_found_by_who_remembers_it() {
    let (state, head) = with_entries().await;
    let before = head.seq - 1;
    let cut = format!(
        "DELETE FROM audit WHERE seq > {before}; UPDATE audit_head SET seq = {before}, \
         hash = (SELECT hash FROM audit WHERE seq = {before})"
    );
    state.sql(&cut).await;
    assert_eq!(problems(&state, &[]).await, Vec::<String>::new());
    let remembered = format!("{}:{}", head.seq, head.hash);
    let found = problems(&state, std::slice::from_ref(&head)).await;
    assert_eq!(found, [format!("the log ends at {before}, and entry {} was remembered", head.seq)]);

    // And one that has grown again since.
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/9/a.bin", "x").await.expect(201);
    let found = problems(&server.state, &[head]).await;
    assert!(
        found.len() == 1 && found[0].ends_with("is not the one that was remembered"),
        "{found:?}"
    );
    let mut verify = motorcade(["--json", "audit", "verify", "--head", &remembered, "--data-dir"]);
    let output = verify.arg(server.state.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["problems"], json!(found));
    let output =
        run(motorcade(["--json", "audit", "verify", "--data-dir"]).arg(server.state.path()));
    let said: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(said["problems"], json!([]));
}

#[tokio::test]
async fn a_server_that_starts_with_another_policy_says_so() {
    let server = TestServer::start().await;
    let before = server.audit("kind=policy_loaded").await.len();
    let state = server.stop();
    let file = state.path().join("metadata/policy.toml");
    let policy = std::fs::read_to_string(&file).unwrap() + "\n# another one\n";
    std::fs::write(&file, &policy).unwrap();
    let server = TestServer::on(state, |_| ()).await;
    let entries = server.audit("kind=policy_loaded").await;
    assert_eq!(entries.len(), before + 1);
    assert_eq!(entries[0]["detail"]["sha256"], sha256_hex(policy.as_bytes()));
    assert_eq!(server.audit("kind=role_keys_loaded").await.len(), 1, "those are the same");
}

#[tokio::test]
async fn a_server_says_in_its_own_log_where_the_audit_log_ends() {
    let state = TestState::new();
    let server = Server::start(state.path(), &[]);
    let said = || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains("head of the audit log"))?;
        serde_json::from_str::<Value>(line).unwrap()["head"].as_str().map(str::to_owned)
    };
    wait_until("it says so", async || said().is_some()).await;
    let head = said().unwrap();
    server.process.kill();
    let verify = |head: &str| {
        let mut verify = motorcade(["audit", "verify", "--head", head, "--data-dir"]);
        verify.arg(state.path()).output().unwrap().status.success()
    };
    assert!(verify(&head), "{head}");
    let (number, _) = head.split_once(':').unwrap();
    assert!(!verify(&format!("{number}:{}", "0".repeat(64))));
}
