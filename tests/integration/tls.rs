//! Certificates and revocation lists while the server runs: what is replaced is noticed, and what
//! can't be used is not.

use std::time::Duration;

use motorcade::config::VehicleIdFrom::Cn;
use reqwest::Client;

use crate::app::{Log, TestServer, eventually};
use crate::ca::{Ca, TlsFiles, client};
use crate::director::vehicle::TestVehicle;

const TARGETS: &str = "/director/targets.json";

/// Whether this client gets an answer from the Director as the vehicle that its certificate names.
async fn is_served(client: &Client, files: &TlsFiles) -> bool {
    client.get(files.url(TARGETS)).send().await.is_ok_and(|answer| answer.status() == 200)
}

async fn metric(server: &TestServer, name: &str) -> i64 {
    let text = server.metrics().await;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn a_vehicle_that_is_revoked_later_is_refused_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let files = TlsFiles::new(folder.path(), &ca).with_crl(&ca.revoke(&[99], 2099));
    let (server, _) = files.serve(Cn).await;
    TestVehicle::registered(&server, "VIN1").await;
    TestVehicle::registered(&server, "VIN2").await;
    let revoked = client(&ca, Some(ca.issue_numbered("VIN1", 1)));
    let other = client(&ca, Some(ca.issue_numbered("VIN2", 2)));
    assert!(is_served(&revoked, &files).await);
    assert!(is_served(&other, &files).await);
    files.write("crl.pem", ca.revoke(&[1, 99], 2099).pem().unwrap());
    // Its connection was there before, and is of no use any more; nor is the session that it
    // remembers.
    eventually("it is refused", async || !is_served(&revoked, &files).await).await;
    for _ in 0..3 {
        assert!(!is_served(&revoked, &files).await);
    }
    assert!(is_served(&other, &files).await);
    let refused = "motorcade_tls_handshakes_refused_total{reason=\"certificate_revoked\"}";
    assert!(metric(&server, refused).await > 0);
    assert!(Log::text().contains("TLS handshake refused"));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_leaves_in_force_what_was() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let files = TlsFiles::new(folder.path(), &ca).with_crl(&ca.revoke(&[1], 2099));
    let (server, _) = files.serve(Cn).await;
    TestVehicle::registered(&server, "VIN1").await;
    TestVehicle::registered(&server, "VIN2").await;
    let revoked = client(&ca, Some(ca.issue_numbered("VIN1", 1)));
    let other = client(&ca, Some(ca.issue_numbered("VIN2", 2)));
    for bad in [b"".to_vec(), b"not a list".to_vec(), ca.pem.clone().into_bytes()] {
        let mark = Log::mark();
        files.write("crl.pem", bad);
        let told = "TLS files can't be used";
        eventually("it is told", async || Log::since(mark).contains(told)).await;
        assert!(!is_served(&revoked, &files).await);
        assert!(is_served(&other, &files).await);
    }
    files.write("crl.pem", ca.revoke(&[2], 2099).pem().unwrap());
    eventually("the good list is in force", async || is_served(&revoked, &files).await).await;
    assert!(!is_served(&other, &files).await);
}

#[tokio::test]
async fn once_the_list_is_too_old_no_client_certificate_is_believed() {
    let ca = Ca::new("OEM");
    for (grace_days, is_believed) in [(0, false), (20 * 366, true)] {
        let folder = tempfile::tempdir().unwrap();
        let mut files = TlsFiles::new(folder.path(), &ca).with_crl(&ca.revoke(&[99], 2020));
        files.config.crl_grace = Duration::from_secs(grace_days * 24 * 60 * 60);
        let (server, _) = files.serve(Cn).await;
        let vehicle = TestVehicle::registered(&server, "VIN1").await;
        let identified = client(&ca, Some(ca.issue_numbered("VIN1", 1)));
        assert_eq!(is_served(&identified, &files).await, is_believed, "{grace_days} days of grace");
        // Who comes without a certificate was never on the list.
        let request = client(&ca, None).get(files.url(TARGETS)).bearer_auth(&vehicle.token);
        assert_eq!(request.send().await.unwrap().status(), 200);
        assert!(
            metric(&server, "motorcade_tls_expiry_seconds{file=\"client_crl\"}").await
                < -5 * 365 * 24 * 60 * 60
        );
        let refused = "motorcade_tls_handshakes_refused_total{reason=\"revocation_list_expired\"}";
        assert_eq!(metric(&server, refused).await > 0, !is_believed);
    }
}

#[tokio::test]
async fn a_new_server_certificate_is_shown_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let files = TlsFiles::new(folder.path(), &old);
    let (server, _) = files.serve(Cn).await;
    let healthz = async |ca: &Ca| client(ca, None).get(files.url("/healthz")).send().await.is_ok();
    assert!(healthz(&old).await);
    assert!(!healthz(&new).await);
    // Key and certificate don't change at one moment, and between them nothing else may be shown
    // than before.
    let (certificate, key) = new.issue("server", None);
    let mark = Log::mark();
    files.write("server.key", key);
    let told = "can't be used; what was read before stays in force";
    eventually("it is told", async || Log::since(mark).contains(told)).await;
    assert!(healthz(&old).await);
    files.write("server.pem", certificate);
    eventually("the new one is shown", async || healthz(&new).await).await;
    assert!(!healthz(&old).await);
    assert!(metric(&server, "motorcade_tls_expiry_seconds{file=\"server_certificate\"}").await > 0);
}

#[tokio::test]
async fn an_expired_server_certificate_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let files = TlsFiles::new(folder.path(), &ca);
    files.write_server_certificate(ca.issue_with(|params| {
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }));
    let (server, _) = files.serve(Cn).await;
    let path = files.config.certificate.display().to_string();
    let told =
        |line: &str| line.contains("ERROR") && line.contains(&path) && line.contains("has expired");
    assert!(Log::text().lines().any(told));
    assert!(metric(&server, "motorcade_tls_expiry_seconds{file=\"server_certificate\"}").await < 0);
}
