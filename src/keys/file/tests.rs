//! Key files, as `init` makes them and as they go wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::Signer;
use super::*;
use crate::model::RoleKind;

fn root(keyring: &Keyring) -> &[Arc<dyn Signer>] {
    keyring.keys(RepositorySide::Image, RoleKind::Root)
}

fn hybrid_policy() -> Policy {
    let hybrid = "threshold = 2\nhybrid = true";
    let text = [
        "[root]\nexpires_days = 365",
        "[targets]\nexpires_days = 90",
        "[director.root]\nexpires_days = 365",
    ]
    .iter()
    .fold(Policy::DEFAULT.to_owned(), |text, role| {
        text.replacen(&format!("{role}\nthreshold = 1"), &format!("{role}\n{hybrid}"), 1)
    });
    let policy = Policy::parse(&text).unwrap();
    assert!(policy.root.hybrid && policy.targets.hybrid && policy.director.root.hybrid);
    policy
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

#[tokio::test]
async fn makes_keys_once_and_reads_them_back() {
    let dir = tempfile::tempdir().unwrap();
    let policy = Policy::default();
    create(dir.path(), &policy).unwrap();
    let first = load(dir.path(), &policy).unwrap();
    create(dir.path(), &policy).unwrap();
    let second = load(dir.path(), &policy).unwrap();
    assert_eq!(root(&first)[0].id(), root(&second)[0].id());
    let bins = first.keys(RepositorySide::Image, RoleKind::Bins);
    assert_eq!(bins[0].sign(b"message").await.unwrap().len(), 64);
}

#[test]
fn refuses_a_key_file_that_others_can_read() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), &Policy::default()).unwrap();
    fs::set_permissions(dir.path().join("bins.pem"), fs::Permissions::from_mode(0o604)).unwrap();
    let error = load(dir.path(), &Policy::default()).unwrap_err();
    assert!(matches!(error, Error::KeyFile { verb: "read", .. }), "{error}");
}

/// RFC 8410, section 7, has the public half in the file too.
#[test]
fn refuses_a_key_file_whose_halves_do_not_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), &Policy::default()).unwrap();
    let mut der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec();
    let file = dir.path().join("timestamp.pem");
    fs::write(&file, pem(&der)).unwrap();
    load(dir.path(), &Policy::default()).unwrap();
    *der.last_mut().unwrap() ^= 1;
    fs::write(&file, pem(&der)).unwrap();
    let error = load(dir.path(), &Policy::default()).unwrap_err();
    assert!(
        matches!(&error, Error::KeyFile { path, .. } if path.ends_with("timestamp.pem")),
        "{error}"
    );
}

#[test]
fn refuses_one_key_for_two_roles() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), &Policy::default()).unwrap();
    fs::copy(dir.path().join("bins.pem"), dir.path().join("timestamp.pem")).unwrap();
    let error = load(dir.path(), &Policy::default()).unwrap_err();
    assert!(matches!(error, Error::SharedKey { .. }), "{error}");
}

#[test]
fn only_the_root_key_may_be_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), &Policy::default()).unwrap();
    fs::remove_file(dir.path().join("root.pem")).unwrap();
    assert!(root(&load(dir.path(), &Policy::default()).unwrap()).is_empty());
    fs::remove_file(dir.path().join("snapshot.pem")).unwrap();
    let error = load(dir.path(), &Policy::default()).unwrap_err();
    assert!(matches!(error, Error::TooFewKeys { found: 0, .. }), "{error}");
}

#[test]
fn three_of_five_keys_are_enough_and_none_counts_twice() {
    let dir = tempfile::tempdir().unwrap();
    let text = Policy::DEFAULT.replace("threshold = 1", "threshold = 3\nkeys = 5");
    let policy = Policy::parse(&text).unwrap();
    create(dir.path(), &policy).unwrap();
    assert_eq!(root(&load(dir.path(), &policy).unwrap()).len(), 5);
    let file = |name: &str| dir.path().join(name);
    fs::remove_file(file("bins-2.pem")).unwrap();
    fs::remove_file(file("bins.pem")).unwrap();
    let found = load(dir.path(), &policy).unwrap();
    assert_eq!(found.keys(RepositorySide::Image, RoleKind::Bins).len(), 3);
    fs::copy(file("bins-5.pem"), file("bins.pem")).unwrap();
    let twice = load(dir.path(), &policy).unwrap_err();
    assert!(matches!(twice, Error::SharedKey { .. }), "{twice}");
    fs::remove_file(file("bins.pem")).unwrap();
    fs::remove_file(file("bins-3.pem")).unwrap();
    let few = load(dir.path(), &policy).unwrap_err();
    assert!(matches!(few, Error::TooFewKeys { found: 2, threshold: 3, .. }), "{few}");
}

#[test]
fn a_hybrid_role_has_a_key_of_each_kind_and_no_other_role_has_one_of_ml_dsa() {
    let dir = tempfile::tempdir().unwrap();
    let policy = hybrid_policy();
    create(dir.path(), &policy).unwrap();
    let keyring = load(dir.path(), &policy).unwrap();
    for (side, kind) in [
        (RepositorySide::Image, RoleKind::Root),
        (RepositorySide::Image, RoleKind::Targets),
        (RepositorySide::Director, RoleKind::Root),
    ] {
        let schemes: Vec<_> = keyring.public(side, kind).iter().map(|key| key.scheme()).collect();
        assert_eq!(schemes, [Scheme::Ed25519, Scheme::MlDsa65], "{side} {kind}");
    }
    fs::copy(dir.path().join("root-2.pem"), dir.path().join("timestamp.pem")).unwrap();
    let error = load(dir.path(), &policy).unwrap_err();
    assert!(matches!(&error, Error::Hybrid { role, .. } if role == "timestamp"), "{error}");
}

#[test]
fn two_keys_of_one_kind_are_no_hybrid_role() {
    let dir = tempfile::tempdir().unwrap();
    let policy = hybrid_policy();
    let file = dir.path().join("targets-2.pem");
    let pem = SigningKey::generate_pem(Scheme::EcdsaSha2Nistp256).unwrap();
    write_secret(&file, pem.as_bytes()).unwrap();
    create(dir.path(), &policy).unwrap();
    let error = load(dir.path(), &policy).unwrap_err();
    assert!(matches!(&error, Error::Hybrid { role, .. } if role == "targets"), "{error}");
}

/// Ids of roots that were made when tough read the files have to stay.
#[test]
fn key_ids_are_those_that_tough_gives_the_same_files() {
    for scheme in Scheme::ALL.into_iter().filter(|scheme| !scheme.is_post_quantum()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.pem");
        let pem = SigningKey::generate_pem(scheme).unwrap();
        write_secret(&path, pem.as_bytes()).unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(body).unwrap();
        let theirs = tough::sign::parse_keypair(&der)
            .ok()
            .or_else(|| tough::sign::parse_keypair(pem.as_bytes()).ok())
            .unwrap();
        let theirs = tough::sign::Sign::tuf_key(&theirs).key_id().unwrap();
        let ours = FileSigner::read(&path).unwrap();
        assert_eq!(ours.id().to_string(), hex::encode(&*theirs), "{scheme:?}");
    }
}
