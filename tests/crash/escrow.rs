//! A rotation of the escrow key under which the server is killed.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

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

async fn has_ended(client: &Client) -> bool {
    let jobs: Value = serde_json::from_slice(&client.get("/api/v1/jobs?limit=1").await).unwrap();
    let job = &jobs["jobs"][0];
    assert_ne!(job["state"], "failed", "{job}");
    job["state"] == "done"
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
        let mut server = site.serve(&[]);
        begin(&server.client(&officer)).await;
        for attempt in 0_u32.. {
            // Milliseconds at first: a fast machine is done in ten.
            tokio::time::sleep(rng.duration(Duration::from_millis(2 << attempt.min(8)))).await;
            if has_ended(&server.client(&officer)).await {
                break;
            }
            // A job that gets no further ten times is given up, and a machine may be that slow.
            if attempt < 8 {
                server.process.kill();
                kills += 1;
                server = site.serve(&[]);
            }
        }
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
