//! A state directory that is older than its bucket.

use std::fs;
use std::path::Path;
use std::process::Command;

use motorcade::uptane::client::VerifiedRepository;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::Site;
use crate::support::{Server, http, refused, run, wait_until};
use crate::tus::{begin, tus};

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").args([from, to]));
}

async fn versions(site: &Site, server: &Server) -> [u64; 3] {
    let trusted = fs::read(site.data_dir().join("1.root.json")).unwrap();
    VerifiedRepository::load(&trusted, &server.repo_url()).await.unwrap().versions()
}

#[tokio::test]
async fn an_older_catalog_goes_on_past_all_that_the_bucket_shows() {
    let site = Site::made().await;
    let (server, client) = site.serve_engineer(&[]).await;
    client.upload("gw/1.bin", "", b"one").await;
    let upload = begin(&client, "gw/waits.bin", 2_000_000).await;
    server.process.kill();
    let backup = site.folder.path().join("backup");
    copy(&site.data_dir(), &backup);

    let server = site.serve(&[]);
    let client = server.client(&client.token);
    let later = ["gw/2.bin", "gw/3.bin", "gw/4.bin"];
    for path in later {
        client.upload(path, "", path.as_bytes()).await;
    }
    let seen = versions(&site, &server).await;
    server.process.kill();
    fs::remove_dir_all(site.data_dir()).unwrap();
    copy(&backup, &site.data_dir());
    let shown = site.read("timestamp.json").await;
    for _ in 0..2 {
        let refusal = refused(&mut site.command(&["serve", "--listen", "127.0.0.1:0"]));
        assert!(refusal.contains("motorcade recover versions"), "{refusal}");
        assert_eq!(site.read("timestamp.json").await, shown, "nothing was changed");
    }
    run(&mut site.command(&["recover", "versions"]));

    let server = site.serve(&[]);
    let client = server.client(&client.token);
    wait_until("it is ready", async || {
        http().get(format!("{}/readyz", server.url())).send().await.unwrap().status() == 200
    })
    .await;
    client.upload("gw/5.bin", "", b"five").await;
    let after = versions(&site, &server).await;
    assert!(after[1] > seen[1] && after[2] > seen[2], "{seen:?}, and then {after:?}");
    let gone = tus(&client, Method::HEAD, &upload).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::GONE, "what waited was ended, and begins again");
    drop(server);
    let left: Vec<String> = site.names().await.1;
    assert_eq!(left, [""; 0]);
    let found = site.command(&["fsck", "--json"]).output().unwrap();
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    for problem in found["problems"].as_array().unwrap() {
        let problem = problem.as_str().unwrap();
        let is_lost = later.iter().any(|path| problem.contains(path.trim_start_matches("gw/")));
        assert!(is_lost, "only images that the older catalog does not know: {problem}");
    }
}
