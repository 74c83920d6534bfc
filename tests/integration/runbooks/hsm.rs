//! An HSM that is away for a while, and one that refuses its PIN.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use motorcade::keys::pkcs11::Pkcs11Escrow;
use motorcade::keys::{EscrowEntry, RingFile};
use motorcade::uptane::client::VerifiedRepository;
use serde_json::{Value, json};

use super::drill::Drill;
use super::fleet::Field;
use crate::director::vehicle::TestVehicle;
use crate::state::TestState;
use crate::support::wait_until;
use crate::token::{Hsm, PIN, module};

const IMAGE_ROLES: [&str; 4] = ["targets", "bins", "snapshot", "timestamp"];
const BUNDLE_ROLES: [&str; 3] = ["targets", "snapshot", "timestamp"];

/// A token with the keys of all roles that are signed online.
fn token(label: &str) -> Hsm {
    let hsm = Hsm::new(label);
    IMAGE_ROLES.iter().for_each(|role| hsm.make_ed25519(role));
    BUNDLE_ROLES.iter().for_each(|role| hsm.make_ecdsa(&format!("director-{role}")));
    hsm
}

/// An installation that signs with the keys of a token.
fn installation(hsm: &Hsm) -> TestState {
    let one = |key: &str| format!("[\"{}\"]", hsm.uri(key));
    let bundle = BUNDLE_ROLES.map(|role| format!("{role} = {}", one(&format!("director-{role}"))));
    let bundle = ("director.bundle", format!("{{ {} }}", bundle.join(", ")));
    let sections: Vec<(&str, String)> =
        IMAGE_ROLES.iter().map(|role| (*role, one(role))).chain([bundle]).collect();
    TestState::prepared(move |state| {
        let file = state.join("metadata/policy.toml");
        let mut policy = fs::read_to_string(&file).unwrap();
        for (section, keys) in sections {
            let head = format!("[{section}]\n");
            assert!(policy.contains(&head), "{section}");
            policy = policy.replacen(&head, &format!("{head}keys = {keys}\n"), 1);
        }
        fs::write(&file, policy).unwrap();
    })
}

/// Puts a token's key in front of the escrow key that `init` has made.
async fn put_into_escrow(state: &Path, hsm: &Hsm, key: &str) {
    let (keys, uri) = (state.join("keys"), hsm.uri(key).parse().unwrap());
    let found = Pkcs11Escrow::find(hsm.uri(key).parse().unwrap()).await.unwrap();
    let ring = RingFile::read(&keys).unwrap();
    ring.with(EscrowEntry::of_token(&uri, &found)).write(&keys).unwrap();
}

/// What a vehicle that nothing was signed for yet gets.
async fn new_vehicle(drill: &Drill, vin: &str) -> (u16, Value) {
    let (vehicle, client) = (TestVehicle::new(vin), drill.client());
    let register = client.http.post(format!("{}/api/v1/vehicles", client.url));
    register.bearer_auth(&client.token).json(&vehicle.record()).send().await.unwrap();
    let ask = client.http.get(format!("{}/director/timestamp.json", client.url));
    let answer = ask.bearer_auth(&vehicle.token).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// A real vehicle, which is told to install the first image while nobody can sign that.
struct Car<'a>(&'a Drill);

impl Car<'_> {
    fn enrol(drill: &mut Drill) {
        let token = drill.state.tokens.enroller.clone();
        drill.set("MOTORCADE_ENROLMENT_TOKEN", token);
        drill.shell(
            "curl --noproxy '*' -fso director-root.json $MOTORCADE_SERVER/director/1.root.json
             motorcade-vehicle provision --dir car --server $MOTORCADE_SERVER --vin CAR --primary gw-9:gw-mk3 \
                 --director-root director-root.json --image-root first-root.json
             motorcade-vehicle update --dir car",
        );
    }

    async fn assign(&self, image: &str) {
        let client = self.0.client();
        let url = format!("{}/api/v1/vehicles/CAR/assignments", client.url);
        let body = json!({ "assignments": [{ "ecu_serial": "gw-9", "image": image }] });
        let answer = client.http.post(url).bearer_auth(&client.token).json(&body).send().await;
        assert_eq!(answer.unwrap().status(), 201);
    }

    /// What came of an update, in JSON.
    fn update(&self) -> Value {
        let (_, said) = self.0.try_shell("motorcade-vehicle update --dir car --json 2>/dev/null");
        serde_json::from_str(said.lines().last().unwrap()).unwrap()
    }

    fn image(&self) -> Option<Vec<u8>> {
        fs::read(self.0.file("car/ecus/gw-9/image.bin")).ok()
    }
}

async fn readiness(drill: &Drill) -> String {
    let client = drill.client();
    let answer = client.http.get(format!("{}/readyz", client.url)).send().await.unwrap();
    answer.text().await.unwrap()
}

async fn published(drill: &Drill, path: &str) -> bool {
    let repository = format!("{}/repo", drill.url());
    let root = drill.state.first_root();
    VerifiedRepository::load(&root, &repository).await.unwrap().find(path).is_some()
}

/// For how long the token is away; ten minutes are as good, and longer than a test should take.
fn outage() -> Duration {
    let seconds = std::env::var("HSM_AWAY_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

#[tokio::test]
async fn hsm_away_for_ten_minutes() {
    let hsm = token("drill");
    let mut drill = Drill::on(installation(&hsm));
    drill.shell("systemctl start motorcade");
    drill.client().upload("gw/1/a.bin", "", b"firmware").await;
    let mut field = Field::join(&drill, "VIN1").await;
    let seen = field.poll().await;
    Car::enrol(&mut drill);

    hsm.take_away();
    Car(&drill).assign("gw/1/a.bin").await;
    let outcome = Car(&drill).update();
    assert!(outcome["attack"].is_null() && Car(&drill).image().is_none(), "{outcome}");
    let refused = drill.client().put("gw/2/a.bin", "", "firmware").await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), refused.headers().contains_key("retry-after")),
        (503, true)
    );
    let (status, problem) = new_vehicle(&drill, "VIN2").await;
    assert_eq!((status, &problem["code"]), (503, &"role_key_unavailable".into()), "{problem}");
    let started = Instant::now();
    while started.elapsed() < outage() {
        Field::refresh(&drill);
        assert_eq!(field.poll().await, seen, "what was signed for it is served");
        assert!(readiness(&drill).await.contains("role_key_unavailable"));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    drill.set("MODULE", module());
    drill.set("HSM_SERVICE", "hsm");
    let (away, here) = (hsm.away(), hsm.folder());
    let restart = drill.file("hsm-restart");
    let back = format!("#!/bin/sh\nmv '{}' '{}'\n", away.display(), here.display());
    fs::write(&restart, back).unwrap();
    fs::set_permissions(&restart, fs::Permissions::from_mode(0o755)).unwrap();
    let said = drill.follow("hsm-away.md");
    assert!(said.contains("the role bins of the Image repository waits for its key"), "{said}");
    assert!(said.contains("holds until 20") && said.contains("\"ready\""), "{said}");
    wait_until("what was accepted is published", async || published(&drill, "gw/2/a.bin").await)
        .await;
    drill.client().upload("gw/3/a.bin", "", b"firmware").await;
    assert_eq!(new_vehicle(&drill, "VIN2").await.0, 200);
    let outcome = Car(&drill).update();
    assert_eq!(Car(&drill).image().as_deref(), Some(&b"firmware"[..]), "{outcome}");
    Field::refresh(&drill);
    field.poll().await;
}

#[tokio::test]
async fn hsm_that_refuses_its_pin() {
    let hsm = token("drill-pin");
    hsm.make_aes("escrow");
    let mut drill = Drill::on(installation(&hsm));
    put_into_escrow(drill.state.path(), &hsm, "escrow").await;
    drill.shell("systemctl start motorcade");
    drill.client().upload("gw/1/a.bin", "", b"firmware").await;
    let mut field = Field::join(&drill, "VIN1").await;
    let seen = field.poll().await;

    // Somebody has given the server another PIN, which nobody notices before it logs in again.
    hsm.write_pin("snakeoil-8642");
    hsm.take_away();
    drill.client().put("gw/2/a.bin", "", "firmware").await.unwrap();
    hsm.put_back();
    wait_until("the PIN is refused", async || readiness(&drill).await.contains("refuses the PIN"))
        .await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(readiness(&drill).await.contains("refuses the PIN"));
        Field::refresh(&drill);
        assert_eq!(field.poll().await, seen);
    }
    assert!(!hsm.is_locked());

    fs::write(drill.file("new-pin"), PIN).unwrap();
    drill.set("MODULE", module());
    drill.set("NEW_PIN_FILE", drill.file("new-pin"));
    drill.set("PIN_FILE", hsm.pin_file());
    let said = drill.follow("hsm-away.md");
    assert!(said.contains("refuses the PIN") && said.contains("the escrow key"), "{said}");
    drill.client().upload("gw/3/a.bin", "", b"firmware").await;
    Field::refresh(&drill);
    field.poll().await;
}
