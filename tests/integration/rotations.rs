//! `/api/v1/rotations`: a recipient's key goes, on every image, and the sealed images stay.

use std::collections::BTreeMap;

use motorcade::model::AccessRole::{Engineer, Officer};
use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::app::{DESCRIPTION, Log, TestServer, eventually, send};
use crate::state::{key_file, private_key};
use crate::support::{motorcade, run};

const OLD: &str = "snakeoil_p256";
const NEW: &str = "snakeoil_p256_other";

impl TestServer {
    pub(crate) async fn rotate(&self, body: Value) -> Answer {
        send(self.request_as(Officer, Method::POST, "/api/v1/rotations").json(&body)).await
    }

    /// Begins a rotation or revocation, and waits for its end.
    pub(crate) async fn rotated(&self, body: Value) -> Value {
        let begun = self.rotate(body).await;
        assert!([200, 201].contains(&begun.status), "{begun:?}");
        self.ended_job(&begun.json()["id"]).await
    }

    async fn kids(&self, path: &str) -> Vec<String> {
        let envelope = self.get(&format!("/api/v1/images/{path}/envelope")).await.json();
        let recipients = envelope["recipients"].as_array().unwrap().iter();
        recipients.map(|one| one["header"]["kid"].as_str().unwrap().to_owned()).collect()
    }

    async fn registered(&self) -> Vec<(String, String)> {
        let list = self.get("/api/v1/recipients").await.json();
        let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        let recipients = list["recipients"].as_array().unwrap().iter();
        recipients.map(|one| (text(one, "hardware_id"), text(one, "kid"))).collect()
    }

    /// All sealed images as the disk has them, by name.
    fn sealed_images(&self) -> BTreeMap<String, Vec<u8>> {
        let names = self.state.stored_targets().into_iter().filter(|name| !name.ends_with(".jwe"));
        names.map(|name| (name.clone(), std::fs::read(self.state.blob(&name)).unwrap())).collect()
    }
}

fn kid(name: &str) -> String {
    private_key(name).kid().to_string()
}

fn rotation(old: &str, new: &str) -> Value {
    json!({ "recipient": { "kid": kid(old), "public_key": key_file(&format!("{new}.pub.pem")) } })
}

fn revocation(name: &str) -> Value {
    json!({ "revocation": { "kid": kid(name) } })
}

#[tokio::test]
async fn a_rotation_gives_every_image_to_the_new_key_and_leaves_the_sealed_images() {
    let server = TestServer::start().await;
    for number in 0..5 {
        server.upload(&format!("gw/{number}/a.bin"), format!("image {number}")).await.expect(201);
    }
    let yanked = "/api/v1/images/gw/4/a.bin";
    send(server.request_as(Engineer, Method::DELETE, yanked)).await.expect(204);
    let (before, sealed) = (server.image("gw/3/a.bin").await, server.sealed_images());
    let registered = server.registered().await;

    let job = server.rotated(rotation(OLD, NEW)).await;
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(job["result"]["rewrapped"], 5, "{job}");
    assert_eq!(job["result"]["problems"], json!([]));
    assert!(job["result"]["note"].as_str().unwrap().contains("does not take a data key back"));
    assert_eq!(job["progress"]["total"], 5);

    assert_eq!(server.sealed_images(), sealed);
    assert_eq!(server.image("gw/3/a.bin").await, before);
    for number in 0..4 {
        let path = format!("gw/{number}/a.bin");
        assert!(!server.kids(&path).await.contains(&kid(OLD)));
        assert_eq!(server.open(&path, NEW).await, format!("image {number}").into_bytes());
    }
    assert!(server.kids("gw/4/a.bin").await.contains(&kid(NEW)), "a yanked image's too");
    let renamed = |(id, key): (String, String)| match key == kid(OLD) {
        true => (id, kid(NEW)),
        false => (id, key),
    };
    let mut expected: Vec<_> = registered.into_iter().map(renamed).collect();
    expected.sort();
    assert_eq!(server.registered().await, expected);
    server.upload("gw/9/a.bin", "after").await.expect(201);
    assert_eq!(server.open("gw/9/a.bin", NEW).await, b"after");
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let server = TestServer::start().await;
    for number in 0..3 {
        server.upload(&format!("gw/{number}/a.bin"), "x").await.expect(201);
    }
    server.state.sql("UPDATE images SET envelope = REPLACE(envelope, '\"tag\":\"', '\"tag\":\"AAAA') WHERE path = 'gw/1/a.bin'").await;
    let (files, registered) = (server.state.stored_files(), server.registered().await);
    let mut body = rotation(OLD, NEW);
    body["dry_run"] = true.into();
    let job = server.rotated(body).await;
    assert_eq!([&job["state"], &job["result"]["would_be_rewrapped"]], [&json!("done"), &json!(2)]);
    let problems = job["result"]["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{job}");
    assert!(problems[0].as_str().unwrap().starts_with("gw/1/a.bin: "), "{job}");
    assert_eq!((server.state.stored_files(), server.registered().await), (files, registered));
}

#[tokio::test]
async fn what_can_t_be_done_is_told_and_the_rest_is_done() {
    let server = TestServer::start().await;
    for number in 0..3 {
        server.upload(&format!("gw/{number}/a.bin"), "x").await.expect(201);
    }
    server.state.sql("UPDATE images SET envelope = REPLACE(envelope, '\"tag\":\"', '\"tag\":\"AAAA') WHERE path = 'gw/1/a.bin'").await;
    let job = server.rotated(rotation(OLD, NEW)).await;
    assert_eq!([&job["state"], &job["result"]["rewrapped"]], [&json!("done"), &json!(2)], "{job}");
    assert_eq!(job["result"]["problems"].as_array().unwrap().len(), 1, "{job}");
    assert_eq!(server.open("gw/2/a.bin", NEW).await, b"x");
}

#[tokio::test]
async fn a_revoked_key_is_in_no_envelope_and_does_not_come_back() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "for both").await.expect(201);
    let alone = server.upload_request("gw/2/a.bin", &format!("&recipient={}", kid(OLD)));
    send(alone.body("x")).await.expect(201);
    assert_eq!(server.kids("gw/2/a.bin").await, [kid(OLD)]);
    let job = server.rotated(revocation(OLD)).await;
    assert_eq!([&job["state"], &job["result"]["rewrapped"]], [&json!("done"), &json!(1)], "{job}");
    let problem = job["result"]["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("gw/2/a.bin: nobody else could open it"), "{problem}");
    assert!(!server.kids("gw/1/a.bin").await.contains(&kid(OLD)));
    assert_eq!(server.open("gw/1/a.bin", "snakeoil_rsa2048").await, b"for both");
    assert!(!server.registered().await.iter().any(|(_, registered)| *registered == kid(OLD)));
    let body =
        json!({ "hardware_ids": ["gw-mk3"], "public_key": key_file("snakeoil_p256.pub.pem") });
    let again = send(server.request_as(Engineer, Method::POST, "/api/v1/recipients").json(&body));
    assert!(again.await.refused(422, "key_refused").contains("was revoked"));
    server.rotate(rotation("snakeoil_rsa2048", OLD)).await.refused(422, "key_refused");
    let entry = server.get("/api/v1/audit?kind=recipient_revoked").await.json();
    assert_eq!(entry["entries"][0]["subject"], kid(OLD));
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn what_a_revoked_key_alone_could_open_is_given_to_another_one() {
    let server = TestServer::start().await;
    for path in ["gw/1/a.bin", "gw/2/a.bin"] {
        let alone = server.upload_request(path, &format!("&recipient={}", kid(OLD)));
        send(alone.body("x")).await.expect(201);
    }
    let job = server.rotated(revocation(OLD)).await;
    let problems = job["result"]["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{job}");
    assert!(problems[0].as_str().unwrap().contains("rotate the key to a new one"), "{job}");
    let registered = server.registered().await;

    let job = server.rotated(rotation(OLD, NEW)).await;
    assert_eq!([&job["state"], &job["result"]["rewrapped"]], [&json!("done"), &json!(2)], "{job}");
    assert_eq!(server.kids("gw/1/a.bin").await, [kid(NEW)]);
    assert_eq!(server.open("gw/2/a.bin", NEW).await, b"x");
    assert_eq!(server.registered().await, registered);
    server.rotate(rotation(NEW, OLD)).await.refused(422, "key_refused");
    // Nothing is left of it: then a rotation to whichever key changes nothing.
    let job = server.rotated(rotation(OLD, "snakeoil_rsa2048")).await;
    assert_eq!([&job["state"], &job["result"]["rewrapped"]], [&json!("done"), &json!(0)], "{job}");
    assert_eq!(server.kids("gw/1/a.bin").await, [kid(NEW)]);
    let job = server.rotated(revocation(OLD)).await;
    assert_eq!([&job["state"], &job["result"]["problems"]], [&json!("done"), &json!([])], "{job}");
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn a_rotation_that_makes_no_sense_is_refused_with_the_reason() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "x").await.expect(201);
    let refused = async |body: Value, status: u16, code: &str, word: &str| {
        let detail = server.rotate(body).await.refused(status, code);
        assert!(detail.contains(word), "{detail}");
    };
    refused(rotation(NEW, OLD), 422, "unknown_recipient", "no image is sealed").await;
    refused(revocation(NEW), 422, "unknown_recipient", "no image is sealed").await;
    refused(rotation(OLD, OLD), 409, "key_in_use", "itself").await;
    refused(rotation(OLD, "snakeoil_rsa2048"), 409, "key_in_use", "a recipient already").await;
    let of =
        |public_key: Value| json!({ "recipient": { "kid": kid(OLD), "public_key": public_key } });
    refused(of(key_file("snakeoil_p256_other.pem").into()), 422, "key_refused", "private").await;
    refused(json!({}), 400, "bad_rotation", "either").await;
    let mut both = rotation(OLD, NEW);
    both["revocation"] = revocation(OLD)["revocation"].clone();
    refused(both, 400, "bad_rotation", "either").await;
    server.rotated(rotation(OLD, NEW)).await;
    refused(rotation(OLD, "snakeoil_rsa3072"), 409, "key_in_use", "was replaced by").await;
}

#[tokio::test]
async fn a_rotation_can_be_begun_again_and_taken_back() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "x").await.expect(201);
    assert_eq!(server.rotated(rotation(OLD, NEW)).await["result"]["rewrapped"], 1);
    assert_eq!(server.rotated(rotation(OLD, NEW)).await["result"]["rewrapped"], 0);
    assert_eq!(server.rotated(rotation(NEW, OLD)).await["result"]["rewrapped"], 1);
    assert_eq!(server.open("gw/1/a.bin", OLD).await, b"x");
    assert_eq!(server.rotated(rotation(OLD, NEW)).await["result"]["rewrapped"], 1);
    let entries = server.get("/api/v1/audit?kind=recipient_replaced").await.json();
    assert_eq!(entries["entries"].as_array().unwrap().len(), 3, "{entries}");
    let entries = server.get("/api/v1/audit?kind=envelope_rewrapped").await.json();
    let newest = &entries["entries"][0];
    assert_eq!([&newest["subject"], &newest["actor_role"]], ["gw/1/a.bin", "officer"]);
    assert_eq!(newest["detail"], json!({ "removed": kid(OLD), "added": kid(NEW) }));
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn many_images_are_done_in_batches() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "x").await.expect(201);
    let copies: String = (0..2500)
        .map(|number| format!(
            "INSERT INTO images SELECT 'copy/{number}.bin', name, version, hardware_ids, release_counter, target_format, algorithm, \
             sealed_length, sealed_sha256, plaintext_length, plaintext_sha256, envelope, created_at, created_by, 1, requires, conflicts \
             FROM images WHERE path = 'gw/1/a.bin';"
        ))
        .collect();
    server.state.sql(&copies).await;
    let job = server.rotated(rotation(OLD, NEW)).await;
    assert_eq!(job["result"]["rewrapped"], 2501, "{job}");
    let text = server.kids("copy/2499.bin").await;
    assert!(text.contains(&kid(NEW)) && !text.contains(&kid(OLD)));
}

#[tokio::test]
async fn a_key_is_rotated_at_the_command_line() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "x").await.expect(201);
    let officer = server.state.tokens.of(Officer).to_owned();
    let command = |args: &str| {
        let mut command = server.motorcade(args);
        command.env("MOTORCADE_TOKEN", &officer);
        command
    };
    let file = server.state.path().join("new.pub.pem");
    std::fs::write(&file, key_file("snakeoil_p256_other.pub.pem")).unwrap();
    let file = file.display();
    let dry = run(&mut command(&format!(
        "--json recipient rotate {} {file} --dry-run --follow",
        kid(OLD)
    )));
    let dry: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!(dry["result"]["would_be_rewrapped"], 1);
    let done = run(&mut command(&format!("--json recipient rotate {} {file} --follow", kid(OLD))));
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["result"]["rewrapped"], 1);
    let id = run(&mut command(&format!("recipient revoke {}", kid("snakeoil_rsa2048"))));
    run(&mut command(&format!("job show {} --follow", id.trim())));
    assert_eq!(server.kids("gw/1/a.bin").await, [kid(NEW)]);
    assert!(!motorcade(["recipient", "rotate"]).output().unwrap().status.success());
}

#[tokio::test]
async fn what_is_uploaded_meanwhile_is_for_the_new_key() {
    let server = TestServer::start().await;
    for number in 0..20 {
        server.upload(&format!("gw/{number}/a.bin"), "x").await.expect(201);
    }
    let uploads: Vec<_> = (0..30)
        .map(|number| {
            let upload = server.upload_request(&format!("up/{number}/a.bin"), "").body("x");
            tokio::spawn(async move { send(upload).await.status })
        })
        .collect();
    let job = server.rotated(rotation(OLD, NEW)).await;
    assert_eq!(job["state"], "done", "{job}");
    for upload in uploads {
        assert_eq!(upload.await.unwrap(), 201);
    }
    for number in 0..30 {
        let kids = server.kids(&format!("up/{number}/a.bin")).await;
        assert!(kids.contains(&kid(NEW)) && !kids.contains(&kid(OLD)), "{number}: {kids:?}");
    }
    server.stop().assert_clean().await;
}

#[tokio::test]
async fn an_upload_whose_recipient_is_rotated_meanwhile_is_told_so() {
    let server = TestServer::start().await;
    for (kept, change, said) in [
        ("snakeoil_p256", rotation(OLD, NEW), format!("was replaced by {}", kid(NEW))),
        (NEW, revocation(NEW), "was revoked".to_owned()),
    ] {
        let mut raw = server.connect().await;
        let (token, kid) = (&server.state.tokens.uploader, kid(kept));
        let head = format!(
            "PUT /api/v1/images/up/{kid}.bin?{DESCRIPTION}&recipient={kid} HTTP/1.1\r\nHost: test\r\n\
             Authorization: Bearer {token}\r\nContent-Length: 8\r\n\r\nhalf"
        );
        let log = Log::mark();
        raw.send(head).await;
        eventually("it has begun", async || {
            server.metrics().await.contains("motorcade_uploads_in_progress 1")
        })
        .await;
        let job = server.rotated(change).await;
        assert_eq!(job["state"], "done", "{job}: {}", Log::since(log));
        raw.send("half").await;
        let told = raw.answer().await.refused(422, "unknown_recipient");
        assert!(told.contains(&said) && told.contains("while this came in"), "{told}");
    }
    server.stop().assert_clean().await;
}
