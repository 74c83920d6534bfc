//! A rotation under which the server is killed.

use std::fs;

use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::RecipientPrivateKey;
use serde_json::{Value, json};

use crate::jobs::kill_until_done;
use crate::support::{Client, create_token, snakeoil};
use crate::{Rng, Site, upload_many};

const IMAGES: usize = 40;
const ROTATIONS: usize = 4;
const KEYS: [&str; 2] = ["snakeoil_p256", "snakeoil_p256_other"];

/// One of the tests' keys.
pub(crate) fn private_key(name: &str) -> RecipientPrivateKey {
    let pem = fs::read_to_string(snakeoil(&format!("{name}.pem"))).unwrap();
    RecipientPrivateKey::parse(&pem).unwrap()
}

async fn rotate(client: &Client, old: &str, new: &str) -> Value {
    let kid = private_key(old).kid().to_string();
    let key = fs::read_to_string(snakeoil(&format!("{new}.pub.pem"))).unwrap();
    let body = json!({ "recipient": { "kid": kid, "public_key": key } });
    let url = format!("{}/api/v1/rotations", client.url);
    let answer = client.http.post(url).bearer_auth(&client.token).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_goes_on_where_its_server_was_killed() {
    let mut rng = Rng::new("rotation");
    let site = Site::new().await;
    let officer = create_token(&site.data_dir(), "officer");
    let server = site.serve(&[]);
    upload_many(&server.client(&site.token), IMAGES).await;
    drop(server);
    let mut kills = 0;
    for round in 0..ROTATIONS {
        let [old, new] = [KEYS[round % 2], KEYS[(round + 1) % 2]];
        let server = site.serve(&[]);
        rotate(&server.client(&officer), old, new).await;
        let server = kill_until_done(&site, server, &officer, &mut rng, &mut kills).await;
        site.check_after_start(&server).await;
        let client = server.client(&officer);
        for number in 0..IMAGES {
            let path = format!("/api/v1/images/gw/{number}/a.bin/envelope");
            let envelope = Envelope::parse(&client.get(&path).await).unwrap();
            assert!(envelope.open(&private_key(new)).is_ok(), "{path}");
            assert!(!envelope.has_recipient(private_key(old).kid()), "{path}");
        }
    }
    println!("{ROTATIONS} rotations, {kills} kills");
    assert!(kills > 0, "none was interrupted");
}
