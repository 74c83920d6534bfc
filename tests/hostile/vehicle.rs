//! The vehicle that is attacked: its ids, and the public keys of its ECUs.

use motorcade::envelope::key::{RecipientKey, RecipientPrivateKey};
use motorcade::uptane::key::{Scheme, SigningKey};

/// An ECU as the Director's inventory knows it.
#[derive(Clone)]
pub(crate) struct Ecu {
    pub(crate) serial: String,
    pub(crate) hardware_id: String,
    pub(crate) role: &'static str,
    pub(crate) encryption: RecipientKey,
}

/// A vehicle with its ECUs; the first one is the Primary.
#[derive(Clone)]
pub(crate) struct Vehicle {
    pub(crate) vin: String,
    pub(crate) ecus: Vec<Ecu>,
}

/// Private keys of an ECU, as PEM.
pub(crate) struct EcuKeys {
    pub(crate) serial: String,
    pub(crate) signing: String,
    pub(crate) encryption: String,
}

impl Vehicle {
    /// Makes a vehicle with keys of its own: a Primary and a Secondary.
    pub(crate) fn generate(vin: &str, serials: [&str; 2]) -> (Self, Vec<EcuKeys>) {
        let mut keys = Vec::new();
        let mut ecu = |serial: &str, hardware_id: &str, role| {
            let encryption = RecipientPrivateKey::generate_p256();
            keys.push(EcuKeys {
                serial: serial.to_owned(),
                signing: SigningKey::generate_pem(Scheme::Ed25519).unwrap().to_string(),
                encryption: encryption.to_pkcs8_pem().to_string(),
            });
            Ecu {
                serial: serial.to_owned(),
                hardware_id: hardware_id.to_owned(),
                role,
                encryption: encryption.public().clone(),
            }
        };
        let ecus = vec![
            ecu(serials[0], PRIMARY_HARDWARE, "primary"),
            ecu(serials[1], SECONDARY_HARDWARE, "secondary"),
        ];
        (Self { vin: vin.to_owned(), ecus }, keys)
    }

    pub(crate) fn primary(&self) -> &Ecu {
        &self.ecus[0]
    }

    pub(crate) fn secondary(&self) -> &Ecu {
        &self.ecus[1]
    }
}

pub(crate) const VIN: &str = "SNAKEOIL000000001";
pub(crate) const PRIMARY: &str = "prim-0001";
pub(crate) const PRIMARY_HARDWARE: &str = "gw-mk3";
pub(crate) const SECONDARY: &str = "sec-0001";
pub(crate) const SECONDARY_HARDWARE: &str = "brake-mk1";
