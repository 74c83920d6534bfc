//! Clients go on while roots change under them, and no cycle fails: another implementation's polls,
//! and the reference vehicle updates.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use motorcade::uptane::client::VerifiedRepository;
use motorcade::uptane::key::{Scheme, SigningKey};
use serde_json::Value;

use super::Fleet;
use super::support::{create_token, motorcade, run, vehicle_binary, wait_until};

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

    /// Id of the first key that signs root.
    fn root_key(&self, repository: &str) -> String {
        let words = format!("root status --repository {repository} --json");
        let status: Value = serde_json::from_str(&run(&mut self.officer(&words))).unwrap();
        status["roles"][0]["keys"][0]["key_id"].as_str().unwrap().to_owned()
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
    fn ceremony(&self, repository: &str, change: &str, keys: &[&str], here: bool) {
        let of = format!("--repository {repository}");
        let number = fs::read_dir(self.dir.path()).unwrap().count(); // no file is overwritten
        let staged = format!("staged-{number}.json");
        run(&mut self.officer(&format!("root stage {of} {change}")));
        run(&mut self.officer(&format!("root diff {of} --out {staged}")));
        for key in keys {
            let signature = format!("{key}-{number}.sig");
            let words = format!("root sign {staged} --key {key}.pem --yes --out {signature}");
            run(motorcade(words.split_whitespace()).env_clear().current_dir(self.dir.path()));
            run(&mut self.officer(&format!("root sign {of} --send {signature}")));
        }
        if here {
            // Each command has a token of its own, and somebody else has staged this.
            let status = run(&mut self.officer(&format!("root status {of} --json")));
            let status: Value = serde_json::from_str(&status).unwrap();
            let revision = &status["staged"]["revision"];
            run(&mut self.officer(&format!("root sign {of} --here --revision {revision}")));
        }
        run(&mut self.officer(&format!("root publish {of}")));
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
    let old = fleet.root_key("image");
    let anna = fleet.key("anna");
    for name in ["bert", "carl", "dora"] {
        fleet.key(name);
    }
    // Officers come in beside the server's key; the server's key goes; one officer follows another;
    // a root that is only valid for longer.
    fleet.ceremony(
        "image",
        "--threshold root=2 --add root=anna.json --add root=bert.json",
        &["anna", "bert"],
        true,
    );
    more(cycles.load(Ordering::Relaxed)).await;
    fleet.ceremony(
        "image",
        &format!("--add root=carl.json --remove root={old}"),
        &["anna", "bert"],
        false,
    );
    more(cycles.load(Ordering::Relaxed)).await;
    fleet.ceremony(
        "image",
        &format!("--add root=dora.json --remove root={anna}"),
        &["anna", "carl", "dora"],
        false,
    );
    more(cycles.load(Ordering::Relaxed)).await;
    fleet.ceremony("image", "--expires-days 700", &["bert", "dora"], false);
    more(cycles.load(Ordering::Relaxed) + 1).await;
    stop.store(true, Ordering::Relaxed);
    polling.await.unwrap();
}

#[tokio::test]
async fn the_reference_vehicle_updates_across_ceremonies_of_both_repositories() {
    let fleet = Fleet::start(&[]).await;
    for (version, image) in [(1, "the first"), (2, "the second"), (3, "the third")] {
        let query = format!("&name=gateway&release_counter={version}");
        let url = format!(
            "{}/api/v1/images/gw/{version}/gateway.bin?hardware_id=gw-mk3&version={version}.0{query}",
            fleet.client.url
        );
        let sent = fleet.client.http.put(url).bearer_auth(&fleet.client.token).body(image).send();
        assert_eq!(sent.await.unwrap().status(), 201);
    }
    fs::write(fleet.file("director-root.json"), fleet.client.get("/director/1.root.json").await)
        .unwrap();
    let vehicle = |words: &str| {
        let mut command = Command::new(vehicle_binary());
        command.args(words.split_whitespace()).current_dir(fleet.dir.path());
        command
    };
    let record = run(vehicle(&format!(
        "provision --dir car --no-enrol --vin CAR --server {} --primary gw-1:gw-mk3 --director-root director-root.json",
        fleet.client.url
    ))
    .arg("--image-root")
    .arg(fleet.root()));
    fs::write(fleet.file("cars.jsonl"), record).unwrap();
    let engineer = |words: &str| {
        let mut command = motorcade(words.split_whitespace());
        command
            .current_dir(fleet.dir.path())
            .env("MOTORCADE_SERVER", &fleet.client.url)
            .env("MOTORCADE_TOKEN", &fleet.client.token);
        run(&mut command)
    };
    engineer("vehicle add cars.jsonl");
    let update = |image: u64, expected: &str| {
        engineer(&format!("vehicle assign CAR gw-1=gw/{image}/gateway.bin"));
        let said = run(&mut vehicle("update --json --dir car"));
        let outcome: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(outcome["outcome"], "updated", "{said}");
        assert_eq!(fs::read_to_string(fleet.file("car/ecus/gw-1/image.bin")).unwrap(), expected);
    };
    update(1, "the first");
    // Of each repository two officers take root over; the vehicle comes to know of both at once.
    for (repository, names) in [("director", ["anna", "bert"]), ("image", ["carl", "dora"])] {
        let old = fleet.root_key(repository);
        names.iter().for_each(|name| drop(fleet.key(name)));
        let [one, other] = names;
        let change = format!(
            "--threshold root=2 --add root={one}.json --add root={other}.json --remove root={old}"
        );
        fleet.ceremony(repository, &change, &names, true);
    }
    update(2, "the second");
    fleet.ceremony("director", "--expires-days 200", &["anna", "bert"], false);
    update(3, "the third");
}
