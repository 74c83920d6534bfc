//! Other people's software against the real server: Tink, jwcrypto, python-tuf and tough open what
//! we publish, and we open what they make. The Python programs are in this folder; `scripts/venv`
//! installs what they import.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../support/cutting_proxy.rs"]
mod cutting_proxy;
#[path = "../hostile/mod.rs"]
mod hostile;
#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod ceremonies;
mod formats;
mod hybrid;
#[cfg(feature = "aws-kms")]
mod kms;
mod openapi;
mod real_input;
mod repository;
mod root_rotation;
mod rotation;
mod suppliers;
mod uploads;
mod vehicle_tuf;

use std::fs;
use std::path::{Path, PathBuf};

use motorcade::envelope::key::DataKey;
use serde_json::Value;
use tempfile::TempDir;

use support::{Client, Server, create_token, init, json, motorcade, refused, run, snakeoil};

/// The recipients of every image in these tests: private key files, and the kid that the server
/// gave them.
const RECIPIENTS: [&str; 2] = ["snakeoil_rsa2048", "snakeoil_p256"];

/// A server with recipients, and somebody who uploads to it.
struct Fleet {
    dir: TempDir,
    server: Server,
    client: Client,
    kids: Vec<String>,
}

impl Fleet {
    async fn start(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), args).await
    }

    /// In a folder whose state directory may have a policy already.
    async fn start_in(dir: TempDir, args: &[&str]) -> Self {
        init(&dir.path().join("state"));
        Self::serve(dir, args).await
    }

    /// In a folder whose state directory is there.
    async fn serve(dir: TempDir, args: &[&str]) -> Self {
        let data_dir = dir.path().join("state");
        let token = create_token(&data_dir, "engineer");
        let server = Server::start(&data_dir, args);
        let client = server.client(&token);
        let mut kids = Vec::new();
        for key in RECIPIENTS {
            kids.push(client.register(&snakeoil(&format!("{key}.pub.pem"))).await);
        }
        Self { dir, server, client, kids }
    }

    fn data_dir(&self) -> PathBuf {
        self.file("state")
    }

    /// A file of the test's own.
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The trust anchor, as a vehicle gets it at the factory.
    fn root(&self) -> PathBuf {
        self.data_dir().join("repo/1.root.json")
    }

    /// Fetches a sealed image and its envelope over HTTP, into files.
    async fn fetch(&self, image: &Value) -> (PathBuf, PathBuf) {
        let (sealed, envelope) = (self.file("sealed"), self.file("envelope.jwe"));
        fs::write(&sealed, self.client.get(image["sealed"]["url"].as_str().unwrap()).await)
            .unwrap();
        let path = image["path"].as_str().unwrap();
        fs::write(&envelope, self.client.get(&format!("/api/v1/images/{path}/envelope")).await)
            .unwrap();
        (sealed, envelope)
    }
}

fn private_key(recipient: &str) -> PathBuf {
    snakeoil(&format!("{recipient}.pem"))
}

fn public_key(recipient: &str) -> PathBuf {
    snakeoil(&format!("{recipient}.pub.pem"))
}

/// What jwcrypto finds in an envelope: the data key in hex, and its algorithm.
fn jwcrypto_opens(envelope: &Path, key: &Path) -> (String, String) {
    let opened = json("tests/interop/jwe_open.py", [Path::new("--key"), key, envelope]);
    (opened["k_hex"].as_str().unwrap().to_owned(), opened["alg"].as_str().unwrap().to_owned())
}

/// Wraps a data key with jwcrypto.
fn jwcrypto_seals(
    recipients: &[&str],
    data_key: &DataKey,
    algorithm: &str,
    flattened: bool,
    out: &Path,
) {
    let mut args = vec!["--recipient".into()];
    args.extend(recipients.iter().map(|recipient| public_key(recipient)));
    args.extend([
        "--k-hex".into(),
        hex::encode(data_key.as_bytes()).into(),
        "--alg".into(),
        algorithm.into(),
    ]);
    args.extend(flattened.then(|| "--flattened".into()));
    args.push(out.to_owned());
    json("tests/interop/jwe_seal.py", args);
}

/// Opens a sealed image with Tink and returns the SHA-256 of what comes out.
fn tink_opens(sealed: &Path, data_key_hex: &str, algorithm: &str, out: &Path) -> String {
    let args = ["--alg", algorithm, "--key-hex", data_key_hex];
    let opened =
        json("tests/interop/tink_open.py", args.map(Path::new).into_iter().chain([sealed, out]));
    opened["sha256"].as_str().unwrap().to_owned()
}

/// `motorcade open`; returns the SHA-256 that it prints.
fn we_open(sealed: &Path, envelope: &Path, key: &Path, out: &Path) -> String {
    let mut command = motorcade(["open", "--envelope"]);
    run(command.arg(envelope).arg("--key").arg(key).arg("--out").arg(out).arg(sealed))
        .trim()
        .to_owned()
}

/// `motorcade open` where it has to fail; returns what it says. No plaintext is left.
fn we_refuse(sealed: &Path, envelope: &Path, key: &Path, out: &Path) -> String {
    let mut command = motorcade(["open", "--envelope"]);
    let error =
        refused(command.arg(envelope).arg("--key").arg(key).arg("--out").arg(out).arg(sealed));
    assert!(!out.exists(), "{error}");
    error
}
