//! tuspy and tus-js-client: whole uploads, uploads in parts, and uploads whose connection is cut.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::cutting_proxy::cutting_proxy;
use super::support::{HARDWARE, node, noise, program, refused, run, sha256};
use super::{Fleet, private_key, we_open};

const LENGTH: usize = 12_000_000;

impl Fleet {
    /// A file to upload, and what is said of it as arguments.
    fn image(&self, path: &str) -> (PathBuf, Vec<u8>, Vec<String>) {
        let image = noise(path, LENGTH);
        let file = self.file("image.bin");
        fs::write(&file, &image).unwrap();
        let said = [
            format!("path={path}"),
            format!("hardware_id={HARDWARE}"),
            "version=4.2.0".to_owned(),
            "release_counter=42".to_owned(),
        ];
        let said = said.into_iter().flat_map(|said| ["--meta".to_owned(), said]);
        (file, image, said.collect())
    }

    /// A command of one of the clients, to a server that may be a proxy.
    fn upload(&self, mut command: Command, server: &str, said: &[String]) -> Command {
        command.args(["--server", server, "--token", &self.client.token]).args(said);
        command
    }

    /// Asserts that an image is published as it was sent.
    async fn assert_published(&self, path: &str, image: &[u8]) {
        let record = self.client.get(&format!("/api/v1/images/{path}")).await;
        let record: Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["plaintext"]["sha256"], sha256(image));
        assert_eq!(record["release_counter"], 42);
        let (sealed, envelope) = self.fetch(&record).await;
        let key = private_key("snakeoil_p256");
        assert_eq!(we_open(&sealed, &envelope, &key, &self.file("opened")), sha256(image));
        fs::remove_file(self.file("opened")).unwrap();
    }
}

fn tuspy() -> Command {
    program("tests/interop/uploads/tuspy_upload.py", [""; 0])
}

fn tus_js() -> Command {
    node("tests/interop/uploads/tus_js.js", [""; 0])
}

fn seen(output: &str) -> Value {
    serde_json::from_str(output.trim()).unwrap()
}

/// Runs a command beside the proxy, which is this test's own.
async fn beside(mut command: Command) -> String {
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
}

/// A line to a server that breaks once.
async fn cut_once(server: &str, cut: usize) -> (String, Arc<AtomicUsize>) {
    let server = server.strip_prefix("http://").unwrap().parse().unwrap();
    let (address, sent) = cutting_proxy(server, vec![cut]).await;
    (format!("http://{address}"), sent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tuspy_uploads_whole_in_parts_with_checksums_and_goes_on() {
    let fleet = Fleet::start(&[]).await;
    let url = fleet.server.url();
    for (path, more) in [
        ("gw/1/whole.bin", &[][..]),
        ("gw/1/parts.bin", &["--chunk", "5000000"]),
        ("gw/1/small.bin", &["--chunk", "300000"]),
        ("gw/1/checked.bin", &["--chunk", "5000000", "--checksum"]),
    ] {
        let (file, image, said) = fleet.image(path);
        let mut command = fleet.upload(tuspy(), &url, &said);
        command.args(more).arg(file);
        let seen = seen(&run(&mut command));
        assert_eq!((&seen["start"], &seen["offset"]), (&0.into(), &LENGTH.into()), "{path}");
        fleet.assert_published(path, &image).await;
    }
    let (file, image, said) = fleet.image("gw/1/later.bin");
    let mut first = fleet.upload(tuspy(), &url, &said);
    let first = run(first.args(["--chunk", "1000000", "--stop-at", "7000000"]).arg(&file));
    let first = seen(&first);
    assert_eq!(first["offset"], 7_000_000);
    let mut rest = fleet.upload(tuspy(), &url, &said);
    let rest = seen(&run(rest.args(["--url", first["url"].as_str().unwrap()]).arg(&file)));
    assert_eq!((&rest["start"], &rest["offset"]), (&7_000_000.into(), &LENGTH.into()));
    fleet.assert_published("gw/1/later.bin", &image).await;
    let mut other = fleet.upload(tuspy(), &url, &said);
    let error = refused(other.args(["--meta", "version=9"]).arg(&file));
    assert!(error.contains("TusCommunicationError"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tuspy_goes_on_when_its_connection_is_cut() {
    let fleet = Fleet::start(&[]).await;
    let (proxy, sent) = cut_once(&fleet.server.url(), 9_000_000).await;
    let (file, image, said) = fleet.image("gw/1/cut.bin");
    let mut command = fleet.upload(tuspy(), &proxy, &said);
    command.args(["--retries", "5"]).arg(file);
    let seen = seen(&beside(command).await);
    assert_eq!(seen["offset"], LENGTH);
    fleet.assert_published("gw/1/cut.bin", &image).await;
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < LENGTH * 112 / 100, "{sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tus_js_client_uploads_whole_in_parts_and_goes_on_when_its_connection_is_cut() {
    let fleet = Fleet::start(&[]).await;
    let url = fleet.server.url();
    for (path, more) in [
        ("gw/1/whole.bin", &[][..]),
        ("gw/1/parts.bin", &["--chunk", "5000000"]),
        ("gw/1/small.bin", &["--chunk", "300000"]),
        ("gw/1/created.bin", &["--with-creation", "--chunk", "5000000"]),
    ] {
        let (file, image, said) = fleet.image(path);
        let mut command = fleet.upload(tus_js(), &url, &said);
        let seen = seen(&run(command.args(more).arg(file)));
        assert_eq!(seen["statuses"][0], "POST 201", "{seen}");
        fleet.assert_published(path, &image).await;
    }
    let (proxy, sent) = cut_once(&url, 9_000_000).await;
    let (file, image, said) = fleet.image("gw/1/cut.bin");
    let mut command = fleet.upload(tus_js(), &proxy, &said);
    command.arg(file);
    let seen = seen(&beside(command).await);
    let offset = seen["offsets"][0].as_u64().unwrap();
    assert!(offset > 8_000_000, "{seen}");
    fleet.assert_published("gw/1/cut.bin", &image).await;
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < LENGTH * 112 / 100, "{sent}");
}
