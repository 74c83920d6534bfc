//! A server that is killed while it publishes a root: the root is published or still staged, and no
//! version is left out or has two contents.

use std::fs;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::{Client, create_token};
use super::{Ledger, Rng, Site, fsck};

const KILLS: u64 = 24;

/// The root of one repository, as an officer sees it.
struct Roots {
    client: Client,
    side: &'static str,
}

impl Roots {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/api/v1/roots/{}{path}", self.client.url, self.side);
        self.client.http.request(method, url).bearer_auth(&self.client.token)
    }

    async fn show(&self) -> Value {
        self.request(Method::GET, "").send().await.unwrap().json().await.unwrap()
    }

    /// Stages a root that is valid for another number of days, and signs it, unless the last kill
    /// has left one.
    async fn stage(&self, days: u64) -> u64 {
        let before = self.show().await;
        let version = before["version"].as_u64().unwrap();
        if before["staged"].is_null() {
            let change = json!({ "expires_days": days });
            let staged = self.request(Method::PUT, "/staged").json(&change).send().await.unwrap();
            assert_eq!(staged.status(), StatusCode::OK);
        } else {
            assert_eq!(before["staged"]["is_outdated"], false, "{before}");
            assert_eq!(before["staged"]["version"], version + 1, "{before}");
        }
        let signed = self.request(Method::POST, "/staged/sign").send().await.unwrap();
        assert_eq!(signed.status(), StatusCode::OK);
        version
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_root_that_is_being_published_is_published_or_still_staged() {
    let mut rng = Rng::new("kill -9 of a ceremony");
    let site = Site::new().await;
    let officer = create_token(&site.data_dir(), "officer");
    let repo = site.data_dir().join("repo");
    let (mut ledger, mut took) = (Ledger::default(), Duration::from_millis(300));
    let (mut answered, mut cut_off, mut taken_up) = (0, 0, 0);
    for kill in 0..KILLS {
        let server = site.serve(&[]);
        site.check_after_start(&server).await;
        ledger.saw_directory(&repo);
        let side = if rng.below(4) == 0 { "director" } else { "image" };
        let roots = Roots { client: server.client(&officer), side };
        let before = roots.stage(300 + kill).await;
        let stored = repo.join(format!("{}.root.json", before + 1));
        let publish = roots.request(Method::POST, "/staged/publish");
        let (started, publishing) = (Instant::now(), tokio::spawn(publish.send()));
        if side == "image" && rng.below(2) == 0 {
            // Between the file and its record is where most can go wrong.
            while !stored.exists() && !publishing.is_finished() {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            tokio::time::sleep(rng.duration(Duration::from_millis(3))).await;
        } else {
            tokio::time::sleep(rng.duration(took)).await;
        }
        server.process.kill();
        let status = publishing.await.unwrap().ok().map(|response| response.status());
        let was_stored = side == "image" && stored.exists();
        let server = site.serve(&[]);
        site.check_after_start(&server).await;
        let after = Roots { client: server.client(&officer), side }.show().await;
        match (status, after["version"].as_u64().unwrap() - before) {
            (Some(status), 1) => {
                assert_eq!((status, &after["staged"]), (StatusCode::OK, &Value::Null));
                (answered, took) = (answered + 1, started.elapsed());
            }
            (None, 1) => {
                assert_eq!(after["staged"], Value::Null, "what was staged is published");
                taken_up += 1;
            }
            (None, 0) => {
                assert!(!was_stored, "clients may have fetched it");
                assert_eq!(after["staged"]["is_outdated"], false);
                cut_off += 1;
            }
            other => panic!("{other:?}: {after}"),
        }
        server.process.kill();
    }
    println!("{answered} answered, {taken_up} published without an answer, {cut_off} still staged");
    assert!(taken_up + cut_off > 0, "some kills interrupt a publication");
    let server = site.serve(&[]);
    let versions = site.verify(&server).await.versions();
    for version in 1..=versions[0] {
        assert!(fs::exists(repo.join(format!("{version}.root.json"))).unwrap(), "{version}");
    }
    assert_eq!(fsck(&site.data_dir()), [""; 0]);
}
