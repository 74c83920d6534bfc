//! Another implementation's client polls on while roots change under it, and no cycle fails.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use motorcade::uptane::client::VerifiedRepository;
use motorcade::uptane::key::{Scheme, SigningKey};
use serde_json::Value;

use super::Fleet;
use super::support::{create_token, motorcade, run, wait_until};

const IMAGE: &str = "gw/4.2.0/gateway.bin";

impl Fleet {
    /// `motorcade root …` as an officer.
    fn officer(&self, words: &str) -> Command {
        let mut command = motorcade(words.split_whitespace());
        command
            .current_dir(self.dir.path())
            .env("MOTORCADE_SERVER", &self.client.url)
            .env("MOTORCADE_TOKEN", create_token(&self.data_dir(), "officer"));
        command
    }

    /// A new key as NAME.pem, and its public half as NAME.json.
    fn key(&self, name: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let pem = SigningKey::generate_pem(Scheme::Ed25519).unwrap();
        let file = self.file(&format!("{name}.pem"));
        fs::write(&file, pem.as_bytes()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let public = SigningKey::from_pem(&pem).unwrap().public().clone();
        fs::write(self.file(&format!("{name}.json")), public.object().to_string()).unwrap();
        public.id().to_string()
    }

    /// Stages a change, has `keys` sign it offline and the server too if it may, and publishes it.
    fn ceremony(&self, change: &str, keys: &[&str], here: bool) {
        run(&mut self.officer(&format!("root stage {change}")));
        run(&mut self.officer("root diff --out staged.json"));
        for key in keys {
            let words = format!("root sign staged.json --key {key}.pem --yes --out {key}.sig");
            run(motorcade(words.split_whitespace()).env_clear().current_dir(self.dir.path()));
            run(&mut self.officer(&format!("root sign --send {key}.sig")));
        }
        if here {
            run(&mut self.officer("root sign --here"));
        }
        run(&mut self.officer("root publish"));
    }
}

/// Polls as a car does until it is told to stop; returns how often, and fails with the first cycle
/// that does.
async fn poll(trusted: Vec<u8>, url: String, stop: Arc<AtomicBool>, cycles: Arc<AtomicU64>) {
    let mut highest = 0;
    while !stop.load(Ordering::Relaxed) {
        let loaded = VerifiedRepository::load(&trusted, &url).await;
        let [root, ..] =
            loaded.unwrap_or_else(|error| panic!("a cycle failed: {error}")).versions();
        assert!(root >= highest, "root went from {highest} to {root}");
        highest = root;
        cycles.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_cycle_fails_while_roots_change_hands() {
    let fleet = Fleet::start(&[]).await;
    fleet.client.upload(IMAGE, "", b"an image").await;
    let repo_url = fleet.server.repo_url();
    let (stop, cycles) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let trusted = fs::read(fleet.root()).unwrap();
    let polling =
        tokio::spawn(poll(trusted, repo_url.clone(), Arc::clone(&stop), Arc::clone(&cycles)));
    let more = async |before: u64| {
        wait_until("clients poll on", async || cycles.load(Ordering::Relaxed) > before).await;
    };
    more(0).await;
    let status: Value =
        serde_json::from_str(&run(&mut fleet.officer("root status --json"))).unwrap();
    let old = status["roles"][0]["keys"][0]["key_id"].as_str().unwrap().to_owned();
    let anna = fleet.key("anna");
    for name in ["bert", "carl", "dora"] {
        fleet.key(name);
    }
    // Officers come in beside the server's key; the server's key goes; one officer follows another;
    // a root that is only valid for longer.
    fleet.ceremony(
        "--threshold root=2 --add root=anna.json --add root=bert.json",
        &["anna", "bert"],
        true,
    );
    more(cycles.load(Ordering::Relaxed)).await;
    fleet.ceremony(&format!("--add root=carl.json --remove root={old}"), &["anna", "bert"], false);
    more(cycles.load(Ordering::Relaxed)).await;
    fleet.ceremony(
        &format!("--add root=dora.json --remove root={anna}"),
        &["anna", "carl", "dora"],
        false,
    );
    more(cycles.load(Ordering::Relaxed)).await;
    fleet.ceremony("--expires-days 700", &["bert", "dora"], false);
    more(cycles.load(Ordering::Relaxed) + 1).await;
    stop.store(true, Ordering::Relaxed);
    polling.await.unwrap();
}
