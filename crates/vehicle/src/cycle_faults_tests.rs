//! Cycles with a wrong clock, a damaged disk or a bad network: told as faults, and mended.

use motorcade_uptane::verify::fixture::sha256;
use motorcade_uptane::verify::{Attack, Fault};
use serde_json::{Value, json};

use crate::provision;
use crate::testing::car::{Car, image, target};

/// AT-7, AT-8. That a clock is wrong is a fault: most are wrong by themselves.
#[test]
fn the_clock_does_not_go_back_until_a_new_root_says_so() {
    let mut car = Car::new();
    car.publish(json!({}));
    car.updated();
    car.set_time("2029-06-01T00:00:00Z");
    let failure = car.failed(Fault::Clock);
    assert!(failure.contains("the clock is behind"), "{failure}");
    car.set_time("2030-01-01T00:00:01Z");
    car.updated();
    assert_eq!(car.faults("p-1"), "clock");
    // At a later time that verifies, and at the right one, which is then behind.
    car.set_time("2030-01-01T10:00:00Z");
    car.updated();
    car.set_time("2030-01-01T00:00:02Z");
    car.failed(Fault::Clock);
    let root = car.director.sign("root", &car.director.root(2));
    car.director.files.insert("2.root.json".into(), root);
    car.publish(json!({}));
    car.updated();
    car.set_time("2030-01-01T00:00:01Z");
    car.failed(Fault::Clock);
}

/// AT-8: far ahead everything has expired, and a time at which nothing verified is not remembered.
#[test]
fn a_clock_that_was_ahead_once_locks_nobody_out() {
    let mut car = Car::new();
    car.publish(json!({}));
    car.updated();
    for ahead in ["2031-06-01T00:00:00Z", "9999-01-01T00:00:00Z"] {
        car.set_time(ahead);
        car.failed(Fault::Expired);
        car.set_time("2030-01-01T00:00:02Z");
        car.updated();
        assert_eq!(car.reported("p-1").1, "", "nobody has attacked it");
    }
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
    let envelope = gateway.public_envelope_for(&recipient);
    car.image.targets["targets"]["gw/1/gw.bin.jwe"] = target(envelope.as_bytes(), Value::Null);
    let path = format!("/repo/targets/gw/1/{}.gw.bin.jwe", sha256(envelope.as_bytes()));
    car.server.put(&path, b"<html>Log in</html>");
    custom["ecuIdentifiers"] = json!({ "p-1": { "hardwareId": "gw" } });
    car.publish(json!({ "gw/1/gw.bin": target(&gateway.sealed, custom) }));
    car.failed(Fault::Garbled);
    car.server.put(&path, envelope.as_bytes());
    car.updated();
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
            car.updated();
            let (_, _, counter) = car.reported("p-1");
            let brake = image(2000 + number);
            car.offer_brake(&brake);
            std::fs::write(car.path(file), damage).unwrap();
            let outcome = car.update();
            assert!(outcome.failure.is_none(), "{file}: {:?}", outcome.failure);
            assert_eq!(outcome.mended, [car.path(file)]);
            assert_eq!(car.installed("s-1"), Some(brake.plaintext));
            let reports = car.reports("p-1");
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
    car.updated();
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
        car.updated();
        lose(&car);
        car.server.bodies();
        let outcome = car.updated();
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
        car.updated();
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
    let command = car.install_with(script);
    car.offer("gw/1/gw.bin", &gateway, 1);
    let failure = car.failed(Fault::Storage);
    assert!(failure.contains("not what was downloaded"), "{failure}");
    car.replace_setting(&command, "command = [\"sh\", \"-c\", \"cat > out\"]");
    car.updated();
    assert_eq!(std::fs::read(car.path("out")).unwrap(), gateway.plaintext);
}
