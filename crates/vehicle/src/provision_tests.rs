use motorcade_uptane::key::Scheme;
use motorcade_uptane::verify::fixture::Repo;
use serde_json::json;

use super::{check_roots, enrol, make};
use crate::ecu::EncryptionKind;
use crate::folder::mark_enrolled;
use crate::testing::car::Car;

/// What a failed run was given counts no longer, until somebody knows the vehicle.
#[test]
fn provisioning_that_failed_is_repeated_with_other_flags() {
    let mut car = Car::new();
    let signing = |car: &Car| std::fs::read(car.path("keys/p-1.signing.pem")).unwrap();
    let first = signing(&car);
    let text = |car: &Car| std::fs::read_to_string(car.path("vehicle.toml")).unwrap();
    car.plan.server = "https://another.example".into();
    car.plan.ecus[1].serial = "s-2".parse().unwrap();
    let record = make(&car.folder(), &car.plan).unwrap();
    assert!(text(&car).contains("https://another.example") && !text(&car).contains("s-1"));
    assert_eq!(
        (record["ecus"][1]["ecu_serial"].as_str(), signing(&car) == first),
        (Some("s-2"), true)
    );
    car.plan.signing = Scheme::EcdsaSha2Nistp256;
    car.plan.ecus[0].encryption = EncryptionKind::Rsa;
    let record = make(&car.folder(), &car.plan).unwrap();
    assert_eq!(record["ecus"][0]["signing_key"]["scheme"], "ecdsa-sha2-nistp256");
    assert!(signing(&car) != first, "of the kind that is asked for now");
    // A key and settings that a disk has damaged, and roots of a run that was given others.
    std::fs::write(car.path("keys/p-1.encryption.pem"), "").unwrap();
    std::fs::write(car.path("vehicle.toml"), [0; 10]).unwrap();
    std::fs::write(car.path("trust/image/root.json"), car.director.file("1.root.json")).unwrap();
    let folder = car.folder();
    make(&folder, &car.plan).unwrap();
    let mended = folder.mended().take();
    assert_eq!(mended, [car.path("vehicle.toml"), car.path("keys/p-1.encryption.pem")]);
    assert_eq!(
        std::fs::read(car.path("trust/image/root.json")).unwrap(),
        car.image.file("1.root.json")
    );
    // From then on it is this vehicle.
    mark_enrolled(&car.folder()).unwrap();
    car.plan.server = "https://third.example".into();
    let error = make(&car.folder(), &car.plan).unwrap_err().to_string();
    assert!(error.contains("vehicle.toml") && error.contains("another server"), "{error}");
    car.plan.ecus[1].serial = "s-1".parse().unwrap();
    let error = make(&car.folder(), &car.plan).unwrap_err().to_string();
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
        make(&car.folder(), &car.plan).unwrap()
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
    enrol(&car.folder(), &record, None).unwrap_err();
    assert!(known.iter().all(|key| keys(&car).contains(key)), "those that are there are refused");
    car.server.answer_reports(Some("200 OK\r\nconnection: close\r\n\r\n"));
    let record = other(&mut car, Scheme::Ed25519, EncryptionKind::P256);
    enrol(&car.folder(), &record, None).unwrap();
    assert_eq!(keys(&car), known, "and nothing else");
}

/// As an earlier version has left it, which made no mark.
#[test]
fn a_vehicle_that_was_used_keeps_its_keys_whatever_the_flags_are() {
    let mut car = Car::new();
    car.publish(json!({}));
    car.updated();
    car.update();
    assert!(car.path("enrolled").exists());
    for file in ["enrolled", "state.json", "state.json.copy"] {
        std::fs::remove_file(car.path(file)).unwrap();
    }
    let key = std::fs::read(car.path("keys/p-1.signing.pem")).unwrap();
    car.plan.signing = Scheme::EcdsaSha2Nistp256;
    make(&car.folder(), &car.plan).unwrap();
    assert_eq!(std::fs::read(car.path("keys/p-1.signing.pem")).unwrap(), key);
}

/// A vehicle with the wrong root would take everything for unsigned.
#[test]
fn roots_that_have_changed_places_are_refused_at_once() {
    let mut car = Car::new();
    car.publish(json!({}));
    check_roots(&car.folder(), &car.plan).unwrap();
    let (director, image) = (car.plan.director_root.clone(), car.plan.image_root.clone());
    (car.plan.director_root, car.plan.image_root) = (image.clone(), director.clone());
    let error = check_roots(&car.folder(), &car.plan).unwrap_err();
    assert!(
        error.to_string().contains("have changed places") && error.attack().is_none(),
        "{error}"
    );
    (car.plan.director_root, car.plan.image_root) = (director.clone(), director);
    let error = make(&car.folder(), &car.plan).unwrap_err().to_string();
    assert!(error.contains("each repository has its own"), "{error}");
    car.plan.image_root = image.clone();
    std::fs::write(&image, Repo::new(None).file("1.root.json")).unwrap();
    let error = check_roots(&car.folder(), &car.plan).unwrap_err().to_string();
    assert!(error.contains("another root with this version"), "{error}");
    std::fs::write(&image, "<html>").unwrap();
    let error = make(&car.folder(), &car.plan).unwrap_err();
    assert!(
        error.to_string().contains("i.json can't be used") && error.attack().is_none(),
        "{error}"
    );
}
