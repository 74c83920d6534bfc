//! TLS sessions between replicas: one that was begun at one of them goes on at the other, for as
//! long as its certificate may come in.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf::{HKDF_SHA256, Prk};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::authority::{Ca, replace};
use crate::replicas::register;
use crate::s_client::SClient;
use crate::shared::Replicas;
use crate::support::{Server, snakeoil, wait_until};

const VERSIONS: [&str; 2] = ["-tls1_3", "-tls1_2"];

/// Two replicas with TLS, and a vehicle that has a certificate.
struct Site {
    replicas: Replicas,
    folder: TempDir,
    ca: Ca,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            replicas: Replicas::new(),
            folder: tempfile::tempdir().unwrap(),
            ca: Ca::new("OEM"),
        };
        let (certificate, key) = site.ca.issue("server", None);
        site.put("server.pem", certificate);
        site.put("server.key", key);
        site.put("ca.pem", &site.ca.pem);
        let (certificate, key) = site.ca.issue_numbered("VIN1", 1);
        site.put("v.pem", certificate);
        site.put("v.key", key);
        site.revoke(&[99]);
        site
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        replace(self.folder.path(), name, content);
    }

    /// Gives each of the replicas a list.
    fn revoke(&self, serials: &[u64]) {
        let list = self.ca.revoke(serials, 2099).pem().unwrap();
        ["crl-0.pem", "crl-1.pem"].iter().for_each(|name| self.put(name, &list));
    }

    fn serve(&self, number: usize) -> Server {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (certificate, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
        let list = path(&format!("crl-{number}.pem"));
        let more = [
            ("MOTORCADE_TLS_LISTEN", "127.0.0.1:0"),
            ("MOTORCADE_TLS_CERT", certificate.as_str()),
            ("MOTORCADE_TLS_KEY", key.as_str()),
            ("MOTORCADE_CLIENT_CA", ca.as_str()),
            ("MOTORCADE_CLIENT_CRL", list.as_str()),
        ];
        self.replicas.launch(number, &more).listening()
    }

    /// Both, and where they listen for TLS.
    async fn serve_both(&self) -> ([Server; 2], [String; 2]) {
        let servers = [0, 1].map(|number| self.serve(number));
        let addresses = [tls_address(&servers[0]).await, tls_address(&servers[1]).await];
        (servers, addresses)
    }

    fn secret(&self, number: usize) -> PathBuf {
        self.replicas.state(number).join("keys/session-tickets.json")
    }

    /// Asks with one session, and keeps another one, each of its version. Whoever resumes one by TLS
    /// 1.2 keeps that one.
    fn ask(&self, address: &str, version: &str, (known, kept): (&str, &str)) -> String {
        let client = SClient { folder: self.folder.path(), version };
        let name = |name: &str| format!("{name}{version}");
        client.ask(address, (&name(known), &name(kept)))
    }

    /// Begins a session, and returns in which period its ticket was sealed.
    fn begin(&self, address: &str, version: &str, session: &str) -> u64 {
        let said = self.ask(address, version, ("none", session));
        assert!(said.contains("New, TLS") && said.contains("HTTP/1.1 200"), "{said}");
        period_of_ticket(&said)
    }

    fn resume(&self, address: &str, version: &str, session: &str) {
        let said = self.ask(address, version, (session, "any"));
        assert!(said.contains("Reused, TLS") && said.contains("HTTP/1.1 200"), "{session}: {said}");
    }
}

async fn tls_address(server: &Server) -> String {
    let mut found = None;
    wait_until("it listens for TLS", async || {
        let events = server.log();
        let mut events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        found = events
            .find(|event| event["message"] == "motorcade listens for TLS")
            .and_then(|event| event["address"].as_str().map(str::to_owned));
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// A ticket begins with the number of the period in which it was sealed.
fn period_of_ticket(said: &str) -> u64 {
    let ticket = said.rsplit("TLS session ticket:").next().unwrap();
    let first =
        ticket.lines().find(|line| line.contains("0000 - ")).unwrap_or_else(|| panic!("{said}"));
    let digits = first.split("0000 - ").nth(1).unwrap().replace('-', " ");
    digits.split_whitespace().take(8).fold(0, |period, byte| {
        (period << 8) | u64::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{first}"))
    })
}

/// The secret of the next period, as docs say that it follows: HKDF of the one before.
fn next_secret(secret: &[u8]) -> [u8; 32] {
    let mut next = [0; 32];
    let info: [&[u8]; 1] = [b"motorcade: next period"];
    let key = Prk::new_less_safe(HKDF_SHA256, secret);
    key.expand(&info, HKDF_SHA256).unwrap().fill(&mut next).unwrap();
    next
}

/// Goes on with the file of a server that does not run, as that would in time: its secret becomes
/// that of `period`, the one before the keys under which it then seals.
fn go_on_to(file: &Path, period: u64) {
    let mut stored: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    while stored["period"].as_u64().unwrap() < period {
        let secret = hex::decode(stored["secret"].as_str().unwrap()).unwrap();
        let next = stored["period"].as_u64().unwrap() + 1;
        stored = json!({ "period": next, "secret": hex::encode(next_secret(&secret)) });
    }
    fs::write(file, stored.to_string()).unwrap();
}

/// Handshakes of one kind, as a server counts them.
async fn counted(site: &Site, server: &Server, what: &str) -> u64 {
    let metrics = server.client(&site.replicas.token).get("/metrics").await;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    let count = metrics.lines().find_map(|line| line.strip_prefix(what));
    count.unwrap_or_else(|| panic!("no {what}")).trim().parse().unwrap()
}

#[tokio::test]
async fn a_session_goes_on_at_another_replica_and_nobody_who_is_revoked_comes_in_with_one() {
    let site = Site::new();
    drop(site.serve(0)); // which makes the secret that is copied
    fs::copy(site.secret(0), site.secret(1)).unwrap();
    let (servers, [here, there]) = site.serve_both().await;
    let engineer = servers[0].client(&site.replicas.token);
    engineer.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    register(&engineer, "VIN1", "a token that is long enough to be one").await;

    let mut period = 0;
    for version in VERSIONS {
        period = site.begin(&here, version, "here");
        site.begin(&there, version, "there");
        site.resume(&there, version, "here");
        site.resume(&here, version, "there");
    }

    // Both go on to the next keys: what was sealed under those before is good for one period more.
    drop(servers);
    [0, 1].iter().for_each(|number| go_on_to(&site.secret(*number), period));
    let (servers, [here, there]) = site.serve_both().await;
    for version in VERSIONS {
        site.resume(&there, version, "here");
        site.resume(&here, version, "there");
        assert_eq!(site.begin(&here, version, "later"), period + 1);
        site.resume(&there, version, "later");
    }

    site.revoke(&[1, 99]);
    let addresses = [&here, &there];
    for address in addresses {
        wait_until("a full handshake is refused", async || {
            !site.ask(address, "-tls1_3", ("none", "any")).contains("HTTP/1.1 200")
        })
        .await;
    }
    let resumed = "motorcade_tls_handshakes_total{kind=\"resumed\"}";
    let refused = "motorcade_tls_handshakes_refused_total{reason=\"certificate_revoked\"}";
    for (server, address) in servers.iter().zip(addresses) {
        let before = [counted(&site, server, resumed).await, counted(&site, server, refused).await];
        for version in VERSIONS {
            for session in ["here", "there", "later"] {
                let said = site.ask(address, version, (session, "any"));
                assert!(!said.contains("HTTP/1.1"), "{session}: {said}");
            }
        }
        for (what, before) in [resumed, refused].into_iter().zip(before) {
            wait_until("each was resumed, and refused all the same", async || {
                counted(&site, server, what).await >= before + 6
            })
            .await;
        }
    }
}
