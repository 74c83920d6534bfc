//! No secret is in any file but its own, in the log at trace level, in `/metrics`, the audit log, an
//! answer or an error: known ones are planted, everything is done that handles them, and then
//! everything is searched, in each way in which bytes are written down.

mod elsewhere;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use motorcade::envelope::jwe::Envelope;
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::director::vehicle::TestVehicle;
use crate::state::{TestState, files_below, key_file, private_key};
use crate::support::{Client, Server, motorcade, snakeoil};

/// What nobody may see, and the one file where it belongs.
struct Secret {
    name: String,
    home: Option<String>,
    needles: Vec<String>,
}

impl Secret {
    /// Of bytes: raw, as digits, in Base64 wherever it begins, and as Rust prints a list. A half is
    /// enough.
    fn bytes(name: &str, home: Option<&str>, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 32, "{name}: a short one is found by chance");
        let halves = [&bytes[..16], &bytes[16..32]];
        let needles = halves.into_iter().flat_map(|half| {
            let list = format!("{half:?}");
            let digits = hex::encode(half);
            let base64 = (0..3).flat_map(|skip| {
                let whole = &half[skip..skip + (16 - skip) / 3 * 3];
                [STANDARD.encode(whole), URL_SAFE_NO_PAD.encode(whole)]
            });
            let others =
                [latin1(half), digits.to_uppercase(), digits, list[1..list.len() - 1].into()];
            base64.chain(others).collect::<Vec<_>>()
        });
        Self { name: name.into(), home: home.map(Into::into), needles: needles.collect() }
    }

    fn text(name: &str, text: &str) -> Self {
        Self { needles: vec![text.to_owned()], ..Self::bytes(name, None, &[0; 32]) }
    }

    fn is_in(&self, haystack: &str) -> bool {
        self.needles.iter().any(|needle| haystack.contains(needle))
    }
}

/// Any bytes as text, so that what is fast for texts searches them.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The private half of an Ed25519 key in PKCS#8 (RFC 8410, 7).
fn seed(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(base64).unwrap();
    let at = der.windows(4).position(|window| window == [4, 34, 4, 32]).unwrap() + 4;
    der[at..at + 32].to_vec()
}

/// The keys that a state directory has.
fn planted(state: &Path) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for name in files_below(&state.join("keys")) {
        let (home, text) =
            (format!("keys/{name}"), fs::read_to_string(state.join("keys").join(&name)).unwrap());
        let bytes = match name.rsplit('.').next().unwrap() {
            "pem" => seed(&text),
            _ if name == "escrow.jwk" => {
                let jwk: Value = serde_json::from_str(&text).unwrap();
                URL_SAFE_NO_PAD.decode(jwk["k"].as_str().unwrap()).unwrap()
            }
            _ => {
                let stored: Value = serde_json::from_str(&text).unwrap();
                hex::decode(stored["secret"].as_str().unwrap()).unwrap()
            }
        };
        secrets.push(Secret::bytes(&name, Some(&home), &bytes));
    }
    assert!(secrets.len() >= 9, "all roles and the escrow key");
    secrets
}

/// All that was ever said, by where.
#[derive(Default)]
struct Said(BTreeMap<String, String>);

impl Said {
    fn add(&mut self, place: &str, bytes: &[u8]) {
        let text = self.0.entry(place.to_owned()).or_default();
        text.push_str(&latin1(bytes));
    }

    async fn ask(&mut self, client: &Client, method: Method, path: &str, body: Value) -> Vec<u8> {
        let url = format!("{}{path}", client.url);
        let mut request = client.http.request(method.clone(), url).bearer_auth(&client.token);
        request = match body {
            Value::Null => request,
            Value::String(text) => request.body(text),
            body => request.json(&body),
        };
        let response = request.send().await.unwrap();
        let head = format!("{:?}", response.headers());
        let body = response.bytes().await.unwrap().to_vec();
        let route = path.split('?').next().unwrap();
        let place = format!("answer to {method} {:.40}", route.replace(&client.token, "TOKEN"));
        self.add(&place, head.as_bytes());
        self.add(&place, &body);
        body
    }

    fn run(&mut self, command: &mut Command) {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let words: Vec<_> = command.get_args().take(3).map(OsStr::to_string_lossy).collect();
        let place = format!("output of {}", words.join(" "));
        self.add(&place, &output.stdout);
        self.add(&place, &output.stderr);
    }

    /// No secret is anywhere but in its own file.
    fn search_for(&self, secrets: &[Secret]) {
        assert!(self.0.len() > 60, "{:?}", self.0.keys());
        for secret in secrets {
            let places: Vec<&String> = self
                .0
                .iter()
                .filter(|(place, text)| secret.is_in(text) && secret.home.as_ref() != Some(place))
                .map(|(place, _)| place)
                .collect();
            assert_eq!(places, Vec::<&String>::new(), "{} is there", secret.name);
            // What finds nothing has to be able to find something.
            if let Some(home) = &secret.home {
                assert!(found_at_home(secret, &self.0[home]), "{} is not in {home}", secret.name);
            }
        }
    }

    fn files(&mut self, state: &Path, what: &str) {
        for name in files_below(state) {
            let bytes = fs::read(state.join(&name)).unwrap_or_default();
            self.add(&format!("{what}{name}"), &bytes);
        }
    }
}

/// What everybody does all day.
async fn use_all(said: &mut Said, client: &Client, vehicle: &mut TestVehicle) {
    let p256 = key_file("snakeoil_p256.pub.pem");
    let body = json!({ "hardware_ids": ["gw-mk3", "brake-2"], "public_key": p256 });
    said.ask(client, Method::POST, "/api/v1/recipients", body).await;
    said.ask(client, Method::POST, "/api/v1/vehicles", vehicle.record()).await;
    let vehicle_client = Client { token: vehicle.token.clone(), ..client.clone() };
    let manifest = vehicle.next_manifest().to_string();
    for path in ["/director/timestamp.json", "/director/targets.json", "/director/1.root.json"] {
        let manifest = json!(manifest.clone());
        said.ask(&vehicle_client, Method::PUT, "/director/manifest", manifest).await;
        said.ask(&vehicle_client, Method::GET, path, Value::Null).await;
    }
    let vin = vehicle.vin.to_string();
    let assignment =
        json!({ "assignments": [{ "ecu_serial": format!("{vin}-gw"), "image": "gw/1/a.bin" }] });
    said.ask(client, Method::POST, &format!("/api/v1/vehicles/{vin}/assignments"), assignment)
        .await;
    said.ask(&vehicle_client, Method::GET, "/director/targets.json", Value::Null).await;
    said.ask(client, Method::POST, "/api/v1/jobs", json!({ "kind": "fsck" })).await;
    for path in [
        "/api/v1/images",
        "/api/v1/images/gw/1/a.bin",
        "/api/v1/recipients",
        "/api/v1/vehicles",
        &format!("/api/v1/vehicles/{vin}/history"),
        "/api/v1/audit?limit=1000",
        "/api/v1/jobs",
        "/api/v1/doctor",
        "/metrics",
        "/readyz",
        "/openapi.json",
    ] {
        said.ask(client, Method::GET, path, Value::Null).await;
    }
}

/// What goes wrong, and what people put in the wrong place.
async fn misuse(said: &mut Said, client: &Client, image: &[u8]) {
    let token = &client.token;
    let private = key_file("snakeoil_p256.pem");
    for (method, path, body) in [
        (
            Method::POST,
            "/api/v1/recipients",
            json!({ "hardware_ids": ["x"], "public_key": private }),
        ),
        (Method::POST, "/api/v1/recipients", json!(private)),
        (Method::POST, "/api/v1/jobs", json!({ "kind": token })),
        (Method::POST, "/api/v1/vehicles", json!({ "vin": token, "ecus": [] })),
        (Method::GET, "/api/v1/jobs?limit=TOKEN", Value::Null),
        (Method::GET, "/api/v1/jobs?token=TOKEN", Value::Null),
        (Method::GET, "/repo/TOKEN", Value::Null),
        (Method::GET, "/director/TOKEN", Value::Null),
        (Method::GET, "/nothing/TOKEN", Value::Null),
        (Method::DELETE, "/api/v1/recipients/TOKEN", Value::Null),
    ] {
        // Whoever sent it may get it back, and nobody else: so not into what is searched.
        let path = path.replace("TOKEN", token);
        let url = format!("{}{path}", client.url);
        let request = client.http.request(method, url).bearer_auth(token).json(&body);
        assert!(request.send().await.unwrap().status().is_client_error(), "{path}");
    }
    let changed = format!("{token}x");
    let stranger = Client { token: changed, ..client.clone() };
    said.ask(&stranger, Method::GET, "/api/v1/images", Value::Null).await;
    let other = "&sha256=".to_owned() + &"0".repeat(64);
    let answer = client.put("gw/2/a.bin", &other, image.to_vec()).await.unwrap();
    said.add("answer to an upload", &answer.bytes().await.unwrap());
}

/// A key file that is damaged, and one that is another's.
fn damage(said: &mut Said, path: &Path) {
    let keys = path.join("keys");
    let read = |name: &str| fs::read_to_string(keys.join(name)).unwrap();
    let (timestamp, snapshot, escrow) =
        (read("timestamp.pem"), read("snapshot.pem"), read("escrow.jwk"));
    for (name, good, bad) in [
        ("timestamp.pem", &timestamp, timestamp.replace("BEGIN PRIVATE", "BEGIN EC PRIVATE")),
        ("timestamp.pem", &timestamp, timestamp.replacen("MC", "!!", 1)),
        ("timestamp.pem", &timestamp, snapshot.clone()),
        ("escrow.jwk", &escrow, escrow.replace("\"k\"", "\"d\"")),
        ("escrow.jwk", &escrow, escrow.replacen('{', "", 1)),
    ] {
        assert_ne!(*good, bad, "{name}");
        fs::write(keys.join(name), bad).unwrap();
        let path = path.to_str().unwrap();
        for command in [
            &["serve", "--listen", "127.0.0.1:0", "--log", "trace"][..],
            &["fsck"],
            &["doctor"],
            &["recover", "versions"],
        ] {
            let mut within = Command::new("timeout");
            let motorcade = motorcade(command);
            within.arg("20").arg(motorcade.get_program()).args(motorcade.get_args());
            said.run(within.args(["--data-dir", path]));
        }
        fs::write(keys.join(name), good).unwrap();
    }
}

#[tokio::test]
async fn no_secret_is_anywhere_but_in_its_own_file() {
    let state = TestState::new();
    let image = "plaintext of a firmware image, which nobody may see. ".repeat(2000);
    let server = Server::start(state.path(), &["--log", "trace"]);
    let client = server.client(&state.tokens.engineer);
    let (mut said, mut vehicle) = (Said::default(), TestVehicle::new("VIN1"));
    client.upload("gw/1/a.bin", "", image.as_bytes()).await;
    use_all(&mut said, &client, &mut vehicle).await;
    misuse(&mut said, &client, image.as_bytes()).await;
    let issued = said.ask(&client, Method::POST, "/api/v1/vehicles/VIN1/token", Value::Null).await;
    let issued: Value = serde_json::from_slice(&issued).unwrap();
    said.0.remove("answer to POST /api/v1/vehicles/VIN1/token").unwrap(); // where it belongs
    let envelope = client.get("/api/v1/images/gw/1/a.bin/envelope").await;
    let opened = Envelope::parse(&envelope).unwrap().open(&private_key("snakeoil_p256")).unwrap();

    let mut secrets = planted(state.path());
    secrets.push(Secret::bytes("the data key", None, opened.0.as_bytes()));
    secrets.push(Secret::text("the plaintext", "plaintext of a firmware image"));
    secrets.push(Secret::text("the vehicle's token", issued["token"].as_str().unwrap()));
    secrets.push(Secret::text("the vehicle's first token", &vehicle.token));
    let tokens = &state.tokens;
    for token in
        [&tokens.uploader, &tokens.engineer, &tokens.officer, &tokens.viewer, &tokens.enroller]
    {
        secrets.push(Secret::text("a token", token));
    }
    let private = fs::read_to_string(snakeoil("snakeoil_p256.pem")).unwrap();
    let line = private.lines().nth(1).unwrap().to_owned();
    secrets.push(Secret::text("a private key that was sent by mistake", &line));

    let path = state.path();
    let exported = tempfile::tempdir().unwrap();
    said.files(path, "");
    let data_dir = ["--data-dir", path.to_str().unwrap()];
    for command in [&["fsck"][..], &["doctor"], &["audit", "verify"], &["token", "list"]] {
        said.run(motorcade(command).args(data_dir));
    }
    said.run(motorcade(["export"]).arg(exported.path().join("mirror")).args(data_dir));
    said.files(exported.path(), "exported ");
    let mut process = server;
    process.process.signal(Signal::TERM);
    assert!(process.process.ended().await.success());
    said.add("the log at trace level", process.log().as_bytes());
    assert!(process.log().contains("TRACE"), "the log has everything");
    said.files(path, "");
    damage(&mut said, path);

    said.search_for(&secrets);
    let response = client.http.get(&client.url).send().await;
    assert!(response.is_err() || response.unwrap().status() != StatusCode::OK, "it has stopped");
}

/// A PEM file may wrap its lines and begin anywhere in a group of Base64.
fn found_at_home(secret: &Secret, file: &str) -> bool {
    secret.is_in(&file.replace('\n', ""))
}

#[test]
fn a_secret_is_found_however_it_is_written() {
    let bytes: Vec<u8> = (0..32).map(|number| 255 - number * 7).collect();
    let secret = Secret::bytes("s", None, &bytes);
    let around = |text: String| format!("before {text} after");
    for (what, text) in [
        ("raw", latin1(&bytes)),
        ("digits", hex::encode(&bytes)),
        ("upper", hex::encode_upper(&bytes[16..])),
        ("debug", format!("{:?}", &bytes[..])),
        ("base64", STANDARD.encode(&bytes)),
        ("after one", STANDARD.encode([&[7], &bytes[..]].concat())),
        ("after two", STANDARD.encode([&[7, 7], &bytes[..]].concat())),
        ("url", URL_SAFE_NO_PAD.encode([&[9; 16], &bytes[..]].concat())),
        ("half", hex::encode(&bytes[..16])),
    ] {
        assert!(secret.is_in(&around(text)), "{what}");
    }
    assert!(!secret.is_in(&around(hex::encode(&bytes[1..16]))));
}
