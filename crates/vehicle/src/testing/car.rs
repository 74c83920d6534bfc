use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Error;
use super::config::TlsConfig;
use super::cycle::{self, Outcome};
use super::ecu::EncryptionKind;
use super::folder::Folder;
use super::provision::{self, Plan, PlannedEcu};
use super::server_tests::{Manner, PORTAL, Server};
use super::setup::Vehicle;
use motorcade_envelope::jwe::Envelope;
use motorcade_envelope::key::{DataKey, RecipientKey};
use motorcade_envelope::stream::SealWriter;
use motorcade_model::SealAlgorithm;
use motorcade_uptane::key::Scheme;
use motorcade_uptane::manifest::VehicleManifest;
use motorcade_uptane::verify::fixture::{Repo, new_key, sha256};
use motorcade_uptane::verify::{Attack, Fault, Finding};

/// A vehicle with one Secondary, and its two repositories.
pub(super) struct Car {
    pub(super) server: Server,
    dir: TempDir,
    plan: Plan,
    director: Repo,
    image: Repo,
    version: u64,
}

/// A sealed image: its bytes, its plaintext and its key.
pub(super) struct Image {
    sealed: Vec<u8>,
    pub(super) plaintext: Vec<u8>,
    key: DataKey,
}

pub(super) fn image(length: usize) -> Image {
    let plaintext: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
    let key = DataKey::generate();
    let mut writer = SealWriter::new(Vec::new(), &key, SealAlgorithm::Aes256GcmHkdf4Kb).unwrap();
    std::io::Write::write_all(&mut writer, &plaintext).unwrap();
    Image { sealed: writer.finish().unwrap(), plaintext, key }
}

impl Image {
    fn custom(&self, name: &str, counter: u64) -> Value {
        let plaintext = json!({ "length": self.plaintext.len(), "hashes": { "sha256": sha256(&self.plaintext) } });
        json!({
            "name": name, "version": "1", "hardwareIds": ["gw", "br"], "releaseCounter": counter, "targetFormat": "BINARY",
            "sealed": { "alg": "AES256_GCM_HKDF_4KB", "plaintext": plaintext },
        })
    }

    fn envelope_for(&self, recipient: &RecipientKey) -> Value {
        let envelope =
            Envelope::seal(&self.key, SealAlgorithm::Aes256GcmHkdf4Kb, &[recipient], None).unwrap();
        envelope.for_one(recipient.kid()).unwrap()
    }
}

/// An error and its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn target(bytes: &[u8], custom: Value) -> Value {
    json!({ "length": bytes.len(), "hashes": { "sha256": sha256(bytes) }, "custom": custom })
}

impl Car {
    pub(super) fn new() -> Self {
        Self::below(tempfile::tempdir().unwrap())
    }

    pub(super) fn below(dir: TempDir) -> Self {
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

    fn folder(&self) -> Folder {
        Folder::new(&self.dir.path().join("car"))
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder().path().join(below)
    }

    fn set_time(&self, time: &str) {
        std::fs::write(self.path("time"), time).unwrap();
    }

    /// Adds settings in front of what is there.
    fn configure(&self, settings: &str) {
        let path = self.path("vehicle.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{settings}{text}")).unwrap();
    }

    fn replace_setting(&self, old: &str, new: &str) {
        let path = self.path("vehicle.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{text}");
        std::fs::write(path, text.replace(old, new)).unwrap();
    }

    fn vehicle(&self) -> Vehicle {
        Vehicle::open(self.folder().path()).unwrap()
    }

    fn key_of(&self, serial: &str) -> RecipientKey {
        let vehicle = self.vehicle();
        let ecu = vehicle.config.ecus.iter().find(|ecu| ecu.serial.as_str() == serial).unwrap();
        vehicle.keys_of(ecu).encryption().unwrap().public().clone()
    }

    /// Lists an image on the Image repository, and serves it.
    fn list(&mut self, path: &str, image: &Image, custom: &Value) {
        self.image.targets["targets"][path] = target(&image.sealed, custom.clone());
        self.serve_target(path, &image.sealed);
    }

    fn serve_target(&self, path: &str, bytes: &[u8]) {
        let (folder, file) = path.rsplit_once('/').unwrap();
        self.server.put(&format!("/repo/targets/{folder}/{}.{file}", sha256(bytes)), bytes);
    }

    /// What the Director lists for one ECU.
    fn assign(&self, image: &Image, mut custom: Value, serial: &str, hardware: &str) -> Value {
        let envelope = image.envelope_for(&self.key_of(serial));
        custom["ecuIdentifiers"] =
            json!({ serial: { "hardwareId": hardware, "envelope": envelope } });
        target(&image.sealed, custom)
    }

    /// Publishes both repositories with these targets at the Director.
    fn publish(&mut self, targets: Value) {
        self.version += 1;
        self.director.targets = json!({ "targets": targets });
        self.director.publish(self.version);
        self.image.publish(self.version);
        for (name, bytes) in &self.director.files {
            self.server.put(&format!("/director/{name}"), bytes);
        }
        for (name, bytes) in &self.image.files {
            self.server.put(&format!("/repo/{name}"), bytes);
        }
    }

    pub(super) fn update(&self) -> Outcome {
        cycle::run(&mut self.vehicle())
    }

    fn refused(&self, attack: Attack) -> String {
        let outcome = self.update();
        let failure = outcome.failure.as_ref().expect("it is refused").to_string();
        assert_eq!((outcome.attack(), &outcome.installed), (Some(attack), &vec![]), "{failure}");
        failure
    }

    /// A cycle that fails without an attack; returns what is said of it.
    pub(super) fn failed(&self, fault: Fault) -> String {
        let outcome = self.update();
        let failure = outcome.failure.as_ref().expect("it fails").to_string();
        assert_eq!((outcome.attack(), outcome.fault()), (None, Some(fault)), "{failure}");
        failure
    }

    /// What the manifests since the last look say went wrong with an ECU.
    pub(super) fn faults(&self, serial: &str) -> String {
        let bodies = self.server.bodies();
        let manifests = bodies.iter().map(|body| VehicleManifest::parse(body).unwrap());
        let serial: motorcade_model::EcuSerial = serial.parse().unwrap();
        let faults = manifests
            .map(|manifest| manifest.content.reports[&serial].content.faults_detected.clone());
        faults.filter(|faults| !faults.is_empty()).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn installed(&self, serial: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(&format!("ecus/{serial}/image.bin"))).ok()
    }

    /// What the last manifest says of an ECU: path, attacks, counter. Its signatures are checked.
    fn reported(&self, serial: &str) -> (String, String, u64) {
        let body = self.server.bodies().pop().expect("a manifest was sent");
        let manifest = VehicleManifest::parse(&body).unwrap();
        let vehicle = self.vehicle();
        for ecu in &vehicle.config.ecus {
            let key = vehicle.keys_of(ecu).signing().unwrap();
            assert!(manifest.content.reports[&ecu.serial].verify(key.public().verifying()));
        }
        let report = manifest.content.reports
            [&serial.parse::<motorcade_model::EcuSerial>().unwrap()]
            .content
            .clone();
        (report.installed_image.path, report.attacks_detected, report.counter)
    }

    /// Lists an image for the Primary in both repositories.
    pub(super) fn offer(&mut self, path: &str, image: &Image, counter: u64) {
        let custom = image.custom("gateway", counter);
        self.list(path, image, &custom);
        let assigned = self.assign(image, custom, "p-1", "gw");
        self.publish(json!({ path: assigned }));
    }
}

#[test]
fn both_ecus_are_updated_once_and_say_so() {
    let mut car = Car::new();
    let (gateway, brake) = (image(100_000), image(0));
    let (gateway_custom, brake_custom) = (gateway.custom("gateway", 1), brake.custom("brake", 1));
    car.list("gw/1/gw.bin", &gateway, &gateway_custom);
    car.list("br/1/br.bin", &brake, &brake_custom);
    let targets = json!({
        "gw/1/gw.bin": car.assign(&gateway, gateway_custom, "p-1", "gw"),
        "br/1/br.bin": car.assign(&brake, brake_custom, "s-1", "br"),
    });
    car.publish(targets);
    let outcome = car.update();
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert_eq!(outcome.installed.len(), 2);
    assert_eq!(car.installed("p-1"), Some(gateway.plaintext));
    assert_eq!(car.installed("s-1"), Some(brake.plaintext));
    assert_eq!(car.reported("p-1"), ("gw/1/gw.bin".into(), "".into(), 2));
    assert_eq!(
        std::fs::read_dir(car.path("downloads")).unwrap().count(),
        0,
        "what is installed is not kept"
    );
    car.server.requests();
    let again = car.update();
    assert!(again.failure.is_none() && again.installed.is_empty());
    let requests = car.server.requests();
    assert!(
        requests.iter().all(|(_, path, _)| path.starts_with("/director/")),
        "nothing new: {requests:?}"
    );
    assert_eq!(car.reported("s-1"), ("br/1/br.bin".into(), "".into(), 3), "one report says it all");
}

/// Answers reports with this timestamp, as a Director does that has no newer root.
fn give(car: &Car, timestamp: &[u8]) {
    let answer = format!(
        "200 OK\r\npreference-applied: return=representation\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{}",
        timestamp.len(),
        String::from_utf8_lossy(timestamp)
    );
    car.server.answer_reports(Some(answer.leak()));
}

fn asked(car: &Car) -> Vec<String> {
    car.server.requests().into_iter().map(|(method, path, _)| format!("{method} {path}")).collect()
}

#[test]
fn a_poll_without_news_is_one_request_if_the_director_gives_the_timestamp() {
    let mut car = Car::new();
    car.publish(json!({}));
    assert!(car.update().failure.is_none());
    asked(&car);
    give(&car, car.director.file("timestamp.json"));
    assert!(car.update().failure.is_none());
    assert_eq!(asked(&car), ["PUT /director/manifest"]);

    let gateway = image(5000);
    car.offer("gw/1/gw.bin", &gateway, 1);
    give(&car, car.director.file("timestamp.json"));
    let outcome = car.update();
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert_eq!(car.installed("p-1"), Some(gateway.plaintext));
    let asked = asked(&car);
    assert!(!asked.contains(&"GET /director/timestamp.json".to_owned()), "{asked:?}");
}

#[test]
fn a_timestamp_that_is_given_is_verified_and_all_is_asked_for_if_it_is_not_good() {
    let mut car = Car::new();
    car.publish(json!({}));
    assert!(car.update().failure.is_none());
    let old = car.director.file("timestamp.json").to_vec();
    car.publish(json!({}));
    assert!(car.update().failure.is_none());
    let mut forged = car.director.file("timestamp.json").to_vec();
    let at = forged.len() / 2;
    forged[at] ^= 1;
    for given in [old.as_slice(), forged.as_slice(), b"{}", b""] {
        asked(&car);
        give(&car, given);
        assert!(car.update().failure.is_none());
        let asked = asked(&car);
        for path in ["GET /director/2.root.json", "GET /director/timestamp.json"] {
            assert!(asked.contains(&path.to_owned()), "{asked:?}");
        }
    }
}

#[test]
fn a_page_that_nobody_asked_for_is_no_timestamp() {
    let mut car = Car::new();
    car.publish(json!({}));
    assert!(car.update().failure.is_none());
    car.server.answer_reports(Some(
        "200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
    ));
    assert!(car.update().failure.is_some(), "without Preference-Applied it is not a Director's");
}

#[test]
fn without_an_envelope_of_its_own_an_ecu_opens_that_of_its_hardware() {
    let mut car = Car::new();
    let gateway = image(5000);
    let mut custom = gateway.custom("gateway", 1);
    car.list("gw/1/gw.bin", &gateway, &custom);
    let recipient = car.key_of("p-1");
    let envelope =
        Envelope::seal(&gateway.key, SealAlgorithm::Aes256GcmHkdf4Kb, &[&recipient], None).unwrap();
    let envelope = envelope.public_json().unwrap();
    car.image.targets["targets"]["gw/1/gw.bin.jwe"] = target(envelope.as_bytes(), Value::Null);
    car.serve_target("gw/1/gw.bin.jwe", envelope.as_bytes());
    custom["ecuIdentifiers"] = json!({ "p-1": { "hardwareId": "gw" } });
    car.publish(json!({ "gw/1/gw.bin": target(&gateway.sealed, custom) }));
    assert!(car.update().failure.is_none());
    assert_eq!(car.installed("p-1"), Some(gateway.plaintext));
}

/// FV-19 to FV-21: what a Director alone can't do, whoever has its keys. The vehicle recovers
/// (FV-23).
#[test]
fn the_director_s_word_alone_is_not_enough() {
    let mut car = Car::new();
    let (gateway, other) = (image(5000), image(5001));
    let custom = gateway.custom("gateway", 1);
    car.list("gw/1/gw.bin", &gateway, &custom);
    let run = |car: &mut Car,
               path: &str,
               image: &Image,
               custom: Value,
               hardware: &str,
               attack: Attack| {
        let assigned = car.assign(image, custom, "p-1", hardware);
        car.publish(json!({ path: assigned }));
        let failure = car.refused(attack);
        assert_eq!(car.reported("p-1").1, attack.as_str(), "{failure}");
    };
    run(&mut car, "gw/2/gw.bin", &gateway, custom.clone(), "gw", Attack::ArbitrarySoftware);
    run(&mut car, "gw/1/gw.bin", &other, custom.clone(), "gw", Attack::ArbitrarySoftware);
    run(
        &mut car,
        "gw/1/gw.bin",
        &gateway,
        gateway.custom("gateway", 2),
        "gw",
        Attack::ImageRollback,
    );
    run(&mut car, "gw/1/gw.bin", &gateway, custom.clone(), "br", Attack::WrongHardware);
    let mut unsealed = custom.clone();
    unsealed.as_object_mut().unwrap().remove("sealed");
    run(&mut car, "gw/1/gw.bin", &gateway, unsealed, "gw", Attack::EncryptionDowngrade);
    assert_eq!(car.installed("p-1"), None);
    let assigned = car.assign(&gateway, custom, "p-1", "gw");
    car.publish(json!({ "gw/1/gw.bin": assigned }));
    assert!(car.update().failure.is_none());
    assert_eq!(car.reported("p-1").1, "", "what was reported is not reported again");
}

/// FV-22, over an empty Targets file.
#[test]
fn a_release_counter_never_goes_back() {
    let mut car = Car::new();
    let (new, old) = (image(10), image(11));
    car.offer("gw/2/gw.bin", &new, 2);
    assert!(car.update().failure.is_none());
    car.publish(json!({}));
    assert!(car.update().failure.is_none());
    car.offer("gw/1/gw.bin", &old, 1);
    let failure = car.refused(Attack::ImageRollback);
    assert!(failure.contains("has accepted 2"), "{failure}");
    car.offer("gw/3/gw.bin", &old, 2);
    assert!(car.update().failure.is_none(), "the same counter is no step back");
}

/// AT-10.
#[test]
fn another_vehicle_s_metadata_does_not_lock_a_vehicle_out() {
    let mut car = Car::new();
    car.director.vin = Some("VIN2");
    car.version = 900;
    car.publish(json!({}));
    car.refused(Attack::WrongVehicle);
    car.director.vin = Some("VIN1");
    car.version = 1;
    car.publish(json!({}));
    assert!(car.update().failure.is_none());
}

/// AT-19.
#[test]
fn images_that_do_not_fit_together_are_refused() {
    let mut car = Car::new();
    let gateway = image(10);
    let mut custom = gateway.custom("gateway", 1);
    custom["requires"] = json!(["brake>=2"]);
    car.list("gw/1/gw.bin", &gateway, &custom);
    let assigned = car.assign(&gateway, custom, "p-1", "gw");
    car.publish(json!({ "gw/1/gw.bin": assigned }));
    car.refused(Attack::MixAndMatch);
}

/// AT-3: authentic for its key, but not what was signed.
#[test]
fn what_opens_to_something_else_is_not_installed() {
    let mut car = Car::new();
    let (good, other) = (image(9000), image(9001));
    car.offer("gw/1/gw.bin", &good, 1);
    assert!(car.update().failure.is_none());
    // Both repositories list the other's bytes with the good one's plaintext.
    let mut wrong = good.custom("gateway", 2);
    car.list("gw/2/gw.bin", &other, &wrong);
    let assigned = car.assign(&other, wrong.clone(), "p-1", "gw");
    car.publish(json!({ "gw/2/gw.bin": assigned }));
    car.refused(Attack::WrongSoftware);
    // An envelope with another data key.
    wrong["ecuIdentifiers"] =
        json!({ "p-1": { "hardwareId": "gw", "envelope": good.envelope_for(&car.key_of("p-1")) } });
    car.publish(json!({ "gw/2/gw.bin": target(&other.sealed, wrong) }));
    car.refused(Attack::WrongSoftware);
    assert_eq!(car.installed("p-1"), Some(good.plaintext), "the old image is still there");
    assert_eq!(car.reported("p-1").0, "gw/1/gw.bin");
}

/// AT-7, AT-8. That a clock is wrong is a fault: most are wrong by themselves.
#[test]
fn the_clock_does_not_go_back_until_a_new_root_says_so() {
    let mut car = Car::new();
    car.publish(json!({}));
    assert!(car.update().failure.is_none());
    car.set_time("2029-06-01T00:00:00Z");
    let failure = car.failed(Fault::Clock);
    assert!(failure.contains("the clock is behind"), "{failure}");
    car.set_time("2030-01-01T00:00:01Z");
    assert!(car.update().failure.is_none());
    assert_eq!(car.faults("p-1"), "clock");
    // At a later time that verifies, and at the right one, which is then behind.
    car.set_time("2030-01-01T10:00:00Z");
    assert!(car.update().failure.is_none());
    car.set_time("2030-01-01T00:00:02Z");
    car.failed(Fault::Clock);
    let root = car.director.sign("root", &car.director.root(2));
    car.director.files.insert("2.root.json".into(), root);
    car.publish(json!({}));
    let outcome = car.update();
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    car.set_time("2030-01-01T00:00:01Z");
    car.failed(Fault::Clock);
}

/// AT-8: far ahead everything has expired, and a time at which nothing verified is not remembered.
#[test]
fn a_clock_that_was_ahead_once_locks_nobody_out() {
    let mut car = Car::new();
    car.publish(json!({}));
    assert!(car.update().failure.is_none());
    for ahead in ["2031-06-01T00:00:00Z", "9999-01-01T00:00:00Z"] {
        car.set_time(ahead);
        car.failed(Fault::Expired);
        car.set_time("2030-01-01T00:00:02Z");
        let outcome = car.update();
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert_eq!(car.reported("p-1").1, "", "nobody has attacked it");
    }
}

/// A report that is refused, or that somebody else has taken, keeps no vehicle from its update, and
/// is not taken for heard.
#[test]
fn a_refused_report_does_not_keep_an_update_away() {
    const REFUSED: &str = "422 Unprocessable Entity\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
                           {\"code\":\"image_never_offered\",\"detail\":\"it was never offered\"}";
    for (answer, expected) in [
        (REFUSED, "image_never_offered"),
        (PORTAL, "login page"),
        ("200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", "login page"),
        (
            "302 Found\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "not followed",
        ),
    ] {
        let mut car = Car::new();
        car.server.answer_reports(Some(answer));
        let gateway = image(5000);
        car.offer("gw/1/gw.bin", &gateway, 1);
        let outcome = car.update();
        let failure = chain(outcome.failure.as_ref().expect("the report was refused"));
        assert!(failure.contains(expected), "{failure}");
        assert_eq!((outcome.attack(), outcome.installed.len()), (None, 1), "{failure}");
        assert_eq!(car.installed("p-1"), Some(gateway.plaintext));
        let mut vehicle = car.vehicle();
        vehicle.state.ecu(&"p-1".parse().unwrap()).note(Finding::Attack(Attack::Rollback));
        cycle::run(&mut vehicle);
        assert_eq!(
            vehicle.state.ecu(&"p-1".parse().unwrap()).attacks,
            [Attack::Rollback],
            "it is still to be told"
        );
        car.server.answer_reports(None);
        assert!(cycle::run(&mut vehicle).failure.is_none());
        assert!(vehicle.state.ecu(&"p-1".parse().unwrap()).attacks.is_empty());
    }
}

/// The Director's answers lead nowhere, and an image's may.
#[test]
fn reports_and_metadata_of_the_director_go_to_nobody_else() {
    let mut car = Car::new();
    let (gateway, elsewhere) = (image(5000), Server::start());
    car.offer("gw/1/gw.bin", &gateway, 1);
    let path = format!("/repo/targets/gw/1/{}.gw.bin", sha256(&gateway.sealed));
    elsewhere.put("/cdn", &gateway.sealed);
    car.server.put(&path, format!("{}/cdn", elsewhere.url).as_bytes());
    car.server.behave(&path, Manner::Redirect);
    let timestamp = car.director.file("timestamp.json").to_vec();
    for path in ["/director/manifest", "/director/timestamp.json"] {
        elsewhere.put("/stolen", &timestamp);
        car.server.put(path, format!("{}/stolen", elsewhere.url).as_bytes());
        car.server.behave(path, Manner::Redirect);
    }
    let failure = chain(car.update().failure.as_ref().expect("it is refused"));
    assert!(failure.contains("not followed"), "{failure}");
    assert!(elsewhere.requests().is_empty() && elsewhere.bodies().is_empty());
    for path in ["/director/manifest", "/director/timestamp.json"] {
        car.server.behave(path, Manner::Well);
    }
    car.server.put("/director/timestamp.json", &timestamp);
    let outcome = car.update();
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert_eq!(car.installed("p-1"), Some(gateway.plaintext));
    assert_eq!(elsewhere.tokens(), [None], "the image came from there, and nobody was named");
}

/// What a failed run was given counts no longer, until somebody knows the vehicle.
#[test]
fn provisioning_that_failed_is_repeated_with_other_flags() {
    let mut car = Car::new();
    let signing = |car: &Car| std::fs::read(car.path("keys/p-1.signing.pem")).unwrap();
    let first = signing(&car);
    let text = |car: &Car| std::fs::read_to_string(car.path("vehicle.toml")).unwrap();
    car.plan.server = "https://another.example".into();
    car.plan.ecus[1].serial = "s-2".parse().unwrap();
    let record = provision::make(&car.folder(), &car.plan).unwrap();
    assert!(text(&car).contains("https://another.example") && !text(&car).contains("s-1"));
    assert_eq!(
        (record["ecus"][1]["ecu_serial"].as_str(), signing(&car) == first),
        (Some("s-2"), true)
    );
    car.plan.signing = Scheme::EcdsaSha2Nistp256;
    car.plan.ecus[0].encryption = EncryptionKind::Rsa;
    let record = provision::make(&car.folder(), &car.plan).unwrap();
    assert_eq!(record["ecus"][0]["signing_key"]["scheme"], "ecdsa-sha2-nistp256");
    assert!(signing(&car) != first, "of the kind that is asked for now");
    // A key and settings that a disk has damaged, and roots of a run that was given others.
    std::fs::write(car.path("keys/p-1.encryption.pem"), "").unwrap();
    std::fs::write(car.path("vehicle.toml"), [0; 10]).unwrap();
    std::fs::write(car.path("trust/image/root.json"), car.director.file("1.root.json")).unwrap();
    let folder = car.folder();
    provision::make(&folder, &car.plan).unwrap();
    let mended = folder.mended().take();
    assert_eq!(mended, [car.path("vehicle.toml"), car.path("keys/p-1.encryption.pem")]);
    assert_eq!(
        std::fs::read(car.path("trust/image/root.json")).unwrap(),
        car.image.file("1.root.json")
    );
    // From then on it is this vehicle.
    provision::mark_enrolled(&car.folder()).unwrap();
    car.plan.server = "https://third.example".into();
    let error = provision::make(&car.folder(), &car.plan).unwrap_err().to_string();
    assert!(error.contains("vehicle.toml") && error.contains("another server"), "{error}");
    car.plan.ecus[1].serial = "s-1".parse().unwrap();
    let error = provision::make(&car.folder(), &car.plan).unwrap_err().to_string();
    assert!(error.contains("another vehicle"), "{error}");
}

/// The answer to an enrolment was lost, and the next run has other flags: the keys that are known
/// are there again.
#[test]
fn keys_that_somebody_may_know_are_put_aside_and_put_back() {
    let mut car = Car::new();
    let keys = |car: &Car| {
        let mut names: Vec<_> =
            std::fs::read_dir(car.path("keys")).unwrap().map(|key| key.unwrap().path()).collect();
        names.sort();
        names.into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let known = keys(&car);
    let other = |car: &mut Car, signing, encryption| {
        car.plan.signing = signing;
        car.plan.ecus[0].encryption = encryption;
        provision::make(&car.folder(), &car.plan).unwrap()
    };
    other(&mut car, Scheme::EcdsaSha2Nistp256, EncryptionKind::Rsa);
    other(&mut car, Scheme::Ed25519, EncryptionKind::P256);
    assert!(
        known.iter().all(|key| keys(&car).contains(key)),
        "whoever finds the right flags has them again"
    );
    let record = other(&mut car, Scheme::EcdsaSha2Nistp256, EncryptionKind::Rsa);
    assert!(!known.iter().all(|key| keys(&car).contains(key)));
    car.server.answer_reports(Some("409 Conflict\r\nconnection: close\r\n\r\n"));
    provision::enrol(&car.folder(), &record, None).unwrap_err();
    assert!(known.iter().all(|key| keys(&car).contains(key)), "those that are there are refused");
    car.server.answer_reports(Some("200 OK\r\nconnection: close\r\n\r\n"));
    let record = other(&mut car, Scheme::Ed25519, EncryptionKind::P256);
    provision::enrol(&car.folder(), &record, None).unwrap();
    assert_eq!(keys(&car), known, "and nothing else");
}

/// As an earlier version has left it, which made no mark.
#[test]
fn a_vehicle_that_was_used_keeps_its_keys_whatever_the_flags_are() {
    let mut car = Car::new();
    car.publish(json!({}));
    assert!(car.update().failure.is_none());
    car.update();
    assert!(car.path("enrolled").exists());
    for file in ["enrolled", "state.json", "state.json.copy"] {
        std::fs::remove_file(car.path(file)).unwrap();
    }
    let key = std::fs::read(car.path("keys/p-1.signing.pem")).unwrap();
    car.plan.signing = Scheme::EcdsaSha2Nistp256;
    provision::make(&car.folder(), &car.plan).unwrap();
    assert_eq!(std::fs::read(car.path("keys/p-1.signing.pem")).unwrap(), key);
}

/// A vehicle with the wrong root would take everything for unsigned.
#[test]
fn roots_that_have_changed_places_are_refused_at_once() {
    let mut car = Car::new();
    car.publish(json!({}));
    provision::check_roots(&car.folder(), &car.plan).unwrap();
    let (director, image) = (car.plan.director_root.clone(), car.plan.image_root.clone());
    (car.plan.director_root, car.plan.image_root) = (image.clone(), director.clone());
    let error = provision::check_roots(&car.folder(), &car.plan).unwrap_err();
    assert!(
        error.to_string().contains("have changed places") && error.attack().is_none(),
        "{error}"
    );
    (car.plan.director_root, car.plan.image_root) = (director.clone(), director);
    let error = provision::make(&car.folder(), &car.plan).unwrap_err().to_string();
    assert!(error.contains("each repository has its own"), "{error}");
    car.plan.image_root = image.clone();
    std::fs::write(&image, Repo::new(None).file("1.root.json")).unwrap();
    let error = provision::check_roots(&car.folder(), &car.plan).unwrap_err().to_string();
    assert!(error.contains("another root with this version"), "{error}");
    std::fs::write(&image, "<html>").unwrap();
    let error = provision::make(&car.folder(), &car.plan).unwrap_err();
    assert!(
        error.to_string().contains("i.json can't be used") && error.attack().is_none(),
        "{error}"
    );
}

/// A factory without a network can't compare: the first update does.
#[test]
fn a_vehicle_that_was_built_with_its_roots_swapped_says_so_and_calls_nobody_an_attacker() {
    for rotated in [false, true] {
        let mut car = Car::new();
        let (director, image) = (car.plan.director_root.clone(), car.plan.image_root.clone());
        (car.plan.director_root, car.plan.image_root) = (image, director);
        provision::make(&car.folder(), &car.plan).unwrap();
        if rotated {
            let root = car.director.sign("root", &car.director.root(2));
            car.director.files.insert("2.root.json".into(), root);
        }
        car.publish(json!({}));
        let failure = car.failed(Fault::Storage);
        assert!(failure.contains("in the place of the Image repository's"), "{failure}");
        assert_eq!(car.faults("p-1"), "storage");
    }
}

/// Public files of the Image repository in the Director's place are not enough to be believed.
#[test]
fn an_attacker_is_not_taken_for_whoever_built_the_vehicle() {
    let mut car = Car::new();
    car.publish(json!({}));
    let mut unsigned: Value = serde_json::from_slice(car.director.file("timestamp.json")).unwrap();
    unsigned["signatures"] = json!([]);
    car.server.put("/director/1.root.json", car.image.file("1.root.json"));
    for timestamp in [unsigned.to_string().as_bytes(), car.image.file("timestamp.json")] {
        car.server.put("/director/timestamp.json", timestamp);
        car.refused(Attack::ArbitrarySoftware);
    }
}

/// A page that somebody else answers with is as short as an envelope, at times.
#[test]
fn a_page_in_the_place_of_an_envelope_is_no_attack() {
    let mut car = Car::new();
    let gateway = image(5000);
    let mut custom = gateway.custom("gateway", 1);
    car.list("gw/1/gw.bin", &gateway, &custom);
    let recipient = car.key_of("p-1");
    let envelope =
        Envelope::seal(&gateway.key, SealAlgorithm::Aes256GcmHkdf4Kb, &[&recipient], None).unwrap();
    let envelope = envelope.public_json().unwrap();
    car.image.targets["targets"]["gw/1/gw.bin.jwe"] = target(envelope.as_bytes(), Value::Null);
    let path = format!("/repo/targets/gw/1/{}.gw.bin.jwe", sha256(envelope.as_bytes()));
    car.server.put(&path, b"<html>Log in</html>");
    custom["ecuIdentifiers"] = json!({ "p-1": { "hardwareId": "gw" } });
    car.publish(json!({ "gw/1/gw.bin": target(&gateway.sealed, custom) }));
    car.failed(Fault::Garbled);
    car.server.put(&path, envelope.as_bytes());
    assert!(car.update().failure.is_none());
}

/// What the own disk does to a file is mended and told, and never called an attack.
#[test]
fn damage_on_the_own_disk_is_a_fault_and_the_update_goes_on() {
    let own = [
        "trust/director/root.json",
        "trust/image/root.json",
        "ecus/s-1/trust/image/root.json",
        "state.json",
    ];
    for (number, file) in (1..).zip(own) {
        for damage in [&b""[..], &[0; 700], b"{\"signed\":1}"] {
            let mut car = Car::new();
            car.publish(json!({}));
            assert!(car.update().failure.is_none());
            let (_, _, counter) = car.reported("p-1");
            let brake = image(2000 + number);
            let custom = brake.custom("brake", 1);
            car.list("br/1/br.bin", &brake, &custom);
            let assigned = car.assign(&brake, custom, "s-1", "br");
            car.publish(json!({ "br/1/br.bin": assigned }));
            std::fs::write(car.path(file), damage).unwrap();
            let outcome = car.update();
            assert!(outcome.failure.is_none(), "{file}: {:?}", outcome.failure);
            assert_eq!(outcome.mended, [car.path(file)]);
            assert_eq!(car.installed("s-1"), Some(brake.plaintext));
            let manifests: Vec<_> = car
                .server
                .bodies()
                .iter()
                .map(|body| VehicleManifest::parse(body).unwrap())
                .collect();
            let reports = manifests
                .iter()
                .map(|manifest| &manifest.content.reports[&"p-1".parse().unwrap()].content);
            let reports: Vec<_> = reports.collect();
            assert!(
                reports.iter().any(|report| report.faults_detected == "storage"),
                "{file}: {reports:?}"
            );
            assert!(
                reports
                    .iter()
                    .all(|report| report.attacks_detected.is_empty() && report.counter > counter)
            );
            assert!(car.update().mended.is_empty(), "{file} is mended");
        }
    }
}

/// Both copies: the cycle says so, to the Director too, and `provision` puts the root in place
/// again.
#[test]
fn a_root_without_a_good_copy_is_told_and_replaced_by_provision() {
    let mut car = Car::new();
    car.publish(json!({}));
    let record = provision::make(&car.folder(), &car.plan).unwrap();
    for file in ["root.json", "root.json.copy"] {
        std::fs::write(car.path("trust/director").join(file), [0; 100]).unwrap();
    }
    let failure = car.failed(Fault::Storage);
    assert!(failure.contains("trust/director/root.json is damaged"), "{failure}");
    assert_eq!(car.faults("p-1"), "storage");
    let folder = car.folder();
    assert_eq!(provision::make(&folder, &car.plan).unwrap(), record);
    assert_eq!(folder.mended().take(), [car.path("trust/director/root.json")]);
    assert!(car.update().failure.is_none());
}

/// A vehicle that has lost all memory is heard: it counts on from the time.
#[test]
fn a_lost_memory_does_not_make_a_vehicle_silent() {
    type Lose = fn(&Car);
    let ways: [Lose; 2] = [
        |car| {
            ["state.json", "state.json.copy"]
                .iter()
                .for_each(|file| std::fs::write(car.path(file), "").unwrap())
        },
        |car| {
            ["state.json", "state.json.copy"]
                .iter()
                .for_each(|file| std::fs::remove_file(car.path(file)).unwrap())
        },
    ];
    for lose in ways {
        let mut car = Car::new();
        car.publish(json!({}));
        assert!(car.update().failure.is_none());
        lose(&car);
        car.server.bodies();
        let outcome = car.update();
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert_eq!(outcome.mended, [car.path("state.json")]);
        let (_, attacks, counter) = car.reported("p-1");
        assert!(
            attacks.is_empty() && counter > 1_893_456_000,
            "of the time source, in 2030: {counter}"
        );
        // The clock was further ahead at the first loss than it is at the second.
        lose(&car);
        let later = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_950_000_000);
        let file = std::fs::File::options()
            .write(true)
            .open(car.path("trust/director/timestamp.json"))
            .unwrap();
        file.set_modified(later).unwrap();
        assert!(car.update().failure.is_none());
        let (_, _, counter) = car.reported("p-1");
        assert!(counter > 1_950_000_000, "{counter}");
    }
}

/// An image that was damaged after it had come is fetched again.
#[test]
fn a_download_that_the_disk_has_damaged_is_no_wrong_software() {
    let mut car = Car::new();
    // Longer than what is read ahead: the command damages the rest before it takes the first byte.
    let gateway = image(16 * 1024 * 1024);
    let script = "printf xxxxxxxx | dd of=$(ls downloads/* | head -n 1) bs=1 seek=16000000 conv=notrunc status=none; cat > out";
    let command = format!("command = [\"sh\", \"-c\", \"{script}\"]");
    car.replace_setting("file = \"ecus/p-1/image.bin\"", &command);
    car.offer("gw/1/gw.bin", &gateway, 1);
    let failure = car.failed(Fault::Storage);
    assert!(failure.contains("not what was downloaded"), "{failure}");
    car.replace_setting(&command, "command = [\"sh\", \"-c\", \"cat > out\"]");
    assert!(car.update().failure.is_none());
    assert_eq!(std::fs::read(car.path("out")).unwrap(), gateway.plaintext);
}

/// A Secondary follows the chain of roots from where it is.
#[test]
fn secondaries_verify_for_themselves_fully_or_partially() {
    for verification in ["full", "partial"] {
        let mut car = Car::new();
        car.replace_setting(
            "role = \"secondary\"\nverification = \"full\"",
            &format!("role = \"secondary\"\nverification = \"{verification}\""),
        );
        for version in 2..4 {
            let old = car.director.keys.insert("root", new_key()).unwrap();
            let root = car.director.root(version);
            let root =
                motorcade_uptane::verify::fixture::sign(&root, &[&old, &car.director.keys["root"]]);
            car.director.files.insert(format!("{version}.root.json"), root);
        }
        let brake = image(20_000);
        let custom = brake.custom("brake", 1);
        car.list("br/1/br.bin", &brake, &custom);
        let assigned = car.assign(&brake, custom, "s-1", "br");
        car.publish(json!({ "br/1/br.bin": assigned }));
        let outcome = car.update();
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert_eq!(car.installed("s-1"), Some(brake.plaintext));
        let own = car.path("ecus/s-1/trust/director");
        assert_eq!(std::fs::read(own.join("root.json")).unwrap(), car.director.file("3.root.json"));
        assert_eq!(own.join("snapshot.json").exists(), verification == "full");
    }
}

/// AT-20: a Secondary whose own metadata says something else refuses, and says so itself.
#[test]
fn a_secondary_does_not_believe_its_primary() {
    let mut car = Car::new();
    let brake = image(20_000);
    let custom = brake.custom("brake", 1);
    car.list("br/1/br.bin", &brake, &custom);
    let assigned = car.assign(&brake, custom, "s-1", "br");
    car.publish(json!({ "br/1/br.bin": assigned }));
    let stranger = Repo::new(Some("VIN1"));
    std::fs::write(car.path("ecus/s-1/trust/director/root.json"), stranger.file("1.root.json"))
        .unwrap();
    car.refused(Attack::ArbitrarySoftware);
    let body = car.server.bodies().pop().unwrap();
    let manifest: Value = serde_json::from_slice(&body).unwrap();
    let reports = &manifest["signed"]["ecu_version_reports"];
    assert_eq!(reports["s-1"]["signed"]["attacks_detected"], "arbitrary-software");
    assert_eq!(reports["p-1"]["signed"]["attacks_detected"], "");
}

#[test]
fn a_device_is_written_and_an_interrupted_installation_is_repeated() {
    let mut car = Car::new();
    let device = car.path("device");
    std::fs::write(&device, vec![9; 70_000]).unwrap();
    car.replace_setting("file = \"ecus/p-1/image.bin\"", "device = \"device\"");
    let gateway = image(60_000);
    car.offer("gw/1/gw.bin", &gateway, 1);
    assert!(car.update().failure.is_none());
    let written = std::fs::read(&device).unwrap();
    assert_eq!((&written[..60_000], written.len()), (&gateway.plaintext[..], 70_000));
    // Power was lost while the same image was written again.
    let mut vehicle = car.vehicle();
    vehicle.state.ecu(&"p-1".parse().unwrap()).installing = Some("gw/1/gw.bin".into());
    vehicle.state.save().unwrap();
    drop(vehicle);
    std::fs::write(&device, vec![8; 70_000]).unwrap();
    car.server.bodies();
    let outcome = car.update();
    assert_eq!(outcome.installed.len(), 1);
    assert_eq!(std::fs::read(&device).unwrap()[..60_000], gateway.plaintext);
    let first = VehicleManifest::parse(&car.server.bodies()[0]).unwrap();
    let first =
        &first.content.reports[&"p-1".parse::<motorcade_model::EcuSerial>().unwrap()].content;
    assert_eq!(first.installed_image.path, "unprovisioned", "it ran nothing for sure");
}

/// Metadata that is signed anew between two requests of a cycle takes the place of what the first
/// one named.
#[test]
fn an_assignment_in_the_middle_of_a_cycle_is_no_attack() {
    let mut car = Car::new();
    car.offer("gw/1/gw.bin", &image(60_000), 1);
    assert!(car.update().failure.is_none());
    for (counter, role) in [(2, "snapshot"), (3, "targets")] {
        car.offer(&format!("gw/{counter}/gw.bin"), &image(60_000), counter);
        car.server.behave(&format!("/director/{counter}.{role}.json"), Manner::MissingOnce);
        let outcome = car.update();
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert_eq!(outcome.installed.len(), 1);
    }
    car.offer("gw/4/gw.bin", &image(60_000), 4);
    car.server.content.lock().unwrap().files.remove("/director/4.snapshot.json");
    car.refused(Attack::Freeze);
}

/// A program that hangs, and what it has started, ends when its time is over; the next update may
/// do better.
#[test]
fn a_command_that_hangs_is_ended_with_its_children() {
    let mut car = Car::new();
    car.configure("install_timeout_seconds = 1\n");
    let script = "trap '' TERM; sleep 600 & echo $! > child; cat > out; sleep 600";
    let command = format!("command = [\"sh\", \"-c\", \"{script}\"]");
    car.replace_setting("file = \"ecus/p-1/image.bin\"", &command);
    let gateway = image(200_000);
    car.offer("gw/1/gw.bin", &gateway, 1);
    let started = std::time::Instant::now();
    let failure = car.failed(Fault::Install);
    assert!(failure.contains("took longer than 1 s"), "{failure}");
    assert!(started.elapsed().as_secs() < 60);
    assert_eq!(car.faults("p-1"), "install");
    let child = std::fs::read_to_string(car.path("child")).unwrap();
    // Without its own process group it would live for ten minutes.
    let status =
        std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(status.is_empty() || status.contains(") Z "), "{status}");
    car.replace_setting(&command, "command = [\"sh\", \"-c\", \"cat > out\"]");
    assert!(car.update().failure.is_none());
}

/// A child that does not care outlives whoever started it, unless it is ended for good.
#[test]
fn a_command_that_ends_when_asked_leaves_no_children() {
    let mut car = Car::new();
    car.configure("install_timeout_seconds = 1\n");
    let script =
        "(trap '' TERM; while :; do sleep 0.1; done) & echo $! > child; cat > out; exec sleep 600";
    let command = format!("command = [\"sh\", \"-c\", \"{script}\"]");
    car.replace_setting("file = \"ecus/p-1/image.bin\"", &command);
    car.offer("gw/1/gw.bin", &image(200_000), 1);
    let failure = car.failed(Fault::Install);
    assert!(failure.contains("took longer than 1 s"), "{failure}");
    let child = std::fs::read_to_string(car.path("child")).unwrap();
    let started = std::time::Instant::now();
    loop {
        let status =
            std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        if status.is_empty() || status.contains(") Z ") {
            break;
        }
        assert!(started.elapsed().as_secs() < 10, "{status}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// One that has left the group can't be ended, but keeps nobody waiting.
#[test]
fn a_stranger_that_holds_the_input_of_a_command_is_not_waited_for() {
    let mut car = Car::new();
    car.configure("install_timeout_seconds = 1\n");
    let command = "command = [\"sh\", \"-c\", \"setsid -f sleep 20 2>/dev/null; sleep 600\"]";
    car.replace_setting("file = \"ecus/p-1/image.bin\"", command);
    car.offer("gw/1/gw.bin", &image(3_000_000), 1);
    let started = std::time::Instant::now();
    let failure = car.failed(Fault::Install);
    assert!(failure.contains("took longer than 1 s"), "{failure}");
    assert!(started.elapsed().as_secs() < 15);
}

/// One that does not read is not waited for either.
#[test]
fn a_command_that_does_not_read_is_ended() {
    let mut car = Car::new();
    car.configure("install_timeout_seconds = 1\n");
    car.replace_setting("file = \"ecus/p-1/image.bin\"", "command = [\"sleep\", \"600\"]");
    car.offer("gw/1/gw.bin", &image(3_000_000), 1);
    let failure = car.failed(Fault::Install);
    assert!(failure.contains("took longer than 1 s"), "{failure}");
}

#[test]
fn a_command_counts_only_if_it_succeeds_and_never_sees_the_end_of_a_wrong_image() {
    let mut car = Car::new();
    let is_whole = "[ $MOTORCADE_IMAGE_LENGTH = $(wc -c < out) ] && echo $MOTORCADE_IMAGE_SHA256 out | sha256sum -c";
    let script = format!("cat > out && {is_whole} && [ ! -e fail ] && touch done");
    let command = format!("command = [\"sh\", \"-c\", \"{script}\"]");
    car.replace_setting("file = \"ecus/p-1/image.bin\"", &command);
    let (gateway, other) = (image(60_000), image(60_001));
    let wrong = gateway.custom("gateway", 1);
    car.list("gw/1/gw.bin", &other, &wrong);
    let assigned = car.assign(&other, wrong, "p-1", "gw");
    car.publish(json!({ "gw/1/gw.bin": assigned }));
    car.refused(Attack::WrongSoftware);
    assert!(!car.path("done").exists(), "it was killed");
    std::fs::write(car.path("fail"), "").unwrap();
    car.offer("gw/2/gw.bin", &gateway, 2);
    let outcome = car.update();
    assert!(
        outcome.failure.is_some() && outcome.attack().is_none() && outcome.installed.is_empty()
    );
    std::fs::remove_file(car.path("fail")).unwrap();
    assert_eq!(car.update().installed.len(), 1);
    assert_eq!(std::fs::read(car.path("out")).unwrap(), gateway.plaintext);
}
