//! Re-wrapping: one recipient gives way to another, by the content encryption key. What the
//! envelope holds, and everybody else's entry, stay byte for byte.

use super::EnvelopeError;
use super::entry::Entry;
use super::envelope::Envelope;
use crate::key::{Cek, Kid, RecipientKey};

impl Envelope {
    /// Puts `new` in the place of the recipient `old`; if `new` is a recipient already, takes `old`
    /// out. Returns whether the envelope changed: not if `old` is no recipient.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::DoesNotOpen`] or [`EnvelopeError::BadPayload`] if `cek` is not this
    /// envelope's, and [`EnvelopeError::NotExtensible`] for an envelope that its maker closed.
    pub fn replace_recipient(
        &mut self,
        cek: &Cek,
        old: &Kid,
        new: &RecipientKey,
    ) -> Result<bool, EnvelopeError> {
        let is_old = |entry: &Entry| !entry.is_escrow() && entry.has_kid(old);
        let Some(place) = self.entries.iter().position(is_old) else { return Ok(false) };
        self.check_extensible()?;
        // An entry that was moved here from another envelope must not be wrapped on.
        self.open_with(cek)?;
        if self.has_recipient(new.kid()) {
            return Ok(*new.kid() != *old && self.remove_recipient(old));
        }
        self.entries[place] = Entry::wrap(new, cek);
        self.remove_recipient(old); // if it was there twice
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use motorcade_model::SealAlgorithm;

    use super::*;
    use crate::key::{DataKey, EscrowKey, snakeoil};
    use crate::wrap;

    fn cek(envelope: &Envelope, escrow: &EscrowKey) -> Cek {
        wrap::unwrap_key(escrow, envelope.escrowed(escrow.kid()).unwrap()).unwrap()
    }

    #[test]
    fn the_new_key_opens_what_the_old_one_did_and_nothing_else_changes() {
        let (old, new, other) = (snakeoil::p256(), snakeoil::p256(), snakeoil::rsa());
        let escrow = EscrowKey::generate();
        let (data_key, algorithm) = (DataKey::generate(), SealAlgorithm::default());
        let recipients = [old.public(), other.public()];
        let before = Envelope::seal(&data_key, algorithm, &recipients, Some(&escrow)).unwrap();
        let mut after = before.clone();
        let cek = cek(&before, &escrow);
        assert!(after.replace_recipient(&cek, old.kid(), new.public()).unwrap());
        assert_eq!(after.open(&new).unwrap(), (data_key, algorithm));
        assert!(matches!(after.open(&old), Err(EnvelopeError::NoEntry { .. })));
        let kids: Vec<Kid> = after.recipients().collect();
        assert_eq!(kids, [new.kid().clone(), other.kid().clone()]);
        assert_eq!(after.for_one(other.kid()), before.for_one(other.kid()));
        assert_eq!(after.open_with_escrow(&escrow), before.open_with_escrow(&escrow));
        let whole = after.to_json_with_escrow();
        assert!(!after.replace_recipient(&cek, old.kid(), new.public()).unwrap());
        assert_eq!(after.to_json_with_escrow(), whole, "a second time changes nothing");
    }

    #[test]
    fn a_key_that_is_there_already_is_not_there_twice() {
        let (old, new, escrow) = (snakeoil::p256(), snakeoil::p256(), EscrowKey::generate());
        let recipients = [old.public(), new.public()];
        let mut envelope = Envelope::seal(
            &DataKey::generate(),
            SealAlgorithm::default(),
            &recipients,
            Some(&escrow),
        )
        .unwrap();
        let cek = cek(&envelope, &escrow);
        assert!(envelope.replace_recipient(&cek, old.kid(), new.public()).unwrap());
        assert_eq!(envelope.recipients().collect::<Vec<_>>(), [new.kid().clone()]);
        assert!(!envelope.replace_recipient(&cek, new.kid(), new.public()).unwrap());
        assert!(envelope.open(&new).is_ok());
    }

    #[test]
    fn another_envelope_s_key_wraps_nothing() {
        let (old, new, escrow) = (snakeoil::p256(), snakeoil::p256(), EscrowKey::generate());
        let seal = || {
            let data_key = DataKey::generate();
            Envelope::seal(&data_key, SealAlgorithm::default(), &[old.public()], Some(&escrow))
                .unwrap()
        };
        let (mut envelope, other) = (seal(), seal());
        let before = envelope.to_json_with_escrow();
        let refused = envelope.replace_recipient(&cek(&other, &escrow), old.kid(), new.public());
        assert_eq!(refused, Err(EnvelopeError::DoesNotOpen));
        assert_eq!(envelope.to_json_with_escrow(), before);
    }
}
