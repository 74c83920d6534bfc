//! Recipients: the public keys for which images are sealed.

use std::collections::BTreeMap;

use super::Images;
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::keys::{Door, check_keys, stored_recipient};
use crate::catalog::RetiredRecipient;
use crate::envelope::jwe::Envelope;
use crate::envelope::key::RecipientKey;
use crate::model::{HardwareId, RecipientRecord};

impl Images {
    /// Registers a public key, PEM or JWK, for hardware ids. Registering it again changes nothing.
    /// Returns whether any of it is new, and the key's id.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] if it is a private, weak, broken or signing key; it is not kept,
    /// nor repeated in the message.
    pub async fn register_recipient(
        &self,
        hardware_ids: &[HardwareId],
        public_key: &str,
        by: &Principal,
    ) -> Result<(bool, String), Error> {
        if hardware_ids.is_empty() {
            let detail = "name at least one hardware id that the key belongs to".into();
            return Err(Error::Invalid { code: "hardware_ids_missing", detail });
        }
        let key = self.check_recipient(public_key).await?;
        let kid = key.kid().to_string();
        let author = by.author(self.clock.now());
        let mut any_new = false;
        for hardware_id in hardware_ids {
            let record = RecipientRecord {
                hardware_id: hardware_id.clone(),
                kid: kid.clone(),
                jwk: key.to_jwk().to_string(),
                created_at: author.at,
                created_by: by.id.clone(),
            };
            any_new |= self.catalog.insert_recipient(&record, &author).await?;
        }
        tracing::info!(recipient.kid = %kid, ?hardware_ids, "recipient registered");
        Ok((any_new, kid))
    }

    /// Reads a public key, PEM or JWK, that is to be a recipient's.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] if it is a private, weak, broken or signing key, or one that was
    /// revoked.
    pub(super) async fn check_recipient(&self, public_key: &str) -> Result<RecipientKey, Error> {
        let refused = |detail: String| Error::Unprocessable { code: "key_refused", detail };
        let public_key = public_key.to_owned();
        let key = check_keys(Door::Staff, move || RecipientKey::parse(&public_key)).await?;
        let key = key.map_err(|fault| refused(fault.to_string()))?;
        if self.publisher.is_role_key(&key.to_public_pem()) {
            return Err(refused(
                "this key signs metadata here, and a signing key is never a recipient: make another one".into(),
            ));
        }
        match self.catalog.find_retired(key.kid().as_str()).await? {
            Some(RetiredRecipient::Revoked) => Err(refused(format!(
                "the key {} was revoked, and does not come back: make another one",
                key.kid()
            ))),
            Some(RetiredRecipient::Replaced { .. }) | None => Ok(key),
        }
    }

    /// The registered keys that a caller may see, by hardware id: all of them, or those of the
    /// hardware that it speaks for as a supplier.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn list_recipients(&self, by: &Principal) -> Result<Vec<RecipientRecord>, Error> {
        let mut recipients = self.catalog.list_recipients().await?;
        if let Some(own) = &by.path_prefix {
            let suppliers = self.catalog.list_suppliers().await?;
            if let Some(supplier) = suppliers.iter().find(|supplier| supplier.folder.has(own)) {
                recipients.retain(|recipient| {
                    supplier.has_hardware(std::slice::from_ref(&recipient.hardware_id))
                });
            }
        }
        Ok(recipients)
    }

    /// Removes a key from one hardware id or from all. Images that are sealed for it stay so.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it isn't registered there.
    pub async fn remove_recipient(
        &self,
        kid: &str,
        hardware_id: Option<&HardwareId>,
        by: &Principal,
    ) -> Result<(), Error> {
        let author = by.author(self.clock.now());
        if self.catalog.delete_recipient(kid, hardware_id, &author).await? == 0 {
            let detail = format!("the recipient {kid:.64} is not registered there");
            return Err(Error::NotFound { code: "recipient_not_found", detail });
        }
        tracing::info!(recipient.kid = %kid, "recipient removed");
        Ok(())
    }

    /// The keys for which an image is sealed: those with the ids in `only`, or all of its hardware
    /// ids.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] if a hardware id has no recipient, or `only` names one that isn't
    /// registered.
    pub(super) async fn choose_recipients(
        &self,
        hardware_ids: &[HardwareId],
        only: Option<&[String]>,
    ) -> Result<Vec<RecipientKey>, Error> {
        let records = match only {
            None => self.recipients_of(hardware_ids).await?,
            Some(kids) => self.recipients_named(kids).await?,
        };
        let by_kid: BTreeMap<String, String> =
            records.into_iter().map(|record| (record.kid, record.jwk)).collect();
        let limit = Envelope::MAX_RECIPIENTS - 1; // the escrow key is one more
        if by_kid.len() > limit {
            let detail = format!(
                "the image would have {} recipients; an envelope holds {limit}",
                by_kid.len()
            );
            return Err(Error::Unprocessable { code: "too_many_recipients", detail });
        }
        by_kid.values().map(|jwk| stored_recipient(jwk)).collect()
    }

    async fn recipients_of(
        &self,
        hardware_ids: &[HardwareId],
    ) -> Result<Vec<RecipientRecord>, Error> {
        let mut records = Vec::new();
        for hardware_id in hardware_ids {
            let found = self.catalog.find_recipients(hardware_id).await?;
            if found.is_empty() {
                let detail = format!(
                    "no recipient is registered for the hardware id {hardware_id}: register its public key with \
                     `motorcade recipient add --hardware-id {hardware_id} KEY.pem` or POST /api/v1/recipients"
                );
                return Err(Error::Unprocessable { code: "no_recipient", detail });
            }
            records.extend(found);
        }
        Ok(records)
    }

    async fn recipients_named(&self, kids: &[String]) -> Result<Vec<RecipientRecord>, Error> {
        let all = self.catalog.list_recipients().await?;
        if let Some(unknown) = kids.iter().find(|kid| !all.iter().any(|record| record.kid == **kid))
        {
            return Err(self.unknown_recipient(unknown).await?);
        }
        Ok(all.into_iter().filter(|record| kids.contains(&record.kid)).collect())
    }

    /// Why an image can't be sealed for a key: it may have been registered when its upload began.
    async fn unknown_recipient(&self, kid: &str) -> Result<Error, Error> {
        let why = match self.catalog.find_retired(kid).await? {
            Some(RetiredRecipient::Replaced { by }) => format!(
                "was replaced by {by} in a rotation, perhaps while this came in: name that one, and send it again"
            ),
            Some(RetiredRecipient::Revoked) => {
                "was revoked, perhaps while this came in: nothing is sealed for it any more".into()
            }
            None => "is not registered: see GET /api/v1/recipients".into(),
        };
        let detail = format!("the recipient {kid:.64} {why}");
        Ok(Error::Unprocessable { code: "unknown_recipient", detail })
    }
}
