//! What opens keys that are in no plain file (the PIN of a token, the passphrase of key files, the
//! credentials of a KMS), and the keys of ECUs, which the server never has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use motorcade::keys::pkcs11::Pkcs11Escrow;
use motorcade::keys::policy::Policy;
use motorcade::keys::{EscrowEntry, RingFile};
use motorcade::uptane::key::{Scheme, SigningKey};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Said, Secret, seed};
use crate::state::files_below;
use crate::support::{
    Client, Server, create_token, motorcade, run, snakeoil, vehicle_binary, wait_until,
};
use crate::token::{Hsm, PIN, module};

const WRONG_PIN: &str = "snakeoil-wrong-8642";
const PASSPHRASE: &str = "snakeoil passphrase of all key files";
const WRONG_PASSPHRASE: &str = "snakeoil passphrase of no key file";
const KMS_SECRET: &str = "snakeoil/secret/access/key/of/a/kms";
const KMS_SESSION: &str = "snakeoil-session-token-of-a-kms";

/// An installation whose timestamp and escrow keys are in a token, and whose other keys are
/// encrypted; and a vehicle.
struct Scene {
    hsm: Hsm,
    folder: tempfile::TempDir,
    /// A key that was made before.
    snapshot: String,
}

impl Scene {
    async fn new() -> Self {
        let hsm = Hsm::new("secrets");
        hsm.make_ed25519("timestamp");
        hsm.make_aes("escrow");
        let snapshot = SigningKey::generate_pem(Scheme::Ed25519).unwrap().to_string();
        let scene = Self { hsm, folder: tempfile::tempdir().unwrap(), snapshot };
        scene.prepare();
        run(motorcade(["init", "--data-dir"]).arg(scene.state()).envs(scene.environment()));
        let (keys, uri) = (scene.state().join("keys"), scene.hsm.uri("escrow"));
        let found = Pkcs11Escrow::find(uri.parse().unwrap()).await.unwrap();
        let entry = EscrowEntry::of_token(&scene.hsm.bare_uri("escrow").parse().unwrap(), &found);
        RingFile::read(&keys).unwrap().with(entry).write(&keys).unwrap();
        scene
    }

    /// What is there before `init`: a policy, and an encrypted key.
    fn prepare(&self) {
        let state = self.state();
        fs::create_dir_all(state.join("metadata")).unwrap();
        fs::create_dir_all(state.join("keys")).unwrap();
        let keys = format!("[timestamp]\nkeys = [\"{}\"]\n", self.hsm.bare_uri("timestamp"));
        let policy = Policy::DEFAULT.replace("prefix_digits = 2", "prefix_digits = 1");
        let policy = policy.replacen("[timestamp]\n", &keys, 1);
        fs::write(state.join("metadata/policy.toml"), policy).unwrap();
        let (plain, sealed) = (self.folder.path().join("plain"), state.join("keys/snapshot.pem"));
        fs::write(&plain, &self.snapshot).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs8", "-topk8", "-scrypt", "-passout", "env:PASSPHRASE", "-in"]);
        run(openssl.arg(&plain).arg("-out").arg(&sealed).env("PASSPHRASE", PASSPHRASE));
        fs::set_permissions(&sealed, fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(plain).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn vehicle(&self) -> PathBuf {
        self.folder.path().join("vehicle")
    }

    fn environment(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("MOTORCADE_KEY_PASSPHRASE", PASSPHRASE),
            ("MOTORCADE_PKCS11_PIN", PIN),
            ("MOTORCADE_PKCS11_MODULE", module().to_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", "snakeoil-id"),
            ("AWS_SECRET_ACCESS_KEY", KMS_SECRET),
            ("AWS_SESSION_TOKEN", KMS_SESSION),
            ("AWS_REGION", "eu-central-1"),
            ("MOTORCADE_LOG", "trace"),
        ]
    }

    fn environment_with(
        &self,
        name: &'static str,
        value: &'static str,
    ) -> Vec<(&'static str, &'static str)> {
        let mut environment = self.environment();
        environment.retain(|(other, _)| *other != name);
        environment.push((name, value));
        environment
    }

    /// The real vehicle's program, in its own folder.
    fn run_vehicle(&self, said: &mut Said, args: &[&str]) {
        let mut command = Command::new(vehicle_binary());
        said.run(command.args(args).arg("--dir").arg(self.vehicle()));
    }

    fn secrets(&self) -> Vec<Secret> {
        let mut secrets = vec![
            Secret::text("the PIN", PIN),
            Secret::text("a wrong PIN", WRONG_PIN),
            Secret::text("the passphrase", PASSPHRASE),
            Secret::text("a wrong passphrase", WRONG_PASSPHRASE),
            Secret::text("the secret of a KMS", KMS_SECRET),
            Secret::text("the session of a KMS", KMS_SESSION),
            Secret::bytes("the encrypted key", None, &seed(&self.snapshot)),
        ];
        for name in files_below(&self.vehicle().join("keys")) {
            let home = format!("vehicle keys/{name}");
            let pem = fs::read_to_string(self.vehicle().join("keys").join(&name)).unwrap();
            let key = if name.contains("signing") { seed(&pem) } else { scalar(&pem) };
            secrets.push(Secret::bytes(&name, Some(&home), &key));
        }
        assert_eq!(secrets.len(), 7 + 4, "two keys of each of two ECUs");
        secrets
    }
}

/// The private half of a key on P-256 in PKCS#8 (RFC 5915, 3).
fn scalar(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(base64).unwrap();
    let at = der.windows(5).position(|window| window == [2, 1, 1, 4, 32]).unwrap() + 5;
    der[at..at + 32].to_vec()
}

/// A real vehicle enrols, is told what to install, and installs it.
async fn drive(scene: &Scene, said: &mut Said, server: &Server, client: &Client) {
    let enroller = create_token(&scene.state(), "enroller");
    let token = scene.folder.path().join("enrolment");
    fs::write(&token, enroller).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let root = scene.state().join("repo/1.root.json");
    let director = scene.folder.path().join("director-root.json");
    fs::write(&director, client.get("/director/1.root.json").await).unwrap();
    let (token, root, director) =
        (token.to_str().unwrap(), root.to_str().unwrap(), director.to_str().unwrap());
    let url = server.url();
    let provision =
        ["provision", "--server", &url, "--vin", "VIN1", "--primary", "gw-1:gw-mk3", "--secondary"];
    let more = ["brake-1:brake-2", "--image-root", root, "--director-root", director];
    scene.run_vehicle(said, &[&provision[..], &more, &["--enrolment-token-file", token]].concat());
    scene.run_vehicle(said, &["update"]);
    let assignment = json!({ "assignments": [{ "ecu_serial": "gw-1", "image": "gw/1/a.bin" }] });
    said.ask(client, Method::POST, "/api/v1/vehicles/VIN1/assignments", assignment).await;
    scene.run_vehicle(said, &["update"]);
    let installed = fs::read(scene.vehicle().join("ecus/gw-1/image.bin")).unwrap_or_default();
    assert_eq!(installed, b"firmware", "the vehicle has used its keys: {:?}", said.0);
    scene.run_vehicle(said, &["update", "--json"]);
}

/// What is asked while something is wrong.
async fn ask_around(said: &mut Said, client: &Client) {
    for path in [
        "/readyz",
        "/metrics",
        "/api/v1/doctor",
        "/api/v1/audit?limit=1000",
        "/api/v1/vehicles/VIN1",
    ] {
        said.ask(client, Method::GET, path, Value::Null).await;
    }
    let refused = client.put("gw/2/a.bin", "", "firmware").await.unwrap();
    assert_eq!(refused.status(), 503);
    said.add("answer to an upload", &refused.bytes().await.unwrap());
}

#[tokio::test]
async fn what_opens_keys_elsewhere_and_the_keys_of_ecus_are_nowhere() {
    let scene = Scene::new().await;
    let (state, mut said) = (scene.state(), Said::default());
    let data_dir = ["--data-dir", state.to_str().unwrap()];
    let engineer = create_token(&state, "engineer");
    let officer = create_token(&state, "officer");
    let mut server = Server::start_in(&scene.environment(), &state);
    let client = server.client(&engineer);
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    client.upload("gw/1/a.bin", "", b"firmware").await;
    drive(&scene, &mut said, &server, &client).await;
    for words in [
        "role rotate timestamp --key awskms:alias/none",
        "role rotate snapshot",
        "role list",
        "escrow show",
    ] {
        let mut command = motorcade(words.split(' '));
        let command = command.envs(scene.environment()).env("MOTORCADE_SERVER", server.url());
        said.run(command.env("MOTORCADE_TOKEN", &officer));
    }
    scene.hsm.take_away();
    ask_around(&mut said, &client).await;
    scene.hsm.put_back();
    wait_until("the token is found again", async || {
        let answer = client.http.get(format!("{}/readyz", client.url)).send().await.unwrap();
        answer.status() == 200
    })
    .await;
    said.files(&state, "running ");
    server.process.signal(Signal::TERM);
    assert!(server.process.ended().await.success());
    said.add("the log at trace level", server.log().as_bytes());
    assert!(server.log().contains("TRACE"), "the log has everything");

    // Each is wrong once.
    let server =
        Server::start_in(&scene.environment_with("MOTORCADE_PKCS11_PIN", WRONG_PIN), &state);
    ask_around(&mut said, &server.client(&engineer)).await;
    said.add("the log of a server with a wrong PIN", server.log().as_bytes());
    drop(server);
    scene.hsm.log_in_and_out();
    let wrong = scene.environment_with("MOTORCADE_KEY_PASSPHRASE", WRONG_PASSPHRASE);
    for words in
        ["serve --listen 127.0.0.1:0", "fsck", "doctor", "recover versions", "audit verify"]
    {
        for environment in [&wrong, &scene.environment()] {
            if words.starts_with("serve") && *environment != wrong {
                continue; // it would go on serving
            }
            let mut command = motorcade(words.split(' '));
            said.run(command.args(data_dir).envs(environment.iter().copied()));
        }
    }
    said.files(&state, "");
    said.files(&scene.vehicle(), "vehicle ");
    said.search_for(&scene.secrets());
}
