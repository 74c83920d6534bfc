use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, SupportedProtocolVersion};
use rustls_pki_types::{PrivateKeyDer, ServerName, pem::PemObject};
use tempfile::TempDir;

use super::*;

/// A clock that is so many hours ahead of the system's.
#[derive(Clone, Default)]
struct Ahead(Arc<Mutex<u32>>);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp::now() + Duration::from_secs(3600) * *self.0.lock().unwrap()
    }
}

struct Ca(Issuer<'static, KeyPair>, String);

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// A certificate that is good for so many hours.
    fn issue(&self, serial: u64, hours: u64) -> (String, String) {
        let mut params = CertificateParams::new(vec!["motorcade.example".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let now = u64::try_from(Timestamp::now().as_second()).unwrap();
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now + hours * 3600);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn revoke(&self, serial: u64, hours: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let now = u64::try_from(Timestamp::now().as_second()).unwrap();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(1970, 1, 1) + Duration::from_secs(now + hours * 3600),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A server's half of TLS, with a clock of its own.
struct Rig {
    folder: TempDir,
    ca: Ca,
    clock: Ahead,
    tls: Arc<Tls>,
}

impl Rig {
    fn new() -> Self {
        let (folder, ca, clock) = (tempfile::tempdir().unwrap(), Ca::new("OEM"), Ahead::default());
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let (certificate, key) = ca.issue(1, 10_000);
        write("server.pem", &certificate);
        write("server.key", &key);
        write("ca.pem", &ca.1);
        write("crl.pem", &ca.revoke(99, 5000));
        let tls = load(&folder, &clock);
        Self { folder, ca, clock, tls }
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.folder.path().join(name), content).unwrap();
        self.tls.reload().unwrap();
    }

    fn is_after(&self, hours: u32) {
        *self.clock.0.lock().unwrap() = hours;
    }

    /// A vehicle whose certificate is good for so many hours.
    fn vehicle(&self, hours: u64, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.1.as_bytes()).unwrap()).unwrap();
        let (certificate, key) = self.ca.issue(7, hours);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key);
        Arc::new(config.unwrap())
    }

    /// Connects, and says how that went at the server.
    fn connect(&self, vehicle: &Arc<ClientConfig>) -> Result<HandshakeKind, Error> {
        let name = ServerName::try_from("motorcade.example").unwrap();
        let mut client = ClientConnection::new(Arc::clone(vehicle), name).unwrap();
        let mut server = ServerConnection::new(self.tls.current()).unwrap();
        for _ in 0..6 {
            let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut to_server).unwrap();
            }
            let mut unread = to_server.as_slice();
            while !unread.is_empty() {
                server.read_tls(&mut unread).unwrap();
                server.process_new_packets()?;
            }
            while server.wants_write() {
                server.write_tls(&mut to_client).unwrap();
            }
            let mut unread = to_client.as_slice();
            while !unread.is_empty() {
                client.read_tls(&mut unread).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        assert!(!server.is_handshaking() && !client.is_handshaking());
        assert!(!client.is_early_data_accepted());
        self.tls.check_resumed(&server)?;
        assert_eq!(server.peer_certificates().unwrap().len(), 1);
        Ok(server.handshake_kind().unwrap())
    }
}

fn load(folder: &TempDir, clock: &Ahead) -> Arc<Tls> {
    let path = |name: &str| folder.path().join(name);
    let config = TlsConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate: path("server.pem"),
        key: path("server.key"),
        client_ca: Some(path("ca.pem")),
        client_crl: Some(path("crl.pem")),
        crl_grace: Duration::ZERO,
    };
    let tls = Tls::load(&config, Arc::new(clock.clone()), Arc::new(Metrics::new("test"))).unwrap();
    tls.give_tickets(path("tickets"));
    tls
}

const FULL: Result<HandshakeKind, Error> = Ok(HandshakeKind::Full);
const RESUMED: Result<HandshakeKind, Error> = Ok(HandshakeKind::Resumed);
const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

fn refused(error: CertificateError) -> Result<HandshakeKind, Error> {
    Err(Error::InvalidCertificate(error))
}

#[test]
fn a_ticket_saves_a_handshake_before_and_after_a_restart() {
    for version in VERSIONS {
        let mut rig = Rig::new();
        let vehicle = rig.vehicle(48, version);
        assert_eq!(rig.connect(&vehicle), FULL);
        for _ in 0..3 {
            assert_eq!(rig.connect(&vehicle), RESUMED);
        }
        rig.tls = load(&rig.folder, &rig.clock);
        assert_eq!(rig.connect(&vehicle), RESUMED, "{version:?}");
        fs::remove_file(rig.folder.path().join("tickets")).unwrap();
        rig.tls = load(&rig.folder, &rig.clock);
        assert_eq!(rig.connect(&vehicle), FULL);
        let text = rig.tls.metrics.render(std::time::SystemTime::now());
        assert!(text.contains("motorcade_tls_handshakes_total{kind=\"full\"} 1\n"), "{text}");
        assert_eq!(rig.tls.current().max_early_data_size, 0);
    }
}

#[test]
fn a_vehicle_that_was_revoked_does_not_come_back_with_a_ticket() {
    for version in VERSIONS {
        let rig = Rig::new();
        let vehicle = rig.vehicle(48, version);
        assert_eq!(rig.connect(&vehicle), FULL);
        assert_eq!(rig.connect(&vehicle), RESUMED);
        rig.put("crl.pem", &rig.ca.revoke(7, 5000));
        for _ in 0..3 {
            assert_eq!(rig.connect(&vehicle), refused(CertificateError::Revoked), "{version:?}");
        }
        rig.put("crl.pem", &rig.ca.revoke(99, 5000));
        assert!(rig.connect(&vehicle).is_ok());
    }
}

#[test]
fn a_certificate_that_has_expired_does_not_come_back_with_a_ticket() {
    let rig = Rig::new();
    let vehicle = rig.vehicle(10, &rustls::version::TLS13);
    assert_eq!(rig.connect(&vehicle), FULL);
    rig.is_after(9);
    for _ in 0..2 {
        assert_eq!(rig.connect(&vehicle), RESUMED);
    }
    rig.is_after(11);
    let error = rig.connect(&vehicle).unwrap_err();
    assert!(
        matches!(error, Error::InvalidCertificate(CertificateError::ExpiredContext { .. })),
        "{error}"
    );
}

#[test]
fn a_ticket_counts_for_nothing_once_the_lists_are_too_old() {
    let rig = Rig::new();
    rig.put("crl.pem", &rig.ca.revoke(99, 10));
    let vehicle = rig.vehicle(48, &rustls::version::TLS13);
    assert_eq!(rig.connect(&vehicle), FULL);
    assert_eq!(rig.connect(&vehicle), RESUMED);
    rig.is_after(11);
    assert_eq!(rig.connect(&vehicle), refused(CertificateError::ExpiredRevocationList));
}

#[test]
fn other_authorities_know_no_tickets_of_those_before() {
    let rig = Rig::new();
    let (vehicle, other) = (rig.vehicle(48, &rustls::version::TLS13), Ca::new("another OEM"));
    assert_eq!(rig.connect(&vehicle), FULL);
    rig.put("ca.pem", &format!("{}{}", other.1, rig.ca.1));
    assert_eq!(rig.connect(&vehicle), FULL);
    assert_eq!(rig.connect(&vehicle), RESUMED);
    rig.put("ca.pem", &format!("{}{}", rig.ca.1, other.1));
    assert_eq!(rig.connect(&vehicle), RESUMED, "in another order they are the same");
    rig.put("ca.pem", &other.1);
    assert_eq!(rig.connect(&vehicle), refused(CertificateError::UnknownIssuer));
}

#[test]
fn after_two_days_there_is_no_key_for_a_ticket() {
    let rig = Rig::new();
    let vehicle = rig.vehicle(1000, &rustls::version::TLS13);
    for (hours, expected) in [(0, FULL), (24, RESUMED), (48, RESUMED), (96, FULL), (97, RESUMED)] {
        rig.is_after(hours);
        assert_eq!(rig.connect(&vehicle), expected, "{hours}");
    }
}

#[test]
fn once_a_week_a_vehicle_proves_that_it_has_its_key() {
    let rig = Rig::new();
    let vehicle = rig.vehicle(1000, &rustls::version::TLS13);
    let full = (0..20).filter(|round| {
        rig.is_after(round * 20);
        rig.connect(&vehicle) == FULL
    });
    assert_eq!(full.collect::<Vec<_>>(), [0, 9, 18]);
}

#[test]
fn a_session_of_nobody_is_resumed_as_nobody_s() {
    let rig = Rig::new();
    let tickets = rig.tls.current().ticketer.encrypt(b"session").unwrap();
    assert_eq!(rig.tls.current().ticketer.decrypt(&tickets).unwrap(), b"session");
    let nobody = rig.tls.check_standing(&[]).unwrap_err();
    assert_eq!(nobody, Error::NoCertificatesPresented);
}
