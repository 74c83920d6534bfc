//! Changes of an ECU's encryption key, and what comes while one is under way.

use motorcade_envelope::key::RecipientKey;
use motorcade_model::EcuSerial;
use motorcade_uptane::key_change::KeyChange;
use serde_json::json;

use super::*;
use crate::testing::car::{Car, chain, image, target};

fn serial() -> EcuSerial {
    "p-1".parse().unwrap()
}

/// Asks for the change as the command does; returns the key that is sent.
fn change(car: &Car) -> (RecipientKey, Result<(), Error>) {
    let mut vehicle = car.vehicle();
    let kid = next(&vehicle, &serial()).unwrap();
    let sent = send(&mut vehicle, &serial());
    let change = KeyChange::parse(&car.server.bodies().pop().unwrap()).unwrap();
    let ecu = vehicle.config.ecus.iter().find(|ecu| ecu.serial == serial()).unwrap();
    let signing = vehicle.keys_of(ecu).signing().unwrap();
    assert!(change.verify(signing.public().verifying()));
    let key = RecipientKey::parse(&change.content.encryption_key).unwrap();
    assert_eq!((key.kid(), change.content.vin.as_str()), (&kid, "VIN1"));
    (key, sent)
}

/// Lists an image for the Primary, sealed for a key.
fn offer(car: &mut Car, path: &str, counter: u64, key: &RecipientKey) {
    let image = image(1000 + counter as usize);
    let mut custom = image.custom("gateway", counter);
    car.list(path, &image, &custom);
    custom["ecuIdentifiers"] =
        json!({ "p-1": { "hardwareId": "gw", "envelope": image.envelope_for(key) } });
    car.publish(json!({ path: target(&image.sealed, custom) }));
}

#[test]
fn a_key_is_taken_once_the_director_has_it_and_the_one_before_is_kept_while_it_is_needed() {
    let mut car = Car::new();
    let old = car.key_of("p-1");
    let (new, sent) = change(&car);
    sent.unwrap();
    assert_ne!(new.kid(), old.kid());
    assert_eq!(car.key_of("p-1").kid(), new.kid());
    // What was sealed before the change, and comes after it.
    offer(&mut car, "gw/1/gw.bin", 1, &old);
    assert_eq!(car.updated().installed.len(), 1);
    assert!(!car.path("keys/p-1.encryption.pem.former").exists(), "nothing waits for it");
    offer(&mut car, "gw/2/gw.bin", 2, &new);
    assert_eq!(car.updated().installed.len(), 1);
}

#[test]
fn a_key_that_is_not_approved_yet_is_sent_again_and_opens_what_comes_meanwhile() {
    let mut car = Car::new();
    let old = car.key_of("p-1");
    let body = "409 Conflict\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
        {\"code\":\"key_change_not_approved\",\"detail\":\"the new key is not approved\",\"status\":409}";
    car.server.answer_reports(Some(body));
    let (first, sent) = change(&car);
    assert!(chain(&sent.unwrap_err()).contains("not approved"));
    assert_eq!(car.key_of("p-1").kid(), old.kid());
    car.server.answer_reports(None);
    // The Director has it, and its answer did not arrive.
    offer(&mut car, "gw/1/gw.bin", 1, &first);
    assert_eq!(car.updated().installed.len(), 1);
    let (second, sent) = change(&car);
    sent.unwrap();
    assert_eq!((second.kid(), car.key_of("p-1").kid()), (first.kid(), first.kid()));
}

#[test]
fn every_try_has_a_counter_of_its_own_which_the_reports_go_on_from() {
    let mut car = Car::new();
    car.publish(json!({}));
    car.updated();
    let (_, _, before) = car.reported("p-1");
    change(&car).1.unwrap();
    change(&car).1.unwrap();
    car.updated();
    assert_eq!(car.reported("p-1").2, before + 3);
}

#[test]
fn a_login_page_is_no_director_that_has_the_key() {
    let car = Car::new();
    let old = car.key_of("p-1");
    let page = "200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html>log in</html>";
    car.server.answer_reports(Some(page));
    change(&car).1.unwrap_err();
    assert_eq!(car.key_of("p-1").kid(), old.kid());
    let vehicle = car.vehicle();
    assert!(chain(&next(&vehicle, &"x".parse().unwrap()).unwrap_err()).contains("no ECU x"));
}
