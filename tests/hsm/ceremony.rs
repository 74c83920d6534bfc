//! Officers whose root keys never leave their tokens.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::support::{Server, create_token, init, motorcade, refused, run};
use super::token::Hsm;

#[tokio::test]
async fn officers_sign_roots_with_keys_in_tokens() {
    let hsm = Hsm::new("officers");
    hsm.make_ed25519("anna");
    hsm.make_ecdsa("bert");
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("state");
    init(&data_dir);
    let server = Server::start(&data_dir, &[]);
    let token = create_token(&data_dir, "officer");
    let root = |words: &str| {
        let mut command = motorcade(words.split_whitespace());
        command.current_dir(dir.path()).env("MOTORCADE_SERVER", server.url());
        command.env("MOTORCADE_TOKEN", &token);
        command
    };
    fs::copy(data_dir.join("repo/1.root.json"), dir.path().join("1.root.json")).unwrap();
    for name in ["anna", "bert"] {
        let public = run(&mut root(&format!("root key {}", hsm.uri(name))));
        assert!(public.contains("\"keyval\":{\"public\":"), "{public}");
        fs::write(dir.path().join(format!("{name}.json")), public).unwrap();
    }
    run(&mut root("root stage --threshold root=2 --add root=anna.json --add root=bert.json"));
    run(&mut root("root diff --out staged.json"));
    let sign = |name: &str| -> Command {
        let words = format!(
            "root sign staged.json --trusted 1.root.json --yes --key {} --out {name}.sig",
            hsm.uri(name)
        );
        root(&words)
    };
    let missing = refused(&mut sign("carl"));
    assert!(missing.contains("carl"), "{missing}");
    run(&mut sign("anna"));
    run(&mut sign("bert"));
    run(&mut root("root sign --send anna.sig bert.sig"));
    run(&mut root("root sign --here"));
    run(&mut root("root publish"));
    let status: Value = serde_json::from_str(&run(&mut root("root status --json"))).unwrap();
    assert_eq!(status["version"], 2);
    assert_eq!(status["roles"][0]["keys"].as_array().unwrap().len(), 3);
}
