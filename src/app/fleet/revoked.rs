//! A recipient's key that was revoked is no ECU's encryption key either: the Director would go on
//! wrapping data keys for whoever has it.

use std::collections::BTreeSet;

use super::Fleet;
use super::register::refused_key;
use crate::app::Error;
use crate::app::keys::encryption_kid;
use crate::envelope::key::Kid;
use crate::model::{EcuRecord, EcuSerial};

impl Fleet {
    /// Refuses ECUs of which a key was revoked.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] names the first; [`Error::Internal`].
    pub(super) async fn refuse_revoked(&self, ecus: &[EcuRecord]) -> Result<(), Error> {
        refuse_revoked(ecus, &self.catalog.list_revoked().await?)
    }

    /// The same of the key that an ECU is to have.
    ///
    /// # Errors
    ///
    /// As [`Self::refuse_revoked`].
    pub(super) async fn refuse_revoked_key(
        &self,
        serial: &EcuSerial,
        kid: &Kid,
    ) -> Result<(), Error> {
        match self.catalog.is_revoked(kid.as_str()).await? {
            true => Err(revoked(serial, kid.as_str())),
            false => Ok(()),
        }
    }
}

/// Refuses ECUs with a key of `revoked`.
///
/// # Errors
///
/// [`Error::Unprocessable`] names the first.
pub(super) fn refuse_revoked(ecus: &[EcuRecord], revoked: &BTreeSet<String>) -> Result<(), Error> {
    if revoked.is_empty() {
        return Ok(());
    }
    for ecu in ecus {
        if let Some(kid) = encryption_kid(ecu).filter(|kid| revoked.contains(kid.as_str())) {
            return Err(self::revoked(&ecu.serial, kid.as_str()));
        }
    }
    Ok(())
}

fn revoked(serial: &EcuSerial, kid: &str) -> Error {
    let fault =
        format!("{kid} was revoked as a recipient, and does not come back: make another one");
    refused_key(serial, "encryption", &fault)
}
