//! Rotation and revocation of recipients' keys: what may be asked for, and what becomes of the
//! registrations. The envelopes are [`super::rewrap`]'s.

use super::Images;
use super::rewrap::Change;
use crate::app::Error;
use crate::catalog::{Author, RetiredRecipient, Successor};
use crate::envelope::key::{Kid, RecipientKey};

impl Images {
    /// Reads a public key that is to take the place of the recipient `kid`. Of one that was revoked
    /// that is for the envelopes that are left, and it may be a recipient already.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] if the key is none that can be a recipient's, or nothing is known of
    /// `kid`; [`Error::Conflict`] if the key is in use already, or `kid` has another successor.
    pub(in crate::app) async fn check_rotation(
        &self,
        kid: &str,
        public_key: &str,
    ) -> Result<(Kid, RecipientKey), Error> {
        let old = self.check_known(kid).await?;
        let key = self.check_recipient(public_key).await?;
        let in_use = |detail: String| Err(Error::Conflict { code: "key_in_use", detail });
        let new = key.kid();
        if *new == old {
            return in_use(format!("{kid} is to be replaced by itself: make another key"));
        }
        match self.catalog.find_retired(kid).await? {
            // The same rotation again does what is left of it.
            Some(RetiredRecipient::Replaced { by }) if by == new.as_str() => return Ok((old, key)),
            Some(RetiredRecipient::Replaced { by }) => {
                return in_use(format!("{kid} was replaced by {by}: rotate that one"));
            }
            // It has no successor: what it alone could open is given to any key that is named.
            Some(RetiredRecipient::Revoked) => return Ok((old, key)),
            None => {}
        }
        let recipients = self.catalog.list_recipients().await?;
        if let Some(known) = recipients.iter().find(|known| known.kid == new.as_str()) {
            return in_use(format!(
                "{new} is a recipient already, of {}: make another key",
                known.hardware_id
            ));
        }
        Ok((old, key))
    }

    /// Reads the id of a recipient's key that is to be revoked, or of one that was.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] if nothing is known of it.
    pub(in crate::app) async fn check_known(&self, kid: &str) -> Result<Kid, Error> {
        let unknown = || Error::Unprocessable {
            code: "unknown_recipient",
            detail: format!(
                "no image is sealed for the recipient {kid:.64}, and it is not registered: see GET /api/v1/recipients"
            ),
        };
        let parsed: Kid = kid.parse().map_err(|_| unknown())?;
        let is_known = self.catalog.list_recipients().await?.iter().any(|known| known.kid == kid)
            || self.catalog.find_retired(kid).await?.is_some()
            || self.catalog.count_envelopes_for(kid).await? > 0;
        if is_known { Ok(parsed) } else { Err(unknown()) }
    }

    /// Registers the new key in the place of the old one, or takes the old one's registrations away:
    /// from then on nothing is sealed for it. A second time changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if it has another successor by now; [`Error::Full`];
    /// [`Error::Internal`].
    pub(in crate::app) async fn retire(
        &self,
        change: &Change,
        author: &Author,
    ) -> Result<(), Error> {
        let successor = match change {
            Change::Replace { new, .. } => {
                Some(Successor { kid: new.kid().to_string(), jwk: new.to_jwk().to_string() })
            }
            Change::Remove { .. } => None,
            Change::Escrow { .. } => return Ok(()), // no recipient's key
        };
        self.catalog.retire_recipient(change.old().as_str(), successor.as_ref(), author).await?;
        tracing::info!(recipient.kid = %change.old(), "recipient retired");
        Ok(())
    }
}
