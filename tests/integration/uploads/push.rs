//! `motorcade image push` of what is large: it goes on by itself.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use crate::app::{TestServer, eventually, pattern, send, sha256_hex};
use crate::cutting_proxy::cutting_proxy;
use crate::support::run;

const DESCRIBED: &str = "--hardware-id gw-mk3 --version 1.0.0 --release-counter 1";
const PATH: &str = "gw/1/a.bin";

fn push(server: &TestServer, through: SocketAddr, file: &Path) -> Command {
    let mut command = server.motorcade(&format!("image push --path {PATH} {DESCRIBED}"));
    command.env("MOTORCADE_SERVER", format!("http://{through}")).arg(file);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_over_a_line_that_breaks_sends_hardly_anything_twice() {
    let server = TestServer::start().await;
    let image = pattern(60_000_000, 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.bin");
    fs::write(&file, &image).unwrap();
    let cuts = vec![20_000_000, 15_000_000, 19_000_000];
    let (proxy, sent) = cutting_proxy(server.address, cuts).await;
    let pushing = push(&server, proxy, &file).stderr(Stdio::piped()).spawn().unwrap();
    let ended = tokio::task::spawn_blocking(move || pushing.wait_with_output().unwrap());
    let output = ended.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.matches("going on in").count() >= 3, "{said}");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < image.len() * 112 / 100, "{sent} bytes of {}", image.len());
    assert_eq!(server.image(PATH).await.plaintext.sha256, sha256_hex(&image));
    assert!(server.open(PATH, "snakeoil_p256").await == image);
    let again = push(&server, proxy, &file).stderr(Stdio::piped()).spawn().unwrap();
    let again = tokio::task::spawn_blocking(move || again.wait_with_output().unwrap());
    let again = String::from_utf8(again.await.unwrap().stderr).unwrap();
    assert!(again.contains("was there already"), "{again}");
    server.stop().assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_was_stopped_is_gone_on_with_by_the_next_one() {
    let server = TestServer::start().await;
    let image = pattern(40_000_000, 2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.bin");
    fs::write(&file, &image).unwrap();
    let (proxy, sent) = cutting_proxy(server.address, vec![25_000_000]).await;
    let mut once = push(&server, proxy, &file);
    let once = once.args(["--retry-for", "0"]).stderr(Stdio::piped()).spawn().unwrap();
    let once = tokio::task::spawn_blocking(move || once.wait_with_output().unwrap());
    let once = once.await.unwrap();
    let said = String::from_utf8_lossy(&once.stderr);
    assert_eq!(once.status.code(), Some(1), "{said}");
    let before = sent.swap(0, Ordering::Relaxed);
    assert!((25_000_000..26_000_000).contains(&before), "{before}: {said}");
    let mut again = push(&server, proxy, &file);
    tokio::task::spawn_blocking(move || run(&mut again)).await.unwrap();
    let after = sent.load(Ordering::Relaxed);
    assert!(after < 16_000_000, "{after}");
    eventually("it is there", async || {
        send(server.request_as(
            motorcade::model::AccessRole::Viewer,
            reqwest::Method::GET,
            &format!("/api/v1/images/{PATH}"),
        ))
        .await
        .status
            == 200
    })
    .await;
    assert!(server.open(PATH, "snakeoil_p256").await == image);
}
