//! `/repo/…`: names, headers, who may read, and who carries the bytes.

use std::fs;
use std::io::Read;

use flate2::read::GzDecoder;
use motorcade::api::ImageBody;
use motorcade::config::RepoAccess;
use motorcade::envelope::key::RecipientPrivateKey;
use motorcade::model::{AccessRole, Clock, RecipientRecord, SystemClock};
use reqwest::Method;

use crate::answer::Answer;
use crate::app::{TestServer, pattern, send, sha256_hex};
use crate::client::{published_alias, published_name};

pub(crate) const IMAGE: &str = "gw/4.2.0/gateway+b1.bin";

/// The names under /repo/ of an image and of its envelope.
pub(crate) struct Published {
    pub(crate) image: String,
    pub(crate) image_alias: String,
    pub(crate) envelope: String,
}

/// Uploads an image whose sealed bytes are too many to be checked while they are served.
pub(crate) async fn publish_large(server: &TestServer) -> Published {
    let image: ImageBody = server.upload(IMAGE, pattern(3_000_000, 1)).await.body();
    let sha256 = image.sealed.sha256;
    let envelope = server.get(&format!("/api/v1/images/{IMAGE}/envelope")).await.expect(200);
    Published {
        image: published_name(IMAGE, &sha256),
        image_alias: published_alias(IMAGE, &sha256),
        envelope: published_name(&format!("{IMAGE}.jwe"), &sha256_hex(&envelope)),
    }
}

pub(crate) async fn get(server: &TestServer, name: &str) -> Answer {
    send(server.request(Method::GET, &format!("/repo/{name}"))).await
}

#[tokio::test]
async fn files_have_the_headers_that_caches_need() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    for (name, content_type, cache_control) in [
        ("timestamp.json", "application/json", "no-cache"),
        ("1.root.json", "application/json", "public, max-age=31536000, immutable"),
        ("2.snapshot.json", "application/json", "public, max-age=31536000, immutable"),
        (&published.image, "application/octet-stream", "public, max-age=31536000, immutable"),
        (&published.image_alias, "application/octet-stream", "public, max-age=31536000, immutable"),
        (&published.envelope, "application/jose+json", "public, max-age=31536000, immutable"),
    ] {
        let answer = get(&server, name).await;
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(answer.header("content-type"), Some(content_type), "{name}");
        assert_eq!(answer.header("cache-control"), Some(cache_control), "{name}");
        assert_eq!(answer.header("accept-ranges"), Some("bytes"), "{name}");
        assert_eq!(
            answer.header("etag"),
            Some(&*format!("\"{}\"", sha256_hex(&answer.body))),
            "{name}"
        );
        assert_eq!(answer.header("last-modified").is_some(), name != "timestamp.json", "{name}");
        assert_eq!(
            answer.header("content-length"),
            Some(&*answer.body.len().to_string()),
            "{name}"
        );

        let head = send(server.request(Method::HEAD, &format!("/repo/{name}"))).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{name}");
        for header in [
            "content-type",
            "cache-control",
            "accept-ranges",
            "etag",
            "last-modified",
            "content-length",
        ] {
            assert_eq!(head.header(header), answer.header(header), "HEAD {name}: {header}");
        }
    }
}

#[tokio::test]
async fn metadata_comes_in_gzip_to_whoever_reads_it() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    let ask = async |method: Method, name: &str, accepted: &str, more: (&'static str, &str)| {
        let request = server.request(method, &format!("/repo/{name}"));
        send(request.header("accept-encoding", accepted).header(more.0, more.1)).await
    };
    let none = ("x-none", "");
    let plain = get(&server, "1.targets.json").await;
    assert_eq!(
        (plain.header("vary"), plain.header("content-encoding")),
        (Some("Accept-Encoding"), None)
    );
    let etag = plain.header("etag").unwrap().trim_matches('"');

    let coded = ask(Method::GET, "1.targets.json", "br, gzip", none).await;
    assert_eq!(
        (coded.header("vary"), coded.header("content-encoding")),
        (Some("Accept-Encoding"), Some("gzip"))
    );
    assert_eq!(coded.header("content-length"), Some(&*coded.body.len().to_string()));
    assert!(
        coded.body.len() * 2 < plain.body.len(),
        "{} bytes of {}",
        coded.body.len(),
        plain.body.len()
    );
    let mut read = Vec::new();
    GzDecoder::new(&coded.body[..]).read_to_end(&mut read).unwrap();
    assert_eq!(read, plain.body);

    // Each coding has a tag of its own (RFC 9110, 8.8.3).
    let coded_etag = format!("\"{etag}-gzip\"");
    assert_eq!(coded.header("etag"), Some(&*coded_etag));
    let head = ask(Method::HEAD, "1.targets.json", "gzip", none).await;
    for header in ["content-encoding", "content-length", "content-type", "etag", "vary"] {
        assert_eq!(head.header(header), coded.header(header), "HEAD: {header}");
    }
    let known = ask(Method::GET, "1.targets.json", "gzip", ("if-none-match", &coded_etag)).await;
    assert_eq!((known.status, known.header("content-encoding")), (304, None));
    let other = ask(Method::GET, "1.targets.json", "gzip", ("if-match", "\"another\"")).await;
    assert_eq!((other.status, other.header("content-encoding")), (412, None));
    assert_eq!(
        ask(Method::GET, "1.targets.json", "identity", ("if-none-match", &coded_etag)).await.status,
        200
    );

    // A part is one of the plain file, and who refuses gzip gets none.
    let part = ask(Method::GET, "1.targets.json", "gzip", ("range", "bytes=0-9")).await;
    assert_eq!(
        (part.status, part.header("content-encoding"), &part.body[..]),
        (206, None, &plain.body[..10])
    );
    // Both codings have one date, which must not join a part of this one to a part of the other
    // (RFC 9110, 8.8.1).
    let resume = server.request(Method::GET, "/repo/1.targets.json").header("range", "bytes=10-");
    let resumed = send(resume.header("if-range", plain.header("last-modified").unwrap())).await;
    assert_eq!((resumed.status, &resumed.body), (200, &plain.body));
    for refused in ["", "identity", "gzip;q=0", "br", "gzip;q=0.1, identity", "nonsense;;"] {
        let answer = ask(Method::GET, "1.targets.json", refused, none).await;
        assert_eq!(
            (answer.header("content-encoding"), &answer.body),
            (None, &plain.body),
            "{refused:?}"
        );
    }
    for name in ["timestamp.json", &published.image, &published.envelope] {
        let answer = ask(Method::GET, name, "gzip", none).await;
        assert_eq!(
            (answer.status, answer.header("content-encoding"), answer.header("vary")),
            (200, None, None),
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_is_not_published_is_404() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    let zeros = "0".repeat(64);
    for name in [
        "2.root.json",
        "root.json",
        "01.root.json",
        "snapshot.json",
        "9.snapshot.json",
        "1.nothing.json",
        "18446744073709551616.root.json",
        "timestamp.json/",
        "Timestamp.json",
        "targets",
        "targets/",
        "",
        &published_name(IMAGE, &zeros),
        &published.image.to_uppercase(),
        &format!("targets/{IMAGE}"),
        &format!("{}/", published.image),
        &format!("{}x", published.image),
        &format!("1.{}.json", "a".repeat(300)),
        &format!("targets/{}/{zeros}.x", "a".repeat(300)),
        &format!("{}/{zeros}.x", published.image),
    ] {
        get(&server, name).await.refused(404, "file_not_found");
        let head = send(server.request(Method::HEAD, &format!("/repo/{name}"))).await;
        assert_eq!(head.status, 404, "HEAD {name}");
    }
}

#[tokio::test]
async fn a_name_may_be_percent_encoded() {
    let server = TestServer::start().await;
    let published = publish_large(&server).await;
    let sealed = server.download(&published.image).await;
    for encoded in [
        published.image.replace('+', "%2B"),
        published.image.replace('/', "%2F"),
        every_byte(&published.image),
    ] {
        assert!(server.download(&encoded).await == sealed, "{encoded}");
    }
    assert_eq!(
        server.download("%74imestamp%2Ejson").await,
        server.download("timestamp.json").await
    );
}

fn every_byte(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn nothing_outside_the_repository_is_served() {
    let server = TestServer::start().await;
    fs::write(server.state.path().join("repo/secret.txt"), "not a blob").unwrap();
    for path in [
        "/repo/../keys/root.pem",
        "/repo/../catalog.sqlite",
        "/repo/..%2fkeys%2froot.pem",
        "/repo/%2e%2e/keys/root.pem",
        "/repo/targets/../../keys/root.pem",
        "/repo/targets/..%2f..%2fkeys/root.pem",
        "/repo/targets/%2e%2e/timestamp.json",
        "/repo/./timestamp.json",
        "/repo//timestamp.json",
        "/repo//etc/passwd",
        "/repo/%2Fetc%2Fpasswd",
        "/repo/targets//etc/passwd",
        "/repo/..\\keys\\root.pem",
        "/repo/timestamp.json%00",
        "/repo/1.root.json%00.json",
        "/repo/1...%2f..%2fkeys%2froot.json",
        "/repo/%FF%FE",
        "/repo/secret.txt",
    ] {
        server
            .raw(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .await
            .refused(404, "file_not_found");
    }
}

#[tokio::test]
async fn reading_can_be_made_to_take_a_token() {
    let server = TestServer::configured(|config| config.repo_access = RepoAccess::Token).await;
    let image: ImageBody = server.upload("gw/1/a.bin", "firmware").await.body();
    let url = image.sealed.url.as_str();
    for path in ["/repo/timestamp.json", "/repo/1.root.json", "/repo/nothing", url] {
        send(server.request(Method::GET, path)).await.refused(401, "unauthenticated");
        send(server.request(Method::GET, path).bearer_auth("motorcade_guess"))
            .await
            .refused(401, "unauthenticated");
        assert_eq!(send(server.request(Method::HEAD, path)).await.status, 401);
    }
    send(server.request_as(AccessRole::Enroller, Method::GET, url)).await.refused(403, "forbidden");
    for role in AccessRole::READERS {
        let answer = send(server.request_as(role, Method::GET, url)).await;
        assert_eq!(answer.status, 200, "{role}");
        assert_eq!(answer.header("cache-control"), Some("private, max-age=31536000, immutable"));
    }
}

#[tokio::test]
async fn targets_can_be_redirected() {
    let base = "https://cdn.example/blobs/";
    let server = TestServer::configured(|config| config.targets_url = Some(base.into())).await;
    let published = publish_large(&server).await;
    for name in [&published.image, &published.image_alias] {
        let answer = get(&server, name).await;
        assert_eq!(answer.status, 307, "{answer:?}");
        let location = format!("https://cdn.example/blobs/{}", published.image);
        assert_eq!(
            answer.header("location"),
            Some(&*location),
            "the name that the blob directory has"
        );
    }
    get(&server, &published_name(IMAGE, &"0".repeat(64))).await.refused(404, "file_not_found");
    get(&server, "timestamp.json").await.expect(200);
    get(&server, "1.root.json").await.expect(200);
}

#[tokio::test]
async fn nginx_can_be_told_to_carry_targets() {
    let server =
        TestServer::configured(|config| config.targets_accel = Some("/blobs/".into())).await;
    let published = publish_large(&server).await;
    for name in [&published.image, &published.image_alias] {
        let answer = get(&server, name).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
        assert_eq!(
            answer.header("x-accel-redirect"),
            Some(&*format!("/blobs/{}", published.image))
        );
        let sha256 = name.split(['/', '.']).find(|part| part.len() == 64).unwrap();
        assert_eq!(answer.header("etag"), Some(&*format!("\"{sha256}\"")));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    }
    assert!(!get(&server, "timestamp.json").await.expect(200).is_empty());
}

/// A vehicle that was given an image may fetch its envelope after it was yanked, however many
/// others can open it.
#[tokio::test]
async fn the_envelope_of_a_yanked_image_is_served_whatever_its_length() {
    let state = crate::state::TestState::new();
    let catalog = state.dir().open_catalog().await.unwrap();
    let author = motorcade::app::audit::Author::server(SystemClock.now());
    for _ in 0..3600 {
        let private = RecipientPrivateKey::generate_p256();
        let key = private.public();
        let recipient = RecipientRecord {
            hardware_id: "gw-mk3".parse().unwrap(),
            kid: key.kid().to_string(),
            jwk: key.to_jwk().to_string(),
            created_at: SystemClock.now(),
            created_by: "test".to_owned(),
        };
        assert!(catalog.insert_recipient(&recipient, &author).await.unwrap());
    }
    catalog.close().await;
    let server = TestServer::on(state, |_| ()).await;
    let published = publish_large(&server).await;
    let envelope = server.download(&published.envelope).await;
    assert!(envelope.len() > 1024 * 1024, "{}", envelope.len());
    let image = format!("/api/v1/images/{IMAGE}");
    send(server.request_as(AccessRole::Engineer, Method::DELETE, &image)).await.expect(204);
    for name in [&published.image, &published.image_alias] {
        get(&server, name).await.expect(200);
    }
    assert_eq!(get(&server, &published.envelope).await.expect(200), envelope);
    let other = published_name("gw/none.bin.jwe", &sha256_hex(&envelope));
    get(&server, &other).await.refused(404, "file_not_found");
}
