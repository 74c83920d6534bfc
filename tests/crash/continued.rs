//! Uploads that begin at one replica and go on at another one, also after the first was killed.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::{Body, StatusCode};

use crate::Site;
#[cfg(feature = "s3")]
use crate::bucket::Bucket;
use crate::cutting_proxy::switching_proxy;
#[cfg(feature = "s3")]
use crate::postgres::Postgres;
use crate::shared::Replicas;
use crate::support::{Client, HARDWARE, Server, motorcade, noise, sha256, snakeoil, wait_until};
use crate::tus::{begin, offset, patch};
use crate::uploads::{PATH, send};

#[cfg(feature = "s3")]
async fn in_bucket() -> Replicas {
    let environment = Bucket::new().await.environment();
    Replicas::with(Postgres::shared().database(), &environment.each())
}

/// Both servers, with a recipient, and what opens its images.
async fn serve(replicas: &Replicas) -> ([Server; 2], Site) {
    let servers = replicas.serve_both();
    let client = servers[0].client(&replicas.token);
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    let trusted = client.get("/repo/1.root.json").await.to_vec();
    let site = Site::of(replicas, trusted);
    (servers, site)
}

fn image(megabytes: usize) -> Vec<u8> {
    noise("continued", 1_000_000).repeat(megabytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_at_another_replica_in_a_folder() {
    goes_on_at_another(Replicas::new()).await;
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_at_another_replica_in_a_bucket() {
    goes_on_at_another(in_bucket().await).await;
}

async fn goes_on_at_another(replicas: Replicas) {
    let (servers, site) = serve(&replicas).await;
    let clients = servers.each_ref().map(|server| server.client(&replicas.token));
    let image = image(24);
    let url = begin(&clients[0], PATH, image.len()).await;
    let mut at = 0;
    for (turn, size) in [100, 1_500_000, 3_000_000, 6_000_000].into_iter().enumerate() {
        let client = &clients[(turn + 1) % 2];
        assert_eq!(offset(client, &url).await, at, "what the other one has acknowledged");
        let sent = send(client, &url, at, &image[..at + size], usize::MAX).await.unwrap();
        assert_eq!(sent.status(), 204);
        at += size;
    }
    let [first, second] = servers;
    let piece = Bytes::copy_from_slice(&image[at..at + 5_000_000]);
    let cut = tokio::spawn(begin_to_send(clients[0].clone(), url.clone(), at, piece));
    wait_until("the first one has taken it", async || {
        let empty = patch(&clients[1], &url, at).send().await.unwrap().status();
        empty == StatusCode::LOCKED || empty == StatusCode::CONFLICT // some of it is kept by now
    })
    .await;
    first.process.kill();
    assert!(cut.await.unwrap().is_err(), "it was killed");
    end_at(&clients[1], &url, at, &image, &second).await;
    let repository = site.verify(&second).await;
    assert_eq!(site.open(&repository, PATH).await, sha256(&image));
    drop(second);
    replicas.fsck();
}

/// Sends a piece, and neither more nor that this was all.
async fn begin_to_send(
    client: Client,
    url: String,
    at: usize,
    piece: Bytes,
) -> reqwest::Result<reqwest::Response> {
    let pieces = stream::once(async move { Ok::<_, std::io::Error>(piece) });
    let body = Body::wrap_stream(pieces.chain(stream::pending()));
    patch(&client, &url, at).timeout(LONGEST).body(body).send().await
}

/// Sends the rest once the lease of who was killed has ended.
async fn end_at(client: &Client, url: &str, acknowledged: usize, image: &[u8], server: &Server) {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < LONGEST, "{}", server.log());
        let at = offset(client, url).await;
        assert!(
            at >= acknowledged,
            "{at} of {acknowledged} bytes that were acknowledged are there"
        );
        // Who refuses before the body was read may close the connection before the answer is seen.
        if let Some(sent) = send(client, url, at, image, usize::MAX).await {
            match sent.status() {
                StatusCode::NO_CONTENT => return,
                StatusCode::LOCKED | StatusCode::CONFLICT => {}
                status => panic!("{status}: {}\n{}", sent.text().await.unwrap(), server.log()),
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_goes_on_at_whichever_replica_answers_with_a_folder() {
    push_through_what_switches(Replicas::new()).await;
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_goes_on_at_whichever_replica_answers_with_a_bucket() {
    push_through_what_switches(in_bucket().await).await;
}

/// Each connection goes to the other server than the one before, the first ones break, and then one of
/// the servers is killed.
async fn push_through_what_switches(replicas: Replicas) {
    let (servers, site) = serve(&replicas).await;
    let addresses = servers.each_ref().map(|server| {
        let url = server.url();
        url.strip_prefix("http://").unwrap().parse::<SocketAddr>().unwrap()
    });
    let cuts = vec![9_000_000, 7_000_000, 8_000_000];
    let (proxy, sent, offsets) = switching_proxy(addresses.to_vec(), cuts).await;
    let image = image(40);
    let file = site.dir.path().join("image.bin");
    fs::write(&file, &image).unwrap();
    let said = ["--hardware-id", HARDWARE, "--version", "1.0.0", "--release-counter", "1"];
    let mut push = motorcade(["image", "push", "--path", PATH]);
    push.args(said).arg(&file).env("MOTORCADE_TOKEN", &replicas.token);
    push.env("MOTORCADE_SERVER", format!("http://{proxy}")).stderr(Stdio::piped());
    let pushing = push.stdout(Stdio::null()).spawn().unwrap();
    wait_until("half of it was sent", async || sent.load(Ordering::Relaxed) > 20_000_000).await;
    let [first, second] = servers;
    first.process.kill();
    let ended = tokio::task::spawn_blocking(move || pushing.wait_with_output().unwrap());
    let output = ended.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", second.log());
    assert!(said.matches("going on in").count() >= 2, "{said}");
    let offsets = offsets.lock().unwrap().clone();
    assert!(offsets.is_sorted(), "what was acknowledged stays: {offsets:?}: {said}");
    assert!(offsets.last().is_some_and(|last| *last >= LEAST_KEPT), "{offsets:?}: {said}");
    let repository = site.verify(&second).await;
    assert_eq!(site.open(&repository, PATH).await, sha256(&image));
    drop(second);
    replicas.fsck();
}

/// Bytes of the first piece that are acknowledged, whatever else is lost: more than 8 MiB were sent.
const LEAST_KEPT: usize = 5 * 1024 * 1024;
/// The leases of uploads last a minute.
const LONGEST: Duration = Duration::from_secs(300);
