//! The real `motorcade-vehicle` on a directory of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use motorcade::envelope::key::RecipientKey;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::hostile::repository::Side;
use crate::hostile::vehicle::{
    Ecu, PRIMARY, PRIMARY_HARDWARE, SECONDARY, SECONDARY_HARDWARE, VIN, Vehicle,
};
use crate::hostile::world::{Lab, LabKeys};
use crate::support::vehicle_binary;

/// The vehicle that all tests attack, provisioned once; each test gets a copy.
struct Template {
    folder: TempDir,
    lab: Lab,
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let keys = LabKeys::generate();
    for side in Side::BOTH {
        fs::write(
            folder.path().join(format!("{}-root.json", side.as_str())),
            &*keys.first_root(side),
        )
        .unwrap();
    }
    let record = provision(folder.path(), NO_SERVER, &["p256", "p256"]);
    Template { lab: Lab::new(keys, vehicle_of(&record)), folder }
});

/// The keys and the vehicle of all attacks.
pub(crate) fn lab() -> &'static Lab {
    &TEMPLATE.lab
}

/// Makes a vehicle's directory below `folder`, and returns the record that an inventory would get.
fn provision(folder: &Path, server: &str, kinds: &[&str; 2]) -> Value {
    let mut command = Command::new(vehicle_binary());
    command.arg("provision").arg("--dir").arg(folder.join("vehicle"));
    command.args(["--no-enrol", "--server", server, "--vin", VIN]);
    command.args(["--primary", &format!("{PRIMARY}:{PRIMARY_HARDWARE}:{}", kinds[0])]);
    command.args(["--secondary", &format!("{SECONDARY}:{SECONDARY_HARDWARE}:{}", kinds[1])]);
    for side in Side::BOTH {
        let name = side.as_str();
        command.arg(format!("--{name}-root")).arg(folder.join(format!("{name}-root.json")));
    }
    let (record, stderr) = run(&mut command);
    record.unwrap_or_else(|| panic!("provision printed no record: {stderr}"))
}

/// Runs a command, and returns the last line of its stdout that is JSON.
fn run(command: &mut Command) -> (Option<Value>, String) {
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MOTORCADE_"))
    {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let record = stdout.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    let record = record.or_else(|| serde_json::from_str(&stdout).ok());
    (record, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn vehicle_of(record: &Value) -> Vehicle {
    let mut ecus: Vec<_> = record["ecus"].as_array().unwrap().iter().map(ecu_of).collect();
    ecus.sort_by_key(|ecu| ecu.role); // the Primary first
    Vehicle { vin: VIN.to_owned(), ecus }
}

fn ecu_of(record: &Value) -> Ecu {
    let text = |member: &str| {
        record[member].as_str().unwrap_or_else(|| panic!("no {member} in {record}")).to_owned()
    };
    let role = if text("role") == "primary" { "primary" } else { "secondary" };
    let encryption = RecipientKey::parse(&text("encryption_key")).unwrap();
    Ecu { serial: text("ecu_serial"), hardware_id: text("hardware_id"), role, encryption }
}

/// What `update --json` prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) outcome: String,
    #[serde(default)]
    pub(crate) attack: Option<String>,
    #[serde(default)]
    pub(crate) fault: Option<String>,
    #[serde(default)]
    pub(crate) detail: Value,
    #[serde(skip)]
    pub(crate) stderr: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?} {:?} {} {}",
            self.outcome,
            self.attack,
            self.fault,
            self.detail,
            self.stderr.trim()
        )
    }
}

/// A vehicle; removed when dropped.
pub(crate) struct TestVehicle {
    folder: TempDir,
}

impl TestVehicle {
    /// A copy of the vehicle that was provisioned, which talks to `server`.
    pub(crate) fn new(server: &str) -> Self {
        let folder = folder();
        copy(&TEMPLATE.folder.path().join("vehicle"), &folder.path().join("vehicle"));
        let vehicle = Self { folder };
        vehicle.change_settings(|text| text.replace(NO_SERVER, server));
        vehicle
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("vehicle")
    }

    /// Changes vehicle.toml.
    pub(crate) fn change_settings(&self, change: impl FnOnce(String) -> String) {
        let path = self.path().join("vehicle.toml");
        let text = change(fs::read_to_string(&path).unwrap());
        fs::write(path, text).unwrap();
    }

    /// Adds a setting at the top level of vehicle.toml.
    pub(crate) fn set(&self, line: &str) {
        let name = line.split('=').next().unwrap().trim().to_owned();
        self.change_settings(|text| {
            let others = text.lines().filter(|line| line.split('=').next().unwrap().trim() != name);
            [line].into_iter().chain(others).collect::<Vec<_>>().join("\n") + "\n"
        });
    }

    /// Says what time it is.
    pub(crate) fn set_clock(&self, clock: Option<&str>) {
        let Some(clock) = clock else { return };
        let path = self.folder.path().join("time");
        fs::write(&path, clock).unwrap();
        self.set(&format!("time_file = {:?}", path.to_str().unwrap()));
    }

    /// Runs one update cycle.
    pub(crate) fn update(&self) -> Outcome {
        let mut command = Command::new(vehicle_binary());
        let (outcome, stderr) = run(command.args(["update", "--json", "--dir"]).arg(self.path()));
        let outcome = outcome.unwrap_or_else(|| panic!("no result: {stderr}"));
        Outcome { stderr, ..serde_json::from_value(outcome).unwrap() }
    }

    /// Copies files of its directory elsewhere.
    pub(crate) fn save(&self, names: &[&str], folder: &Path) {
        for name in names {
            copy_any(&self.path().join(name), &folder.join(name));
        }
    }

    /// Brings them back.
    pub(crate) fn restore(&self, names: &[&str], folder: &Path) {
        for name in names {
            copy_any(&folder.join(name), &self.path().join(name));
        }
    }

    /// What each ECU runs.
    pub(crate) fn images(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let image =
            |ecu: &Ecu| fs::read(self.path().join("ecus").join(&ecu.serial).join("image.bin")).ok();
        lab().vehicle.ecus.iter().map(|ecu| (ecu.serial.clone(), image(ecu))).collect()
    }

    /// Nothing was written outside of the vehicle's own directory.
    pub(crate) fn check_contained(&self) -> Result<(), String> {
        let names =
            fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let strange: Vec<_> = names.filter(|name| name != "vehicle" && name != "time").collect();
        if strange.is_empty() {
            Ok(())
        } else {
            Err(format!("{strange:?} was written outside of the directory"))
        }
    }
}

/// A folder in memory where there is one: a vehicle syncs whatever it writes, and hundreds of them
/// wait long for a disk.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn copy_any(from: &Path, to: &Path) {
    if from.is_dir() {
        return copy(from, to);
    }
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap(); // with its permissions
        }
    }
}

const NO_SERVER: &str = "http://127.0.0.1:1";
