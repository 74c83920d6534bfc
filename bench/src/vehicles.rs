//! Vehicles that are made from their numbers, so that a fleet that was registered once can be
//! driven again.

use std::io::{BufWriter, Write};

use motorcade_envelope::key::RecipientPrivateKey;
use motorcade_model::{Clock, EcuSerial, InstalledImage, Sha256Digest, SystemClock, VehicleId};
use motorcade_uptane::key::SigningKey;
use motorcade_uptane::manifest::{EcuReport, VehicleManifest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many
    #[arg(long)]
    vehicles: u64,
    /// ECUs of each, the Primary included
    #[arg(long, default_value_t = 1)]
    ecus: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for number in 0..args.vehicles {
        writeln!(out, "{}", Vehicle::new(number, args.ecus)?.record())?;
    }
    Ok(out.flush()?)
}

/// A vehicle whose keys follow from its number.
pub(crate) struct Vehicle {
    pub(crate) vin: VehicleId,
    ecus: Vec<(EcuSerial, SigningKey)>,
}

impl Vehicle {
    pub(crate) fn new(number: u64, ecus: u64) -> anyhow::Result<Self> {
        let vin: VehicleId = format!("BENCH{number:07}").parse()?;
        let ecu = |index: u64| {
            let serial: EcuSerial = format!("{vin}-{index}").parse()?;
            let seed: [u8; 32] = Sha256::digest(format!("key of {serial}")).into();
            anyhow::Ok((serial, SigningKey::ed25519_from_seed(&seed)))
        };
        let ecus = (0..ecus).map(ecu).collect::<Result<_, _>>()?;
        Ok(Self { vin, ecus })
    }

    /// As it is registered.
    fn record(&self) -> Value {
        let ecu = |(index, (serial, key)): (usize, &(EcuSerial, SigningKey))| {
            json!({
                "ecu_serial": serial,
                "hardware_id": format!("bench-{index}"),
                "role": if index == 0 { "primary" } else { "secondary" },
                "signing_key": key.public().object(),
                "encryption_key": RecipientPrivateKey::generate_p256().public().to_jwk(),
            })
        };
        let ecus: Vec<Value> = self.ecus.iter().enumerate().map(ecu).collect();
        json!({ "vin": self.vin, "ecus": ecus })
    }

    /// What it says when nothing has changed. Its counter is the time, which rises by itself.
    pub(crate) fn manifest(&self) -> anyhow::Result<String> {
        let now = SystemClock.now();
        let counter = u64::try_from(now.as_microsecond())?;
        let report = |(serial, key): &(EcuSerial, SigningKey)| {
            let report = EcuReport {
                attacks_detected: String::new(),
                counter,
                ecu_serial: serial.clone(),
                faults_detected: String::new(),
                installed_image: InstalledImage {
                    path: "factory".into(),
                    length: 1,
                    sha256: Sha256Digest::from_bytes([7; 32]),
                },
                time: now,
            };
            (serial.clone(), report.sign(key))
        };
        let (primary, key) = &self.ecus[0];
        let reports = self.ecus.iter().map(report).collect();
        Ok(VehicleManifest::sign(&self.vin, primary, 0, reports, key).to_string())
    }
}
