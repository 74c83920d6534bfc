//! Two servers whose common folder of blobs is on a disk that gets full.

use std::fs;
use std::sync::Mutex;

use reqwest::StatusCode;
use serde_json::Value;

use crate::postgres::Postgres;
use crate::shared::Replicas;
use crate::small_disk::SmallDisk;
use crate::support::{http, sha256, snakeoil, wait_until};
use crate::{Image, Ledger, Site, follow_metadata};

/// Pages that are left of the disk at each upload: it ends at every step of one, and of a publication.
const PAGES: [u64; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 28, 40, 60];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_whose_folder_is_full_publish_whole_or_not_at_all_and_go_on_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), "24m") else { return };
    let blobs = folder.path().join("blobs");
    let environment =
        [("MOTORCADE_SHARED_BLOBS", blobs.to_str().unwrap()), ("MOTORCADE_RESERVED_SPACE", "0")];
    let replicas = Replicas::with(Postgres::shared().database(), &environment);
    let servers = replicas.serve_both();
    let clients = servers.each_ref().map(|server| server.client(&replicas.token));
    clients[0].register(&snakeoil("snakeoil_p256.pub.pem")).await;
    let trusted = fs::read(blobs.join("repo/1.root.json")).unwrap();
    let site = Site::of(&replicas, trusted);
    let (ledger, mut refused) = (Mutex::new(Ledger::default()), 0);
    for (round, pages) in PAGES.into_iter().enumerate() {
        let [here, there] = [round % 2, 1 - round % 2].map(|number| &clients[number]);
        let image = Image { path: format!("gw/{pages}/gateway.bin"), blocks: 2 };
        let filler = disk.fill(pages * 4096);
        let answer = here.put(&image.path, image.query(), image.bytes()).await.unwrap();
        let status = answer.status();
        let said: Value = answer.json().await.unwrap();
        assert!([201, 507].contains(&status.as_u16()), "{pages} pages: {status} {said}");
        refused += usize::from(status == StatusCode::INSUFFICIENT_STORAGE);
        for server in &servers {
            // As it was or with the image, but whole, and no older at the one than at the other.
            site.verify(server).await;
            follow_metadata(&server.client(&replicas.token), &ledger).await.unwrap();
        }
        fs::remove_file(filler).unwrap();
        let again = image.send(there).await.unwrap();
        let expected = [StatusCode::OK, StatusCode::CREATED];
        assert!(expected.contains(&again), "{pages} pages: {status} {said}, then {again}");
        for server in &servers {
            let repository = site.verify(server).await;
            let opened = site.open(&repository, &image.path).await;
            assert_eq!(opened, sha256(&image.bytes()), "{pages} pages");
        }
    }
    assert!((1..PAGES.len()).contains(&refused), "some fit and some do not: {refused} of them");
    for server in &servers {
        let url = format!("{}/readyz", server.url());
        wait_until(&format!("it is ready: {}", server.log()), async || {
            http().get(&url).send().await.is_ok_and(|ready| ready.status() == 200)
        })
        .await;
    }
    ledger.lock().unwrap().saw_directory(&blobs.join("repo"));
    drop(servers);
    replicas.fsck();
}
