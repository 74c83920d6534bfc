//! A server and clients that use an OEM's certificate authority.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use motorcade::config::{TlsConfig, VehicleIdFrom};
use rcgen::CertificateRevocationList;
use reqwest::{Certificate, Identity};

use crate::app::{TIMEOUT, TestServer};
pub(crate) use crate::authority::Ca;
use crate::authority::replace;
use crate::support::FreePort;

/// The files of TLS in a folder, for a free port.
pub(crate) struct TlsFiles {
    pub(crate) config: TlsConfig,
    folder: PathBuf,
    _port: FreePort,
}

impl TlsFiles {
    pub(crate) fn new(folder: &Path, ca: &Ca) -> Self {
        let port = FreePort::new();
        let path = |name: &str| folder.join(name);
        let config = TlsConfig {
            listen: port.address(),
            certificate: path("server.pem"),
            key: path("server.key"),
            client_ca: Some(path("ca.pem")),
            client_crl: None,
            crl_grace: Duration::ZERO,
        };
        let files = Self { config, folder: folder.to_owned(), _port: port };
        files.write_server_certificate(ca.issue("server", None));
        files.write("ca.pem", &ca.pem);
        files
    }

    pub(crate) fn with_crl(mut self, list: &CertificateRevocationList) -> Self {
        self.config.client_crl = Some(self.folder.join("crl.pem"));
        self.write("crl.pem", list.pem().unwrap());
        self
    }

    /// Replaces a file at once, as tools that care do.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        replace(&self.folder, name, content);
    }

    pub(crate) fn write_server_certificate(&self, (certificate, key): (String, String)) {
        self.write("server.key", key);
        self.write("server.pem", certificate);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.config.listen)
    }

    /// A server with these files.
    pub(crate) async fn serve(&self, id_from: VehicleIdFrom) -> (TestServer, SocketAddr) {
        let server = TestServer::configured(|config| {
            config.vehicles.tls = Some(self.config.clone());
            config.vehicles.id_from = id_from;
        })
        .await;
        (server, self.config.listen)
    }
}

/// A client that believes one CA, and has a certificate or not.
pub(crate) fn client(ca: &Ca, identity: Option<(String, String)>) -> reqwest::Client {
    let mut builder = reqwest::Client::builder().no_proxy().timeout(TIMEOUT);
    builder = builder.tls_certs_only([Certificate::from_pem(ca.pem.as_bytes()).unwrap()]);
    if let Some((certificate, key)) = identity {
        builder = builder.identity(Identity::from_pem((certificate + &key).as_bytes()).unwrap());
    }
    builder.build().unwrap()
}
