//! What a scrape shows after each kind of event.

use std::time::UNIX_EPOCH;

use super::*;

#[track_caller]
fn check(text: &str, expected: &str) {
    assert!(text.lines().any(|line| line == expected), "{expected} is not in\n{text}");
}

fn at(unix_secs: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(unix_secs)
}

#[test]
fn a_fresh_server_shows_its_families_at_zero() {
    let text = Metrics::new("1.2.3").render(at(0));
    check(&text, "motorcade_build_info{version=\"1.2.3\"} 1");
    check(&text, "motorcade_http_requests_in_flight 0");
    check(&text, "motorcade_sealed_bytes_total 0");
    check(&text, "motorcade_uploads_in_progress 0");
    check(&text, "motorcade_uploads_total{outcome=\"cancelled\"} 0");
    check(&text, "motorcade_upload_stage_seconds_total{stage=\"hash_plaintext\"} 0");
    check(&text, "motorcade_publications_total{outcome=\"published\"} 0");
    check(&text, "motorcade_publication_duration_seconds_count 0");
    check(&text, "motorcade_published_images 0");
    check(&text, "motorcade_corrupt_blobs_total 0");
}

#[test]
fn requests_are_counted_by_route_method_and_status() {
    let metrics = Metrics::new("1");
    let handles = metrics.http("/repo/{name}", "GET", 206);
    handles.add(Duration::from_millis(2));
    metrics.http("/repo/{name}", "GET", 206).add(Duration::from_millis(2));
    metrics.http("/repo/{name}", "GET", 404).add(Duration::from_millis(2));
    let text = metrics.render(at(0));
    let labels = "method=\"GET\",route=\"/repo/{name}\"";
    check(&text, &format!("motorcade_http_requests_total{{{labels},status=\"206\"}} 2"));
    check(&text, &format!("motorcade_http_request_duration_seconds_count{{{labels}}} 3"));
    check(
        &text,
        &format!("motorcade_http_request_duration_seconds_bucket{{{labels},le=\"0.001\"}} 0"),
    );
    check(
        &text,
        &format!("motorcade_http_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 3"),
    );
}

#[test]
fn a_dropped_upload_counts_as_cancelled() {
    let metrics = Metrics::new("1");
    let (first, second) = (metrics.start_upload(), metrics.start_upload());
    check(&metrics.render(at(0)), "motorcade_uploads_in_progress 2");
    first.finish(UploadOutcome::Created);
    drop(second);
    let text = metrics.render(at(0));
    check(&text, "motorcade_uploads_in_progress 0");
    check(&text, "motorcade_uploads_total{outcome=\"created\"} 1");
    check(&text, "motorcade_uploads_total{outcome=\"cancelled\"} 1");
}

#[test]
fn work_adds_up() {
    let metrics = Metrics::new("1");
    metrics.add_sealed_bytes(5_000_000_000);
    metrics.add_upload_stage(UploadStage::Seal, Duration::from_millis(1500));
    drop(metrics.time_upload_stage(UploadStage::Envelope));
    metrics.add_publication(PublicationOutcome::Failed, Duration::from_millis(40));
    metrics.set_published_images(7);
    metrics.add_corrupt_blob();
    let text = metrics.render(at(0));
    check(&text, "motorcade_sealed_bytes_total 5000000000");
    check(&text, "motorcade_upload_stage_seconds_total{stage=\"seal\"} 1.5");
    assert!(!text.contains("stage=\"envelope\"} 0\n"));
    check(&text, "motorcade_publications_total{outcome=\"failed\"} 1");
    check(&text, "motorcade_publication_duration_seconds_bucket{le=\"0.05\"} 1");
    check(&text, "motorcade_published_images 7");
    check(&text, "motorcade_corrupt_blobs_total 1");
}

#[test]
fn expiry_is_counted_from_the_scrape() {
    let metrics = Metrics::new("1");
    metrics.set_metadata(RepositorySide::Image, RoleKind::Timestamp, 3, at(1000));
    let labels = "{repository=\"image\",role=\"timestamp\"}";
    check(&metrics.render(at(400)), &format!("motorcade_metadata_expiry_seconds{labels} 600"));
    metrics.set_metadata(RepositorySide::Image, RoleKind::Timestamp, 4, at(2000));
    let text = metrics.render(at(2030));
    check(&text, &format!("motorcade_metadata_expiry_seconds{labels} -30"));
    check(&text, &format!("motorcade_metadata_version{labels} 4"));
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_measured() {
    let text = Metrics::new("1").render(at(0));
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        let value =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        assert!(value.parse::<f64>().unwrap() > 0.0, "{name} {value}");
    }
}
