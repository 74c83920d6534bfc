//! Role keys in AWS KMS, as moto has it: from the first root on, through a rotation, and while KMS can't
//! be reached.

use std::fs;
use std::process::Stdio;

use motorcade::keys::policy::Policy;
use motorcade::uptane::client::VerifiedRepository;

use super::support::{
    FreePort, Process, Server, create_token, motorcade, program, refused, run, snakeoil, wait_until,
};

const SECRET: &str = "snakeoil-secret-of-the-kms";

/// Killed when it is forgotten.
struct Kms {
    process: Option<Process>,
    endpoint: String,
    keys: Vec<String>,
}

impl Kms {
    fn start(number: usize) -> Self {
        let free = FreePort::new();
        let port = free.address().port();
        let args = [port.to_string(), number.to_string()];
        let mut command = program("tests/interop/kms_keys.py", args);
        let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let endpoint = format!("http://127.0.0.1:{port}");
        let keys = serde_json::from_str(&process.lines().next().unwrap().unwrap()).unwrap();
        Self { process: Some(process), endpoint, keys }
    }

    fn environment(&self) -> [(&str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "snakeoil"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("MOTORCADE_LOG", "trace"),
        ]
    }

    fn stop(&mut self) {
        self.process = None;
    }
}

fn policy(timestamp: &[&str]) -> String {
    let keys: Vec<String> = timestamp.iter().map(|key| format!("\"awskms:{key}\"")).collect();
    let sources =
        format!("[timestamp]\nexpires_days = 1\nthreshold = 1\nkeys = [{}]", keys.join(", "));
    let policy = Policy::DEFAULT.replace("prefix_digits = 2", "prefix_digits = 1").replacen(
        "[timestamp]\nexpires_days = 1\nthreshold = 1",
        &sources,
        1,
    );
    Policy::parse(&policy).unwrap();
    policy
}

#[tokio::test]
async fn a_timestamp_is_signed_by_a_key_in_kms_and_by_another_one_after_a_rotation() {
    let mut kms = Kms::start(2);
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir_all(state.join("metadata")).unwrap();
    let file = state.join("metadata/policy.toml");
    fs::write(&file, policy(&[&kms.keys[0]])).unwrap();
    run(motorcade(["init", "--data-dir"]).arg(&state).envs(kms.environment()));
    assert!(!state.join("keys/timestamp.pem").exists());
    let first = fs::read(state.join("repo/1.root.json")).unwrap();
    assert!(String::from_utf8_lossy(&first).contains("ecdsa-sha2-nistp256"));

    let server = Server::start_in(&kms.environment(), &state);
    let client = server.client(&create_token(&state, "engineer"));
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    client.upload("gw/1/a.bin", "", b"firmware").await;
    let seen = VerifiedRepository::load(&first, &server.repo_url()).await.unwrap();
    assert!(seen.find("gw/1/a.bin").is_some());

    // The new key beside the old one; then the role gets the new one alone.
    fs::write(&file, policy(&[&kms.keys[0], &kms.keys[1]])).unwrap();
    let officer = create_token(&state, "officer");
    let source = format!("awskms:{}", kms.keys[1]);
    let mut rotate = motorcade(["role", "rotate", "timestamp", "--key", &source]);
    run(rotate.env("MOTORCADE_SERVER", server.url()).env("MOTORCADE_TOKEN", &officer));
    client.upload("gw/2/a.bin", "", b"firmware").await;
    let seen = VerifiedRepository::load(&first, &server.repo_url()).await.unwrap();
    assert_eq!(seen.versions()[0], 2);
    assert!(seen.find("gw/2/a.bin").is_some());

    // While KMS can't be reached, what is signed stays served, also after a start; a key that was
    // never found is named.
    kms.stop();
    let put = client.put("gw/3/a.bin", "", "firmware").await.unwrap();
    assert_eq!(put.status(), 503);
    let problem: serde_json::Value = put.json().await.unwrap();
    assert_eq!(problem["code"], "role_key_unavailable", "{problem}");
    VerifiedRepository::load(&first, &server.repo_url()).await.unwrap();
    wait_until("the log says so", async || server.log().contains("a key does not sign")).await;
    let log = server.log();
    assert!(log.contains("TRACE") && !log.contains(SECRET), "a secret is in the log");
    drop(server);
    let server = Server::start_in(&kms.environment(), &state);
    VerifiedRepository::load(&first, &server.repo_url()).await.unwrap();
    let readiness = client.http.get(format!("{}/readyz", server.url())).send().await.unwrap();
    let told = readiness.text().await.unwrap();
    assert!(told.contains(&format!("waits for its key (awskms:{}", kms.keys[1])), "{told}");
    drop(server);
    fs::remove_file(state.join("keys/public-halves.toml")).unwrap();
    let mut serve = motorcade(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    let told = refused(serve.arg(&state).envs(kms.environment()));
    assert!(told.contains("the role timestamp has a key that can't be reached"), "{told}");
    assert!(told.contains(&format!("failed to open the key awskms:{}", kms.keys[0])), "{told}");
}
