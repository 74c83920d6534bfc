//! What a server says of a store that answers with an error, or is full, and how it goes on.

use std::sync::{Arc, Mutex};

use reqwest::StatusCode;
use serde_json::Value;

use crate::faulty_proxy::{DATE, Spoil, faulty_proxy};
use crate::object_store::ObjectStore;
use crate::small_disk::SmallDisk;
use crate::support::{Server, http, noise, refused, wait_until};
use crate::{Site, unavailable};

/// What is answered to everything, while there is something.
type Answer = Arc<Mutex<Option<(u16, &'static str)>>>;

async fn behind_a_proxy(site: &mut Site) -> Answer {
    let answer = Answer::default();
    let asked = Arc::clone(&answer);
    site.endpoint = faulty_proxy(&site.store.endpoint, move |_| match *asked.lock().unwrap() {
        Some((status, code)) => Spoil::Answer(status, code),
        None => Spoil::Pass,
    })
    .await;
    answer
}

async fn readiness(server: &Server) -> (StatusCode, String) {
    let response = http().get(format!("{}/readyz", server.url())).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

/// As credentials that are changed, a bucket that is removed, or a clock that runs away, do under a
/// server that runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_wrong_with_a_store_is_named_by_readiness_until_it_is_mended() {
    let mut site = Site::made().await;
    let answer = behind_a_proxy(&mut site).await;
    let (server, client) = site.serve_engineer(&[]).await;
    for (status, code, named) in [
        (403, "InvalidAccessKeyId", "set AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (403, "AccessDenied", "does not let these credentials use"),
        (404, "NoSuchBucket", "there is no bucket"),
        (403, "RequestTimeTooSkewed", DATE),
        (503, "ServiceUnavailable", "or full"),
    ] {
        *answer.lock().unwrap() = Some((status, code));
        let (ready, said) = readiness(&server).await;
        assert_eq!(ready, StatusCode::SERVICE_UNAVAILABLE, "{code}: {said}");
        assert!(said.contains("blobs_unreachable") && said.contains(named), "{code}: {said}");
        unavailable(client.put("gw/during.bin", "", "firmware").await.unwrap()).await;
        *answer.lock().unwrap() = None;
        wait_until("it is ready again", async || readiness(&server).await.0 == 200).await;
        client.upload(&format!("gw/{code}.bin"), "", b"firmware").await;
    }
    drop(server);
    site.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_is_told_of_at_the_start() {
    let mut site = Site::made().await;
    let answer = behind_a_proxy(&mut site).await;
    *answer.lock().unwrap() = Some((403, "RequestTimeTooSkewed"));
    let said = refused(&mut site.command(&["serve", "--listen", "127.0.0.1:0"]));
    assert!(said.contains("set the clock") && said.contains(DATE), "{said}");
}

/// Swift says 503 then, which many things can mean.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_full_takes_nothing_in_and_goes_on_once_there_is_room() {
    if ObjectStore::kind() != "swift" {
        return println!("skipped: only Swift keeps its data where it is told to");
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), "40m") else { return };
    let devices = folder.path().to_str().unwrap();
    let store = ObjectStore::start_in(&[("DEVICES", devices)]);
    let site = Site::at(Box::leak(Box::new(store))).await;
    site.init();
    let (server, client) = site.serve_engineer(&[]).await;
    client.upload("gw/before.bin", "", b"firmware").await;
    let before = site.names().await.0;
    let said = client.put("gw/large.bin", "", noise("large", 80_000_000)).await.unwrap();
    unavailable(said).await;
    wait_until("it says so", async || server.log().contains("or full")).await;
    wait_until("what there was of it is gone", async || site.names().await.1.is_empty()).await;
    assert_eq!(site.names().await.0, before);
    client.upload("gw/after.bin", "", b"firmware").await;

    let filler = disk.fill(0);
    let said = client.put("gw/during.bin", "", noise("during", 100_000)).await.unwrap();
    assert_eq!(said.status(), StatusCode::SERVICE_UNAVAILABLE, "{}", server.log());
    let served = client.get("/repo/timestamp.json").await;
    let served: Value = serde_json::from_slice(&served).unwrap();
    assert!(served["signed"]["version"].is_u64(), "what was published is served on: {served}");
    std::fs::remove_file(filler).unwrap();
    wait_until("it takes images in again", async || {
        client
            .put("gw/during.bin", "", noise("during", 100_000))
            .await
            .unwrap()
            .status()
            .is_success()
    })
    .await;
    wait_until("it is ready", async || readiness(&server).await.0 == 200).await;
    drop(server);
    site.fsck();
}
