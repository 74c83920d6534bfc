//! The one check of public keys that come in, whatever the door, and the same for those that are
//! there already.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Error;
use crate::catalog::{Catalog, VehicleFilter};
use crate::envelope::jwe::EnvelopeError;
use crate::envelope::key::{Kid, RecipientKey};
use crate::keys::escrow::EscrowError;
use crate::model::{EcuRecord, RecipientRecord, VehicleRecord};
use crate::telemetry::Chain;
use crate::uptane::key::PublicKey;

/// Through which door keys come: who comes in by one of them waits for nobody at the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// People's, CI's and factories'.
    Staff,
    /// Vehicles', of which any one may be an attacker's.
    Vehicles,
}

/// Reads and checks keys where it holds nobody up. An RSA key takes up to 50 ms, and a request can
/// bring 128 of them.
///
/// # Errors
///
/// [`Error::Internal`] if the check could not run.
pub(super) async fn check_keys<T: Send + 'static>(
    door: Door,
    check: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let slots = match door {
        Door::Staff => &STAFF_AT_ONCE,
        Door::Vehicles => &VEHICLES_AT_ONCE,
    };
    let _slot = slots.acquire().await.map_err(Error::internal("wait for the check of a key"))?;
    tokio::task::spawn_blocking(check).await.map_err(Error::internal("check a key"))
}

/// What a failure with an envelope is to whoever asked: an escrow key that can't be reached is
/// waited for, and an envelope of another image is never used.
pub(super) fn escrow_failed(op: &'static str) -> impl FnOnce(EscrowError) -> Error {
    move |error| match error {
        EscrowError::Backend(source) => {
            tracing::error!(error = %Chain(source.as_ref()), "the escrow key can't be used");
            let detail = "the escrow key can't be used at the moment: try again later; the server's log says why";
            Error::Unavailable { code: "escrow_unavailable", detail: detail.into() }
        }
        EscrowError::Envelope(fault @ EnvelopeError::OtherImage { .. }) => {
            let detail =
                format!("{fault}: restore it from a backup; `motorcade fsck` lists all such");
            Error::Corrupt { detail }
        }
        other @ (EscrowError::Envelope(_) | EscrowError::CutOff(_)) => Error::internal(op)(other),
    }
}

/// What a key does in a vehicle, if an ECU has it: none of these keys signs metadata, or one ECU
/// that is opened would speak for the repository. It reads every vehicle.
///
/// # Errors
///
/// [`Error::Internal`].
pub(super) async fn use_in_a_vehicle(
    catalog: &Catalog,
    key: &PublicKey,
) -> Result<Option<String>, Error> {
    let public = key.object()["keyval"]["public"].as_str().unwrap_or_default().to_owned();
    // PEM, but for keys that no ECU decrypts with.
    let jwk = RecipientKey::read(&public).ok().map(|key| key.to_jwk());
    let number = jwk.as_ref().and_then(|jwk| jwk["x"].as_str().or(jwk["n"].as_str()));
    let signing = distinctive(&public);
    let decrypting = number.map_or(signing.as_str(), |number| number.get(..40).unwrap_or(number));
    let like = catalog.list_vehicles_with_key([&signing, decrypting], MOST_ALIKE).await?;
    for vehicle in &like {
        for ecu in vehicle.ecus.iter() {
            let signs = PublicKey::from_object(ecu.signing_key.to_value());
            if signs.is_ok_and(|signs| signs.is_same_key(key)) {
                return Ok(Some(format!("signs the reports of {} in {}", ecu.serial, vehicle.vin)));
            }
            let jwk = ecu.encryption_key.as_ref().map(|jwk| jwk.to_value());
            let decrypts = jwk.and_then(|jwk| RecipientKey::from_jwk(&jwk).ok());
            if decrypts.is_some_and(|decrypts| key.is_same_as_pem(&decrypts.to_public_pem())) {
                return Ok(Some(format!("opens the images of {} in {}", ecu.serial, vehicle.vin)));
            }
        }
    }
    Ok(None)
}

/// A part of a public key's text that is the same however its lines are broken, and that no other
/// key has: all digits of an Ed25519 key, or some of the number after the head of another one.
fn distinctive(public: &str) -> String {
    let body: String =
        public.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    match body.get(44..60) {
        Some(part) if public.starts_with("-----") => part.to_owned(),
        _ => body,
    }
}

/// Reads a recipient's key as the catalog has it. Its strength was checked when it came in, and is
/// by `fsck`.
pub(super) fn stored_recipient(jwk: &str) -> Result<RecipientKey, Error> {
    const OP: &str = "read a stored recipient";
    let jwk = serde_json::from_str(jwk).map_err(Error::internal(OP))?;
    RecipientKey::from_jwk(&jwk).map_err(Error::internal(OP))
}

/// The id of an ECU's encryption key, if it has one that can be read.
pub(super) fn encryption_kid(ecu: &EcuRecord) -> Option<Kid> {
    let key = RecipientKey::from_jwk(&ecu.encryption_key.as_ref()?.to_value());
    key.ok().map(|key| key.kid().clone())
}

/// Looks at all keys in the catalog, since rules get stricter while keys stay: what is wrong, a
/// line each.
///
/// # Errors
///
/// [`Error::Internal`] if the catalog can't be read.
pub(super) async fn check_stored_keys(catalog: &Catalog) -> Result<Vec<String>, Error> {
    let recipients = catalog.list_recipients().await?;
    let revoked = Arc::new(catalog.list_revoked().await?);
    let mut problems = check_keys(Door::Staff, move || {
        let problem = |record: &RecipientRecord| {
            let fault = fault_of_recipient(&serde_json::from_str(&record.jwk).unwrap_or_default())?;
            Some(format!(
                "the recipient {} of {} is no key to seal for: {fault}; remove it with `motorcade recipient remove`, and \
                 take what was sealed for it as known",
                record.kid, record.hardware_id
            ))
        };
        recipients.iter().filter_map(problem).collect::<Vec<_>>()
    })
    .await?;
    let mut after = String::new();
    loop {
        let page = catalog.list_vehicles(&after, VEHICLES_A_PAGE, VehicleFilter::default()).await?;
        let revoked = Arc::clone(&revoked);
        let faults = move || {
            let faults = |vehicle: &VehicleRecord| faults_of_vehicle(vehicle, &revoked);
            page.items.iter().flat_map(faults).collect::<Vec<_>>()
        };
        problems.extend(check_keys(Door::Staff, faults).await?);
        match page.next {
            Some(next) => after = next,
            None => return Ok(problems),
        }
    }
}

fn faults_of_vehicle(vehicle: &VehicleRecord, revoked: &BTreeSet<String>) -> Vec<String> {
    let line = |ecu: &EcuRecord, what: &str, fault: String| {
        format!(
            "the {what} key of {} in {} is none: {fault}; replace the ECU's keys",
            ecu.serial, vehicle.vin
        )
    };
    let faults = |ecu: &EcuRecord| {
        let signing =
            PublicKey::from_object(ecu.signing_key.to_value()).and_then(|key| key.check_strength());
        let signing = signing.err().map(|fault| line(ecu, "signing", fault.to_string()));
        let encryption = ecu.encryption_key.as_ref();
        let encryption = encryption.and_then(|jwk| fault_of_recipient(&jwk.to_value()));
        let encryption = encryption.map(|fault| line(ecu, "encryption", fault));
        let kid = encryption_kid(ecu).filter(|kid| revoked.contains(kid.as_str()));
        let revoked = kid.map(|kid| {
            format!(
                "the encryption key of {} in {}, {kid}, was revoked, and nothing is wrapped for it any more: have the vehicle \
                 change it (`motorcade-vehicle change-key {}`)",
                ecu.serial, vehicle.vin, ecu.serial
            )
        });
        signing.into_iter().chain(encryption).chain(revoked).collect::<Vec<_>>()
    };
    vehicle.ecus.iter().flat_map(faults).collect()
}

fn fault_of_recipient(jwk: &serde_json::Value) -> Option<String> {
    RecipientKey::from_jwk(jwk)
        .and_then(|key| key.check_strength())
        .err()
        .map(|fault| fault.to_string())
}

/// As many cores as checks may hold: requests go on beside them, whoever sends whatever keys.
static STAFF_AT_ONCE: Semaphore = Semaphore::const_new(2);
static VEHICLES_AT_ONCE: Semaphore = Semaphore::const_new(1);
const VEHICLES_A_PAGE: u32 = 500;
/// As many vehicles as can have one key without anybody noticing.
const MOST_ALIKE: u32 = 16;
