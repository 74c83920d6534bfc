//! What operators see: metrics, request ids, problems, and the pages that probes ask for.

use motorcade::api::Problem;
use motorcade::model::AccessRole;
use reqwest::Method;
use serde_json::json;

use crate::app::{Log, TestServer, pattern, send};

#[tokio::test]
async fn metrics_tell_of_an_upload() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", pattern(1_500_000, 1)).await.expect(201);
    server.upload("gw/1/a.bin", pattern(1_500_000, 1)).await.expect(200);
    server.upload("gw/1/a.bin", "x".repeat(1_500_000)).await.refused(409, "image_exists"); // as long, so it is read
    let metrics = server.metrics().await;
    for line in [
        "motorcade_sealed_bytes_total 1500000",
        "motorcade_uploads_total{outcome=\"created\"} 1",
        "motorcade_uploads_total{outcome=\"unchanged\"} 1",
        "motorcade_uploads_total{outcome=\"rejected\"} 1",
        "motorcade_uploads_in_progress 0",
        "motorcade_published_images 1",
        "motorcade_corrupt_blobs_total 0",
        "motorcade_metadata_version{repository=\"image\",role=\"root\"} 1",
        "motorcade_metadata_version{repository=\"image\",role=\"snapshot\"} 2",
        "motorcade_metadata_version{repository=\"image\",role=\"bins\"} 2",
        "motorcade_publications_total{outcome=\"published\"} 1",
        "motorcade_http_requests_total{method=\"PUT\",route=\"/api/v1/images/{path:.*}\",status=\"201\"} 1",
        "motorcade_http_request_duration_seconds_count{method=\"PUT\",route=\"/api/v1/images/{path:.*}\"} 3",
        &format!("motorcade_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    for stage in
        ["receive", "hash_plaintext", "seal", "hash_sealed", "write", "envelope", "publish"]
    {
        assert!(
            value(&metrics, &format!("upload_stage_seconds_total{{stage=\"{stage}\"}}")) > 0.0,
            "{stage}"
        );
    }
    for file in ["database", "write_ahead_log"] {
        assert!(value(&metrics, &format!("catalog_size_bytes{{file=\"{file}\"}}")) > 0.0, "{file}");
    }
    for (role, days) in
        [("root", 365.0), ("targets", 90.0), ("bins", 90.0), ("snapshot", 7.0), ("timestamp", 1.0)]
    {
        let left = value(
            &metrics,
            &format!("metadata_expiry_seconds{{repository=\"image\",role=\"{role}\"}}"),
        );
        assert!(
            (0.0..600.0).contains(&(days * 86_400.0 - left)),
            "{role} expires in {left} seconds"
        );
    }
    assert!(!metrics.contains("gw/1/a.bin"), "no path is a label");
}

fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("motorcade_{series} ")));
    line.unwrap_or_else(|| panic!("{series} is not in\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn a_yank_is_counted() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "x").await.expect(201);
    let yank = server.request_as(AccessRole::Officer, Method::DELETE, "/api/v1/images/gw/1/a.bin");
    send(yank).await.expect(204);
    assert_eq!(value(&server.metrics().await, "published_images"), 0.0);
}

#[tokio::test]
async fn metrics_know_what_is_published_after_a_restart() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "x").await.expect(201);
    let server = TestServer::on(server.stop(), |_| ()).await;
    let metrics = server.metrics().await;
    assert_eq!(value(&metrics, "published_images"), 1.0);
    assert_eq!(value(&metrics, "metadata_version{repository=\"image\",role=\"snapshot\"}"), 2.0);
}

#[tokio::test]
async fn a_request_id_comes_back_and_leads_to_the_log() {
    let server = TestServer::start().await;
    for path in ["/healthz", "/repo/timestamp.json", "/repo/nothing", "/api/v1/images", "/nowhere"]
    {
        let answer =
            send(server.request(Method::GET, path).header("x-request-id", "ci-job.42_a-b")).await;
        assert_eq!(answer.header("x-request-id"), Some("ci-job.42_a-b"), "{path}");
        let made = send(server.request(Method::GET, path)).await;
        assert_eq!(made.header("x-request-id").unwrap().len(), 32, "{path}");
        let bad = send(server.request(Method::GET, path).header("x-request-id", "a b")).await;
        assert_ne!(bad.header("x-request-id"), Some("a b"), "{path}");
    }
    let upload =
        server.upload_request("gw/1/a.bin", "").header("x-request-id", "upload-of-observe-rs");
    send(upload.body("x")).await.expect(201);
    let log = Log::text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("upload-of-observe-rs")).collect();
    assert!(lines.iter().any(|line| line.contains("answered 201")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("image sealed")), "{lines:#?}");
}

#[tokio::test]
async fn a_problem_has_all_its_members() {
    let server = TestServer::start().await;
    let request = server.request(Method::GET, "/api/v1/images").header("x-request-id", "ci-job.42");
    let answer = send(request).await;
    answer.refused(401, "unauthenticated");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(
        answer.json(),
        json!({
            "type": "about:blank", "title": "Unauthorized", "status": 401, "code": "unauthenticated",
            "detail": "send `Authorization: Bearer <token>`", "request_id": "ci-job.42",
        })
    );
}

#[tokio::test]
async fn every_problem_names_its_request() {
    let server = TestServer::start().await;
    let (guess, engineer) = (String::from("motorcade_guess"), &server.state.tokens.engineer);
    for (method, path, token, code) in [
        ("GET", "/api/v1/images", &guess, "unauthenticated"),
        ("POST", "/api/v1/recipients", engineer, "bad_json"),
        ("GET", "/api/v1/images?limit=x", engineer, "bad_query"),
        ("GET", "/api/v1/images/gw/1/a.bin", engineer, "image_not_found"),
        ("PUT", "/api/v1/images/gw/1/a.bin", engineer, "bad_query"),
        ("GET", "/repo/9.root.json", engineer, "file_not_found"),
        ("POST", "/repo/9.root.json", engineer, "method_not_allowed"),
        ("GET", "/nowhere", engineer, "no_route"),
    ] {
        let request = server.request(method.parse().unwrap(), path).bearer_auth(token);
        let answer = send(request.header("x-request-id", "ci-job.43")).await;
        let problem: Problem = answer.body();
        assert_eq!(problem.code, code, "{method} {path}");
        assert_eq!(
            problem.request_id.as_deref(),
            Some("ci-job.43"),
            "{method} {path}: {problem:?}"
        );
    }
}

#[tokio::test]
async fn the_first_page_says_where_things_are() {
    let server = TestServer::start().await;
    let page = send(server.request(Method::GET, "/")).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.header("cache-control"), Some("public, max-age=3600"));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    let links: Vec<&str> =
        text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    for link in &links {
        send(server.request(Method::GET, link)).await.expect(200);
    }
    for link in
        ["/repo/timestamp.json", "/openapi.json", "/healthz", "/readyz", "/metrics", "/version"]
    {
        assert!(links.contains(&link), "{link}");
    }
    assert!(!text.contains("<script"), "{text}");
    let again =
        server.request(Method::GET, "/").header("if-none-match", page.header("etag").unwrap());
    assert!(send(again).await.expect(304).is_empty());
    let head = send(server.request(Method::HEAD, "/")).await;
    let length = text.len().to_string();
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, Some(length.as_str()), 0)
    );
    send(server.request(Method::POST, "/")).await.refused(405, "method_not_allowed");
}

#[tokio::test]
async fn probes_get_short_answers() {
    let server = TestServer::start().await;
    for (path, body) in [
        ("/healthz", json!({ "status": "ok" })),
        ("/readyz", json!({ "status": "ready" })),
        ("/version", json!({ "name": "motorcade", "version": env!("CARGO_PKG_VERSION") })),
    ] {
        let answer = send(server.request(Method::GET, path)).await;
        assert_eq!((answer.status, answer.json()), (200, body), "{path}");
    }
}

#[tokio::test]
async fn the_openapi_document_has_every_call() {
    let server = TestServer::start().await;
    let document = send(server.request(Method::GET, "/openapi.json")).await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let calls: Vec<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    for call in [
        "put /api/v1/images/{path}",
        "get /api/v1/images/{path}",
        "delete /api/v1/images/{path}",
        "get /api/v1/images/{path}/envelope",
        "get /api/v1/images",
        "post /api/v1/recipients",
        "get /api/v1/recipients",
        "delete /api/v1/recipients/{kid}",
    ] {
        assert!(calls.iter().any(|found| found == call), "{call} is not among {calls:?}");
    }
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, call) in methods.as_object().unwrap() {
            for parameter in call["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                let is_in_path = path.contains(&format!("{{{name}}}"));
                assert_eq!(parameter["in"] == "path", is_in_path, "{path} {name}");
            }
            for (status, response) in call["responses"].as_object().unwrap() {
                let is_problem = response["content"].get("application/problem+json").is_some();
                // Whatever is said of it, an answer to HEAD has no body (RFC 9110, 9.3.2).
                let is_meant = method != "head" || status.as_str() < "400";
                assert!(!is_meant || is_problem == (status.as_str() >= "400"), "{path} {status}");
            }
        }
    }
    // Whatever is referred to is there.
    let text = document.to_string();
    for reference in text.split("\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn tokens_are_never_logged() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "x").await.expect(201);
    server.get("/api/v1/images").await.expect(200);
    send(server.request(Method::GET, "/api/v1/images").bearer_auth("motorcade_wrong-7c1e"))
        .await
        .expect(401);
    let (log, tokens) = (Log::text(), &server.state.tokens);
    for secret in [&tokens.uploader, &tokens.viewer, &tokens.engineer, "motorcade_wrong-7c1e"] {
        assert!(!log.contains(secret));
        assert_eq!(
            server.state.files_with(secret.as_bytes()),
            Vec::<String>::new(),
            "only a hash is kept"
        );
    }
}
