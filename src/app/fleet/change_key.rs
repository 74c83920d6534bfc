//! The change of an ECU's encryption key, which the vehicle sends and the ECU itself has signed.
//!
//! Whoever has an ECU's signing key could have images sealed for himself that way, so that the
//! policy says whether a person approves each change, of this ECU to this key.

use std::str::FromStr;
use std::time::Duration;

use super::inventory::HOUR;
use super::memory::retry;
use super::register::refused_key;
use super::replace::check_validity;
use super::{Fleet, Vehicle, not_registered};
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::keys::{Door, check_keys};
use crate::catalog::{self, KeyPermission};
use crate::envelope::key::{Kid, ParseKidError, RecipientKey};
use crate::model::clock::later;
use crate::model::{Actor, EcuRecord, EcuSerial, EventKind, Timestamp, VehicleChange, VehicleId};
use crate::uptane::counter::check_step;
use crate::uptane::key::PublicKey;
use crate::uptane::key_change::KeyChange;
pub use crate::uptane::key_change::MAX_KEY_CHANGE_SIZE;

/// What the policy says of a changed key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyChangePolicy {
    /// A person approves each.
    #[default]
    Approve,
    /// The signature of the ECU is enough.
    Accept,
}

/// Neither of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is `approve` or `accept`")]
pub struct ParseKeyChangePolicyError;

impl FromStr for KeyChangePolicy {
    type Err = ParseKeyChangePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "approve" => Ok(Self::Approve),
            "accept" => Ok(Self::Accept),
            _ => Err(ParseKeyChangePolicyError),
        }
    }
}

impl Fleet {
    /// Changes the encryption key of an ECU of this vehicle. What is signed for the vehicle from now
    /// on is wrapped for the new key; what an assignment says stays. The same change again changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it is malformed, or about another vehicle or ECU; [`Error::NotFound`];
    /// [`Error::Unprocessable`] for a wrong signature and a key that is refused;
    /// [`Error::Conflict`] for a replay, and for a change that is to be approved first.
    pub async fn change_encryption_key(
        &self,
        vin: &VehicleId,
        serial: &EcuSerial,
        body: &[u8],
        request_id: Option<String>,
    ) -> Result<(), Error> {
        let change = KeyChange::parse(body).map_err(invalid)?;
        if change.content.vin != *vin || change.content.ecu_serial != *serial {
            return Err(invalid("it is about another ECU than the one that it was sent for"));
        }
        let key = RecipientKey::read(&change.content.encryption_key);
        let key = key.map_err(|error| refused_key(serial, "encryption", &error))?;
        let by = Actor { request_id, ..Actor::vehicle() };
        retry(async || {
            let vehicle = self.vehicles.find(vin).await?.ok_or_else(|| not_registered(vin))?;
            let ecu = vehicle.record.ecu(serial).ok_or_else(|| no_ecu(vin, serial))?;
            if !vehicle.signing_key(serial).is_some_and(|key| change.verify(key)) {
                let detail = format!("it is not signed by the key of {serial} in the inventory");
                return Err(Error::Unprocessable { code: "wrong_signature", detail });
            }
            let before = vehicle.encryption_key(ecu)?.map(RecipientKey::kid);
            if before == Some(key.kid()) {
                return Ok(Some(())); // its answer did not arrive
            }
            check_counter(&vehicle, &change.content)?;
            self.check_other_use(ecu, &key)?;
            self.refuse_revoked_key(serial, key.kid()).await?;
            let permission = self.permission(&vehicle, serial, &key).await?;
            self.check_strength(serial, &key).await?;
            let mut made = VehicleChange::of(&vehicle.record, self.clock.now());
            made.hear(serial, change.content.counter);
            let before = before.map_or("none", Kid::as_str);
            let event = made.event(EventKind::EncryptionKeyChanged, &by).of_ecu(serial);
            made.record(event.saying(format!("from {before} to {}", key.kid())));
            self.make(&with_key(&vehicle, serial, &key), &permission, &made).await
        })
        .await
    }

    /// Approves that an ECU's encryption key is changed to the one of id `kid` within `valid_for`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the vehicle or the ECU is not there; [`Error::Invalid`] for a time of
    /// over 30 days, and for what is no id of a key; [`Error::Unprocessable`] for a key that was
    /// revoked.
    pub async fn approve_key_change(
        &self,
        vin: &VehicleId,
        serial: &EcuSerial,
        kid: &str,
        valid_for: Duration,
        by: &Principal,
    ) -> Result<Timestamp, Error> {
        check_validity(valid_for)?;
        let kid: Kid =
            kid.parse().map_err(|rule: ParseKidError| invalid(format!("`kid`: {rule}")))?;
        let vehicle = self.vehicles.find(vin).await?.ok_or_else(|| not_registered(vin))?;
        vehicle.record.ecu(serial).ok_or_else(|| no_ecu(vin, serial))?;
        self.refuse_revoked_key(serial, &kid).await?;
        let expires_at = later(self.clock.now(), valid_for);
        let event = self.event(vin, EventKind::KeyChangeApproved, &by.into()).of_ecu(serial);
        let event = event.saying(format!("to {kid}, until {expires_at}"));
        let id = vehicle.record.id;
        self.catalog.approve_key_change(id, serial, kid.as_str(), expires_at, &event).await?;
        Ok(expires_at)
    }

    /// Who permits the change; it is refused, and recorded, if that is nobody.
    async fn permission(
        &self,
        vehicle: &Vehicle,
        serial: &EcuSerial,
        key: &RecipientKey,
    ) -> Result<KeyPermission, Error> {
        let (kid, now) = (key.kid().to_string(), self.clock.now());
        let (id, vin) = (vehicle.record.id, &vehicle.record.vin);
        if self.key_changes == KeyChangePolicy::Accept {
            return Ok(KeyPermission::Policy);
        }
        if self.catalog.is_key_change_approved(id, serial, &kid, now).await? {
            return Ok(KeyPermission::Approval { serial: serial.clone(), kid });
        }
        let event = self.event(vin, EventKind::KeyChangeRefused, &Actor::vehicle()).of_ecu(serial);
        let event = event.saying(format!("to {kid}")).once_in(HOUR, &kid);
        self.catalog.insert_events(&[event]).await?;
        let detail = format!(
            "the new key of {serial} is not approved: an engineer approves it with `motorcade vehicle approve-key {vin} \
             {serial} {kid}`, and the vehicle sends it again"
        );
        Err(Error::Conflict { code: "key_change_not_approved", detail })
    }

    /// A key that signs must not decrypt too (Uptane 2.1.0, 5.4.1).
    fn check_other_use(&self, ecu: &EcuRecord, key: &RecipientKey) -> Result<(), Error> {
        let pem = key.to_public_pem();
        let signing = PublicKey::from_object(ecu.signing_key.to_value());
        let signs = signing.is_ok_and(|signing| signing.is_same_as_pem(&pem));
        if signs || self.publisher.is_role_key(&pem) {
            let fault = "it signs, too, and a signing key never decrypts: make another one";
            return Err(refused_key(&ecu.serial, "encryption", &fault));
        }
        Ok(())
    }

    /// It takes long, so it comes after whatever else can refuse the key.
    async fn check_strength(&self, serial: &EcuSerial, key: &RecipientKey) -> Result<(), Error> {
        let key = key.clone();
        let strength = check_keys(Door::Vehicles, move || key.check_strength()).await?;
        strength.map_err(|error| refused_key(serial, "encryption", &error))
    }

    /// Returns nothing if the vehicle, or its approval, has changed meanwhile.
    async fn make(
        &self,
        ecus: &[EcuRecord],
        permission: &KeyPermission,
        change: &VehicleChange,
    ) -> Result<Option<()>, Error> {
        let forget = self.vehicles.forget_after(change.vin());
        let changed = self.catalog.change_encryption_key(ecus, permission, change).await;
        drop(forget);
        match changed {
            Ok(true) => {
                let id = change.vehicle_id();
                tracing::info!(vehicle.id = id, "an ECU's encryption key was changed");
                Ok(Some(()))
            }
            Ok(false) | Err(catalog::Error::Overtaken) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The ECUs of a vehicle, one with another key.
fn with_key(vehicle: &Vehicle, serial: &EcuSerial, key: &RecipientKey) -> Vec<EcuRecord> {
    let mut ecus = vehicle.record.ecus.to_vec();
    for ecu in ecus.iter_mut().filter(|ecu| ecu.serial == *serial) {
        ecu.encryption_key = Some(key.to_jwk().into());
    }
    ecus
}

/// The counter is that of the ECU's reports (DIR-17), so that none can be sent again.
fn check_counter(vehicle: &Vehicle, change: &KeyChange) -> Result<(), Error> {
    let KeyChange { counter, ecu_serial, time, .. } = change;
    let last = vehicle.record.status.counters.get(ecu_serial).copied().unwrap_or(0);
    check_step(last, *counter).map_err(|fault| {
        invalid(format!("the change of {ecu_serial} has counter {counter}: {fault}"))
    })?;
    let Some(last) = vehicle.record.status.replayed(ecu_serial, *counter, *time) else {
        return Ok(());
    };
    let detail = format!(
        "the change of {ecu_serial} has counter {counter}, and {last} was accepted before: it is a replay"
    );
    Err(Error::Conflict { code: "counter_replayed", detail })
}

fn no_ecu(vin: &VehicleId, serial: &EcuSerial) -> Error {
    Error::NotFound { code: "ecu_not_found", detail: format!("{vin} has no ECU {serial}") }
}

fn invalid(detail: impl ToString) -> Error {
    Error::Invalid { code: "bad_key_change", detail: detail.to_string() }
}
