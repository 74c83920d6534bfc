//! The OpenAPI document in other people's hands: a validator, a program that tries whether the
//! server keeps to it, and a generator of clients.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{project, python, run};
use crate::{Fleet, public_key};

/// How clients are generated.
const GENERATOR: &str = "post_hooks: []\npackage_name_override: motorcade_client\ncontent_type_overrides:\n  \
     application/offset+octet-stream: application/octet-stream\n";
/// What the dictionaries of schemathesis.toml name.
const VIN: &str = "WVWZZZ1JZXW000001";
const IMAGE: &str = "gw/4.2.0/gateway.bin";

impl Fleet {
    /// The server's own document in a file, with some of it changed.
    async fn document(&self, change: impl FnOnce(&mut Value)) -> PathBuf {
        let mut document: Value =
            serde_json::from_slice(&self.client.get("/openapi.json").await).unwrap();
        change(&mut document);
        let file = self.file("openapi.json");
        fs::write(&file, document.to_string()).unwrap();
        file
    }

    async fn register_vehicle(&self) {
        let [signing_key, encryption_key] = ["snakeoil_p256_other", "snakeoil_rsa3072"]
            .map(|key| fs::read_to_string(public_key(key)).unwrap());
        let ecu = json!({
            "ecu_serial": "gw-0001", "hardware_id": "gw-mk3", "role": "primary",
            "signing_key": signing_key, "encryption_key": encryption_key,
        });
        let url = format!("{}/api/v1/vehicles", self.client.url);
        let request = self.client.http.post(url).bearer_auth(&self.client.token);
        let answer = request.json(&json!({ "vin": VIN, "ecus": [ecu] })).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }
}

/// The calls of a document below a path.
fn calls<'a>(document: &'a Value, below: &'a str) -> impl Iterator<Item = &'a Value> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .filter(move |(path, _)| path.starts_with(below))
        .flat_map(|(_, calls)| calls.as_object().unwrap().values())
}

#[tokio::test]
async fn the_document_is_valid() {
    let fleet = Fleet::start(&[]).await;
    let document = fleet.document(|_| ()).await;
    run(python().args(["-m", "openapi_spec_validator"]).arg(document));
}

/// All checks of schemathesis, with requests that are right, wrong and in an order that makes
/// sense.
#[tokio::test]
async fn the_server_does_what_the_document_says() {
    let fleet = Fleet::start(&[]).await;
    fleet.register_vehicle().await;
    fleet.client.upload(IMAGE, "", b"firmware").await;
    let document = fleet
        .document(|document| {
            // It makes up letters and digits for a header, and digests and entity tags have more
            // than those: each request would be refused for that alone.
            // Of tus's requests all that matters is in headers: its clients are tried in uploads/.
            let paths = document["paths"].as_object_mut().unwrap();
            paths.retain(|path, _| !path.starts_with("/api/v1/uploads"));
            let calls = paths.values_mut();
            for call in calls.flat_map(|calls| calls.as_object_mut().unwrap().values_mut()) {
                let parameters = call.get_mut("parameters").and_then(Value::as_array_mut);
                parameters
                    .into_iter()
                    .for_each(|all| all.retain(|parameter| parameter["in"] != "header"));
            }
        })
        .await;
    let (url, token) = (fleet.client.url.clone(), fleet.client.token.clone());
    let trying = tokio::task::spawn_blocking(move || {
        let mut command = python();
        command
            .args(["-m", "schemathesis.cli", "--config-file"])
            .arg(project("tests/interop/schemathesis.toml"));
        command.arg("run").arg(&document).args(["--url", &url, "--header"]);
        command
            .arg(format!("Authorization: Bearer {token}"))
            .current_dir(document.parent().unwrap());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    });
    trying.await.unwrap();
    assert!(!fleet.server.log().contains("panicked"), "{}", fleet.server.log());
}

#[tokio::test]
async fn a_generated_client_lists_uploads_and_assigns() {
    let fleet = Fleet::start(&[]).await;
    let document = fleet.document(|_| ()).await;
    let config = fleet.file("generator.yml");
    fs::write(&config, GENERATOR).unwrap();
    let package = fleet.file("motorcade_client");
    let mut generate = python();
    generate
        .args(["-m", "openapi_python_client", "generate", "--meta", "none", "--path"])
        .arg(&document);
    run(generate.arg("--config").arg(config).arg("--output-path").arg(&package));

    let document: Value = serde_json::from_slice(&fs::read(document).unwrap()).unwrap();
    for call in calls(&document, "/api/v1/") {
        let module = format!(
            "api/{}/{}.py",
            call["tags"][0].as_str().unwrap(),
            call["operationId"].as_str().unwrap()
        );
        assert!(package.join(&module).is_file(), "the generator has left out {module}");
    }
    let keys = ["snakeoil_p256_other", "snakeoil_rsa3072"].map(public_key);
    let mut client = python();
    client.env("PYTHONPATH", fleet.dir.path()).arg(project("tests/interop/api_client.py"));
    let done = run(client.args([&fleet.client.url, &fleet.client.token, VIN]).args(keys));
    let done: Value = serde_json::from_str(&done).unwrap();
    let kids = done["recipients"].as_array().unwrap();
    assert!(fleet.kids.iter().all(|kid| kids.contains(&json!(kid))), "{done}");
    for (what, expected) in [
        ("uploaded", json!([[201, "gw/1/a.bin"], [201, "gw/2/b.bin"]])),
        ("refused", json!([409, "image_exists"])),
        ("pages", json!([["gw/1/a.bin"], ["gw/2/b.bin"]])),
        ("plaintext_length", json!(3)),
        ("envelope", json!(200)),
        ("vehicle", json!([VIN, ["primary"]])),
        ("vehicles", json!([VIN])),
        ("assigned", json!(["gw/1/a.bin"])),
        ("stands", json!(["gw/1/a.bin"])),
    ] {
        assert_eq!(done[what], expected, "{what}");
    }
}
