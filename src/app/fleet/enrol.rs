//! Enrolment: a vehicle that gets into the inventory from its factory's line, and one that says
//! again what ECUs it has. The first registration of a vehicle stands.

use serde::Deserialize;

use super::input::{EcuInput, VehicleInput};
use super::{Fleet, IdentityClaims, not_registered};
use crate::app::Error;
use crate::app::access::Principal;
use crate::model::{Actor, EcuRecord, KeyInput, VehicleId};

/// What a vehicle says when it enrols: all of its ECUs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Its id.
    pub vin: String,
    /// Which ECU is the Primary.
    pub primary_ecu_serial: String,
    /// All ECUs.
    pub ecus: Vec<EnrolledEcu>,
    /// SHA-256, in hexadecimal digits, of the bearer token with which it will identify itself.
    #[serde(default)]
    pub token_sha256: Option<String>,
}

/// An ECU of an enrolment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledEcu {
    /// Its identifier.
    pub ecu_serial: String,
    /// Its hardware identifier.
    pub hardware_id: String,
    /// Public key that signs.
    pub signing_key: KeyInput,
    /// Public key that data keys are wrapped for.
    #[serde(default)]
    pub encryption_key: Option<KeyInput>,
}

impl Enrolment {
    /// The same as a registration.
    pub fn into_input(self) -> VehicleInput {
        let Self { vin, primary_ecu_serial, ecus, token_sha256 } = self;
        let ecu = |ecu: EnrolledEcu| EcuInput {
            role: if ecu.ecu_serial == primary_ecu_serial { "primary" } else { "secondary" }
                .to_owned(),
            ecu_serial: ecu.ecu_serial,
            hardware_id: ecu.hardware_id,
            signing_key: ecu.signing_key,
            encryption_key: ecu.encryption_key,
        };
        VehicleInput { vin, ecus: ecus.into_iter().map(ecu).collect(), token_sha256 }
    }
}

/// Who enrols a vehicle: its factory, by a token, or itself; or both, as where a factory's line
/// speaks over the vehicle's own channel.
#[derive(Debug)]
pub struct Enroller {
    factory: Option<Principal>,
    vehicle: Option<VehicleId>,
}

impl Fleet {
    /// Finds out who enrols a vehicle. `factory` is what came of asking for the token of a factory;
    /// `claims` are what the request says of the vehicle.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if it is neither; [`Error::Forbidden`] if it may not, or claims
    /// differ.
    pub async fn identify_enroller(
        &self,
        factory: Result<Principal, Error>,
        claims: &IdentityClaims,
    ) -> Result<Enroller, Error> {
        let factory = match factory {
            Ok(factory) => Some(factory),
            Err(Error::Unauthenticated { .. }) => None, // it may be the vehicle's own token
            Err(error) => return Err(error),
        };
        // A certificate, or a proxy's word, has to be that of the vehicle, also beside a factory's
        // token.
        let is_named = claims.certificate.is_some() || claims.proxy.is_some();
        let vehicle = match factory {
            Some(_) if !is_named => None,
            _ => Some(self.identify_vehicle(claims).await?),
        };
        Ok(Enroller { factory, vehicle })
    }

    /// Enrols a vehicle: a factory registers one that was never seen; the vehicle itself may have
    /// one ECU replaced, with an engineer's approval; and either enrols a vehicle anew if a person
    /// has approved that. Returns whether anything changed. `request_id` is for the record.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for another vehicle's enrolment; [`Error::Conflict`] if it is registered
    /// otherwise, or what would have to be approved is not; [`Error::Invalid`],
    /// [`Error::Unprocessable`].
    pub async fn enrol(
        &self,
        enroller: Enroller,
        enrolment: Enrolment,
        request_id: Option<String>,
    ) -> Result<bool, Error> {
        let Enroller { factory, vehicle } = enroller;
        if vehicle.as_ref().is_some_and(|vin| vin.as_str() != enrolment.vin) {
            return Err(Error::Forbidden { detail: "this is another vehicle's enrolment".into() });
        }
        match (factory, vehicle) {
            (Some(factory), _) => {
                let factory = Principal { request_id, ..factory };
                self.enrol_from_factory(enrolment.into_input(), &factory).await
            }
            (None, Some(vin)) => self.update_ecus(&vin, enrolment, request_id).await,
            (None, None) => {
                Err(Error::Unauthenticated { detail: "this takes a factory's token".into() })
            }
        }
    }

    /// Unlike a registration, one that says the same as before starts a vehicle anew if that was
    /// approved: it may have lost its counters alone.
    async fn enrol_from_factory(&self, input: VehicleInput, by: &Principal) -> Result<bool, Error> {
        let vehicle = self.check_vehicle_aside(input).await?;
        if self.try_re_enrol(&vehicle, &by.into()).await? {
            return Ok(true);
        }
        Ok(self.register_checked(vehicle, by).await?.0)
    }

    /// Takes over the ECUs that a known vehicle says it has now: nothing if they are those of the
    /// inventory, or the one replacement that was approved; or all of them anew, if that was.
    /// Returns whether anything changed.
    async fn update_ecus(
        &self,
        vin: &VehicleId,
        enrolment: Enrolment,
        request_id: Option<String>,
    ) -> Result<bool, Error> {
        let claimed = self.read_vehicle_aside(enrolment.into_input()).await?;
        let vehicle = self.vehicles.find(vin).await?;
        let known: &[EcuRecord] = vehicle.as_ref().map_or(&[], |vehicle| &vehicle.record.ecus);
        let gone: Vec<&EcuRecord> =
            known.iter().filter(|ecu| !claimed.ecus.contains(ecu)).collect();
        let come: Vec<&EcuRecord> =
            claimed.ecus.iter().filter(|ecu| !known.contains(ecu)).collect();
        // Keys are checked only if a person waits for them: any vehicle can send as many as it
        // likes.
        let by = Actor { request_id, ..Actor::vehicle() };
        if self.catalog.find_re_enrolment(vin, self.clock.now()).await?.is_some() {
            self.check_new_keys(&come).await?;
            if self.try_re_enrol(&claimed, &by).await? {
                return Ok(true);
            }
        }
        let vehicle = vehicle.as_ref().ok_or_else(|| not_registered(vin))?;
        let (old, new) = match (gone.as_slice(), come.as_slice()) {
            ([], []) => return Ok(false),
            ([old], [new]) if old.role == new.role => (*old, *new),
            _ => {
                let detail = format!(
                    "one ECU can be replaced at a time, by one of the same role; if more of {vin} is new, an engineer approves \
                     that with `motorcade vehicle re-enrol {vin}`"
                );
                return Err(Error::Conflict { code: "not_a_replacement", detail });
            }
        };
        if !self
            .catalog
            .is_replacement_approved(vehicle.record.id, &old.serial, self.clock.now())
            .await?
        {
            return Err(self.refuse_replacement(vin, old, new).await);
        }
        self.check_new_keys(&[new]).await?;
        self.replace(vehicle, old, new, &claimed.ecus, &by).await.map(|()| true)
    }
}
