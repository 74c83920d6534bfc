use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList,
    CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair, SerialNumber,
    date_time_ymd,
};
use tempfile::TempDir;

use super::*;
use crate::model::SystemClock;

/// A folder with a certificate that is its own CA, its key, and a revocation list of it.
struct Files {
    folder: TempDir,
    config: TlsConfig,
    list: CertificateRevocationList,
    certificate: Vec<u8>,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut params = CertificateParams::new(vec!["motorcade.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let config = TlsConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: path("server.pem"),
            key: path("server.key"),
            client_ca: Some(path("ca.pem")),
            client_crl: Some(path("crl.pem")),
            crl_grace: Duration::ZERO,
        };
        fs::write(path("server.pem"), certificate.pem()).unwrap();
        fs::write(path("ca.pem"), certificate.pem()).unwrap();
        fs::write(path("server.key"), key.serialize_pem()).unwrap();
        fs::set_permissions(
            path("server.key"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        let list = list.signed_by(&Issuer::new(params, key)).unwrap();
        fs::write(path("crl.pem"), list.pem().unwrap()).unwrap();
        Self { folder, config, list, certificate: certificate.der().to_vec() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is said with another content of one file.
    fn load_with(&self, name: &str, content: impl AsRef<[u8]>) -> Result<(), String> {
        let path = self.path(name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        let metrics = Arc::new(Metrics::new("test"));
        let loaded = Tls::load(&self.config, Arc::new(SystemClock), metrics);
        fs::write(&path, before).unwrap();
        loaded.map(drop).map_err(|error| format!("{error:#}"))
    }
}

#[test]
fn a_revocation_list_is_read_in_pem_and_in_der() {
    let files = Files::new();
    let pem = files.list.pem().unwrap();
    files.load_with("crl.pem", &pem).unwrap();
    files.load_with("crl.pem", pem.repeat(2)).unwrap();
    files.load_with("crl.pem", format!("the list of our CA\n\n{pem}")).unwrap();
    files.load_with("crl.pem", files.list.der()).unwrap();
}

#[test]
fn a_file_without_what_it_is_for_is_refused_and_named() {
    let files = Files::new();
    let pem = files.list.pem().unwrap();
    let certificate = fs::read_to_string(files.path("ca.pem")).unwrap();
    let mut longer = files.list.der().to_vec();
    longer.push(0);
    let key = fs::read_to_string(files.path("server.key")).unwrap();
    let misspelt = certificate.replace("CERTIFICATE", "CERT");
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let wrong_label = pem.replace("X509 CRL", "CRL");
    let no_end = pem.split("-----END").next().unwrap();
    let cases: &[(&str, &[u8], &str)] = &[
        ("crl.pem", b"", "is empty"),
        ("crl.pem", b"\n", "is no revocation list"),
        ("crl.pem", b"no list", "is no revocation list"),
        ("crl.pem", &longer, "is no revocation list"),
        ("crl.pem", &files.certificate, "is no revocation list"),
        ("crl.pem", certificate.as_bytes(), "there is `CERTIFICATE` in it"),
        ("crl.pem", wrong_label.as_bytes(), "there is `CRL` in it"),
        (
            "crl.pem",
            &format!("{pem}{wrong_label}").into_bytes(),
            "there is `X509 CRL`, `CRL` in it",
        ),
        ("crl.pem", no_end.as_bytes(), "failed to read revocation lists"),
        ("ca.pem", b"", "is empty"),
        ("ca.pem", &files.certificate, "there is no PEM in it"),
        ("ca.pem", pem.as_bytes(), "there is `X509 CRL` in it"),
        ("ca.pem", misspelt.as_bytes(), "there is `CERT` in it"),
        ("server.pem", b"", "is empty"),
        ("server.pem", key.as_bytes(), "holds no PEM `CERTIFICATE`"),
        ("server.key", b"", "is empty"),
        ("server.key", certificate.as_bytes(), "holds no PEM private key"),
        ("server.key", other_key.as_bytes(), "with the key in"),
    ];
    for (name, content, expected) in cases {
        let error = files.load_with(name, content).expect_err(expected);
        assert!(error.contains(expected) && error.contains(name), "{name}, {expected}: {error}");
        assert!(!error.contains(&key[40..60]), "{error}");
    }
}

#[test]
fn a_key_that_is_shared_by_a_group_stays_so() {
    let files = Files::new();
    let mode = || {
        std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(files.path("server.key")).unwrap().permissions(),
        )
    };
    fs::set_permissions(
        files.path("server.key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o640),
    )
    .unwrap();
    Tls::load(&files.config, Arc::new(SystemClock), Arc::new(Metrics::new("test")))
        .map(drop)
        .unwrap();
    assert_eq!(mode() & 0o777, 0o640);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let files = Files::new();
    let load = || Tls::load(&files.config, Arc::new(SystemClock), Arc::new(Metrics::new("test")));
    load().map(drop).unwrap();
    fs::set_permissions(
        files.path("server.key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o604),
    )
    .unwrap();
    let error = format!("{:#}", load().err().unwrap());
    assert!(error.contains("server.key") && error.contains("chmod 600"), "{error}");
}
