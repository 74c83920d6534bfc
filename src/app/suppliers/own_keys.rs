//! Keys that a supplier keeps: the server knows their public halves alone.

use super::refusal::{check_keys, no_supplier};
use super::{NewSupplier, Suppliers};
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::ceremony::read_keys;
use crate::keys::hybrid::fault_of_keys;
use crate::model::{RepositorySide, SupplierName, SupplierRecord};
use crate::uptane::key::PublicKey;

/// The keys with which a supplier signs from its next file on.
#[derive(Debug, Clone)]
pub struct OwnKeys {
    /// Public keys, PEM or key objects.
    pub public_keys: Vec<String>,
    /// How many of them have to sign; as many as before without it.
    pub threshold: Option<u8>,
}

impl Suppliers {
    /// Has a supplier sign with other keys, which it keeps, from its next file on. What is published
    /// stays, and stays good, until they have signed that file; what is staged is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Unprocessable`] for a threshold that can't be met, or a key
    /// that is none; [`Error::Refused`] for keys that have another use; [`Error::Full`];
    /// [`Error::Internal`].
    pub async fn give_keys(
        &self,
        name: &SupplierName,
        new: OwnKeys,
        by: &Principal,
    ) -> Result<SupplierRecord, Error> {
        let _turn = self.turn.lock().await;
        let mut supplier = self.find(name).await?;
        let threshold = new.threshold.unwrap_or(supplier.threshold);
        let count = u8::try_from(new.public_keys.len()).unwrap_or(u8::MAX);
        check_keys(threshold, count)?;
        let keys = self.read_own_keys(&new.public_keys, threshold, Some(name)).await?;
        supplier.keys = keys.iter().map(|key| key.object().clone()).collect();
        (supplier.threshold, supplier.offline) = (threshold, true);
        let author = by.author(self.clock.now());
        let given = self.catalog.give_supplier_keys(name, &supplier.keys, threshold, &author);
        given.await?.ok_or_else(|| no_supplier(name))?;
        tracing::info!(supplier = %name, keys = count, "supplier signs with other keys of its own next");
        Ok(supplier)
    }

    /// How many keys a new supplier brings.
    pub(super) fn count_own_keys(&self, new: &NewSupplier) -> Result<u8, Error> {
        let count = u8::try_from(new.public_keys.len()).unwrap_or(u8::MAX);
        match new.keys {
            Some(keys) if keys != count => Err(Error::Unprocessable {
                code: "bad_threshold",
                detail: format!(
                    "`keys` is {keys}, and {count} public keys came: leave it out, since none are made"
                ),
            }),
            _ => Ok(count),
        }
    }

    /// Reads public keys that nothing else uses, but the supplier `own` itself. How many there are
    /// **must** have been checked.
    pub(super) async fn read_own_keys(
        &self,
        texts: &[String],
        threshold: u8,
        own: Option<&SupplierName>,
    ) -> Result<Vec<PublicKey>, Error> {
        let keys = read_keys(texts.to_vec()).await?;
        let refused = |detail: String| Error::Unprocessable { code: "key_refused", detail };
        for (number, key) in keys.iter().enumerate() {
            if keys.iter().take(number).any(|other| other.is_same_key(key)) {
                let detail = format!("the key {} is there twice: one key counts once", key.id());
                return Err(refused(detail));
            }
        }
        let references: Vec<&PublicKey> = keys.iter().collect();
        if let Some(fault) = fault_of_keys(false, threshold, &references) {
            return Err(refused(format!("a supplier's role {fault}")));
        }
        self.ceremony.refuse_used_keys(&RepositorySide::ALL, &references, own).await?;
        self.ceremony.refuse_keys_of_ecus(&references).await?;
        Ok(keys)
    }
}
