//! Makes a vehicle's state directory and registers it: what a factory does (Uptane 2.1.0, 5.4.1;
//! OPS-1).
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
use super::folder::{Folder, Use, mark_enrolled};
use super::http::{Request, Token};
use super::roots::Roots;
use super::setup::client;
use super::store::Store;
use motorcade_model::{Clock, EcuRole, EcuSerial, HardwareId, SystemClock, VehicleId};
use motorcade_uptane::key::Scheme;
use motorcade_uptane::verify::{Rules, TrustedSet};

/// ECUs, keys, roots and server of a vehicle to be made.
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
///
/// Until the vehicle is in use, what is given now counts, and not what an earlier run was given
/// that has failed.
pub(super) fn make(folder: &Folder, plan: &Plan) -> Result<Value, Error> {
    let roots = Roots::read(&plan.director_root, &plan.image_root, &plan.vin)?;
    make_folder(&folder.keys())?;
    let use_ = Use::of(folder);
    let config = config(folder, plan, use_)?;
    let token = token(folder)?;
    let mut ecus = Vec::new();
    for (ecu, planned) in config.ecus.iter().zip(&plan.ecus) {
        let keys = KeyFiles::new(folder.path(), ecu);
        if use_ == Use::NotYet {
            keys.choose(plan.signing, planned.encryption, folder.mended())?;
        }
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
    trust(folder, &roots, &config, use_)?;
    let token_sha256 = hex::encode(Sha256::digest(token.as_str().as_bytes()));
    Ok(json!({ "vin": config.vin, "ecus": ecus, "token_sha256": token_sha256 }))
}

/// Refuses roots that are not those of the server, before anything is made of them. A server that
/// does not answer is no hindrance: a factory may be without one.
pub(super) fn check_roots(folder: &Folder, plan: &Plan) -> Result<(), Error> {
    let roots = Roots::read(&plan.director_root, &plan.image_root, &plan.vin)?;
    let config = match Use::of(folder) {
        Use::Already => Config::load(&folder.config())?,
        Use::NotYet => planned(plan),
    };
    let http = client(folder, &config.tls, &config)?;
    roots.check(
        &http,
        [&config.director(), &config.image()],
        [&plan.director_root, &plan.image_root],
    )
}

/// Settings as the flags ask for them.
fn planned(plan: &Plan) -> Config {
    let ecu = |(position, planned): (usize, &PlannedEcu)| EcuConfig {
        serial: planned.serial.clone(),
        hardware_id: planned.hardware_id.clone(),
        role: if position == 0 { EcuRole::Primary } else { EcuRole::Secondary },
        verification: Verification::Full,
        encryption_key: None,
        install: InstallTarget::File(
            PathBuf::from("ecus").join(planned.serial.as_str()).join("image.bin"),
        ),
    };
    let ecus: Vec<_> = plan.ecus.iter().enumerate().map(ecu).collect();
    Config::new(plan.vin.clone(), &plan.server, plan.tls.clone(), ecus)
}

/// Writes the settings, or takes those that are there if they are of the same vehicle.
fn config(folder: &Folder, plan: &Plan, use_: Use) -> Result<Config, Error> {
    let path = folder.config();
    let config = planned(plan);
    if path.exists() {
        let other = |fault: &str| Error::Setting { path: path.clone(), fault: fault.to_owned() };
        match (use_, Config::load(&path)) {
            (Use::NotYet, Ok(there))
                if is_same_vehicle(&there, &config) && is_same_way(&there, &config) =>
            {
                return Ok(there);
            }
            (Use::NotYet, Ok(_)) => {}
            (Use::NotYet, Err(_)) => folder.mended().note(&path),
            (Use::Already, there) => {
                let there = there?;
                if !is_same_vehicle(&there, &config) {
                    return Err(other("it is of another vehicle; choose another --dir"));
                }
                if !is_same_way(&there, &config) {
                    return Err(other(
                        "it has another server or other TLS files than were given; change it there",
                    ));
                }
                return Ok(there);
            }
        }
    }
    let text = toml::to_string(&config)
        .map_err(|error| Error::Setting { path: path.clone(), fault: error.to_string() })?;
    replace(&path, text.as_bytes())?;
    Config::load(&path)
}

fn is_same_vehicle(there: &Config, given: &Config) -> bool {
    let ecus = |config: &Config| {
        config.ecus.iter().map(|ecu| (ecu.serial.clone(), ecu.role)).collect::<Vec<_>>()
    };
    there.vin == given.vin && ecus(there) == ecus(given)
}

/// Whether what is given leads to the same server. What is not given is left as it is.
fn is_same_way(there: &Config, given: &Config) -> bool {
    let fits = |there: &Option<PathBuf>, given: &Option<PathBuf>| given.is_none() || there == given;
    let elsewhere = there.director_url.is_some() && there.image_url.is_some();
    (elsewhere || there.server == given.server)
        && fits(&there.tls.ca_file, &given.tls.ca_file)
        && fits(&there.tls.client_cert, &given.tls.client_cert)
        && fits(&there.tls.client_key, &given.tls.client_key)
}

/// A secret of the vehicle's own, of which the server gets the digest.
fn token(folder: &Folder) -> Result<Token, Error> {
    let path = folder.token();
    if !path.exists() {
        let mut random = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random).expect("a running operating system has randomness");
        replace(&path, zeroize::Zeroizing::new(hex::encode(*random)).as_bytes())?;
    }
    ecu::read_token(&path)
}

/// Puts the roots in place that everything is verified by, on each ECU that verifies.
fn trust(folder: &Folder, roots: &Roots, config: &Config, use_: Use) -> Result<(), Error> {
    let (director, image) = (&roots.director, &roots.image);
    let mut stores = vec![(folder.director_store(), folder.image_store())];
    let secondaries = config.ecus.iter().filter(|ecu| ecu.role == EcuRole::Secondary);
    stores.extend(secondaries.map(|ecu| folder.secondary_stores(&ecu.serial)));
    let vin = config.vin.clone();
    let of_director = move || Rules::Director { vin: vin.clone(), ecus: None };
    for (own_director, own_image) in &stores {
        if use_ == Use::NotYet {
            own_director.init(director)?;
            own_image.init(image)?;
            continue;
        }
        init(folder, own_director, director, &of_director)?;
        init(folder, own_image, image, &|| Rules::Image)?;
    }
    Ok(())
}

/// Keeps a root that can be used, which may be a later one, and replaces one that can't.
fn init(folder: &Folder, store: &Store, root: &[u8], of: &dyn Fn() -> Rules) -> Result<(), Error> {
    match store.root(|root| TrustedSet::new(root, of(), SystemClock.now())) {
        Ok(_) => Ok(()),
        Err(Error::Damaged { path, .. }) => {
            store.init(root)?;
            folder.mended().note(&path);
            Ok(())
        }
        Err(_) => store.init(root),
    }
}

/// Registers the vehicle with the Director. Doing so again changes nothing.
///
/// Keys that were set aside are removed once those that are there are known. If they are refused,
/// those may be the known ones.
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
    let mut response = http
        .send(&url, Request { method: reqwest::Method::POST, token, body, ..Request::default() })?;
    let content_type = response.headers().get(CONTENT_TYPE);
    let is_page =
        content_type.is_some_and(|kind| !kind.as_bytes().starts_with(b"application/json"));
    let keys = || config.ecus.iter().map(|ecu| KeyFiles::new(folder.path(), ecu));
    match response.status() {
        StatusCode::OK | StatusCode::CREATED if !is_page => {
            mark_enrolled(folder)?;
            keys().try_for_each(|keys| keys.forget_others())
        }
        StatusCode::CONFLICT if Use::of(folder) == Use::NotYet => {
            keys().try_for_each(|keys| keys.put_back())?;
            Err(response.refusal().into())
        }
        status if status.is_success() => {
            Err(response.unexpected(&format!("{status} to an enrolment")).into())
        }
        _ => Err(response.refusal().into()),
    }
}

#[cfg(test)]
#[path = "provision_tests.rs"]
mod tests;
