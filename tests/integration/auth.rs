//! Who may call what, and that nobody else gets further than that.

use std::collections::BTreeSet;

use motorcade::app::access::{self, NewToken};
use motorcade::app::audit::Author;
use motorcade::model::{AccessRole, Clock, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{DESCRIPTION, TestServer, send};
use crate::documented::described;

use AccessRole::{Engineer, Enroller, Officer, Uploader, Viewer};

/// A call's method and path, who may make it, and the status and code that those get.
type Call = (&'static str, &'static str, &'static [AccessRole], (u16, &'static str));

/// Every call, about nothing that is there, so that none changes anything.
const CALLS: &[Call] = &[
    ("GET", "/api/v1/images", &AccessRole::READERS, (200, "")),
    ("GET", "/api/v1/images/no/such.bin", &AccessRole::READERS, (404, "image_not_found")),
    ("GET", "/api/v1/images/no/such.bin/envelope", &AccessRole::READERS, (404, "image_not_found")),
    ("PUT", "/api/v1/images/no/such.bin", &[Uploader, Engineer], (400, "bad_query")),
    ("DELETE", "/api/v1/images/no/such.bin", &[Engineer, Officer], (404, "image_not_found")),
    ("OPTIONS", "/api/v1/uploads", &[Uploader, Engineer], (204, "")),
    ("POST", "/api/v1/uploads", &[Uploader, Engineer], (412, "precondition_failed")),
    ("HEAD", "/api/v1/uploads/x", &[Uploader, Engineer], (412, "precondition_failed")),
    ("PATCH", "/api/v1/uploads/x", &[Uploader, Engineer], (412, "precondition_failed")),
    ("DELETE", "/api/v1/uploads/x", &[Uploader, Engineer], (412, "precondition_failed")),
    ("GET", "/api/v1/recipients", &AccessRole::READERS, (200, "")),
    ("GET", "/api/v1/roles", &[Engineer, Officer], (200, "")),
    ("POST", "/api/v1/roles/image/root/rotate", &[Officer], (400, "bad_json")),
    ("POST", "/api/v1/recipients", &[Engineer, Officer], (400, "bad_json")),
    ("DELETE", "/api/v1/recipients/nobody", &[Engineer, Officer], (404, "recipient_not_found")),
    (
        "DELETE",
        "/api/v1/recipients/nobody?hardware_id=gw-mk3",
        &[Engineer, Officer],
        (404, "recipient_not_found"),
    ),
    ("POST", "/api/v1/images/no/such.bin/reseal", &[Officer], (400, "bad_json")),
    ("GET", "/api/v1/retentions/no/such.bin", &AccessRole::READERS, (404, "image_not_found")),
    ("PUT", "/api/v1/retentions/no/such.bin", &[Engineer, Officer], (400, "bad_json")),
    ("POST", "/api/v1/collections", &[Engineer, Officer], (400, "bad_json")),
    ("GET", "/api/v1/escrow", &[Officer], (200, "")),
    ("POST", "/api/v1/rotations", &[Officer], (400, "bad_json")),
    ("GET", "/api/v1/suppliers", &AccessRole::READERS, (200, "")),
    ("POST", "/api/v1/suppliers", &[Officer], (400, "bad_json")),
    ("POST", "/api/v1/suppliers/nobody/rotation", &[Officer], (404, "supplier_not_found")),
    ("PUT", "/api/v1/suppliers/nobody/keys", &[Officer], (400, "bad_json")),
    ("DELETE", "/api/v1/suppliers/nobody", &[Officer], (404, "supplier_not_found")),
    ("GET", "/api/v1/targets/supplier-nobody", &AccessRole::READERS, (404, "supplier_not_found")),
    (
        "GET",
        "/api/v1/targets/supplier-nobody/staged",
        &AccessRole::READERS,
        (404, "supplier_not_found"),
    ),
    ("PUT", "/api/v1/targets/supplier-nobody/staged", &[Uploader, Officer], (400, "bad_json")),
    (
        "DELETE",
        "/api/v1/targets/supplier-nobody/staged",
        &[Uploader, Officer],
        (404, "supplier_not_found"),
    ),
    (
        "POST",
        "/api/v1/targets/supplier-nobody/staged/signatures",
        &[Uploader, Officer],
        (400, "bad_json"),
    ),
    (
        "POST",
        "/api/v1/targets/supplier-nobody/staged/publish",
        &[Uploader, Officer],
        (404, "supplier_not_found"),
    ),
    ("GET", "/api/v1/vehicles", &[Engineer, Officer, Viewer], (200, "")),
    ("POST", "/api/v1/vehicles", &[Engineer, Officer], (400, "bad_content_type")),
    ("GET", "/api/v1/vehicles/NONE", &[Engineer, Officer, Viewer], (404, "vehicle_not_found")),
    ("DELETE", "/api/v1/vehicles/NONE", &[Engineer, Officer], (404, "vehicle_not_found")),
    ("POST", "/api/v1/vehicles/NONE/re-enrolment", &[Engineer, Officer], (400, "bad_json")),
    ("GET", "/api/v1/vehicles/NONE/ecus", &[Engineer, Officer, Viewer], (404, "vehicle_not_found")),
    ("GET", "/api/v1/vehicles/NONE/history", &[Engineer, Officer, Viewer], (200, "")),
    (
        "GET",
        "/api/v1/vehicles/NONE/assignments",
        &[Engineer, Officer, Viewer],
        (404, "vehicle_not_found"),
    ),
    ("POST", "/api/v1/vehicles/NONE/assignments", &[Engineer, Officer], (400, "bad_json")),
    (
        "DELETE",
        "/api/v1/vehicles/NONE/assignments/x",
        &[Engineer, Officer],
        (404, "vehicle_not_found"),
    ),
    ("DELETE", "/api/v1/vehicles/NONE/quarantine", &[Engineer, Officer], (400, "bad_json")),
    ("POST", "/api/v1/vehicles/NONE/ecus/x/replacement", &[Engineer, Officer], (400, "bad_json")),
    ("POST", "/api/v1/vehicles/NONE/ecus/x/key-change", &[Engineer, Officer], (400, "bad_json")),
    (
        "POST",
        "/api/v1/vehicles/NONE/ecus/x/accept-installed",
        &[Engineer, Officer],
        (400, "bad_json"),
    ),
    ("POST", "/api/v1/quarantine/clear", &[Engineer, Officer], (400, "bad_json")),
    ("POST", "/api/v1/vehicles/NONE/token", &[Engineer, Officer], (404, "vehicle_not_found")),
    ("GET", "/api/v1/jobs", &[Engineer, Officer, Viewer], (200, "")),
    ("POST", "/api/v1/jobs", &[Engineer, Officer], (400, "bad_json")),
    ("GET", "/api/v1/jobs/x", &[Engineer, Officer, Viewer], (404, "job_not_found")),
    ("DELETE", "/api/v1/jobs/x", &[Engineer, Officer], (404, "job_not_found")),
    ("GET", "/api/v1/roots/image", &AccessRole::READERS, (200, "")),
    ("GET", "/api/v1/roots/image/staged", &AccessRole::READERS, (404, "nothing_staged")),
    ("PUT", "/api/v1/roots/image/staged", &[Officer], (400, "bad_json")),
    ("DELETE", "/api/v1/roots/image/staged", &[Officer], (404, "nothing_staged")),
    ("POST", "/api/v1/roots/image/staged/signatures", &[Officer], (400, "bad_json")),
    ("POST", "/api/v1/roots/director/staged/sign", &[Officer], (404, "nothing_staged")),
    ("POST", "/api/v1/roots/director/staged/publish", &[Officer], (404, "nothing_staged")),
    ("GET", "/api/v1/audit", &[Engineer, Officer, Viewer], (200, "")),
    ("GET", "/api/v1/audit?kind=x", &[Engineer, Officer, Viewer], (400, "bad_query")),
    ("GET", "/api/v1/doctor", &[Engineer, Officer, Viewer], (200, "")),
    ("GET", "/api/v1/vehicles?limit=0", &[Engineer, Officer, Viewer], (400, "bad_query")),
];

#[tokio::test]
async fn each_call_is_open_to_its_roles_and_to_no_other() {
    let server = TestServer::start().await;
    for &(method, path, allowed, (status, code)) in CALLS {
        for role in [Uploader, Engineer, Officer, Viewer, Enroller] {
            let answer = send(server.request_as(role, method.parse().unwrap(), path)).await;
            if method == "HEAD" {
                answer.expect(if allowed.contains(&role) { status } else { 403 }); // without a body
            } else if !allowed.contains(&role) {
                let detail = answer.refused(403, "forbidden");
                assert!(detail.contains(role.as_str()), "{method} {path} {role}: {detail}");
            } else if status >= 400 {
                answer.refused(status, code);
            } else {
                answer.expect(status);
            }
        }
    }
}

#[tokio::test]
async fn every_path_of_the_openapi_document_is_401_without_a_token() {
    let server = TestServer::start().await;
    let document: Value = send(server.request(Method::GET, "/openapi.json")).await.json();
    let mut calls = BTreeSet::new();
    let (api, others): (Vec<_>, Vec<_>) = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .partition(|(path, _)| path.starts_with("/api/"));
    let open = ["/", "/healthz", "/metrics", "/openapi.json", "/readyz", "/version"];
    assert_eq!(
        others.iter().map(|(path, _)| path.as_str()).collect::<BTreeSet<_>>(),
        BTreeSet::from(open)
    );
    for (path, methods) in others {
        assert_eq!(methods.as_object().unwrap().keys().collect::<Vec<_>>(), ["get"], "{path}");
        assert!(methods["get"].get("security").is_none(), "{path}");
        send(server.request(Method::GET, path)).await.expect(200);
    }
    for (template, methods) in api {
        let path = template.replace("{path}", "gw/1/a.bin").replace("{kid}", "nobody");
        let path = path.replace("{vin}", "NONE").replace("{serial}", "x").replace("{id}", "x");
        let path = path.replace("{repository}", "image").replace("{supplier}", "nobody");
        let path = path.replace("{role}", "root").replace("{targets_role}", "supplier-nobody");
        assert!(path.starts_with("/api/v1/") && !path.contains('{'), "{template}");
        for (method, call) in methods.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = send(server.request(method.clone(), &path)).await;
            if method == Method::HEAD {
                assert_eq!(answer.status, 401);
            } else {
                answer.refused(401, "unauthenticated");
            }
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {path}");
            assert_eq!(call["security"], json!([{ "token": [] }]), "{method} {path}");
            assert!(call["responses"].get("401").is_some(), "{method} {path}");
            calls.insert((method.to_string(), template.as_str()));
        }
    }
    let template = |path: &str| described(path.split('?').next().unwrap()).unwrap().0;
    let tried: BTreeSet<_> =
        CALLS.iter().map(|(method, path, ..)| ((*method).to_owned(), template(path))).collect();
    assert_eq!(calls, tried, "the table above has every call of the document");
}

#[tokio::test]
async fn a_label_is_one_line_that_a_list_can_show() {
    let state = crate::state::TestState::new();
    let catalog = state.dir().open_catalog().await.unwrap();
    let create = async |label: &str| {
        let created =
            access::create_token(&catalog, NewToken::of(Viewer, label), SystemClock.now()).await;
        created.map(|_| ()).map_err(|error| error.to_string())
    };
    for label in ["", "CI of supplier A", &"ü".repeat(128)] {
        assert_eq!(create(label).await, Ok(()), "{label}");
    }
    for (label, rule) in [
        ("x".repeat(129), "a label has at most 128 characters"),
        ("two\nlines".into(), "a label is one line of text, and must not contain '\\n'"),
        ("\u{1b}[31m".into(), "a label is one line of text, and must not contain '\\u{1b}'"),
    ] {
        assert_eq!(create(&label).await, Err(rule.to_owned()));
    }
    catalog.close().await;
}

#[tokio::test]
async fn a_token_that_is_not_one_is_401() {
    let server = TestServer::start().await;
    let good = &server.state.tokens.viewer;
    let values = [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer motorcade_guess".to_owned(),
        format!("Bearer {good}x"),
        format!("Bearer {}", &good[..good.len() - 1]),
        format!("Bearer {}", good.to_uppercase()),
        format!("Bearer {good} {good}"),
        format!("Basic {good}"),
        good.to_owned(),
        format!("Bearer '{good}' OR 1=1"),
        format!("Bearer {}", "a".repeat(8000)),
    ];
    for value in &values {
        let request = server.request(Method::GET, "/api/v1/images").header("authorization", value);
        send(request).await.refused(401, "unauthenticated");
    }
    let request = format!(
        "GET /api/v1/images HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {good}\u{e9}\r\n\r\n"
    );
    server.raw(request).await.refused(401, "unauthenticated");
    let any_case = server
        .request(Method::GET, "/api/v1/images")
        .header("authorization", format!("bearer {good}"));
    send(any_case).await.expect(200);
}

#[tokio::test]
async fn revoked_and_expired_tokens_are_401_at_once() {
    let server = TestServer::start().await;
    let catalog = server.state.dir().open_catalog().await.unwrap();
    let now = SystemClock.now();
    let create = async |label: &str, expires_at| {
        access::create_token(
            &catalog,
            NewToken { expires_at, ..NewToken::of(Engineer, label) },
            now,
        )
        .await
        .unwrap()
        .to_string()
    };
    let (revoked, expired) = (create("revoked", None).await, create("expired", Some(now)).await);
    let lasting = create("lasting", Some(now + std::time::Duration::from_secs(3600))).await;
    let ask = async |token: &str| {
        send(server.request(Method::GET, "/api/v1/images").bearer_auth(token)).await
    };
    ask(&lasting).await.expect(200);
    ask(&revoked).await.expect(200);
    let records = catalog.list_tokens().await.unwrap();
    let id = &records.iter().find(|record| record.label == "revoked").unwrap().id;
    assert!(catalog.revoke_token(id, &Author::server(now)).await.unwrap());
    catalog.close().await;
    let detail = ask(&revoked).await.refused(401, "unauthenticated");
    assert!(detail.contains("revoked"), "{detail}");
    let detail = ask(&expired).await.refused(401, "unauthenticated");
    assert!(detail.contains("expired"), "{detail}");
}

#[tokio::test]
async fn who_is_calling_is_asked_before_what_is_sent() {
    let server = TestServer::start().await;
    let viewer = server.state.tokens.viewer.as_str();
    for (token, status, code) in
        [("motorcade_guess", 401, "unauthenticated"), (viewer, 403, "forbidden")]
    {
        let bad_json = server
            .request(Method::POST, "/api/v1/recipients")
            .header("content-type", "application/json");
        send(bad_json.bearer_auth(token).body("{")).await.refused(status, code);
        let bad_type = server.request(Method::POST, "/api/v1/recipients");
        send(bad_type.bearer_auth(token).body("{}")).await.refused(status, code);
        let bad_query = server.request(Method::DELETE, "/api/v1/recipients/nobody?x=1");
        send(bad_query.bearer_auth(token)).await.refused(status, code);
        let bad_path = server.request(Method::DELETE, "/api/v1/images/a%20b");
        send(bad_path.bearer_auth(token)).await.refused(status, code);
        let bad_upload = server.request(Method::PUT, "/api/v1/images/a%20b?x=1");
        send(bad_upload.bearer_auth(token)).await.refused(status, code);
    }
    let bad_query =
        server.request(Method::GET, "/api/v1/images?limit=x").bearer_auth("motorcade_guess");
    send(bad_query).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_bad_token_is_answered_before_the_body_was_sent() {
    let server = TestServer::start().await;
    let viewer = &server.state.tokens.viewer;
    for (token, status, code) in
        [("motorcade_guess", 401, "unauthenticated"), (viewer, 403, "forbidden")]
    {
        for target in [
            format!("PUT /api/v1/images/gw/1/a.bin?{DESCRIPTION}"),
            "POST /api/v1/recipients".to_owned(),
        ] {
            let mut raw = server.connect().await;
            raw.send(format!(
                "{target} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
            ))
            .await;
            raw.answer().await.refused(status, code);
        }
    }
    server.state.assert_clean().await;
}

#[tokio::test]
async fn a_client_that_sends_on_can_still_read_why_it_was_refused() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    raw.send(crate::client::upload_head(
        "gw/1/a.bin",
        "motorcade_guess",
        "Content-Length: 8000000\r\n",
    ))
    .await;
    let block = vec![0; 100_000];
    for _ in 0..80 {
        if raw.try_send(&block).await.is_err() {
            break; // the server has closed, which it may
        }
    }
    raw.answer().await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn operators_pages_need_no_token() {
    let server = TestServer::start().await;
    for path in
        ["/healthz", "/readyz", "/metrics", "/version", "/openapi.json", "/repo/timestamp.json"]
    {
        send(server.request(Method::GET, path)).await.expect(200);
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let server = TestServer::start().await;
    for path in ["/index.html", "/api/v1/nothing", "/api/v2/images", "/repositories", "/healthz/x"]
    {
        send(server.request(Method::GET, path)).await.refused(404, "no_route");
    }
    for (method, path) in
        [("POST", "/repo/timestamp.json"), ("POST", "/api/v1/images/a"), ("PATCH", "/repo/x")]
    {
        let answer = send(server.request_as(Engineer, method.parse().unwrap(), path)).await;
        answer.refused(405, "method_not_allowed");
        assert!(
            answer.header("allow").is_some_and(|allowed| allowed.contains("GET")),
            "RFC 9110, 15.5.6: {answer:?}"
        );
    }
}
