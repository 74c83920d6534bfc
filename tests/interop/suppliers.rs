//! Suppliers, whose images other people's clients find, before and after one is removed.

use std::fs;
use std::path::{Path, PathBuf};

use motorcade::keys::policy::Policy;
use motorcade::uptane::client::VerifiedRepository;
use serde_json::Value;

use super::Fleet;
use super::support::{Client, HARDWARE, create_token, json, motorcade, run};

impl Fleet {
    /// `motorcade supplier …` by a key officer.
    fn supplier(&self, officer: &str, args: &[&str]) -> String {
        let mut command = motorcade(["supplier"]);
        command.args(args).args(["--server", &self.client.url]);
        run(command.env("MOTORCADE_TOKEN", officer))
    }

    fn supplier_token(&self, folder: &str) -> String {
        let mut command = motorcade(["token", "create", "--role", "uploader"]);
        command.args(["--path-prefix", folder, "--data-dir"]).arg(self.data_dir());
        run(&mut command).trim().to_owned()
    }

    /// What python-tuf downloads, with what it has kept of the runs before.
    fn python_tuf(&self, target: &str) -> Value {
        let (root, out): (PathBuf, PathBuf) = (self.root(), self.file("python-tuf"));
        let repo_url = self.server.repo_url();
        let args = ["--repo-url", &repo_url, "--target", target, "--root"].map(Path::new);
        let args = args.into_iter().chain([root.as_path(), Path::new("--out"), out.as_path()]);
        json("tests/interop/ngclient_download.py", args)
    }
}

#[tokio::test]
async fn python_tuf_and_tough_find_suppliers_images_and_go_on_when_one_is_removed() {
    let fleet = Fleet::start(&[]).await;
    let officer = create_token(&fleet.data_dir(), "officer");
    let added = fleet.supplier(
        &officer,
        &["add", "acme", "--hardware-id", HARDWARE, "--threshold", "2", "--keys", "3"],
    );
    assert_eq!(added.trim(), "supplier-acme signs for acme/, with 2 of 3 keys");
    fleet.supplier(&officer, &["add", "bolt", "--folder", "gw/bolt/", "--not-terminating"]);
    let of = |folder| Client { token: fleet.supplier_token(folder), ..fleet.client.clone() };
    of("acme/").upload("acme/brakes/eu/1/brake.bin", "", b"of acme").await;
    of("gw/bolt/").upload("gw/bolt/1.bin", "", b"of bolt").await;
    fleet.client.upload("gw/1.bin", "", b"of the car maker").await;
    let trusted = fs::read(fleet.root()).unwrap();
    let load = async || {
        VerifiedRepository::load(&trusted, &fleet.server.repo_url()).await.expect("tough reads it")
    };
    let all = ["acme/brakes/eu/1/brake.bin", "gw/bolt/1.bin", "gw/1.bin"];
    for target in all.map(|path| [path.to_owned(), format!("{path}.jwe")]).as_flattened() {
        let seen = fleet.python_tuf(target);
        assert_eq!(seen["sha256"], seen["signed_hashes"]["sha256"], "{target}");
        load().await.download(target, &fleet.file("tough")).await.unwrap();
    }

    fleet.supplier(&officer, &["rotate", "bolt"]);
    fleet.supplier(&officer, &["remove", "acme"]);
    assert!(!fleet.supplier(&officer, &["list"]).contains("acme"));
    for target in &all[1..] {
        fleet.python_tuf(target); // with the snapshot that it knows, which lists acme's role
        load().await.download(target, &fleet.file("tough")).await.unwrap();
    }
    let gone = load().await.download(all[0], &fleet.file("gone")).await;
    assert_eq!(gone.unwrap_err().to_string(), "no such target");
}

/// Before its first signature, with it, and after it has signed with other keys: nobody's cycle
/// fails, and what a client has cached leads on.
#[tokio::test]
async fn python_tuf_and_tough_follow_a_supplier_who_keeps_its_keys() {
    let fleet = Fleet::start(&[]).await;
    let officer = create_token(&fleet.data_dir(), "officer");
    let key = |name: &str| {
        let (private, public) =
            (fleet.file(&format!("{name}.pem")), fleet.file(&format!("{name}.json")));
        let mut make = motorcade(["root", "make-key"]);
        run(make.arg(&private).arg("--public").arg(&public));
        (private.display().to_string(), public.display().to_string())
    };
    let [(first, first_public), (second, second_public)] = ["first", "second"].map(key);
    fleet.supplier(&officer, &["add", "acme", "--public-key", &first_public]);
    let acme = Client { token: fleet.supplier_token("acme/"), ..fleet.client.clone() };
    let trusted = fs::read(fleet.root()).unwrap();
    let load = async || {
        VerifiedRepository::load(&trusted, &fleet.server.repo_url()).await.expect("tough reads it")
    };
    let sign = |key: &str, number: u32| {
        let [staged, signature] =
            ["staged", "signature"].map(|name| fleet.file(&format!("{name}-{number}.json")));
        let (staged, signature) = (staged.display().to_string(), signature.display().to_string());
        fleet.supplier(&officer, &["stage", "acme"]);
        fleet.supplier(&officer, &["diff", "acme", "--out", &staged]);
        let mut offline = motorcade(["supplier", "sign", &staged, "--key", key, "--yes"]);
        run(offline.args(["--out", &signature]));
        fleet.supplier(&officer, &["sign", "--send", &signature]);
        fleet.supplier(&officer, &["publish", "acme"]);
    };
    let is_found = async |target: &str| {
        let seen = fleet.python_tuf(target);
        assert_eq!(seen["sha256"], seen["signed_hashes"]["sha256"], "{target}");
        load().await.download(target, &fleet.file("tough")).await.unwrap();
    };

    acme.upload("acme/1.bin", "", b"of acme").await;
    fleet.client.upload("gw/1.bin", "", b"of the car maker").await;
    is_found("gw/1.bin").await;
    assert!(load().await.find("acme/1.bin").is_none(), "nobody has signed for it");
    sign(&first, 1);
    for target in ["acme/1.bin", "acme/1.bin.jwe", "gw/1.bin"] {
        is_found(target).await;
    }
    acme.upload("acme/2.bin", "", b"of acme, again").await;
    fleet.supplier(&officer, &["keys", "acme", "--public-key", &second_public]);
    is_found("acme/1.bin").await;
    assert!(load().await.find("acme/2.bin").is_none());
    sign(&second, 2);
    for target in ["acme/1.bin", "acme/2.bin", "gw/1.bin"] {
        is_found(target).await;
    }
}

/// While people have not signed the targets that name a supplier, nobody sees anything of it, and
/// everybody what is there besides.
#[tokio::test]
async fn python_tuf_and_tough_follow_targets_that_people_sign() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = dir.path().join("state/metadata");
    fs::create_dir_all(&metadata).unwrap();
    let policy = Policy::DEFAULT.replacen("[targets]\n", "[targets]\noffline = true\n", 1);
    fs::write(metadata.join("policy.toml"), policy).unwrap();
    let fleet = Fleet::start_in(dir, &[]).await;
    let officer = create_token(&fleet.data_dir(), "officer");
    let targets = |args: &[&str]| {
        let mut command = motorcade(["targets"]);
        command.args(args).args(["--server", &fleet.client.url]);
        run(command.env("MOTORCADE_TOKEN", &officer))
    };
    fleet.supplier(&officer, &["add", "acme"]);
    let acme = Client { token: fleet.supplier_token("acme/"), ..fleet.client.clone() };
    acme.upload("acme/1.bin", "", b"of acme").await;
    fleet.client.upload("gw/1.bin", "", b"of the car maker").await;
    let trusted = fs::read(fleet.root()).unwrap();
    let is_found = async |target: &str| {
        let seen = fleet.python_tuf(target);
        assert_eq!(seen["sha256"], seen["signed_hashes"]["sha256"], "{target}");
        let tough = VerifiedRepository::load(&trusted, &fleet.server.repo_url()).await;
        tough.unwrap().download(target, &fleet.file("tough")).await.unwrap();
    };
    is_found("gw/1.bin").await;
    let tough = VerifiedRepository::load(&trusted, &fleet.server.repo_url()).await.unwrap();
    assert!(tough.find("acme/1.bin").is_none());

    let [staged, signature] =
        ["staged.json", "signature.json"].map(|name| fleet.file(name).display().to_string());
    targets(&["stage"]);
    targets(&["diff", "--out", &staged]);
    let mut sign = motorcade(["targets", "sign", &staged, "--yes", "--out", &signature, "--key"]);
    run(sign.arg(fleet.data_dir().join("keys/targets.pem"))); // which could be anywhere
    targets(&["sign", "--send", &signature]);
    targets(&["publish"]);
    for target in ["acme/1.bin", "gw/1.bin"] {
        is_found(target).await;
    }
}
