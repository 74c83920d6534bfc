//! TLS that holds out against quantum computers: the key exchange X25519MLKEM768, and certificates
//! of ML-DSA (docs/POST-QUANTUM.md).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use motorcade::config::VehicleIdFrom::Cn;
use rcgen::{PKCS_ML_DSA_44, PKCS_ML_DSA_65, PKCS_ML_DSA_87};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, NamedGroup, RootCertStore, StreamOwned};

use crate::ca::{Ca, TlsFiles, client};
use crate::director::vehicle::TestVehicle;
use crate::state::TestState;
use crate::support::vehicle_binary;

/// The key exchange that a client with these gets, once it was answered.
fn key_exchange(
    address: SocketAddr,
    ca: &Ca,
    groups: Vec<&'static dyn SupportedKxGroup>,
) -> NamedGroup {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = CryptoProvider { kx_groups: groups, ..default_provider() };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stream.conn.negotiated_key_exchange_group().unwrap().name()
}

#[tokio::test]
async fn the_server_takes_the_key_exchange_that_the_client_prefers() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let files = TlsFiles::new(folder.path(), &ca);
    let (_server, address) = files.serve(Cn).await;
    let (hybrid, classical) = (kx_group::X25519MLKEM768, kx_group::X25519);
    let seen = tokio::task::spawn_blocking(move || {
        [vec![hybrid], vec![hybrid, classical], vec![classical, hybrid], vec![classical]]
            .map(|groups| key_exchange(address, &ca, groups))
    });
    let expected = [
        NamedGroup::X25519MLKEM768,
        NamedGroup::X25519MLKEM768,
        NamedGroup::X25519,
        NamedGroup::X25519,
    ];
    assert_eq!(seen.await.unwrap(), expected);
}

/// Certificates of server, client and CA: nothing classical is left but half of the key exchange.
#[tokio::test]
async fn a_vehicle_is_known_by_a_certificate_of_ml_dsa() {
    for algorithm in [&PKCS_ML_DSA_44, &PKCS_ML_DSA_65, &PKCS_ML_DSA_87] {
        let folder = tempfile::tempdir().unwrap();
        let (ca, other) = (Ca::of("OEM", algorithm), Ca::of("another", algorithm));
        let files = TlsFiles::new(folder.path(), &ca).with_crl(&ca.revoke(&[2], 2099));
        let (server, _) = files.serve(Cn).await;
        TestVehicle::registered(&server, "VIN1").await;
        let ask = async |identity| {
            let request = client(&ca, Some(identity)).get(files.url("/director/targets.json"));
            request.send().await.map(|answer| answer.status().as_u16())
        };
        assert_eq!(ask(ca.issue_numbered("VIN1", 1)).await.unwrap(), 200, "{algorithm:?}");
        assert!(ask(ca.issue_numbered("VIN1", 2)).await.is_err(), "it is revoked");
        assert!(ask(other.issue_numbered("VIN1", 1)).await.is_err(), "another CA's");
    }
}

/// A factory may go on with the CA that it has, and change over vehicle by vehicle.
#[tokio::test]
async fn certificates_of_both_kinds_are_believed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Ca::new("OEM"), Ca::of("OEM, post-quantum", &PKCS_ML_DSA_65));
    let files = TlsFiles::new(folder.path(), &old);
    files.write("ca.pem", format!("{}{}", old.pem, new.pem));
    let (server, _) = files.serve(Cn).await;
    TestVehicle::registered(&server, "VIN1").await;
    TestVehicle::registered(&server, "VIN2").await;
    for (ca, vin) in [(&old, "VIN1"), (&new, "VIN2")] {
        let client = client(&old, Some(ca.issue(vin, None)));
        let answer = client.get(files.url("/director/targets.json")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{vin}");
    }
}

/// What a program offers to a server, in its order, before it is hung up on.
fn offered(listener: &TcpListener, command: &mut Command) -> Vec<NamedGroup> {
    let mut command =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut acceptor = Acceptor::default();
    let groups = loop {
        acceptor.read_tls(&mut stream).unwrap();
        if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error).unwrap() {
            break accepted.client_hello().named_groups().unwrap().to_vec();
        }
    };
    drop(stream);
    command.kill().unwrap(); // it would try again
    command.wait().unwrap();
    groups
}

#[test]
fn commands_offer_the_hybrid_key_exchange_first() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorcade"));
    command.args(["recipient", "list", "--server", &server]);
    let groups = offered(&listener, command.env("MOTORCADE_TOKEN", "mc_0000000000000000"));
    assert_eq!(groups.first(), Some(&NamedGroup::X25519MLKEM768), "{groups:?}");
    assert!(groups.contains(&NamedGroup::X25519), "{groups:?}");
}

#[tokio::test]
async fn a_vehicle_offers_it_first_if_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let state = TestState::new();
    let catalog = state.dir().open_catalog().await.unwrap();
    let director = catalog.find_director_root(None).await.unwrap().unwrap();
    catalog.close().await;
    std::fs::write(folder.path().join("director-root.json"), director.body).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    let vehicle = |arguments: &str| {
        let mut command = Command::new(vehicle_binary());
        command.current_dir(folder.path()).args(arguments.split(' '));
        command
    };
    std::fs::write(folder.path().join("root.json"), state.first_root()).unwrap();
    let provision = format!(
        "provision --dir v --vin VIN1 --server {server} --primary gw-1:gw-mk3 --no-enrol \
         --director-root director-root.json --image-root root.json"
    );
    let provisioned = vehicle(&provision).output().unwrap();
    assert!(provisioned.status.success(), "{provisioned:?}");
    let first = || offered(&listener, &mut vehicle("update --dir v"))[0];
    assert_eq!(first(), NamedGroup::X25519);
    let settings = folder.path().join("v/vehicle.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text + "\n[tls]\npost_quantum = true\n").unwrap();
    assert_eq!(first(), NamedGroup::X25519MLKEM768);
}
