//! A rotation of the escrow key under which the server is killed.

use std::fs;

use serde_json::{Value, json};

use crate::jobs::kill_until_done;
use crate::support::{Client, create_token};
use crate::{Rng, Site, upload_many};

const IMAGES: usize = 40;
const ROTATIONS: usize = 4;

async fn begin(client: &Client) {
    let url = format!("{}/api/v1/rotations", client.url);
    let begun = client.http.post(url).bearer_auth(&client.token).json(&json!({ "escrow": {} }));
    let answer = begun.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_of_the_escrow_key_goes_on_where_its_server_was_killed() {
    let mut rng = Rng::new("escrow");
    let site = Site::new().await;
    let officer = create_token(&site.data_dir(), "officer");
    let server = site.serve(&[]);
    upload_many(&server.client(&site.token), IMAGES).await;
    drop(server);
    let (mut kills, mut former) = (0, Vec::new());
    for _ in 0..ROTATIONS {
        let server = site.serve(&[]);
        begin(&server.client(&officer)).await;
        let server = kill_until_done(&site, server, &officer, &mut rng, &mut kills).await;
        let escrow = server.client(&officer).get("/api/v1/escrow").await;
        let escrow: Value = serde_json::from_slice(&escrow).unwrap();
        assert_eq!(escrow["keys"].as_array().unwrap().len(), 1, "{escrow}");
        assert_eq!(escrow["keys"][0]["envelopes"], IMAGES, "{escrow}");
        let source = escrow["keys"][0]["source"].as_str().unwrap().to_owned();
        // Whatever is in no use any more is destroyed, and nothing misses it.
        for entry in fs::read_dir(site.data_dir().join("keys")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".jwk") && source != format!("file:{name}") {
                fs::remove_file(&path).unwrap();
            }
        }
        assert!(!former.contains(&source), "{source} is back");
        former.push(source);
        site.check_after_start(&server).await; // which opens each envelope
    }
    println!("{ROTATIONS} rotations, {kills} kills");
    assert!(kills > 0, "none was interrupted");
}
