//! Redirections over TLS, between servers that look at who asks. With the server's packages: rustls
//! is among them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::Redirects;
use crate::clients::Tls;
use crate::http::{Http, Token};
use crate::http_error::HttpError;
use crate::waiting::Patience;

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "snakeoil CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// What a server got to know of who asked.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    certificate: bool,
    token: Option<String>,
}

struct Server {
    url: String,
    seen: Receiver<Seen>,
}

impl Server {
    /// Answers everything with this head and body; asks for a client certificate, and takes whoever
    /// has none.
    fn start(ca: &Ca, answer: String) -> Self {
        let (certificate, key) = ca.issue("server");
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config =
            config.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config =
            Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (tell, seen) = channel();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(connection, socket));
                let (mut token, mut line) = (None, String::new());
                while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("authorization: ") {
                        token = Some(value.trim().to_owned());
                    }
                    line.clear();
                }
                let mut stream = stream.into_inner();
                let certificate = stream.conn.peer_certificates().is_some();
                let _ = tell.send(Seen { certificate, token });
                let _ = write!(stream, "HTTP/1.1 {answer}");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.try_iter().collect()
    }
}

fn file() -> String {
    "200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}".into()
}

fn to(url: &str) -> String {
    format!("302 Found\r\nlocation: {url}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn client(ca: &Ca, folder: &Path) -> Http {
    let (certificate, key) = ca.issue("VIN1");
    let path = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (ca_file, client_cert) =
        (path("ca.pem", ca.certificate.pem()), path("c.pem", certificate.pem()));
    let client_key = path("c.key", key.serialize_pem());
    let tls = Tls {
        ca_file: Some(&ca_file),
        client_cert: Some(&client_cert),
        client_key: Some(&client_key),
        ..Tls::default()
    };
    Http::new(tls, Patience::default()).unwrap()
}

#[test]
fn nobody_else_gets_certificate_or_token_and_nothing_leads_away_from_tls() {
    let (ca, folder) = (Ca::new(), tempfile::tempdir().unwrap());
    let http = client(&ca, folder.path());
    let token = Token::new("secret");
    let fetch =
        |url: &str, redirects| http.fetch(&format!("{url}/f"), Some(&token), 100, redirects);
    let known = Seen { certificate: true, token: Some("bearer secret".into()) };
    let unknown = Seen { certificate: false, token: None };

    let elsewhere = Server::start(&ca, file());
    let home = Server::start(&ca, to(&format!("{}/f?signed=1", elsewhere.url)));
    assert_eq!(fetch(&home.url, Redirects::Followed).unwrap().unwrap(), b"{}");
    assert_eq!((home.seen(), elsewhere.seen()), (vec![known], vec![unknown]));

    // The Director's is followed nowhere, and what is said of it has no query, which may be a
    // secret.
    let error = fetch(&home.url, Redirects::Refused).unwrap_err().to_string();
    assert!(error.contains(&elsewhere.url) && !error.contains("signed=1"), "{error}");
    assert_eq!((home.seen().len(), elsewhere.seen().len()), (1, 0));

    let plain = crate::testing::server::Server::start();
    plain.put("/f", b"{}");
    let home = Server::start(&ca, to(&format!("{}/f", plain.url)));
    let error = fetch(&home.url, Redirects::Followed).unwrap_err();
    assert!(
        matches!(error, HttpError::Redirect { .. }) && error.to_string().contains("https to http"),
        "{error}"
    );
    assert!(plain.requests().is_empty());
}
