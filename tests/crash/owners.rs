//! A server that is killed while it publishes what others have signed, a supplier's file or targets:
//! it is published or still staged, and can be published then.

use std::fs;
use std::time::Duration;

use motorcade::uptane::key::{Scheme, SigningKey};
use motorcade::uptane::metadata::{Authority, Unsigned};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::{Client, Server, create_token, fsck};
use super::{Ledger, Rng, Site};

const KILLS: u64 = 16;
/// For one that comes between the file and its record.
const MOST_KILLS: u64 = 64;

/// A role and the key of its owner, which no server has.
struct Owned {
    role: &'static str,
    key: SigningKey,
}

async fn call(client: &Client, method: Method, path: &str, body: Value) -> Value {
    let url = format!("{}/api/v1/{path}", client.url);
    let request = client.http.request(method, url).bearer_auth(&client.token).json(&body);
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

impl Owned {
    fn new(role: &'static str) -> Self {
        let pem = SigningKey::generate_pem(Scheme::Ed25519).unwrap();
        Self { role, key: SigningKey::from_pem(&pem).unwrap() }
    }

    async fn show(&self, client: &Client) -> Value {
        call(client, Method::GET, &format!("targets/{}", self.role), Value::Null).await
    }

    /// Stages the next file and signs it, unless the last kill has left one.
    async fn sign(&self, client: &Client) -> Value {
        let path = format!("targets/{}/staged", self.role);
        if !self.show(client).await["staged"].is_null() {
            return self.show(client).await["staged"].clone();
        }
        call(client, Method::PUT, &path, json!({})).await;
        let file = call(client, Method::GET, &path, Value::Null).await;
        let staged = serde_json::to_vec(&file["staged"]).unwrap();
        let id = self.key.public().id();
        let alone = Authority { key_ids: [id].into(), threshold: 1 };
        let unsigned = Unsigned::of_file(self.role.parse().unwrap(), &staged).unwrap();
        let unsigned = unsigned.authorize(&alone, [id]).unwrap();
        let sig = hex::encode(self.key.sign(unsigned.message()));
        let signed = json!({
            "payload_sha256": file["payload_sha256"], "signatures": [{ "keyid": id.to_string(), "sig": sig }],
        });
        let shown = call(client, Method::POST, &format!("{path}/signatures"), signed).await;
        shown["staged"].clone()
    }
}

/// The status of the answer, or nothing if the server was gone before it.
async fn publish(client: Client, role: &str) -> Option<StatusCode> {
    let url = format!("{}/api/v1/targets/{role}/staged/publish", client.url);
    let sent = client.http.post(url).bearer_auth(&client.token).send().await;
    sent.ok().map(|answer| answer.status())
}

/// Kills the server while it publishes what `owned` has signed, again and again.
async fn kill_while_it_publishes(site: &Site, owned: Owned, officer: &str, rng: &mut Rng) {
    let repo = site.data_dir().join("repo");
    let (mut ledger, mut stored_alone, mut published) = (Ledger::default(), 0, 0);
    for kill in 0..MOST_KILLS {
        // Whether one comes between the file and its record is luck, and a matter of the disk.
        if kill >= KILLS && stored_alone > 0 {
            break;
        }
        let server = site.serve(&[]);
        site.check_after_start(&server).await;
        ledger.saw_directory(&repo);
        let client = server.client(officer);
        let staged = owned.sign(&client).await;
        let version = staged["version"].as_u64().unwrap();
        let stored = repo.join(format!("{version}.{}.json", owned.role));
        let publishing = tokio::spawn(publish(client, owned.role));
        // Between the file and its record is where most can go wrong.
        while !stored.exists() && !publishing.is_finished() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        if kill < KILLS {
            tokio::time::sleep(rng.duration(Duration::from_millis(3))).await;
        }
        server.process.kill();
        let status = publishing.await.unwrap();

        let server = site.serve(&[]);
        site.check_after_start(&server).await;
        ledger.saw_directory(&repo);
        let client = server.client(officer);
        let after = owned.show(&client).await;
        let is_published = after["version"] == version;
        assert!(is_published || status.is_none(), "{kill}: {status:?}, {after}");
        if is_published {
            assert_eq!(after["staged"], Value::Null, "what was staged is published");
            published += 1;
        } else {
            assert_eq!(after["staged"]["version"], version, "{after}");
            stored_alone += u64::from(stored.exists());
            let again = publish(client.clone(), owned.role).await;
            assert_eq!(again, Some(StatusCode::OK), "{kill}: {}", server.log());
            assert_eq!(owned.show(&client).await["version"], version);
        }
        ledger.saw_versions(site.verify(&server).await.versions());
        ledger.saw_directory(&repo);
        server.process.kill();
    }
    println!("{}: {published} published, {stored_alone} stored and not recorded", owned.role);
    assert_eq!(fsck(&site.data_dir()), [""; 0]);
}

async fn add_supplier(server: &Server, officer: &str, more: Value) {
    let mut body = json!({ "supplier": "acme" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call(&server.client(officer), Method::POST, "suppliers", body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_supplier_s_file_that_is_being_published_is_published_or_can_be() {
    let mut rng = Rng::new("kill -9 of a supplier's publication");
    let site = Site::new().await;
    let officer = create_token(&site.data_dir(), "officer");
    let owned = Owned::new("supplier-acme");
    let server = site.serve(&[]);
    let keys = json!({ "public_keys": [owned.key.public().object()] });
    add_supplier(&server, &officer, keys).await;
    drop(server);
    kill_while_it_publishes(&site, owned, &officer, &mut rng).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn targets_that_are_being_published_are_published_or_can_be() {
    let mut rng = Rng::new("kill -9 of a publication of targets");
    let site = Site::new().await;
    let officer = create_token(&site.data_dir(), "officer");
    let owned = Owned::new("targets");
    let server = site.serve(&[]);
    let client = server.client(&officer);
    let change = json!({ "roles": [{ "name": "targets", "add": [owned.key.public().object()] }] });
    call(&client, Method::PUT, "roots/image/staged", change).await;
    for step in ["sign", "publish"] {
        call(&client, Method::POST, &format!("roots/image/staged/{step}"), Value::Null).await;
    }
    drop(server);
    let policy = site.data_dir().join("metadata/policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(policy, text.replacen("[targets]\n", "[targets]\noffline = true\n", 1)).unwrap();
    kill_while_it_publishes(&site, owned, &officer, &mut rng).await;
}
