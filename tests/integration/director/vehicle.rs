//! A vehicle with real keys that says whatever a test wants it to.

use std::collections::BTreeMap;

use motorcade::api::{History, VehicleBody, VehicleList};
use motorcade::envelope::key::RecipientPrivateKey;
use motorcade::model::{
    AccessRole, Clock, EcuSerial, InstalledImage, Sha256Digest, SystemClock, VehicleId,
};
use motorcade::uptane::key::{Scheme, SigningKey};
use motorcade::uptane::manifest::{EcuReport, VehicleManifest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::app::{TestServer, send, sha256_hex};

/// An ECU of a test vehicle.
pub(crate) struct TestEcu {
    pub(crate) serial: EcuSerial,
    pub(crate) hardware_id: String,
    pub(crate) signing: SigningKey,
    pub(crate) encryption: RecipientPrivateKey,
    pub(crate) report: EcuReport,
}

/// A vehicle with a Primary and a Secondary.
pub(crate) struct TestVehicle {
    pub(crate) vin: VehicleId,
    pub(crate) token: String,
    pub(crate) ecus: Vec<TestEcu>,
    pub(crate) targets_version: u64,
}

impl TestEcu {
    pub(crate) fn new(serial: &str, hardware_id: &str) -> Self {
        let serial: EcuSerial = serial.parse().unwrap();
        let factory = InstalledImage {
            path: format!("factory-{serial}"),
            length: 1,
            sha256: Sha256Digest::from_bytes([0; 32]),
        };
        let report = EcuReport {
            attacks_detected: String::new(),
            counter: 0,
            ecu_serial: serial.clone(),
            faults_detected: String::new(),
            installed_image: factory,
            time: SystemClock.now(),
        };
        Self {
            serial,
            hardware_id: hardware_id.to_owned(),
            signing: SigningKey::from_pem(&SigningKey::generate_pem(Scheme::Ed25519).unwrap())
                .unwrap(),
            encryption: RecipientPrivateKey::generate_p256(),
            report,
        }
    }

    /// As it is registered.
    pub(crate) fn record(&self, role: &str) -> Value {
        json!({
            "ecu_serial": self.serial, "hardware_id": self.hardware_id, "role": role,
            "signing_key": self.signing.public().object(), "encryption_key": self.encryption.public().to_public_pem(),
        })
    }
}

impl TestVehicle {
    pub(crate) fn new(vin: &str) -> Self {
        let ecus = vec![
            TestEcu::new(&format!("{vin}-gw"), "gw-mk3"),
            TestEcu::new(&format!("{vin}-brake"), "brake-2"),
        ];
        Self {
            vin: vin.parse().unwrap(),
            token: format!("token of {vin}"),
            ecus,
            targets_version: 0,
        }
    }

    /// As an engineer registers it.
    pub(crate) fn record(&self) -> Value {
        let ecus: Vec<Value> =
            self.ecus.iter().enumerate().map(|(i, ecu)| ecu.record(role(i))).collect();
        json!({ "vin": self.vin, "ecus": ecus, "token_sha256": sha256_hex(self.token.as_bytes()) })
    }

    /// As it enrols itself.
    pub(crate) fn enrolment(&self) -> Value {
        let mut record = self.record();
        for ecu in record["ecus"].as_array_mut().unwrap() {
            ecu.as_object_mut().unwrap().remove("role");
        }
        record["primary_ecu_serial"] = self.ecus[0].serial.as_str().into();
        record
    }

    pub(crate) async fn registered(server: &TestServer, vin: &str) -> Self {
        let vehicle = Self::new(vin);
        let request = server.request_as(AccessRole::Engineer, Method::POST, "/api/v1/vehicles");
        send(request.json(&vehicle.record())).await.expect(201);
        vehicle
    }

    /// Raises every counter and puts a manifest together.
    pub(crate) fn next_manifest(&mut self) -> Value {
        for ecu in &mut self.ecus {
            ecu.report.counter += 1;
        }
        self.manifest()
    }

    /// A manifest with the reports as they are.
    pub(crate) fn manifest(&self) -> Value {
        let reports =
            self.ecus.iter().map(|ecu| (ecu.serial.clone(), ecu.report.sign(&ecu.signing)));
        self.sign(reports.collect())
    }

    pub(crate) fn sign(&self, reports: BTreeMap<EcuSerial, Value>) -> Value {
        let primary = &self.ecus[0];
        VehicleManifest::sign(
            &self.vin,
            &primary.serial,
            self.targets_version,
            reports,
            &primary.signing,
        )
    }

    pub(crate) async fn send(&self, server: &TestServer, manifest: &Value) -> Answer {
        let request = server.request(Method::PUT, "/director/manifest").bearer_auth(&self.token);
        send(request.body(manifest.to_string())).await
    }

    /// Sends the next manifest, which has to be accepted.
    pub(crate) async fn report(&mut self, server: &TestServer) {
        let manifest = self.next_manifest();
        self.send(server, &manifest).await.expect(204);
    }

    /// Gets a file of the Director repository.
    pub(crate) async fn fetch(&self, server: &TestServer, name: &str) -> Answer {
        send(server.request(Method::GET, &format!("/director/{name}")).bearer_auth(&self.token))
            .await
    }

    /// The content of the Targets that are signed for it now.
    pub(crate) async fn targets(&mut self, server: &TestServer) -> Value {
        let targets = self.fetch(server, "targets.json").await.json()["signed"].clone();
        self.targets_version = targets["version"].as_u64().unwrap();
        targets
    }

    /// Reports that an ECU runs an uploaded image.
    pub(crate) async fn runs(&mut self, server: &TestServer, ecu: usize, path: &str) {
        self.runs_image(server, ecu, server.installed(path).await).await;
    }

    /// Reports that an ECU runs an image, whatever the server has of that path.
    pub(crate) async fn runs_image(
        &mut self,
        server: &TestServer,
        ecu: usize,
        image: InstalledImage,
    ) {
        self.ecus[ecu].report.installed_image = image;
        self.report(server).await;
    }

    /// Details of what happened of one kind, the newest first.
    pub(crate) async fn events(&self, server: &TestServer, kind: &str) -> Vec<String> {
        let history = self.history(server).await;
        history.into_iter().filter(|(known, _)| known == kind).map(|(_, detail)| detail).collect()
    }

    /// Asks for images to be assigned: pairs of an ECU's index and a path.
    pub(crate) async fn assign(&self, server: &TestServer, images: &[(usize, &str)]) -> Answer {
        self.assign_with(server, images, json!({})).await
    }

    pub(crate) async fn assign_with(
        &self,
        server: &TestServer,
        images: &[(usize, &str)],
        more: Value,
    ) -> Answer {
        let item = |(ecu, image): &(usize, &str)| json!({ "ecu_serial": self.ecus[*ecu].serial, "image": image });
        let mut body = more;
        body["assignments"] = images.iter().map(item).collect();
        let path = format!("/api/v1/vehicles/{}/assignments", self.vin);
        send(server.request_as(AccessRole::Engineer, Method::POST, &path).json(&body)).await
    }

    /// What the API shows of it.
    pub(crate) async fn shown(&self, server: &TestServer) -> VehicleBody {
        server.get(&format!("/api/v1/vehicles/{}", self.vin)).await.body()
    }

    /// What happened to it, the newest first: kinds and details.
    pub(crate) async fn history(&self, server: &TestServer) -> Vec<(String, String)> {
        let path = format!("/api/v1/vehicles/{}/history", self.vin);
        let history: History = server.get(&path).await.body();
        history.events.into_iter().map(|event| (event.kind, event.detail)).collect()
    }
}

impl TestServer {
    /// An uploaded image as an ECU reports it.
    pub(crate) async fn installed(&self, path: &str) -> InstalledImage {
        let image = self.image(path).await;
        InstalledImage {
            path: path.to_owned(),
            length: image.sealed.length,
            sha256: image.sealed.sha256.parse().unwrap(),
        }
    }

    /// Ids of the vehicles that a filter leaves.
    pub(crate) async fn vehicles(&self, filter: &str) -> Vec<String> {
        let page: VehicleList = self.get(&format!("/api/v1/vehicles?{filter}")).await.body();
        page.vehicles.into_iter().map(|vehicle| vehicle.vin).collect()
    }

    /// Uploads an image for a hardware id that has a recipient; `more` is added to the query.
    pub(crate) async fn upload_for(&self, hardware: &str, path: &str, counter: u64, more: &str) {
        let body = json!({
            "hardware_ids": [hardware], "public_key": crate::state::key_file("snakeoil_p256.pub.pem"),
        });
        let request = self.request_as(AccessRole::Engineer, Method::POST, "/api/v1/recipients");
        assert!(send(request.json(&body)).await.status < 300);
        let path = format!(
            "/api/v1/images/{path}?hardware_id={hardware}&version=1&release_counter={counter}{more}"
        );
        let request = self.request_as(AccessRole::Uploader, Method::PUT, &path);
        send(request.body(format!("firmware at {path}"))).await.expect(201);
    }
}

pub(crate) fn role(index: usize) -> &'static str {
    if index == 0 { "primary" } else { "secondary" }
}
