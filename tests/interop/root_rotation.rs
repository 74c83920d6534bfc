//! Rotations of root: other people's clients follow each new root without a failed cycle, from
//! every root that was ever published and from what they have cached.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use motorcade::uptane::client::VerifiedRepository;
use serde_json::Value;

use super::Fleet;
use super::support::{create_token, motorcade, node, noise, program, refused, run};

const IMAGE: &str = "gw/4.2.0/gateway.bin";

/// A key officer at a machine of its own: a key that openssl made, which no server ever sees.
struct Officer {
    private: PathBuf,
    public: PathBuf,
}

/// A repository whose root changes hands.
struct Ceremony {
    fleet: Fleet,
    token: String,
    repo_url: String,
}

impl Officer {
    fn new(folder: &Path, name: &str, algorithm: &[&str]) -> Self {
        let (private, public) =
            (folder.join(format!("{name}.pem")), folder.join(format!("{name}.pub.pem")));
        let mut make = Command::new("openssl");
        make.args(["genpkey", "-quiet", "-algorithm"]).args(algorithm);
        run(make.arg("-out").arg(&private));
        let mut tell = Command::new("openssl");
        run(tell.arg("pkey").arg("-in").arg(&private).args(["-pubout", "-out"]).arg(&public));
        Self { private, public }
    }
}

impl Ceremony {
    async fn start() -> Self {
        let fleet = Fleet::start(&[]).await;
        fleet.client.upload(IMAGE, "", &noise("rotation", 100_000)).await;
        let token = create_token(&fleet.data_dir(), "officer");
        let repo_url = fleet.server.repo_url();
        Self { fleet, token, repo_url }
    }

    fn root(&self, args: &[&str]) -> Command {
        let mut command = motorcade(["root"]);
        command.args(args).args(["--server", &self.fleet.client.url]);
        command.env("MOTORCADE_TOKEN", &self.token);
        command
    }

    fn status(&self) -> Value {
        serde_json::from_str(&run(self.root(&["status"]).arg("--json"))).unwrap()
    }

    /// Ids of the keys that the published root names for root.
    fn key_ids(&self) -> Vec<String> {
        let version = self.status()["version"].as_u64().unwrap();
        let root: Value =
            serde_json::from_slice(&fs::read(self.version(version)).unwrap()).unwrap();
        let ids = &root["signed"]["roles"]["root"]["keyids"];
        serde_json::from_value(ids.clone()).unwrap()
    }

    fn version(&self, version: u64) -> PathBuf {
        self.fleet.data_dir().join(format!("repo/{version}.root.json"))
    }

    /// Signs what is staged without a server, and brings the signature to it.
    fn sign(&self, officer: &Officer) {
        let (staged, signature) =
            (self.fleet.file("staged.json"), self.fleet.file("signature.json"));
        for earlier in [&staged, &signature] {
            let _ = fs::remove_file(earlier); // nothing is overwritten
        }
        run(self.root(&["diff"]).arg("--out").arg(&staged));
        let mut offline = motorcade(["root", "sign", "--yes", "--key"]);
        run(offline.arg(&officer.private).arg("--out").arg(&signature).arg(&staged));
        run(self.root(&["sign"]).arg("--send").arg(&signature));
    }

    fn publish(&self) {
        run(&mut self.root(&["publish"]));
    }
}

/// Other people's clients, and ours: each walks from a root, or from where it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Client {
    PythonTuf,
    TufJs,
    Vehicle,
}

impl Client {
    const ALL: [Self; 3] = [Self::PythonTuf, Self::TufJs, Self::Vehicle];

    /// Refreshes, and returns the version of root that it has then.
    fn refreshes(self, ceremony: &Ceremony, root: &Path, out: &Path) -> u64 {
        let args = ["--repo-url", &ceremony.repo_url, "--target", IMAGE, "--root"].map(Path::new);
        let mut command = match self {
            Self::PythonTuf => program("tests/interop/ngclient_download.py", args),
            Self::TufJs => node("tests/interop/tuf-js/walk.js", args),
            Self::Vehicle => return vehicle_refreshes(ceremony, root, out),
        };
        let seen: Value =
            serde_json::from_str(&run(command.arg(root).arg("--out").arg(out))).unwrap();
        assert_eq!(seen["sha256"], seen["signed_hashes"]["sha256"]);
        seen["versions"]["root"].as_u64().unwrap()
    }
}

fn vehicle_refreshes(ceremony: &Ceremony, root: &Path, out: &Path) -> u64 {
    let tuf = |command: &str| {
        let mut tuf = Command::new(super::support::vehicle_binary());
        tuf.args(["tuf", "--metadata-dir"]).arg(out).arg(command).stdin(Stdio::null());
        tuf
    };
    if !out.exists() {
        run(tuf("init").arg(root));
    }
    run(tuf("refresh").arg("--metadata-url").arg(&ceremony.repo_url));
    let root: Value = serde_json::from_slice(&fs::read(out.join("root.json")).unwrap()).unwrap();
    root["signed"]["version"].as_u64().unwrap()
}

/// All clients: those that continue, and new ones from every root there is.
async fn all_follow(ceremony: &Ceremony, newest: u64) {
    for client in Client::ALL {
        let cached = ceremony.fleet.file(&format!("{client:?}"));
        assert_eq!(client.refreshes(ceremony, &ceremony.version(1), &cached), newest, "{client:?}");
        for first in 1..=newest {
            let out = ceremony.fleet.file(&format!("{client:?}-{newest}-from-{first}"));
            let reached = client.refreshes(ceremony, &ceremony.version(first), &out);
            assert_eq!(reached, newest, "{client:?} from root {first}");
        }
    }
    for first in 1..=newest {
        let root = fs::read(ceremony.version(first)).unwrap();
        let tough = VerifiedRepository::load(&root, &ceremony.repo_url).await;
        assert!(tough.is_ok(), "tough from root {first}: {:?}", tough.err());
    }
}

#[tokio::test]
async fn stock_clients_follow_root_from_hand_to_hand() {
    let ceremony = Ceremony::start().await;
    let folder = ceremony.fleet.file("officers");
    fs::create_dir(&folder).unwrap();
    let officer = |name: &str, algorithm: &[&str]| Officer::new(&folder, name, algorithm);
    let ec = ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let officers = BTreeMap::from([
        ("ada", officer("ada", &["ed25519"])),
        ("ben", officer("ben", &["ed25519"])),
        ("eve", officer("eve", &ec)),
    ]);
    let add = |name: &str| format!("root={}", officers[name].public.display());
    all_follow(&ceremony, 1).await;

    // From the server's one key to two of three officers'.
    let first = format!("root={}", ceremony.key_ids()[0]);
    let (ada, ben, eve) = (add("ada"), add("ben"), add("eve"));
    let change = ["--add", &ada, "--add", &ben, "--add", &eve, "--remove", &first];
    run(ceremony.root(&["stage", "--threshold", "root=2"]).args(change));
    ceremony.sign(&officers["ada"]);
    let early = refused(&mut ceremony.root(&["publish"]));
    assert!(early.contains("signatures are needed"), "{early}");
    ceremony.sign(&officers["eve"]);
    run(&mut ceremony.root(&["sign", "--here"]));
    ceremony.publish();
    all_follow(&ceremony, 2).await;

    // One of them leaves while another one is away: two of three is enough.
    let ids = ceremony.key_ids();
    let kim = officer("kim", &["ed25519"]);
    let (add, remove) = (format!("root={}", kim.public.display()), format!("root={}", ids[0]));
    run(ceremony.root(&["stage", "--add", &add]).args(["--remove", &remove]));
    for name in ["ada", "ben", "eve"] {
        ceremony.sign(&officers[name]);
    }
    ceremony.publish();
    all_follow(&ceremony, 3).await;
    assert!(!ceremony.key_ids().contains(&ids[0]));
}
