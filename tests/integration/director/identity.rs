//! Who a vehicle is: tokens, client certificates, a trusted proxy; and that each sees its own
//! metadata only.

use std::net::SocketAddr;
use std::path::Path;

use motorcade::api::{IssuedToken, VehicleBody};
use motorcade::config::VehicleIdFrom;
use motorcade::model::AccessRole::Engineer;
use reqwest::Method;

use super::vehicle::TestVehicle;
use crate::answer::Answer;
use crate::app::{TestServer, send};
use crate::ca::{Ca, TlsFiles, client};

/// A server with TLS, and where it listens.
async fn tls_server(folder: &Path, ca: &Ca, id_from: VehicleIdFrom) -> (TestServer, SocketAddr) {
    TlsFiles::new(folder, ca).serve(id_from).await
}

async fn get(client: &reqwest::Client, address: SocketAddr, path: &str) -> Answer {
    send(client.get(format!("https://{address}{path}"))).await
}

#[tokio::test]
async fn a_client_certificate_says_which_vehicle_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let (server, address) = tls_server(folder.path(), &ca, VehicleIdFrom::Cn).await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    let other = TestVehicle::registered(&server, "VIN2").await;
    let ours = client(&ca, Some(ca.issue("VIN1", None)));

    let timestamp = get(&ours, address, "/director/timestamp.json").await.json();
    assert_eq!(timestamp["signed"]["vin"], "VIN1");
    let put = |body: String| ours.put(format!("https://{address}/director/manifest")).body(body);
    send(put(vehicle.next_manifest().to_string())).await.expect(204);
    // AT-43: what another vehicle has signed, through our channel.
    send(put(other.manifest().to_string())).await.refused(403, "forbidden");
    // A certificate and another vehicle's token.
    let both =
        ours.get(format!("https://{address}/director/timestamp.json")).bearer_auth(&other.token);
    send(both).await.refused(403, "forbidden");
    // Certificates that name nobody, or nobody that is registered.
    let unknown = client(&ca, Some(ca.issue("VIN3", None)));
    get(&unknown, address, "/director/timestamp.json").await.refused(404, "vehicle_not_found");
    let nameless = client(&ca, Some(ca.issue("no vehicle", None)));
    get(&nameless, address, "/director/timestamp.json").await.refused(403, "forbidden");
    // Without one: known by a token, or not at all. The API works here, too.
    let anonymous = client(&ca, None);
    get(&anonymous, address, "/director/timestamp.json").await.refused(401, "unauthenticated");
    let api = anonymous
        .get(format!("https://{address}/api/v1/vehicles"))
        .bearer_auth(server.state.tokens.of(Engineer));
    send(api).await.expect(200);
    get(&anonymous, address, "/director/1.root.json").await.expect(200);
    // A factory's token does not let one vehicle enrol as another.
    let enrol = |vin: &str| {
        let request = ours
            .post(format!("https://{address}/director/ecus"))
            .bearer_auth(&server.state.tokens.enroller);
        request.json(&TestVehicle::new(vin).enrolment())
    };
    send(enrol("VIN9")).await.refused(403, "forbidden");
    // Another CA's certificate gets no connection.
    let stranger = client(&ca, Some(Ca::new("OEM").issue("VIN1", None)));
    assert!(
        stranger.get(format!("https://{address}/director/timestamp.json")).send().await.is_err()
    );
}

#[tokio::test]
async fn the_id_can_be_in_an_alternative_name() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let (server, address) = tls_server(folder.path(), &ca, VehicleIdFrom::Uri).await;
    TestVehicle::registered(&server, "VIN1").await;
    let ours = client(&ca, Some(ca.issue("gateway", Some("urn:oem:vin:VIN1"))));
    assert_eq!(
        get(&ours, address, "/director/timestamp.json").await.json()["signed"]["vin"],
        "VIN1"
    );
}

#[tokio::test]
async fn a_vehicle_sees_its_own_metadata_only() {
    let server = TestServer::start().await;
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    let other = TestVehicle::registered(&server, "VIN2").await;
    assert_eq!(vehicle.fetch(&server, "targets.json").await.json()["signed"]["vin"], "VIN1");
    assert_eq!(other.fetch(&server, "targets.json").await.json()["signed"]["vin"], "VIN2");
    for token in ["guess", "", server.state.tokens.of(Engineer)] {
        let request = server.request(Method::GET, "/director/targets.json").bearer_auth(token);
        send(request).await.refused(401, "unauthenticated");
    }
    // The header of a proxy means nothing unless it was configured.
    let request =
        server.request(Method::GET, "/director/targets.json").header("X-Vehicle-Id", "VIN1");
    send(request).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_token_is_issued_anew_and_the_old_one_stops_working() {
    let server = TestServer::start().await;
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.fetch(&server, "timestamp.json").await.expect(200);
    let issue = server.request_as(Engineer, Method::POST, "/api/v1/vehicles/VIN1/token");
    let issued: IssuedToken = send(issue).await.body();
    vehicle.fetch(&server, "timestamp.json").await.refused(401, "unauthenticated");
    vehicle.token = issued.token;
    vehicle.fetch(&server, "timestamp.json").await.expect(200);
}

#[tokio::test]
async fn a_trusted_proxy_names_the_vehicle_and_nobody_else_does() {
    for (address, works) in [
        ("127.0.0.1", true),
        ("::ffff:127.0.0.1", true),
        ("127.0.0.0/8", true),
        ("192.0.2.1", false),
    ] {
        let server = TestServer::configured(|config| {
            config.vehicles.proxy =
                Some(("X-Vehicle-Id".to_owned(), vec![address.parse().unwrap()]));
        })
        .await;
        TestVehicle::registered(&server, "VIN1").await;
        let request =
            server.request(Method::GET, "/director/targets.json").header("X-Vehicle-Id", "VIN1");
        let answer = send(request).await;
        if works {
            assert_eq!(answer.json()["signed"]["vin"], "VIN1");
        } else {
            answer.refused(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn a_vehicle_reads_a_repository_that_takes_a_token() {
    let server =
        TestServer::configured(|config| config.repo_access = motorcade::config::RepoAccess::Token)
            .await;
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    let request = server.request(Method::GET, "/repo/timestamp.json");
    send(request.bearer_auth(&vehicle.token)).await.expect(200);
    send(server.request(Method::GET, "/repo/timestamp.json")).await.refused(401, "unauthenticated");
}

/// The whole way: the real vehicle enrols, updates and reports over TLS, with its own certificate.
#[tokio::test]
async fn a_vehicle_is_updated_over_mutual_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let (server, address) = tls_server(folder.path(), &ca, VehicleIdFrom::Cn).await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    let (certificate, key) = ca.issue("VIN1", None);
    let director =
        send(server.request(Method::GET, "/director/1.root.json")).await.expect(200).to_vec();
    let image = server.download("1.root.json").await;
    let files = [
        ("c.pem", certificate.into_bytes()),
        ("c.key", key.into_bytes()),
        ("d.json", director),
        ("i.json", image),
    ];
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let run = |arguments: &str| {
        let mut command = std::process::Command::new(crate::support::vehicle_binary());
        command.current_dir(folder.path()).args(arguments.split(' '));
        command.env("MOTORCADE_ENROLMENT_TOKEN", &server.state.tokens.enroller).output().unwrap()
    };
    let provision = format!(
        "provision --dir v --vin VIN1 --server https://{address} --primary gw-1:gw-mk3 --secondary gw-2:gw-mk3:rsa \
         --director-root d.json --image-root i.json --ca-file ca.pem --client-cert c.pem --client-key c.key"
    );
    let provisioned = run(&provision);
    assert!(provisioned.status.success(), "{}", String::from_utf8_lossy(&provisioned.stderr));
    // The certificate of one vehicle, the settings of another: refused before anything is enrolled.
    let other = run(&provision
        .replace("VIN1", "VIN2")
        .replace("--dir v", "--dir w")
        .replace("gw-1", "gw-3"));
    assert!(String::from_utf8_lossy(&other.stderr).contains("another vehicle"), "{other:?}");

    let item = |ecu: &str| serde_json::json!({ "ecu_serial": ecu, "image": "gw/1" });
    let body = serde_json::json!({ "assignments": [item("gw-1"), item("gw-2")] });
    let request = server.request_as(Engineer, Method::POST, "/api/v1/vehicles/VIN1/assignments");
    send(request.json(&body)).await.expect(201);
    let updated = run("update --dir v --json");
    let outcome: serde_json::Value = serde_json::from_slice(&updated.stdout).unwrap();
    assert_eq!(outcome["outcome"], "updated", "{outcome}");
    for ecu in ["gw-1", "gw-2"] {
        let installed =
            std::fs::read(folder.path().join("v/ecus").join(ecu).join("image.bin")).unwrap();
        assert!(installed.starts_with(b"firmware at /api/v1/images/gw/1"), "{ecu}");
    }
    let shown: VehicleBody = server.get("/api/v1/vehicles/VIN1").await.body();
    let runs = shown.ecus.iter().map(|ecu| &*ecu.installed.as_ref().unwrap().path);
    let runs: Vec<_> = runs.collect();
    assert_eq!(runs, ["gw/1", "gw/1"]);
}
