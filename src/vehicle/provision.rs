//! Makes a vehicle's state directory and registers it: what a factory does (Uptane 2.1.0, 5.4.1; OPS-1).
//!
//! Each step keeps what an earlier run has made, so that a run that was cut off is simply repeated.

use std::path::PathBuf;

use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Error;
use super::config::{Config, EcuConfig, InstallTarget, TlsConfig, Verification};
use super::ecu::{self, EncryptionKind, KeyFiles};
use super::files::{make_folder, replace};
use super::http::{Request, Token};
use super::setup::{Folder, client};
use super::store::Store;
use crate::model::{Clock, EcuRole, EcuSerial, HardwareId, SystemClock, VehicleId};
use crate::uptane::key::Scheme;
use crate::uptane::verify::{Limits, Repository, TrustedSet};

/// What a vehicle is made of.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) vin: VehicleId,
    pub(super) server: String,
    /// The Primary first.
    pub(super) ecus: Vec<PlannedEcu>,
    pub(super) signing: Scheme,
    pub(super) tls: TlsConfig,
    pub(super) director_root: PathBuf,
    pub(super) image_root: PathBuf,
}

/// An ECU of it.
#[derive(Debug, Clone)]
pub(super) struct PlannedEcu {
    pub(super) serial: EcuSerial,
    pub(super) hardware_id: HardwareId,
    pub(super) encryption: EncryptionKind,
}

/// Makes the state directory and returns the registration record: `vin`, `ecus` and `token_sha256`.
pub(super) fn make(folder: &Folder, plan: &Plan) -> Result<Value, Error> {
    make_folder(&folder.keys())?;
    let config = config(folder, plan)?;
    let token = token(folder)?;
    let mut ecus = Vec::new();
    for (ecu, planned) in config.ecus.iter().zip(&plan.ecus) {
        let keys = KeyFiles::new(folder.path(), ecu);
        keys.make(plan.signing, planned.encryption)?;
        make_folder(&folder.path().join("ecus").join(ecu.serial.as_str()))?;
        ecus.push(json!({
            "ecu_serial": ecu.serial,
            "hardware_id": ecu.hardware_id,
            "role": ecu.role,
            "signing_key": keys.signing()?.public().object(),
            "encryption_key": keys.encryption()?.public().to_public_pem(),
        }));
    }
    trust(folder, plan, &config)?;
    let token_sha256 = hex::encode(Sha256::digest(token.as_str().as_bytes()));
    Ok(json!({ "vin": config.vin, "ecus": ecus, "token_sha256": token_sha256 }))
}

/// Writes the settings, or takes those that are there if they are of the same vehicle.
fn config(folder: &Folder, plan: &Plan) -> Result<Config, Error> {
    let path = folder.config();
    let ecu = |(position, planned): (usize, &PlannedEcu)| EcuConfig {
        serial: planned.serial.clone(),
        hardware_id: planned.hardware_id.clone(),
        role: if position == 0 { EcuRole::Primary } else { EcuRole::Secondary },
        verification: Verification::Full,
        encryption_key: None,
        install: InstallTarget::File(PathBuf::from("ecus").join(planned.serial.as_str()).join("image.bin")),
    };
    let ecus: Vec<_> = plan.ecus.iter().enumerate().map(ecu).collect();
    let config = Config::new(plan.vin.clone(), &plan.server, plan.tls.clone(), ecus);
    if path.exists() {
        let there = Config::load(&path)?;
        let serials = |config: &Config| config.ecus.iter().map(|ecu| ecu.serial.clone()).collect::<Vec<_>>();
        if there.vin != config.vin || serials(&there) != serials(&config) {
            let fault = "it is of another vehicle; choose another --dir".to_owned();
            return Err(Error::Setting { path, fault });
        }
        return Ok(there);
    }
    let text =
        toml::to_string(&config).map_err(|error| Error::Setting { path: path.clone(), fault: error.to_string() })?;
    replace(&path, text.as_bytes())?;
    Config::load(&path)
}

/// A secret of the vehicle's own, of which the server gets the digest.
fn token(folder: &Folder) -> Result<Token, Error> {
    let path = folder.token();
    if !path.exists() {
        let mut random = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random).expect("a running operating system has randomness");
        replace(&path, zeroize::Zeroizing::new(hex::encode(*random)).as_bytes())?;
    }
    Ok(Token::new(&ecu::read(&path)?))
}

/// Puts the roots in place that everything is verified by, on each ECU that verifies.
fn trust(folder: &Folder, plan: &Plan, config: &Config) -> Result<(), Error> {
    let read = |path: &PathBuf, repository: Repository| {
        let root = super::files::find(path, Limits::ROOT)?;
        let root = root.ok_or_else(|| Error::Setting { path: path.clone(), fault: "it is not there".into() })?;
        TrustedSet::new(&root, repository, SystemClock.now())?;
        Ok::<_, Error>(root)
    };
    let director = read(&plan.director_root, Repository::Director { vin: config.vin.clone(), ecus: None })?;
    let image = read(&plan.image_root, Repository::Image)?;
    let mut stores = vec![(folder.director_store(), folder.image_store())];
    let secondaries = config.ecus.iter().filter(|ecu| ecu.role == EcuRole::Secondary);
    stores.extend(secondaries.map(|ecu| folder.secondary_stores(&ecu.serial)));
    let init = |store: &Store, root: &[u8]| if store.root().is_ok() { Ok(()) } else { store.init(root) };
    stores.iter().try_for_each(|(of_director, of_image)| {
        init(of_director, &director)?;
        init(of_image, &image)
    })
}

/// Registers the vehicle with the Director. Doing so again changes nothing.
pub(super) fn enrol(folder: &Folder, record: &Value, token: Option<&Token>) -> Result<(), Error> {
    let config = Config::load(&folder.config())?;
    let http = client(folder, &config.tls, &config)?;
    let mut body = record.clone();
    body["primary_ecu_serial"] = config.primary().serial.as_str().into();
    for ecu in body["ecus"].as_array_mut().into_iter().flatten() {
        ecu.as_object_mut().map(|ecu| ecu.remove("role")); // said by `primary_ecu_serial`
    }
    let url = format!("{}/ecus", config.director());
    let body = Some(body.to_string().into_bytes());
    let mut answer = http.send(&url, Request { method: reqwest::Method::POST, token, body, ..Request::default() })?;
    let content_type = answer.headers().get(CONTENT_TYPE);
    let is_page = content_type.is_some_and(|kind| !kind.as_bytes().starts_with(b"application/json"));
    match answer.status() {
        StatusCode::OK | StatusCode::CREATED if !is_page => Ok(()),
        status if status.is_success() => Err(answer.unexpected(&format!("{status} to an enrolment")).into()),
        _ => Err(answer.refusal().into()),
    }
}
