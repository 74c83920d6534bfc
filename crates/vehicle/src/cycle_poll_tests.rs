//! Polls in one request: the answer to the report carries the timestamp.

use serde_json::json;

use crate::testing::car::{Car, image};

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
    car.updated();
    asked(&car);
    give(&car, car.director.file("timestamp.json"));
    car.updated();
    assert_eq!(asked(&car), ["PUT /director/manifest"]);

    let gateway = image(5000);
    car.offer("gw/1/gw.bin", &gateway, 1);
    give(&car, car.director.file("timestamp.json"));
    car.updated();
    assert_eq!(car.installed("p-1"), Some(gateway.plaintext));
    let asked = asked(&car);
    assert!(!asked.contains(&"GET /director/timestamp.json".to_owned()), "{asked:?}");
}

#[test]
fn a_timestamp_that_is_given_is_verified_and_all_is_asked_for_if_it_is_not_good() {
    let mut car = Car::new();
    car.publish(json!({}));
    car.updated();
    let old = car.director.file("timestamp.json").to_vec();
    car.publish(json!({}));
    car.updated();
    let mut forged = car.director.file("timestamp.json").to_vec();
    let at = forged.len() / 2;
    forged[at] ^= 1;
    for given in [old.as_slice(), forged.as_slice(), b"{}", b""] {
        asked(&car);
        give(&car, given);
        car.updated();
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
    car.updated();
    car.server.answer_reports(Some(
        "200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
    ));
    assert!(car.update().failure.is_some(), "without Preference-Applied it is not a Director's");
}
