//! Uploads that are resumed while the server is killed again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Method, Response};

use crate::small_disk::SmallDisk;
use crate::support::{Client, noise, sha256, wait_until};
use crate::tus::{begin, offset, patch, tus};
use crate::{PIECE, Rng, Site};

pub(crate) const PATH: &str = "gw/resumed/a.bin";
const KILLS: usize = 20;

/// Sends the rest of an image, in as many requests as `size` makes of it.
pub(crate) async fn send(
    client: &Client,
    url: &str,
    at: usize,
    image: &[u8],
    size: usize,
) -> Option<Response> {
    let (mut at, mut last) = (at, None);
    while at < image.len() {
        let part = Bytes::copy_from_slice(&image[at..image.len().min(at.saturating_add(size))]);
        let length = part.len();
        let pieces = (0..length.div_ceil(PIECE)).map(move |number| {
            let end = length.min((number + 1) * PIECE);
            Ok::<_, std::io::Error>(part.slice(number * PIECE..end))
        });
        let body = Body::wrap_stream(stream::iter(pieces));
        let response = patch(client, url, at).body(body).send().await.ok()?;
        if response.status() != 204 {
            return Some(response);
        }
        at += length;
        last = Some(response);
    }
    last
}

/// What has left the process for the disk. Beside it there may be metadata whose publication was
/// killed, too.
fn sealed(site: &Site) -> Vec<u8> {
    let mut staged = site.staged();
    staged.retain(|name| name.starts_with("parts/") && !name.ends_with(".ledger"));
    match staged.as_slice() {
        [] => Vec::new(),
        [name] => fs::read(site.data_dir().join("staging").join(name)).unwrap(),
        more => panic!("{more:?}"),
    }
}

fn sealed_length(site: &Site) -> u64 {
    let staged = site.data_dir().join("staging/parts");
    let files = fs::read_dir(staged).into_iter().flatten().map(Result::unwrap);
    let files = files.filter(|file| file.path().extension().is_none());
    files.map(|file| file.metadata().map_or(0, |file| file.len())).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_after_every_kill_and_no_sealed_byte_ever_has_two_values() {
    let mut rng = Rng::new("kill -9 under a resumed upload");
    let site = Site::new().await;
    let mut image = noise("resumed", 64 * 1024).repeat(600); // 37 MiB
    let server = site.serve(&[]);
    let url = begin(&server.client(&site.token), PATH, image.len()).await;
    server.process.kill();
    let (mut before, mut acknowledged, mut refused, mut flip) = (Vec::new(), 0, 0, 0);
    let mut values: BTreeMap<usize, BTreeSet<u8>> = BTreeMap::new();
    for kill in 0..KILLS {
        let server = site.serve(&[]);
        let client = server.client(&site.token);
        let at = offset(&client, &url).await;
        assert!(at >= acknowledged, "{acknowledged} bytes were acknowledged, and {at} are there");
        // Every third time the client comes back with another byte than it had, at one place until
        // that is taken in: what was sealed once is one of two.
        if flip < at {
            flip = (at + rng.below(4 * 1024 * 1024) as usize).min(image.len() - 1);
        }
        let is_changed = kill % 3 == 2;
        let mut sent = image.clone();
        sent[flip] ^= u8::from(is_changed);
        values.entry(flip).or_default().insert(sent[flip]);
        let size = 1 + rng.below(16 * 1024 * 1024) as usize;
        let sending = tokio::spawn({
            let (client, url, sent) = (client.clone(), url.clone(), sent.clone());
            async move { send(&client, &url, at, &sent, size).await.map(|answer| answer.status()) }
        });
        // Between the moment in which sealed bytes are on the disk and the one in which that is noted
        // most is at stake.
        wait_until("sealed bytes have left the process", async || {
            sealed_length(&site) > before.len() as u64 || sending.is_finished()
        })
        .await;
        tokio::time::sleep(rng.duration(Duration::from_millis(40))).await;
        server.process.kill();
        match sending.await.unwrap() {
            None => {}
            Some(status) if status == 422 => {
                refused += 1;
                image[flip] ^= u8::from(!is_changed); // the other one was sealed
            }
            Some(status) => assert_eq!(status, 204),
        }
        let after = sealed(&site);
        let common = before.len().min(after.len());
        assert!(before[..common] == after[..common], "kill {kill}: sealed bytes have changed");
        before = if after.len() > before.len() { after } else { before };
        // What was taken in is the image from now on.
        let server = site.serve(&[]);
        acknowledged = offset(&server.client(&site.token), &url).await;
        image[at..acknowledged].copy_from_slice(&sent[at..acknowledged]);
        server.process.kill();
        if acknowledged == image.len() {
            break;
        }
    }
    let server = site.serve(&[]);
    let client = server.client(&site.token);
    let at = offset(&client, &url).await;
    println!("{at} of {} bytes after {KILLS} kills, {refused} refused", image.len());
    if at < image.len() {
        let status =
            async |image: &[u8]| send(&client, &url, at, image, usize::MAX).await.unwrap().status();
        if status(&image).await == 422 {
            image[flip] ^= 1;
            let status = status(&image).await;
            if status == 422 {
                // Of a block that was sealed before, a shorter part with the other byte was taken in:
                // this client has sent two images, and gets neither.
                let is_two =
                    |(place, sent): (&usize, &BTreeSet<u8>)| *place < at && sent.len() == 2;
                assert!(values.iter().any(is_two), "the bytes that it has sent are one image");
                let after = sealed(&site);
                let common = before.len().min(after.len());
                assert!(before[..common] == after[..common], "sealed bytes have changed");
                let path = format!("/api/v1/images/{PATH}");
                let shown = tus(&client, Method::GET, &path).send().await.unwrap();
                assert_eq!(shown.status(), 404);
                return;
            }
            assert_eq!(status, 204);
        }
    }
    let repository = site.verify(&server).await;
    assert_eq!(site.open(&repository, PATH).await, sha256(&image));
    let published = fs::read(site.dir.path().join("sealed")).unwrap();
    assert!(published.starts_with(&before), "what had left the process is what was published");
    server.process.kill();
    let server = site.serve(&[]);
    site.check_after_start(&server).await;
}

/// What waits was acknowledged, and stays; the server has room of its own to start with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_of_what_waits_keeps_no_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), "256m") else { return };
    let site = Site::in_folder(tempfile::tempdir_in(folder.path()).unwrap()).await;
    let server = site.serve(&["--reserved-space", "0"]);
    let client = server.client(&site.token);
    let image = noise("waits", 64 * 1024).repeat(200); // 12 MiB
    let url = begin(&client, PATH, image.len()).await;
    let sent = send(&client, &url, 0, &image[..8 * 1024 * 1024], usize::MAX).await;
    assert_eq!(sent.unwrap().status(), 204);
    let acknowledged = offset(&client, &url).await;
    assert!(acknowledged > 0);
    server.process.kill();
    disk.fill(0);
    let server = site.serve(&["--reserved-space", "0"]);
    let client = server.client(&site.token);
    assert_eq!(offset(&client, &url).await, acknowledged);
    site.verify(&server).await;
}
