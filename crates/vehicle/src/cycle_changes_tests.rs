//! Cycles in the middle of which something is published: no attack, and decided again.

use motorcade_uptane::verify::Attack;
use serde_json::json;

use crate::testing::car::{Car, Image, image};
use crate::testing::server::{Manner, PORTAL};

const PATH: &str = "gw/1/gw.bin";

/// Has `publish` take effect after the Director has answered, and before the Image repository does.
fn in_between(car: &mut Car, publish: impl FnOnce(&mut Car)) {
    let before = car.server.content.lock().unwrap().files.clone();
    publish(car);
    let mut content = car.server.content.lock().unwrap();
    content.next = std::mem::replace(&mut content.files, before);
    content.manners.insert("/repo/timestamp.json".into(), Manner::PublishedBefore);
}

fn unlist(car: &mut Car) {
    car.image.targets["targets"].as_object_mut().unwrap().remove(PATH);
}

/// A cycle that goes well, in which no ECU speaks of an attack or a fault; what runs after it.
fn quiet(car: &Car) -> Option<Vec<u8>> {
    car.server.bodies();
    car.updated();
    for report in car.reports("p-1") {
        assert_eq!((report.attacks_detected.as_str(), report.faults_detected.as_str()), ("", ""));
    }
    car.installed("p-1")
}

fn offered() -> (Car, Image) {
    let (mut car, gateway) = (Car::new(), image(5000));
    car.offer(PATH, &gateway, 1);
    (car, gateway)
}

#[test]
fn an_image_that_is_yanked_meanwhile_is_not_installed_and_nobody_has_attacked() {
    let (mut car, _) = offered();
    in_between(&mut car, |car| {
        unlist(car);
        car.publish(json!({}));
    });
    assert_eq!(quiet(&car), None);
}

#[test]
fn an_image_that_is_sealed_again_or_described_anew_meanwhile_is_installed_as_it_is_now() {
    let (mut car, first) = offered();
    in_between(&mut car, |car| car.offer(PATH, &first, 2));
    assert_eq!(quiet(&car), Some(first.plaintext), "another description");
    let (mut car, _) = offered();
    let second = image(6000);
    in_between(&mut car, |car| car.offer(PATH, &second, 1));
    assert_eq!(quiet(&car), Some(second.plaintext), "other bytes");
}

#[test]
fn metadata_that_is_superseded_and_removed_meanwhile_is_not_withheld() {
    for role in ["snapshot", "targets"] {
        let (car, gateway) = offered();
        car.server.behave(&format!("/repo/1.{role}.json"), Manner::MissingOnce);
        assert_eq!(quiet(&car), Some(gateway.plaintext), "{role}");
    }
}

/// The same, of a Director that goes on saying what the Image repository does not.
#[test]
fn a_director_that_does_not_follow_attacks() {
    let (mut car, gateway) = offered();
    let assigned = car.assign(&gateway, gateway.custom("gateway", 1), "p-1", "gw");
    in_between(&mut car, |car| {
        unlist(car);
        car.publish(json!({ PATH: assigned }));
    });
    car.refused(Attack::ArbitrarySoftware);
    assert_eq!(car.reported("p-1").1, "arbitrary-software");
    assert_eq!(car.installed("p-1"), None);
}

/// The second answer is kept away by whoever sits in between, so as to hide what the first one said.
#[test]
fn a_difference_is_believed_if_the_director_can_not_be_asked_again() {
    let away = "503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for answer in [away, PORTAL] {
        let (mut car, _) = offered();
        in_between(&mut car, |car| {
            unlist(car);
            car.publish(json!({}));
        });
        let manner = ("/director/timestamp.json".into(), Manner::Says(answer));
        car.server.content.lock().unwrap().next_manners = [manner].into();
        car.refused(Attack::ArbitrarySoftware);
        assert_eq!(car.installed("p-1"), None);
    }
}
