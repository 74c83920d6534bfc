//! `motorcade fleet simulate`: virtual vehicles with real keys, against a running server.
//!
//! A vehicle is made from its number and the seed: its signing keys, its token, its id. So a fleet
//! that was registered once can be driven again, and by several processes. Counters are the time in
//! microseconds, which rises by itself.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures_util::{StreamExt, stream};
use reqwest::{Body, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::api::Api;
use super::output::{self, print_json, print_line};
use crate::api::{BulkBody, NewEcuBody, NewVehicleBody};
use crate::config::ClientSettings;
use crate::envelope::key::RecipientPrivateKey;
use crate::model::{
    Clock, EcuRole, EcuSerial, InstalledImage, Sha256Digest, SystemClock, VehicleId,
};
use crate::uptane::canonical::canonical;
use crate::uptane::key::{PublicKey, SigningKey};
use crate::uptane::manifest::{EcuReport, VehicleManifest};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Drives virtual vehicles against a server, and reports polls a second and latencies
    Simulate(SimulateArgs),
}

#[derive(Debug, clap::Args)]
struct SimulateArgs {
    #[command(flatten)]
    client: ClientSettings,
    /// Vehicles in the fleet
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    vehicles: u64,
    /// ECUs of each vehicle, the Primary included
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    ecus: u64,
    /// Vehicles that poll at one time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1024))]
    concurrency: u64,
    /// Vehicles that poll, spread over the fleet [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    polling: Option<u64>,
    /// Seconds to poll for; 0 registers and does nothing else
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=2_592_000))]
    seconds: u64,
    /// What the vehicles are made from: another seed, another fleet
    #[arg(long, default_value = "simulated")]
    seed: String,
    /// The fleet is registered already
    #[arg(long)]
    registered: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Simulate(args) = args.command;
    let api = Api::new(args.client.clone())?;
    let fleet = Arc::new(VirtualFleet {
        polling: args.polling.unwrap_or(args.vehicles).min(args.vehicles),
        seed: args.seed,
        vehicles: args.vehicles,
        ecus: args.ecus,
    });
    if !args.registered {
        let seconds = fleet.register(&api).await?.as_secs_f64();
        let rate = args.vehicles as f64 / seconds;
        let line =
            format!("Registered {} vehicles in {seconds:.1} s, {rate:.0} a second", args.vehicles);
        if args.seconds == 0 {
            let json = json!({ "registered": args.vehicles, "seconds": seconds, "vehicles_per_second": rate });
            output::report(line, json)?;
            return Ok(ExitCode::SUCCESS);
        }
        output::note(line);
    }
    let director = Director::find(&api).await?;
    let results =
        poll_all(&api, &fleet, &director, args.concurrency, Duration::from_secs(args.seconds))
            .await?;
    match output::is_json() {
        true => print_json(&results.to_json())?,
        false => print_line(results.to_text())?,
    }
    Ok(if results.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How vehicles are made.
struct VirtualFleet {
    seed: String,
    vehicles: u64,
    /// How many of them poll.
    polling: u64,
    ecus: u64,
}

struct Virtual {
    vin: VehicleId,
    token: String,
    ecus: Vec<(EcuSerial, SigningKey)>,
}

impl VirtualFleet {
    fn derive(&self, what: &str) -> [u8; 32] {
        Sha256::digest(format!("{}\n{what}", self.seed)).into()
    }

    fn vehicle(&self, number: u64) -> anyhow::Result<Virtual> {
        let name = hex::encode(&self.derive("fleet")[..3]);
        let vin: VehicleId = format!("SIM{name}-{number:07}").parse()?;
        let token = hex::encode(self.derive(&format!("token of {vin}")));
        let ecu = |index: u64| {
            let serial: EcuSerial = format!("{vin}-{index}").parse()?;
            let key = SigningKey::ed25519_from_seed(&self.derive(&format!("key of {serial}")));
            anyhow::Ok((serial, key))
        };
        let ecus = (0..self.ecus).map(ecu).collect::<Result<_, _>>()?;
        Ok(Virtual { vin, token, ecus })
    }

    fn record(&self, number: u64) -> anyhow::Result<String> {
        let Virtual { vin, token, ecus } = self.vehicle(number)?;
        let ecu = |(index, (serial, key)): (usize, &(EcuSerial, SigningKey))| {
            let role = if index == 0 { EcuRole::Primary } else { EcuRole::Secondary };
            let encryption_key = RecipientPrivateKey::generate_p256().public().to_jwk();
            NewEcuBody {
                ecu_serial: serial.to_string(),
                hardware_id: format!("sim-hw-{index}"),
                role: role.to_string(),
                signing_key: key.public().object().into(),
                encryption_key: Some((&encryption_key).into()),
            }
        };
        let vehicle = NewVehicleBody {
            vin: vin.into(),
            ecus: ecus.iter().enumerate().map(ecu).collect(),
            token_sha256: Some(hex::encode(Sha256::digest(token.as_bytes()))),
        };
        Ok(serde_json::to_string(&vehicle)? + "\n")
    }

    /// Registers all of them in one request.
    async fn register(self: &Arc<Self>, api: &Api) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let fleet = Arc::clone(self);
        let pieces = stream::iter((0..self.vehicles).step_by(RECORDS_A_PIECE));
        let pieces = pieces.map(move |first| {
            let fleet = Arc::clone(&fleet);
            tokio::task::spawn_blocking(move || {
                let last = (first + RECORDS_A_PIECE as u64).min(fleet.vehicles);
                (first..last).map(|number| fleet.record(number)).collect::<anyhow::Result<String>>()
            })
        });
        let pieces = pieces.buffered(PIECES_AT_ONCE);
        let pieces = pieces.map(|made| made?.map_err(std::io::Error::other));
        let request =
            api.request(Method::POST, "vehicles").header("Content-Type", "application/jsonl");
        let report: BulkBody = api.json(request.body(Body::wrap_stream(pieces))).await?;
        ensure!(
            report.refused == 0,
            "the server refused {} of {} vehicles, the first because: {}\n\
             hint: if this fleet was registered before, add --registered to drive it, or choose another --seed",
            report.refused,
            self.vehicles,
            report.faults.first().map_or("it gave no reason", |fault| &fault.detail)
        );
        Ok(started.elapsed())
    }
}

/// A signed file, as much of it as a simulated vehicle looks at.
#[derive(Deserialize)]
struct Signed {
    signed: Value,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
struct Root {
    keys: BTreeMap<String, Value>,
    roles: BTreeMap<String, RoleKeys>,
}

#[derive(Deserialize)]
struct RoleKeys {
    keyids: Vec<String>,
}

/// Whose a file of the Director is.
#[derive(Deserialize)]
struct Owned {
    vin: VehicleId,
}

/// The Director's keys, by the role that they sign.
struct Director {
    timestamp: PublicKey,
    targets: PublicKey,
}

impl Director {
    async fn find(api: &Api) -> anyhow::Result<Self> {
        let root = api.fetch("/director/root.json").await?;
        let root: Signed =
            serde_json::from_slice(&root).context("the Director's root is no JSON")?;
        let root = Root::deserialize(root.signed).context("the Director's root is none")?;
        let key = |role: &str| {
            let id = root.roles.get(role).and_then(|role| role.keyids.first());
            let object = id.and_then(|id| root.keys.get(id)).cloned().unwrap_or_default();
            PublicKey::from_object(object).with_context(|| format!("no key of {role}"))
        };
        Ok(Self { timestamp: key("timestamp")?, targets: key("targets")? })
    }
}

#[derive(Default)]
struct Results {
    latencies: Vec<Duration>,
    requests: Vec<Duration>,
    bytes_sent: u64,
    bytes_received: u64,
    errors: u64,
    took: Duration,
    first_error: Option<String>,
}

/// Vehicles chosen at random poll, `concurrency` at a time, each over a connection that is kept.
async fn poll_all(
    api: &Api,
    fleet: &Arc<VirtualFleet>,
    director: &Director,
    concurrency: u64,
    time: Duration,
) -> anyhow::Result<Results> {
    let started = Instant::now();
    let bar = output::seconds("polling", time.as_secs());
    // Each worker has vehicles of its own: a vehicle does not poll twice at a time.
    let concurrency = concurrency.min(fleet.polling);
    let spread = fleet.vehicles / fleet.polling;
    let (time, bar_ref) = (&time, &bar);
    let worker = |worker: u64| async move {
        let mut results = Results::default();
        while started.elapsed() < *time {
            let number = (rand::random_range(0..fleet.polling / concurrency) * concurrency
                + worker)
                * spread;
            if let Err(error) = poll(api, &fleet.vehicle(number)?, director, &mut results).await {
                results.errors += 1;
                results.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
            bar_ref.set_position(started.elapsed().as_secs());
        }
        anyhow::Ok(results)
    };
    let workers = futures_util::future::try_join_all((0..concurrency).map(worker)).await?;
    bar.finish_and_clear();
    let mut all = Results { took: started.elapsed(), ..Results::default() };
    for results in workers {
        all.latencies.extend(results.latencies);
        all.requests.extend(results.requests);
        all.bytes_sent += results.bytes_sent;
        all.bytes_received += results.bytes_received;
        all.errors += results.errors;
        all.first_error = all.first_error.or(results.first_error);
    }
    all.latencies.sort_unstable();
    all.requests.sort_unstable();
    Ok(all)
}

/// A poll of a vehicle that has nothing to do: its manifest, and the timestamp and targets that are
/// signed for it.
async fn poll(
    api: &Api,
    vehicle: &Virtual,
    director: &Director,
    results: &mut Results,
) -> anyhow::Result<()> {
    let manifest = manifest(vehicle)?.to_string();
    let started = Instant::now();
    results.bytes_sent += manifest.len() as u64;
    let request =
        api.to_server(Method::PUT, "/director/manifest").bearer_auth(&vehicle.token).body(manifest);
    let response = request.send().await?;
    results.requests.push(started.elapsed());
    if response.status() != StatusCode::NO_CONTENT {
        bail!("the manifest was refused: {}", response.text().await?);
    }
    for (name, key) in
        [("timestamp.json", &director.timestamp), ("targets.json", &director.targets)]
    {
        let asked = Instant::now();
        let request =
            api.to_server(Method::GET, &format!("/director/{name}")).bearer_auth(&vehicle.token);
        let file = request.send().await?.error_for_status()?.bytes().await?;
        results.requests.push(asked.elapsed());
        results.bytes_received += file.len() as u64;
        verify(&file, key, &vehicle.vin)
            .with_context(|| format!("{name} is not what it should be"))?;
    }
    results.latencies.push(started.elapsed());
    Ok(())
}

fn manifest(vehicle: &Virtual) -> anyhow::Result<Value> {
    let now = SystemClock.now();
    let counter = u64::try_from(crate::model::Timestamp::now().as_microsecond())?;
    let report = |(serial, key): &(EcuSerial, SigningKey)| {
        let installed_image = InstalledImage {
            path: "simulated".into(),
            length: 1,
            sha256: Sha256Digest::from_bytes(Sha256::digest(b"simulated").into()),
        };
        let ecu_serial = serial.clone();
        let (attacks_detected, faults_detected) = (String::new(), String::new());
        let report = EcuReport {
            attacks_detected,
            counter,
            ecu_serial,
            faults_detected,
            installed_image,
            time: now,
        };
        (serial.clone(), report.sign(key))
    };
    let (primary, key) = vehicle.ecus.first().context("a vehicle has a Primary")?;
    let reports = vehicle.ecus.iter().map(report).collect();
    Ok(VehicleManifest::sign(&vehicle.vin, primary, 0, reports, key))
}

fn verify(file: &[u8], key: &PublicKey, vin: &VehicleId) -> anyhow::Result<()> {
    let file: Signed = serde_json::from_slice(file)?;
    let message = canonical(&file.signed)?;
    let signature = hex::decode(&file.signatures.first().context("nobody has signed it")?.sig)?;
    ensure!(key.verifies(&message, &signature), "its signature does not verify");
    ensure!(Owned::deserialize(file.signed)?.vin == *vin, "it is another vehicle's");
    Ok(())
}

impl Results {
    fn polls_a_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    fn bytes_a_poll(&self) -> (u64, u64) {
        let polls = (self.latencies.len() as u64).max(1);
        (self.bytes_sent / polls, self.bytes_received / polls)
    }

    fn to_json(&self) -> Value {
        let (sent, received) = self.bytes_a_poll();
        json!({
            "polls": self.latencies.len(), "errors": self.errors, "first_error": self.first_error,
            "seconds": self.took.as_secs_f64(), "polls_per_second": self.polls_a_second(),
            "poll_ms": percentiles(&self.latencies), "request_ms": percentiles(&self.requests),
            "bytes_sent_per_poll": sent, "bytes_received_per_poll": received,
        })
    }

    fn to_text(&self) -> String {
        let (sent, received) = self.bytes_a_poll();
        let line = |name: &str, times: &[Duration]| {
            let p = percentiles(times);
            format!("{name} ms: p50 {}, p90 {}, p99 {}, max {}", p.p50, p.p90, p.p99, p.max)
        };
        let mut text = format!(
            "{} polls in {:.1} s, {:.0} a second, {} errors\n{}\n{}\nbytes a poll, headers aside: {sent} sent, {received} received",
            self.latencies.len(),
            self.took.as_secs_f64(),
            self.polls_a_second(),
            self.errors,
            line("poll", &self.latencies),
            line("request", &self.requests),
        );
        if let Some(error) = &self.first_error {
            text.push_str(&format!("\nfirst error: {error}"));
        }
        text
    }
}

/// Milliseconds with two digits behind the point.
#[derive(Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

fn percentiles(sorted: &[Duration]) -> Percentiles {
    let at = |share: f64| {
        let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
        let time = sorted.get(index).copied().unwrap_or_default();
        (time.as_secs_f64() * 100_000.0).round() / 100.0
    };
    Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
}

const RECORDS_A_PIECE: usize = 100;
/// Made while others are sent.
const PIECES_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_made_again_from_its_seed() {
        let fleet =
            |seed: &str| VirtualFleet { seed: seed.into(), vehicles: 2, polling: 2, ecus: 2 };
        let (one, same, other) = (
            fleet("a").vehicle(1).unwrap(),
            fleet("a").vehicle(1).unwrap(),
            fleet("b").vehicle(1).unwrap(),
        );
        assert_eq!((&one.vin, &one.token), (&same.vin, &same.token));
        assert_eq!(one.ecus[1].1.public(), same.ecus[1].1.public());
        assert!(one.vin != other.vin && one.ecus[0].1.public() != other.ecus[0].1.public());
        assert_ne!(one.ecus[0].1.public(), one.ecus[1].1.public());
    }

    #[test]
    fn percentiles_are_those_of_a_sorted_list() {
        let times: Vec<Duration> = (1..=101).map(Duration::from_millis).collect();
        assert_eq!(
            json!(percentiles(&times)),
            json!({ "p50": 51.0, "p90": 91.0, "p99": 100.0, "max": 101.0 })
        );
        assert_eq!(
            json!(percentiles(&[])),
            json!({ "p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0 })
        );
    }
}
