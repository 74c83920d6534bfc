//! A repository whose root and targets are hybrid by threshold (docs/POST-QUANTUM.md): who reads
//! it, and who can't.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use motorcade::keys::policy::Policy;
use motorcade::uptane::client::VerifiedRepository;
use serde_json::Value;

use super::support::{
    create_token, init, motorcade, noise, program, refused, run, sha256, vehicle_binary,
};
use super::{Fleet, private_key, we_open};

const IMAGE: &str = "gw/4.2.0/gateway.bin";
const BOTH: &str = "threshold = 2\nhybrid = true";

/// The built-in policy, but for roots and top-level targets with a key of ML-DSA-65 each.
fn hybrid_policy() -> String {
    let policy = ["[root]\nexpires_days = 365", "[targets]\nexpires_days = 90"]
        .iter()
        .chain(&["[director.root]\nexpires_days = 365"])
        .fold(Policy::DEFAULT.to_owned(), |policy, role| {
            policy.replacen(&format!("{role}\nthreshold = 1"), &format!("{role}\n{BOTH}"), 1)
        });
    assert_eq!(policy.matches(BOTH).count(), 3);
    policy
}

async fn hybrid() -> Fleet {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("state/metadata")).unwrap();
    fs::write(dir.path().join("state/metadata/policy.toml"), hybrid_policy()).unwrap();
    Fleet::start_in(dir, &[]).await
}

/// The root of an installation without the signatures of one kind.
fn without(root: &Path, scheme: &str) -> Vec<u8> {
    let mut root: Value = serde_json::from_slice(&fs::read(root).unwrap()).unwrap();
    let keys = root["signed"]["keys"].as_object().unwrap().clone();
    let signatures = root["signatures"].as_array_mut().unwrap();
    assert_eq!(signatures.len(), 2);
    signatures.retain(|signature| keys[signature["keyid"].as_str().unwrap()]["scheme"] != scheme);
    assert_eq!(signatures.len(), 1);
    serde_json::to_vec(&root).unwrap()
}

fn python_tuf(fleet: &Fleet, root: &Path, out: &str) -> Command {
    let url = fleet.server.repo_url();
    let args = ["--repo-url", &url, "--target", IMAGE, "--root"].map(Path::new);
    let mut command = program("tests/interop/ngclient_download.py", args);
    command.arg(root).arg("--out").arg(fleet.file(out));
    command
}

fn vehicle(fleet: &Fleet, command: &str) -> Command {
    let mut tuf = Command::new(vehicle_binary());
    tuf.args(["tuf", "--metadata-dir"]).arg(fleet.file("metadata")).arg(command);
    tuf.stdin(Stdio::null());
    tuf
}

#[tokio::test]
async fn our_vehicle_follows_a_hybrid_root_and_needs_both_signatures() {
    let fleet = hybrid().await;
    let image = noise("hybrid", 300_000);
    fleet.client.upload(IMAGE, "", &image).await;
    for scheme in ["ed25519", "ml-dsa-65/1"] {
        let root = fleet.file("half.json");
        fs::write(&root, without(&fleet.root(), scheme)).unwrap();
        let error = refused(vehicle(&fleet, "init").arg(&root));
        assert!(error.contains('2') && error.contains("signatures"), "{error}");
    }
    run(vehicle(&fleet, "init").arg(fleet.root()));
    let targets = fleet.file("targets");
    fs::create_dir(&targets).unwrap();
    for target in [IMAGE.to_owned(), format!("{IMAGE}.jwe")] {
        let mut download = vehicle(&fleet, "download");
        download.args(["--metadata-url", &format!("{}/", fleet.server.repo_url())]);
        download.args(["--target-base-url", &format!("{}/targets/", fleet.server.repo_url())]);
        run(download.args(["--target-name", &target, "--target-dir"]).arg(&targets));
    }
    let fetched: Vec<_> =
        fs::read_dir(&targets).unwrap().map(|entry| entry.unwrap().path()).collect();
    let is_envelope = |path: &&std::path::PathBuf| path.to_str().unwrap().ends_with(".jwe");
    let envelope = fetched.iter().find(is_envelope).unwrap();
    let sealed = fetched.iter().find(|path| !is_envelope(path)).unwrap();
    let opened = we_open(sealed, envelope, &private_key("snakeoil_p256"), &fleet.file("opened"));
    assert_eq!(opened, sha256(&image));
}

#[tokio::test]
async fn python_tuf_follows_a_hybrid_root_and_needs_both_signatures() {
    let fleet = hybrid().await;
    fleet.client.upload(IMAGE, "", b"for python-tuf").await;
    for scheme in ["ed25519", "ml-dsa-65/1"] {
        let root = fleet.file("half.json");
        fs::write(&root, without(&fleet.root(), scheme)).unwrap();
        let error = refused(&mut python_tuf(&fleet, &root, "refused"));
        assert!(error.contains("root was signed by 1/2 keys"), "{error}");
    }
    let seen: Value =
        serde_json::from_str(&run(&mut python_tuf(&fleet, &fleet.root(), "car"))).unwrap();
    assert_eq!(seen["sha256"], seen["signed_hashes"]["sha256"]);
}

#[test]
fn init_says_who_can_not_read_a_hybrid_root() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("state/metadata");
    for (policy, is_hybrid) in [(Policy::DEFAULT.to_owned(), false), (hybrid_policy(), true)] {
        let _ = fs::remove_dir_all(dir.path().join("state"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("policy.toml"), policy).unwrap();
        let output =
            motorcade(["init", "--data-dir"]).arg(dir.path().join("state")).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        assert_eq!(text.contains("tough 0.24 and aktualizr can't read it"), is_hybrid, "{text}");
    }
}

/// What the page and the warnings say of tough. Should this fail, a newer one has learnt it.
#[tokio::test]
async fn tough_can_not_read_a_hybrid_root() {
    let fleet = hybrid().await;
    let root = fs::read(fleet.root()).unwrap();
    let error = VerifiedRepository::load(&root, &fleet.server.repo_url()).await.err().unwrap();
    let mut text = error.to_string();
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    assert!(text.contains("unknown variant `ml-dsa`"), "{text}");
}

/// From a classical root to a hybrid one and on, in a ceremony, under clients that go on polling.
#[tokio::test]
async fn vehicles_and_python_tuf_follow_from_a_classical_root_to_a_hybrid_one() {
    let dir = tempfile::tempdir().unwrap();
    init(&dir.path().join("state"));
    let policy = dir.path().join("state/metadata/policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let role = "[root]\nexpires_days = 365";
    let text = text.replacen(&format!("{role}\nthreshold = 1"), &format!("{role}\n{BOTH}"), 1);
    assert_eq!(text.matches(BOTH).count(), 1);
    fs::write(&policy, text).unwrap();
    let fleet = Fleet::serve(dir, &[]).await;
    fleet.client.upload(IMAGE, "", b"for years").await;
    let first = fleet.root();
    run(vehicle(&fleet, "init").arg(&first));
    let follow = |fleet: &Fleet, root: u64| {
        let mut refresh = vehicle(fleet, "refresh");
        run(refresh.args(["--metadata-url", &format!("{}/", fleet.server.repo_url())]));
        for out in ["car", &format!("fresh-{root}")] {
            let seen = run(&mut python_tuf(fleet, &first, out));
            let seen: Value = serde_json::from_str(&seen).unwrap();
            assert_eq!(seen["versions"]["root"], root, "{out}");
        }
        let trusted = fs::read(fleet.file("metadata/root.json")).unwrap();
        let trusted: Value = serde_json::from_slice(&trusted).unwrap();
        assert_eq!(trusted["signed"]["version"], root);
    };
    follow(&fleet, 1);
    let (key, public) = (fleet.file("officer.pem"), fleet.file("officer.json"));
    let mut make = motorcade(["root", "make-key", "--scheme", "ml-dsa-65", "--public"]);
    run(make.arg(&public).arg(&key));
    let officer = create_token(&fleet.data_dir(), "officer");
    let root = |fleet: &Fleet, args: &[&str]| {
        let mut command = motorcade(["root"]);
        command.args(args).env("MOTORCADE_TOKEN", &officer);
        command.env("MOTORCADE_SERVER", &fleet.client.url);
        command
    };
    let add = format!("root={}", public.display());
    let stage = ["stage", "--threshold", "root=2", "--add", &add];
    let error = refused(root(&fleet, &stage).args(["--repository", "director"]));
    assert!(error.contains("hybrid = true"), "the policy does not ask for it there: {error}");
    let one = ["stage", "--add", &add];
    let error = refused(&mut root(&fleet, &one));
    assert!(error.contains("neither kind"), "{error}");
    run(&mut root(&fleet, &stage));
    let told = run(&mut root(&fleet, &["diff"]));
    assert!(told.contains("tough 0.24 and aktualizr can't read it"), "{told}");
    let sign = |fleet: &Fleet, number: u64| {
        let [file, signature] =
            ["diff", "signature"].map(|it| fleet.file(&format!("{number}-{it}")));
        run(root(fleet, &["diff", "--out"]).arg(&file));
        run(&mut root(fleet, &["sign", "--here"]));
        let mut offline = motorcade(["root", "sign", "--yes", "--key"]);
        let told = run(offline.arg(&key).arg("--out").arg(&signature).arg(&file));
        assert!(told.contains(&format!("root {} -> {}", number - 1, number)), "{told}");
        run(root(fleet, &["sign", "--send"]).arg(&signature));
        run(&mut root(fleet, &["publish"]));
    };
    sign(&fleet, 2);
    follow(&fleet, 2);
    run(&mut root(&fleet, &["stage"]));
    sign(&fleet, 3);
    follow(&fleet, 3);
    let trusted = fs::read(&first).unwrap();
    assert!(VerifiedRepository::load(&trusted, &fleet.server.repo_url()).await.is_err());
}
