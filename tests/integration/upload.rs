//! `PUT /api/v1/images/{path}`: what is kept, what a repetition gets, and what is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use motorcade::api::{ImageBody, ImageList};
use motorcade::model::AccessRole;
use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::app::{DESCRIPTION, TestServer, pattern, send, sha256_hex};
use crate::client::{published_alias, published_name};
use crate::state::private_key;

fn repr_digest(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(bytes)))
}

#[tokio::test]
async fn an_image_is_sealed_published_and_served_under_both_names() {
    let server = TestServer::start().await;
    let firmware = pattern(3_000_000, 1);
    let answer = server.upload("gw/4.2.0/gateway.bin", firmware.clone()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("location"), Some("/api/v1/images/gw/4.2.0/gateway.bin"));
    let image = answer.json();
    assert_eq!(image["path"], "gw/4.2.0/gateway.bin");
    assert_eq!(image["name"], "gateway");
    assert_eq!(image["hardware_ids"], serde_json::json!(["gw-mk3"]));
    assert_eq!(image["release_counter"], 1);
    assert_eq!(image["plaintext"]["length"], firmware.len());
    assert_eq!(image["plaintext"]["sha256"], sha256_hex(&firmware));
    assert_eq!(image["sealed"]["alg"], "AES256_GCM_HKDF_1MB");
    assert_eq!(image["yanked_at"], Value::Null);

    let sha256 = image["sealed"]["sha256"].as_str().unwrap();
    let name = published_name("gw/4.2.0/gateway.bin", sha256);
    assert_eq!(image["sealed"]["url"], format!("/repo/{name}"));
    let sealed = server.download(&name).await;
    assert_eq!(server.download(&published_alias("gw/4.2.0/gateway.bin", sha256)).await, sealed);
    assert_eq!(image["sealed"]["length"], sealed.len());
    for key in ["snakeoil_p256", "snakeoil_rsa2048"] {
        assert!(server.open("gw/4.2.0/gateway.bin", key).await == firmware, "{key} opens it");
    }
    assert_eq!(server.image("gw/4.2.0/gateway.bin").await, answer.body());
}

#[tokio::test]
async fn the_signed_metadata_says_what_was_uploaded() {
    let server = TestServer::start().await;
    let firmware = pattern(5000, 2);
    let path = "gw/4.2.0/gateway.bin";
    let query = "&name=gateway%20os&target_format=OSTREE&algorithm=AES256_GCM_HKDF_4KB";
    send(server.upload_request(path, query).body(firmware.clone())).await.expect(201);
    let repository = server.repository().await;
    let target = repository.find(path).unwrap();
    assert_eq!(
        target.custom,
        serde_json::json!({
            "name": "gateway os", "version": "1.0.0", "hardwareIds": ["gw-mk3"], "releaseCounter": 1,
            "targetFormat": "OSTREE",
            "sealed": {
                "alg": "AES256_GCM_HKDF_4KB",
                "plaintext": { "length": 5000, "hashes": { "sha256": sha256_hex(&firmware) } },
            },
        })
    );
    let file = server.state.folder.path().join("downloaded");
    for target in [path.to_owned(), format!("{path}.jwe")] {
        repository.download(&target, &file).await.unwrap();
        assert_eq!(
            std::fs::metadata(&file).unwrap().len(),
            repository.find(&target).unwrap().length
        );
    }
}

#[tokio::test]
async fn the_same_image_again_is_200_and_changes_nothing() {
    let server = TestServer::start().await;
    let firmware = pattern(100_000, 3);
    let first = server.upload("gw/1/a.bin", firmware.clone()).await;
    let (first, files) = (first.json(), server.state.stored_files());
    let again = server.upload("gw/1/a.bin", firmware.clone()).await;
    assert_eq!((again.status, again.json()), (200, first.clone()));

    let with_digest =
        server.upload_request("gw/1/a.bin", "").header("repr-digest", repr_digest(&firmware));
    let again = send(with_digest.body(firmware)).await;
    assert_eq!((again.status, again.json()), (200, first));
    assert_eq!(server.state.stored_files(), files);
}

#[tokio::test]
async fn with_its_digest_a_repeated_upload_needs_no_body() {
    let server = TestServer::start().await;
    let firmware = pattern(100_000, 4);
    server.upload("gw/1/a.bin", firmware.clone()).await.expect(201);
    let mut raw = server.connect().await;
    let lines = format!("Content-Length: 100000\r\nRepr-Digest: {}\r\n", repr_digest(&firmware));
    raw.send_upload_head(&server, "gw/1/a.bin", &lines).await;
    let answer = raw.answer().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body::<ImageBody>().plaintext.sha256, sha256_hex(&firmware));
}

#[tokio::test]
async fn other_bytes_under_a_taken_path_are_409() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "one").await.expect(201);
    let files = server.state.stored_files();
    let detail = server.upload("gw/1/a.bin", "two").await.refused(409, "image_exists");
    assert!(detail.contains("other bytes"), "{detail}");
    let with_digest =
        server.upload_request("gw/1/a.bin", "").header("repr-digest", repr_digest(b"two"));
    send(with_digest.body("two")).await.refused(409, "image_exists");
    assert_eq!(server.state.stored_files(), files);
    assert_eq!(server.open("gw/1/a.bin", "snakeoil_p256").await, b"one");
}

#[tokio::test]
async fn another_description_under_a_taken_path_is_409_and_names_the_field() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "one").await.expect(201);
    for (query, field) in [
        ("hardware_id=gw-mk3&version=2.0.0&release_counter=1", "version"),
        ("hardware_id=gw-mk3&version=1.0.0&release_counter=2", "release_counter"),
        ("hardware_id=gw-mk3&hardware_id=gw-mk4&version=1.0.0&release_counter=1", "hardware_id"),
        ("hardware_id=gw-mk3&version=1.0.0&release_counter=1&name=b", "name"),
        (
            "hardware_id=gw-mk3&version=1.0.0&release_counter=1&target_format=OSTREE",
            "target_format",
        ),
        (
            "hardware_id=gw-mk3&version=1.0.0&release_counter=1&algorithm=AES256_GCM_HKDF_4KB",
            "algorithm",
        ),
    ] {
        let path = format!("/api/v1/images/gw/1/a.bin?{query}");
        let answer =
            send(server.request_as(AccessRole::Uploader, Method::PUT, &path).body("one")).await;
        let detail = answer.refused(409, "image_exists");
        assert!(detail.contains(&format!("another {field}:")), "{query}: {detail}");
    }
}

#[tokio::test]
async fn the_path_of_a_yanked_image_is_never_used_again() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "one").await.expect(201);
    let yank = server.request_as(AccessRole::Engineer, Method::DELETE, "/api/v1/images/gw/1/a.bin");
    send(yank).await.expect(204);
    for body in ["one", "two"] {
        server.upload("gw/1/a.bin", body).await.refused(409, "image_yanked");
    }
}

#[tokio::test]
async fn a_wrong_digest_is_422_and_nothing_is_kept() {
    let server = TestServer::start().await;
    let files = server.state.stored_files();
    for field in ["repr-digest", "content-digest"] {
        let request =
            server.upload_request("gw/1/a.bin", "").header(field, repr_digest(b"what was meant"));
        let detail = send(request.body("what came")).await.refused(422, "digest_mismatch");
        assert!(
            detail.contains(&sha256_hex(b"what came")) && detail.contains("nothing was kept"),
            "{detail}"
        );
    }
    assert_eq!(server.state.stored_files(), files);
    server.get("/api/v1/images/gw/1/a.bin").await.refused(404, "image_not_found");
    server.state.assert_clean().await;
    server.upload("gw/1/a.bin", "what came").await.expect(201);
}

#[tokio::test]
async fn a_digest_that_can_t_be_checked_is_400() {
    let server = TestServer::start().await;
    for value in ["sha-512=:AAAA:", "sha-256=AAAA", "sha-256=:AAAA:", ""] {
        let request = server.upload_request("gw/1/a.bin", "").header("repr-digest", value);
        send(request.body("x")).await.refused(400, "bad_digest_field");
    }
    let both = server.upload_request("gw/1/a.bin", "").header("repr-digest", repr_digest(b"x"));
    send(both.header("content-digest", repr_digest(b"y")).body("x"))
        .await
        .refused(400, "bad_digest_field");
}

#[tokio::test]
async fn a_bad_query_is_400_and_names_the_parameter() {
    let server = TestServer::start().await;
    for (query, rule) in [
        ("version=1&release_counter=1", "`hardware_id` is missing"),
        ("hardware_id=gw-mk3&release_counter=1", "`version` is missing"),
        ("hardware_id=gw-mk3&version=1", "`release_counter` is missing"),
        ("hardware_id=gw-mk3&version=1&release_counter=x", "`release_counter` must be"),
        ("hardware_id=gw%20mk3&version=1&release_counter=1", "`hardware_id` must not contain"),
        ("hardware_id=gw-mk3&version=1&release_counter=1&sha=1", "unknown query parameter"),
        ("hardware_id=gw-mk3&version=1&release_counter=1&version=2", "`version` is given twice"),
        ("hardware_id=gw-mk3&version=%C3%A9&release_counter=1", "`version` must not contain"),
    ] {
        let path = format!("/api/v1/images/gw/1/a.bin?{query}");
        let answer =
            send(server.request_as(AccessRole::Uploader, Method::PUT, &path).body("x")).await;
        let detail = answer.refused(400, "bad_query");
        assert!(detail.contains(rule), "{query}: {detail}");
    }
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    let server = TestServer::start().await;
    for coding in ["gzip", "br", "identity, gzip"] {
        let request = server.upload_request("gw/1/a.bin", "").header("content-encoding", coding);
        send(request.body("x")).await.refused(400, "content_coding");
    }
    let identity = server.upload_request("gw/1/a.bin", "").header("content-encoding", "identity");
    send(identity.body("x")).await.expect(201);
}

#[tokio::test]
async fn recipients_can_be_chosen_by_kid() {
    let server = TestServer::start().await;
    let (p256, rsa) = (private_key("snakeoil_p256"), private_key("snakeoil_rsa2048"));
    let request = server.upload_request("gw/1/a.bin", &format!("&recipient={}", p256.kid()));
    send(request.body("for one")).await.expect(201);
    assert_eq!(server.open("gw/1/a.bin", "snakeoil_p256").await, b"for one");
    let envelope = server.get("/api/v1/images/gw/1/a.bin/envelope").await.expect(200);
    assert!(motorcade::envelope::jwe::Envelope::parse(&envelope).unwrap().open(&rsa).is_err());
    let answer = server.get(&format!("/api/v1/images/gw/1/a.bin/envelope?kid={}", rsa.kid())).await;
    answer.refused(404, "recipient_not_found");
}

#[tokio::test]
async fn an_envelope_can_be_had_for_one_recipient() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    for name in ["snakeoil_p256", "snakeoil_rsa2048"] {
        let key = private_key(name);
        let answer =
            server.get(&format!("/api/v1/images/gw/1/a.bin/envelope?kid={}", key.kid())).await;
        assert_eq!(answer.header("content-type"), Some("application/jose+json"));
        assert!(answer.json().get("recipients").is_none(), "flattened: {answer:?}");
        motorcade::envelope::jwe::Envelope::parse(&answer.body).unwrap().open(&key).unwrap();
    }
}

#[tokio::test]
async fn an_unknown_recipient_is_422() {
    let server = TestServer::start().await;
    let stranger = private_key("snakeoil_p256_other");
    for kid in [stranger.kid().as_str(), "nobody"] {
        let request = server.upload_request("gw/1/a.bin", &format!("&recipient={kid}"));
        let detail = send(request.body("x")).await.refused(422, "unknown_recipient");
        assert!(detail.contains(kid), "{detail}");
    }
}

#[tokio::test]
async fn hardware_without_a_recipient_is_422_that_says_how_to_register_one() {
    let server = TestServer::start().await;
    for ids in ["hardware_id=gw-mk9", "hardware_id=gw-mk3&hardware_id=gw-mk9"] {
        let path = format!("/api/v1/images/gw/1/a.bin?{ids}&version=1&release_counter=1");
        let answer =
            send(server.request_as(AccessRole::Uploader, Method::PUT, &path).body("x")).await;
        let detail = answer.refused(422, "no_recipient");
        assert!(detail.contains("motorcade recipient add --hardware-id gw-mk9"), "{detail}");
    }
    server.state.assert_clean().await;
}

#[tokio::test]
async fn the_escrow_entry_never_leaves_the_server() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let envelope = server.get("/api/v1/images/gw/1/a.bin/envelope").await.expect(200);
    let envelope = motorcade::envelope::jwe::Envelope::parse(&envelope).unwrap();
    assert_eq!(envelope.escrow_kid(), None);
    assert_eq!(envelope.recipients().count(), 2);
}

#[tokio::test]
async fn images_are_listed_page_by_page() {
    let server = TestServer::start().await;
    for path in ["a/1.bin", "b/1.bin", "c/1.bin"] {
        server.upload(path, path).await.expect(201);
    }
    let paths = |page: &ImageList| -> Vec<String> {
        page.images.iter().map(|image| image.path.clone()).collect()
    };
    let page: ImageList = server.get("/api/v1/images?limit=2").await.body();
    assert_eq!(paths(&page), ["a/1.bin", "b/1.bin"]);
    let next = format!("/api/v1/images?limit=2&cursor={}", page.next_cursor.unwrap());
    let page: ImageList = server.get(&next).await.body();
    assert_eq!(paths(&page), ["c/1.bin"]);
    assert_eq!(page.next_cursor, None);
    for limit in ["x", "0", "1001"] {
        server.get(&format!("/api/v1/images?limit={limit}")).await.refused(400, "bad_query");
    }
    server.get("/api/v1/images?page=2").await.refused(400, "bad_query");
}

#[tokio::test]
async fn an_envelope_can_t_be_uploaded() {
    let server = TestServer::start().await;
    let path = format!("/api/v1/images/gw/1/a.bin/reseal?{DESCRIPTION}");
    let answer = send(server.request_as(AccessRole::Uploader, Method::PUT, &path).body("x")).await;
    answer.refused(405, "method_not_allowed"); // the same of the other call that an image has
    let path = format!("/api/v1/images/gw/1/a.bin/envelope?{DESCRIPTION}");
    let answer = send(server.request_as(AccessRole::Uploader, Method::PUT, &path).body("x")).await;
    answer.refused(405, "method_not_allowed");
    server.get("/api/v1/images/gw/1/a.bin").await.refused(404, "image_not_found");
}
