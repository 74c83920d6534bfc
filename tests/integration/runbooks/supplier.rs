//! A supplier's key, and its upload token, that somebody else has.

use std::fs;

use motorcade::app::access::{self, NewToken};
use motorcade::model::{AccessRole, Clock, RoleName, SystemClock};
use motorcade::uptane::key::SigningKey;
use motorcade::uptane::metadata::{Authority, Unsigned};
use motorcade::uptane::verify::{Rules, TrustedSet};
use serde_json::Value;

use super::drill::Drill;
use super::fleet::Field;
use crate::state::TestState;
use crate::support::Client;

/// What is published of a role now, by the newest snapshot.
fn published(drill: &Drill, role: &str) -> Vec<u8> {
    let read = |name: &str| fs::read(drill.state.blob(name)).unwrap();
    let version = |file: &[u8], listed: &str| {
        let file: Value = serde_json::from_slice(file).unwrap();
        file["signed"]["meta"][format!("{listed}.json")]["version"].as_u64().unwrap()
    };
    let snapshot = version(&read("timestamp.json"), "snapshot");
    let snapshot = read(&format!("{snapshot}.snapshot.json"));
    read(&format!("{}.{role}.json", version(&snapshot, role)))
}

/// Whether clients of what is published take a file of the supplier's role.
fn is_taken(drill: &Drill, file: &[u8]) -> bool {
    let mut set =
        TrustedSet::new(&drill.state.first_root(), Rules::Image, SystemClock.now()).unwrap();
    set.adopt_targets(&published(drill, "targets")).unwrap();
    set.check_signatures(&role(), file).is_ok()
}

fn role() -> RoleName {
    "supplier-acme".parse().unwrap()
}

/// What is published of the role, signed anew by whoever has that key.
fn forged(drill: &Drill, key: &SigningKey) -> Vec<u8> {
    let file: Value = serde_json::from_slice(&published(drill, "supplier-acme")).unwrap();
    let content = motorcade::uptane::canonical::canonical(&file["signed"]).unwrap();
    let own = Authority { key_ids: [key.public().id()].into(), threshold: 1 };
    let unsigned = Unsigned::read(role(), &content).unwrap();
    let authorized = unsigned.authorize(&own, [key.public().id()]).unwrap();
    let signature = key.sign(authorized.message());
    authorized.into_file([(key.public().id(), signature)]).unwrap().bytes.to_vec()
}

#[tokio::test]
async fn supplier_key_stolen() {
    let mut drill = Drill::on(TestState::new());
    drill.shell("systemctl start motorcade; motorcade supplier add acme --hardware-id gw-mk3");
    let catalog = drill.state.dir().open_catalog().await.unwrap();
    let new = NewToken { path_prefix: Some("acme/"), ..NewToken::of(AccessRole::Uploader, "acme") };
    let token = access::create_token(&catalog, new, SystemClock.now()).await.unwrap().to_string();
    let tokens = catalog.list_tokens().await.unwrap();
    let id = &tokens.iter().find(|token| token.label == "acme").unwrap().id;
    catalog.close().await;
    let thief = Client { token, ..drill.client() };
    for path in ["acme/1/a.bin", "acme/2/bad.bin"] {
        thief.upload(path, "", b"brakes").await;
    }
    let mut field = Field::join(&drill, "VIN1").await;
    Field::refresh(&drill);
    let mut files = fs::read_dir(drill.state.path().join("keys")).unwrap();
    let stolen = files.find_map(|file| {
        let path = file.unwrap().path();
        path.file_name()?.to_str()?.starts_with("supplier-acme").then_some(path)
    });
    let stolen = SigningKey::from_pem(&fs::read_to_string(stolen.unwrap()).unwrap()).unwrap();
    assert!(is_taken(&drill, &forged(&drill, &stolen)), "the thief is believed");

    drill.set("SUPPLIER", "acme");
    drill.set("TOKENS", id);
    drill.set("IMAGES", "acme/2/bad.bin");
    drill.follow("supplier-key-stolen.md");
    assert!(!is_taken(&drill, &forged(&drill, &stolen)), "the thief is believed");
    assert!(is_taken(&drill, &published(&drill, "supplier-acme")));
    let answer = thief.put("acme/3/bad.bin", "", b"brakes".to_vec()).await;
    assert_eq!(answer.unwrap().status(), 401, "the thief uploads");
    Field::refresh(&drill);
    field.poll().await;
    let listed: Value = serde_json::from_slice(&published(&drill, "supplier-acme")).unwrap();
    let paths: Vec<&String> = listed["signed"]["targets"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["acme/1/a.bin", "acme/1/a.bin.jwe"]);
    let token = fs::read_to_string(drill.file("new-token")).unwrap().trim().to_owned();
    let supplier = Client { token, ..drill.client() };
    supplier.upload("acme/4/a.bin", "", b"brakes").await;
    Field::refresh(&drill);
}
