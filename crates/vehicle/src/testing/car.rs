//! A vehicle for tests, with the two repositories that it asks.

use std::path::PathBuf;

use motorcade_envelope::jwe::Envelope;
use motorcade_envelope::key::{DataKey, RecipientKey};
use motorcade_envelope::stream::SealWriter;
use motorcade_model::{EcuSerial, SealAlgorithm};
use motorcade_uptane::key::Scheme;
use motorcade_uptane::manifest::{EcuReport, VehicleManifest};
use motorcade_uptane::verify::fixture::{Repo, sha256};
use motorcade_uptane::verify::{Attack, Fault};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::Server;
use crate::Error;
use crate::config::{Config, EcuConfig, TlsConfig};
use crate::cycle::{self, Outcome};
use crate::ecu::{EncryptionKind, KeyFiles};
use crate::folder::Folder;
use crate::provision::{self, Plan, PlannedEcu};
use crate::setup::Vehicle;

/// A vehicle with one Secondary, and its two repositories.
pub(crate) struct Car {
    pub(crate) server: Server,
    dir: TempDir,
    pub(crate) plan: Plan,
    pub(crate) director: Repo,
    pub(crate) image: Repo,
    pub(crate) version: u64,
}

/// A sealed image: its bytes, its plaintext and its key.
pub(crate) struct Image {
    pub(crate) sealed: Vec<u8>,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) key: DataKey,
}

pub(crate) fn image(length: usize) -> Image {
    let plaintext: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
    let key = DataKey::generate();
    let mut writer = SealWriter::new(Vec::new(), &key, SealAlgorithm::Aes256GcmHkdf4Kb).unwrap();
    std::io::Write::write_all(&mut writer, &plaintext).unwrap();
    Image { sealed: writer.finish().unwrap(), plaintext, key }
}

impl Image {
    pub(crate) fn custom(&self, name: &str, counter: u64) -> Value {
        let plaintext = json!({ "length": self.plaintext.len(), "hashes": { "sha256": sha256(&self.plaintext) } });
        json!({
            "name": name, "version": "1", "hardwareIds": ["gw", "br"], "releaseCounter": counter, "targetFormat": "BINARY",
            "sealed": { "alg": "AES256_GCM_HKDF_4KB", "plaintext": plaintext },
        })
    }

    pub(crate) fn envelope_for(&self, recipient: &RecipientKey) -> Value {
        self.sealed_for(recipient).for_one(recipient.kid()).unwrap()
    }

    pub(crate) fn public_envelope_for(&self, recipient: &RecipientKey) -> String {
        self.sealed_for(recipient).public_json().unwrap()
    }

    fn sealed_for(&self, recipient: &RecipientKey) -> Envelope {
        Envelope::seal(&self.key, SealAlgorithm::Aes256GcmHkdf4Kb, &[recipient], None).unwrap()
    }
}

/// An error and its causes.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

pub(crate) fn target(bytes: &[u8], custom: Value) -> Value {
    json!({ "length": bytes.len(), "hashes": { "sha256": sha256(bytes) }, "custom": custom })
}

impl Car {
    pub(crate) fn new() -> Self {
        Self::below(tempfile::tempdir().unwrap())
    }

    pub(crate) fn below(dir: TempDir) -> Self {
        let (director, image) = (Repo::new(Some("VIN1")), Repo::new(None));
        let server = Server::start();
        let (director_root, image_root) = (dir.path().join("d.json"), dir.path().join("i.json"));
        std::fs::write(&director_root, director.file("1.root.json")).unwrap();
        std::fs::write(&image_root, image.file("1.root.json")).unwrap();
        let ecu = |serial: &str, hardware: &str| PlannedEcu {
            serial: serial.parse().unwrap(),
            hardware_id: hardware.parse().unwrap(),
            encryption: EncryptionKind::P256,
        };
        let plan = Plan {
            vin: "VIN1".parse().unwrap(),
            server: server.url.clone(),
            ecus: vec![ecu("p-1", "gw"), ecu("s-1", "br")],
            signing: Scheme::Ed25519,
            tls: TlsConfig::default(),
            director_root,
            image_root,
        };
        let car = Self { server, dir, plan, director, image, version: 0 };
        let record = provision::make(&car.folder(), &car.plan).unwrap();
        assert_eq!(
            provision::make(&car.folder(), &car.plan).unwrap(),
            record,
            "it can be repeated"
        );
        assert_eq!(record["ecus"][1]["role"], "secondary");
        car.set_time("2030-01-01T00:00:00Z");
        car.configure("time_file = \"time\"\nstall_timeout_seconds = 1\n");
        car
    }

    pub(crate) fn folder(&self) -> Folder {
        Folder::new(&self.dir.path().join("car"))
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder().path().join(below)
    }

    pub(crate) fn set_time(&self, time: &str) {
        std::fs::write(self.path("time"), time).unwrap();
    }

    /// Adds settings in front of what is there.
    pub(crate) fn configure(&self, settings: &str) {
        let path = self.path("vehicle.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{settings}{text}")).unwrap();
    }

    pub(crate) fn replace_setting(&self, old: &str, new: &str) {
        let path = self.path("vehicle.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{text}");
        std::fs::write(path, text.replace(old, new)).unwrap();
    }

    pub(crate) fn vehicle(&self) -> Vehicle {
        Vehicle::open(self.folder().path()).unwrap()
    }

    pub(crate) fn key_of(&self, serial: &str) -> RecipientKey {
        let keys = self.keys().into_iter().find(|(known, _)| known.as_str() == serial);
        keys.unwrap().1.encryption().unwrap().public().clone()
    }

    /// Of each ECU; also while a vehicle is open.
    fn keys(&self) -> Vec<(EcuSerial, KeyFiles)> {
        let config = Config::load(&self.folder().config()).unwrap();
        let keys = |ecu: &EcuConfig| KeyFiles::new(self.folder().path(), ecu);
        config.ecus.iter().map(|ecu| (ecu.serial.clone(), keys(ecu))).collect()
    }

    /// Lists an image on the Image repository, and serves it.
    pub(crate) fn list(&mut self, path: &str, image: &Image, custom: &Value) {
        self.image.targets["targets"][path] = target(&image.sealed, custom.clone());
        self.serve_target(path, &image.sealed);
    }

    pub(crate) fn serve_target(&self, path: &str, bytes: &[u8]) {
        let (folder, file) = path.rsplit_once('/').unwrap();
        self.server.put(&format!("/repo/targets/{folder}/{}.{file}", sha256(bytes)), bytes);
    }

    /// The Director's target metadata of an image for one ECU.
    pub(crate) fn assign(
        &self,
        image: &Image,
        mut custom: Value,
        serial: &str,
        hardware: &str,
    ) -> Value {
        let envelope = image.envelope_for(&self.key_of(serial));
        custom["ecuIdentifiers"] =
            json!({ serial: { "hardwareId": hardware, "envelope": envelope } });
        target(&image.sealed, custom)
    }

    /// Publishes both repositories with these targets at the Director.
    pub(crate) fn publish(&mut self, targets: Value) {
        self.director.targets = json!({ "targets": targets });
        self.publish_as_it_is();
    }

    /// The same with whatever the Director's Targets have by now.
    pub(crate) fn publish_as_it_is(&mut self) {
        self.version += 1;
        self.director.publish(self.version);
        self.image.publish(self.version);
        for (name, bytes) in &self.director.files {
            self.server.put(&format!("/director/{name}"), bytes);
        }
        for (name, bytes) in &self.image.files {
            self.server.put(&format!("/repo/{name}"), bytes);
        }
    }

    pub(crate) fn update(&self) -> Outcome {
        cycle::run(&mut self.vehicle())
    }

    /// A cycle that goes well.
    pub(crate) fn updated(&self) -> Outcome {
        let outcome = self.update();
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        outcome
    }

    /// A cycle that ends with an attack; returns the message.
    pub(crate) fn refused(&self, attack: Attack) -> String {
        let outcome = self.update();
        let failure = outcome.failure.as_ref().expect("it is refused").to_string();
        assert_eq!((outcome.attack(), &outcome.installed), (Some(attack), &vec![]), "{failure}");
        failure
    }

    /// A cycle that fails without an attack; returns the message.
    pub(crate) fn failed(&self, fault: Fault) -> String {
        let outcome = self.update();
        let failure = outcome.failure.as_ref().expect("it fails").to_string();
        assert_eq!((outcome.attack(), outcome.fault()), (None, Some(fault)), "{failure}");
        failure
    }

    /// The reports of an ECU in the manifests since the last look.
    pub(crate) fn reports(&self, serial: &str) -> Vec<EcuReport> {
        let serial: EcuSerial = serial.parse().unwrap();
        let report = |body: &Vec<u8>| {
            VehicleManifest::parse(body).unwrap().content.reports[&serial].content.clone()
        };
        self.server.bodies().iter().map(report).collect()
    }

    /// What the manifests since the last look say went wrong with an ECU.
    pub(crate) fn faults(&self, serial: &str) -> String {
        let faults = self.reports(serial).into_iter().map(|report| report.faults_detected);
        faults.filter(|faults| !faults.is_empty()).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn installed(&self, serial: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(&format!("ecus/{serial}/image.bin"))).ok()
    }

    /// Path, attacks and counter of an ECU in the last manifest, whose signatures are checked.
    pub(crate) fn reported(&self, serial: &str) -> (String, String, u64) {
        let body = self.server.bodies().pop().expect("a manifest was sent");
        let manifest = VehicleManifest::parse(&body).unwrap();
        for (serial, keys) in self.keys() {
            let key = keys.signing().unwrap();
            assert!(manifest.content.reports[&serial].verify(key.public().verifying()));
        }
        let report = &manifest.content.reports[&serial.parse::<EcuSerial>().unwrap()].content;
        (report.installed_image.path.clone(), report.attacks_detected.clone(), report.counter)
    }

    /// Lists an image for the Primary in both repositories.
    pub(crate) fn offer(&mut self, path: &str, image: &Image, counter: u64) {
        self.offer_to("p-1", "gw", path, image, image.custom("gateway", counter));
    }

    /// Lists an image for the Secondary in both repositories.
    pub(crate) fn offer_brake(&mut self, image: &Image) {
        self.offer_to("s-1", "br", "br/1/br.bin", image, image.custom("brake", 1));
    }

    fn offer_to(&mut self, ecu: &str, hardware: &str, path: &str, image: &Image, custom: Value) {
        self.list(path, image, &custom);
        let assigned = self.assign(image, custom, ecu, hardware);
        self.publish(json!({ path: assigned }));
    }

    /// Has a shell install the Primary's images; returns the setting.
    pub(crate) fn install_with(&self, script: &str) -> String {
        let command = format!("command = [\"sh\", \"-c\", \"{script}\"]");
        self.replace_setting("file = \"ecus/p-1/image.bin\"", &command);
        command
    }
}
