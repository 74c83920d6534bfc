//! Whole cycles: what is installed and reported, and what is refused.

use motorcade_uptane::verify::fixture::{Repo, new_key, sha256, sign};
use motorcade_uptane::verify::{Attack, Finding};
use serde_json::{Value, json};

use crate::cycle;
use crate::testing::car::{Car, Image, chain, image, target};
use crate::testing::server::{Manner, PORTAL, Server};

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
    let outcome = car.updated();
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

#[test]
fn without_an_envelope_of_its_own_an_ecu_opens_that_of_its_hardware() {
    let mut car = Car::new();
    let gateway = image(5000);
    let mut custom = gateway.custom("gateway", 1);
    car.list("gw/1/gw.bin", &gateway, &custom);
    let recipient = car.key_of("p-1");
    let envelope = gateway.public_envelope_for(&recipient);
    car.image.targets["targets"]["gw/1/gw.bin.jwe"] = target(envelope.as_bytes(), Value::Null);
    car.serve_target("gw/1/gw.bin.jwe", envelope.as_bytes());
    custom["ecuIdentifiers"] = json!({ "p-1": { "hardwareId": "gw" } });
    car.publish(json!({ "gw/1/gw.bin": target(&gateway.sealed, custom) }));
    car.updated();
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
    car.updated();
    assert_eq!(car.reported("p-1").1, "", "what was reported is not reported again");
}

/// FV-22, over an empty Targets file.
#[test]
fn a_release_counter_never_goes_back() {
    let mut car = Car::new();
    let (new, old) = (image(10), image(11));
    car.offer("gw/2/gw.bin", &new, 2);
    car.updated();
    car.publish(json!({}));
    car.updated();
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
    car.updated();
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
    car.updated();
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
            let root = sign(&root, &[&old, &car.director.keys["root"]]);
            car.director.files.insert(format!("{version}.root.json"), root);
        }
        let brake = image(20_000);
        car.offer_brake(&brake);
        car.updated();
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
    car.offer_brake(&brake);
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

/// Metadata that is signed anew between two requests of a cycle takes the place of what the first
/// one named.
#[test]
fn an_assignment_in_the_middle_of_a_cycle_is_no_attack() {
    let mut car = Car::new();
    car.offer("gw/1/gw.bin", &image(60_000), 1);
    car.updated();
    for (counter, role) in [(2, "snapshot"), (3, "targets")] {
        car.offer(&format!("gw/{counter}/gw.bin"), &image(60_000), counter);
        car.server.behave(&format!("/director/{counter}.{role}.json"), Manner::MissingOnce);
        let outcome = car.updated();
        assert_eq!(outcome.installed.len(), 1);
    }
    car.offer("gw/4/gw.bin", &image(60_000), 4);
    car.server.content.lock().unwrap().files.remove("/director/4.snapshot.json");
    car.refused(Attack::Freeze);
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
    car.updated();
    assert_eq!(car.installed("p-1"), Some(gateway.plaintext));
    assert_eq!(elsewhere.tokens(), [None], "the image came from there, and nobody was named");
}
