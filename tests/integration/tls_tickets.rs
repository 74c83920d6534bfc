//! Session tickets with somebody else's client: a session that is resumed saves a handshake, and
//! lets nobody in who could not come in by one.

use std::path::Path;

use motorcade::config::VehicleIdFrom::Cn;

use crate::app::{TestServer, eventually};
use crate::ca::{Ca, TlsFiles};
use crate::director::vehicle::TestVehicle;
use crate::s_client::SClient;

/// What `openssl s_client` says of one request of a vehicle's; it keeps its session in `folder`.
fn openssl(folder: &Path, files: &TlsFiles, version: &str) -> String {
    let client = SClient { folder, version };
    client.ask(&files.config.listen.to_string(), ("session", "session"))
}

async fn is_counted(server: &TestServer, line: &str) -> bool {
    server.metrics().await.contains(line)
}

#[tokio::test]
async fn openssl_comes_back_with_a_ticket_until_it_is_revoked() {
    for version in ["-tls1_3", "-tls1_2"] {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("OEM");
        let files = TlsFiles::new(folder.path(), &ca).with_crl(&ca.revoke(&[99], 2099));
        let (server, _) = files.serve(Cn).await;
        TestVehicle::registered(&server, "VIN1").await;
        let (certificate, key) = ca.issue_numbered("VIN1", 1);
        files.write("v.pem", certificate);
        files.write("v.key", key);

        let first = openssl(folder.path(), &files, version);
        assert!(first.contains("New, TLS") && first.contains("HTTP/1.1 200"), "{first}");
        let second = openssl(folder.path(), &files, version);
        assert!(second.contains("Reused, TLS") && second.contains("HTTP/1.1 200"), "{second}");
        assert!(!second.contains("Early data was accepted"), "{second}");
        assert!(is_counted(&server, "motorcade_tls_handshakes_total{kind=\"resumed\"} 1\n").await);

        // Its ticket is as good after a restart.
        let (config, state) = (files.config.clone(), server.stop());
        let server = TestServer::on(state, |settings| {
            settings.vehicles.tls = Some(config);
            settings.vehicles.id_from = Cn;
        })
        .await;
        let third = openssl(folder.path(), &files, version);
        assert!(third.contains("Reused, TLS") && third.contains("HTTP/1.1 200"), "{third}");

        files.write("crl.pem", ca.revoke(&[1, 99], 2099).pem().unwrap());
        eventually("it is refused", async || {
            !openssl(folder.path(), &files, version).contains("HTTP/1.1 200")
        })
        .await;
        let revoked = "motorcade_tls_handshakes_refused_total{reason=\"certificate_revoked\"} ";
        assert!(is_counted(&server, revoked).await);
        let none = format!("{revoked}0\n");
        eventually("it is counted", async || !is_counted(&server, &none).await).await;
        for _ in 0..2 {
            let refused = openssl(folder.path(), &files, version);
            assert!(!refused.contains("HTTP/1.1"), "{refused}");
        }
    }
}
