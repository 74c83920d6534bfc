//! Registration: from what an engineer or a factory says of a vehicle to its place in the
//! inventory.

use std::collections::HashSet;
use std::fmt::Display;

use super::Fleet;
use super::input::{EcuInput, VehicleInput};
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::keys::{Door, check_keys};
use crate::app::publish::Publisher;
use crate::catalog::Registration;
use crate::envelope::key::RecipientKey;
use crate::model::{EcuRecord, EcuRole, EcuSerial, NewVehicle, Sha256Digest, VehicleId};
use crate::uptane::key::PublicKey;
use crate::uptane::manifest::MAX_ECUS;

impl Fleet {
    /// Registers one vehicle; returns whether it is new, and its id. Registering it again with the
    /// same ECUs and keys changes nothing. It never uses an approval to enrol anew up: that is for
    /// the vehicle, or its factory ([`Self::enrol`]).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] or [`Error::Unprocessable`] for what can't be registered,
    /// [`Error::Conflict`] if the vehicle or one of its ECUs is registered otherwise: the first
    /// registration stands.
    pub async fn register_vehicle(
        &self,
        input: VehicleInput,
        by: &Principal,
    ) -> Result<(bool, VehicleId), Error> {
        let vehicle = self.check_vehicle_aside(input).await?;
        self.register_checked(vehicle, by).await
    }

    pub(super) async fn register_checked(
        &self,
        vehicle: NewVehicle,
        by: &Principal,
    ) -> Result<(bool, VehicleId), Error> {
        let vin = vehicle.vin.clone();
        let vehicles = std::slice::from_ref(&vehicle);
        let author = by.author(self.clock.now());
        let mut outcomes = self.catalog.register_vehicles(vehicles, &author).await?;
        match outcomes.pop().unwrap_or(Registration::Different) {
            Registration::Registered => Ok((true, vin)),
            Registration::Unchanged => Ok((false, vin)),
            other => Err(refused_registration(&vin, &other)),
        }
    }

    /// Turns a description into what can be registered, where it holds no request up.
    pub(super) async fn check_vehicle_aside(
        &self,
        input: VehicleInput,
    ) -> Result<NewVehicle, Error> {
        let publisher = self.publisher.clone();
        let vehicle = check_keys(Door::Staff, move || check_vehicle(&publisher, input)).await??;
        self.refuse_revoked(&vehicle.ecus).await?;
        Ok(vehicle)
    }

    /// Reads what a vehicle says of itself, without [`Self::check_new_keys`].
    pub(super) async fn read_vehicle_aside(
        &self,
        input: VehicleInput,
    ) -> Result<NewVehicle, Error> {
        let publisher = self.publisher.clone();
        check_keys(Door::Vehicles, move || read_vehicle(&publisher, input)).await?
    }

    /// Whether the keys of ECUs that a vehicle brings protect anything. It takes long, so it
    /// **must** come after whatever else can refuse them.
    pub(super) async fn check_new_keys(&self, ecus: &[&EcuRecord]) -> Result<(), Error> {
        let ecus: Vec<EcuRecord> = ecus.iter().map(|ecu| (*ecu).clone()).collect();
        self.refuse_revoked(&ecus).await?;
        check_keys(Door::Vehicles, move || ecus.iter().try_for_each(check_strength)).await?
    }

    /// Turns a description into what can be registered. The keys take their time: **never** call it
    /// in a task.
    pub(super) fn check_vehicle(&self, input: VehicleInput) -> Result<NewVehicle, Error> {
        check_vehicle(&self.publisher, input)
    }
}

fn check_vehicle(publisher: &Publisher, input: VehicleInput) -> Result<NewVehicle, Error> {
    let vehicle = read_vehicle(publisher, input)?;
    vehicle.ecus.iter().try_for_each(check_strength)?;
    Ok(vehicle)
}

/// Turns a description into what can be registered once [`check_strength`] has passed each ECU.
fn read_vehicle(publisher: &Publisher, input: VehicleInput) -> Result<NewVehicle, Error> {
    let vin: VehicleId = input.vin.parse().map_err(invalid)?;
    let token_sha256 = input.token_sha256.map(|digest| digest.parse::<Sha256Digest>()).transpose();
    let token_sha256 = token_sha256.map_err(|error| invalid(format!("`token_sha256`: {error}")))?;
    if input.ecus.is_empty() || input.ecus.len() > MAX_ECUS {
        return Err(invalid(format!("a vehicle has 1 to {MAX_ECUS} ECUs")));
    }
    let mut ecus = input
        .ecus
        .into_iter()
        .map(|ecu| read_ecu(publisher, ecu))
        .collect::<Result<Vec<_>, _>>()?;
    ecus.sort_by(|a, b| {
        (a.role == EcuRole::Secondary, &a.serial).cmp(&(b.role == EcuRole::Secondary, &b.serial))
    });
    check_together(&ecus)?;
    Ok(NewVehicle { vin, ecus, token_sha256 })
}

/// Turns the description of an ECU into what can be registered once [`check_strength`] has passed
/// it.
fn read_ecu(publisher: &Publisher, input: EcuInput) -> Result<EcuRecord, Error> {
    let serial: EcuSerial = input.ecu_serial.parse().map_err(invalid)?;
    let refuse = |what: &str, error: &dyn Display| refused_key(&serial, what, error);
    let signing_key =
        PublicKey::read(&input.signing_key.text()).map_err(|error| refuse("signing", &error))?;
    if signing_key.scheme().is_post_quantum() {
        return Err(refuse(
            "signing",
            &"ML-DSA-65 is for roots and targets: an ECU signs its reports with Ed25519, P-256 or RSA",
        ));
    }
    if publisher.signs_metadata(&signing_key) {
        return Err(refuse(
            "signing",
            &"it signs metadata here: each key has one use, make another one",
        ));
    }
    let encryption_key =
        input.encryption_key.map(|key| RecipientKey::read(&key.text())).transpose();
    let encryption_key = encryption_key.map_err(|error| refuse("encryption", &error))?;
    if let Some(key) = &encryption_key
        && (signing_key.is_same_as_pem(&key.to_public_pem())
            || publisher.is_role_key(&key.to_public_pem()))
    {
        return Err(refuse(
            "encryption",
            &"it signs, too, and a signing key never decrypts: make another one",
        ));
    }
    Ok(EcuRecord {
        serial: serial.clone(),
        hardware_id: input.hardware_id.parse().map_err(invalid)?,
        role: input.role.parse().map_err(invalid)?,
        signing_key: signing_key.object().into(),
        encryption_key: encryption_key.map(|key| key.to_jwk().into()),
    })
}

/// Whether the keys of an ECU protect anything.
fn check_strength(ecu: &EcuRecord) -> Result<(), Error> {
    let signing =
        PublicKey::from_object(ecu.signing_key.to_value()).and_then(|key| key.check_strength());
    signing.map_err(|error| refused_key(&ecu.serial, "signing", &error))?;
    let Some(jwk) = &ecu.encryption_key else { return Ok(()) };
    let encryption = RecipientKey::from_jwk(&jwk.to_value()).and_then(|key| key.check_strength());
    encryption.map_err(|error| refused_key(&ecu.serial, "encryption", &error))
}

pub(super) fn refused_key(serial: &EcuSerial, what: &str, error: &dyn Display) -> Error {
    let detail = format!("the {what} key of {serial} is refused: {error}");
    Error::Unprocessable { code: "key_refused", detail }
}

/// What the ECUs of one vehicle have to be together.
pub(super) fn check_together(ecus: &[EcuRecord]) -> Result<(), Error> {
    let primaries = ecus.iter().filter(|ecu| ecu.role == EcuRole::Primary).count();
    if primaries != 1 {
        return Err(invalid(format!("a vehicle has one Primary; this one has {primaries}")));
    }
    let mut serials = HashSet::new();
    let mut keys: Vec<PublicKey> = Vec::new();
    for ecu in ecus {
        let key = PublicKey::from_object(ecu.signing_key.to_value()).map_err(invalid)?;
        if !serials.insert(&ecu.serial) {
            return Err(invalid(format!("the ECU {} is there twice", ecu.serial)));
        }
        // One key for two ECUs would let one report for the other.
        if keys.iter().any(|known| known.is_same_key(&key)) {
            let detail = format!(
                "{} has the signing key of another ECU: each ECU has one of its own",
                ecu.serial
            );
            return Err(Error::Unprocessable { code: "key_refused", detail });
        }
        keys.push(key);
    }
    for jwk in ecus.iter().filter_map(|ecu| ecu.encryption_key.as_ref()) {
        let pem = RecipientKey::from_jwk(&jwk.to_value()).map_err(invalid)?.to_public_pem();
        if keys.iter().any(|key| key.is_same_as_pem(&pem)) {
            let detail = "a signing key of one ECU is an encryption key of another: a key does one or the other".into();
            return Err(Error::Unprocessable { code: "key_refused", detail });
        }
    }
    Ok(())
}

/// What is said of a vehicle that was not registered.
pub(super) fn refused_registration(vin: &VehicleId, outcome: &Registration) -> Error {
    let detail = match outcome {
        Registration::EcuTaken(serial) => format!(
            "the ECU {serial} of {vin} is, or was, in another vehicle: an engineer approves that it is taken from there with \
             `motorcade vehicle re-enrol {vin} --take {serial}`"
        ),
        Registration::Registered | Registration::Unchanged | Registration::Different => format!(
            "{vin} is registered with other ECUs, keys or another token, or the token is another vehicle's; the first \
             registration stands, an ECU is replaced with an engineer's approval, and a vehicle that has lost its keys enrols \
             anew with one (`motorcade vehicle re-enrol {vin}`)"
        ),
    };
    Error::Conflict { code: "already_registered", detail }
}

pub(super) fn invalid(detail: impl ToString) -> Error {
    Error::Invalid { code: "bad_vehicle", detail: detail.to_string() }
}
