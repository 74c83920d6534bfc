//! An envelope: who is in it, who opens it, and who comes and goes.

use std::collections::HashSet;
use std::fmt;

use motorcade_model::{SealAlgorithm, Sha256Digest};

use super::EnvelopeError;
use super::content::{Content, payload_of, read_payload};
use super::entry::Entry;
use super::protected::Protected;
use crate::key::{Cek, DataKey, EscrowKey, Kid, RecipientKey, RecipientPrivateKey};
use crate::wrap::{self, WrappedKey};

/// A data key, wrapped to recipients and to the escrow key.
#[derive(Clone)]
pub struct Envelope {
    pub(super) protected: Protected,
    pub(super) content: Content,
    pub(super) entries: Vec<Entry>,
}

impl Envelope {
    /// Most entries in one envelope.
    pub const MAX_RECIPIENTS: usize = 10_000;
    /// Most bytes of an envelope; one with [`Self::MAX_RECIPIENTS`] RSA keys of 4096 bits fits.
    pub const MAX_SIZE: usize = 8 * 1024 * 1024; // 8 MiB

    /// Wraps `data_key`, which seals an image with `algorithm`, to all `recipients`, each once, and
    /// to `escrow`. Bound to no image: see [`Self::seal_with`].
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::NoRecipients`] if nobody could open the envelope, and
    /// [`EnvelopeError::TooManyRecipients`].
    pub fn seal(
        data_key: &DataKey,
        algorithm: SealAlgorithm,
        recipients: &[&RecipientKey],
        escrow: Option<&EscrowKey>,
    ) -> Result<Self, EnvelopeError> {
        let cek = Cek::generate();
        let escrowed = escrow.map(|escrow| (escrow.kid().clone(), wrap::wrap_key(escrow, &cek)));
        Self::seal_with(&cek, (data_key, algorithm), None, recipients, escrowed)
    }

    /// The same for an escrow key that is elsewhere, which has wrapped `cek` already, and bound to
    /// the sealed image with this SHA-256. `cek` **must** be made for this envelope.
    ///
    /// # Errors
    ///
    /// The same as [`Self::seal`].
    pub fn seal_with(
        cek: &Cek,
        (data_key, algorithm): (&DataKey, SealAlgorithm),
        image: Option<Sha256Digest>,
        recipients: &[&RecipientKey],
        escrowed: Option<(Kid, WrappedKey)>,
    ) -> Result<Self, EnvelopeError> {
        let mut seen = HashSet::new();
        let recipients: Vec<_> =
            recipients.iter().filter(|recipient| seen.insert(recipient.kid())).collect();
        let entries = recipients.len() + usize::from(escrowed.is_some());
        if entries == 0 {
            return Err(EnvelopeError::NoRecipients);
        }
        check_count(entries)?;
        let protected = Protected::ours(image);
        let content =
            Content::seal(cek, &protected.additional_data(), payload_of(data_key, algorithm));
        let wrapped = recipients.into_iter().map(|recipient| Entry::wrap(recipient, cek));
        let escrowed = escrowed.map(|(kid, escrowed)| Entry::of_escrow(&kid, escrowed));
        let entries = wrapped.chain(escrowed).collect();
        Ok(Self { protected, content, entries })
    }

    /// Opens the envelope with the private key of a recipient.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::NoEntry`] if no entry is for this key, [`EnvelopeError::DoesNotOpen`] if
    /// one is but the key or the envelope is wrong, [`EnvelopeError::BadPayload`] if what is inside
    /// is not a data key.
    pub fn open(
        &self,
        key: &RecipientPrivateKey,
    ) -> Result<(DataKey, SealAlgorithm), EnvelopeError> {
        let entries = self.entries_for(key);
        if entries.is_empty() {
            return Err(EnvelopeError::NoEntry { kid: key.kid().clone() });
        }
        let plaintext = entries
            .into_iter()
            .filter_map(|entry| entry.unwrap_key(key))
            .find_map(|cek| self.content.open(&cek, &self.protected.additional_data()))
            .ok_or(EnvelopeError::DoesNotOpen)?;
        read_payload(&plaintext)
    }

    /// Opens the envelope with the escrow key.
    ///
    /// # Errors
    ///
    /// The same as [`Self::open`], with [`EnvelopeError::NoEscrowEntry`] if the entry is missing.
    pub fn open_with_escrow(
        &self,
        escrow: &EscrowKey,
    ) -> Result<(DataKey, SealAlgorithm), EnvelopeError> {
        let (_, payload) = self.recover(escrow)?;
        Ok(payload)
    }

    /// Wraps the same content encryption key to one more recipient; changes nothing if it is a
    /// recipient already.
    ///
    /// Returns whether the envelope changed.
    ///
    /// # Errors
    ///
    /// The same as [`Self::open_with_escrow`], [`EnvelopeError::TooManyRecipients`], and
    /// [`EnvelopeError::NotExtensible`] for an envelope that its maker closed.
    pub fn add_recipient(
        &mut self,
        escrow: &EscrowKey,
        recipient: &RecipientKey,
    ) -> Result<bool, EnvelopeError> {
        if self.has_recipient(recipient.kid()) {
            return Ok(false);
        }
        self.check_extensible()?;
        check_count(self.entries.len() + 1)?;
        let (cek, _) = self.recover(escrow)?;
        // In front of the escrow entry, so that the order is the same however the recipients came
        // in.
        let end = self.entries.iter().position(Entry::is_escrow).unwrap_or(self.entries.len());
        self.entries.insert(end, Entry::wrap(recipient, &cek));
        Ok(true)
    }

    /// Removes the entry of a recipient, never the escrow entry; returns whether there was one.
    ///
    /// The recipient may have kept the data key: only resealing the image takes it away.
    pub fn remove_recipient(&mut self, kid: &Kid) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.is_escrow() || !entry.has_kid(kid));
        self.entries.len() < before
    }

    /// Replaces the entry of the `old` escrow key by one for the `new`, keeping all else.
    ///
    /// An entry of the `new` key that is already there and opens is left as it is, so that a
    /// rotation can be resumed.
    ///
    /// # Errors
    ///
    /// The same as [`Self::open_with_escrow`], for the old key.
    pub fn rewrap_escrow(&mut self, old: &EscrowKey, new: &EscrowKey) -> Result<(), EnvelopeError> {
        if self.recover(new).is_err() {
            self.check_extensible()?;
            let (cek, _) = self.recover(old)?;
            self.entries.push(Entry::of_escrow(new.kid(), wrap::wrap_key(new, &cek)));
        }
        if old.kid() != new.kid() {
            self.entries.retain(|entry| entry.escrowed(old.kid()).is_none());
        }
        Ok(())
    }

    /// The recipients' names, in the order of the entries, without the escrow key.
    pub fn recipients(&self) -> impl Iterator<Item = Kid> {
        self.entries.iter().filter(|entry| !entry.is_escrow()).filter_map(Entry::kid)
    }

    /// Whether there is an entry for this recipient.
    pub fn has_recipient(&self, kid: &Kid) -> bool {
        self.entries.iter().any(|entry| !entry.is_escrow() && entry.has_kid(kid))
    }

    /// The name of the escrow key that can open this envelope.
    pub fn escrow_kid(&self) -> Option<Kid> {
        self.entries.iter().filter(|entry| entry.is_escrow()).find_map(Entry::kid)
    }

    /// Entries that `key` should try: those with its kid, or else a few whose kid says nothing.
    ///
    /// RFC 7516 section 4.1.6: `kid` is a hint, and other makers may leave it out or use names of
    /// their own.
    fn entries_for(&self, key: &RecipientPrivateKey) -> Vec<&Entry> {
        let is_fitting = |entry: &&Entry| entry.alg() == key.alg() && !entry.is_escrow();
        let fitting = || self.entries.iter().filter(is_fitting);
        let named: Vec<_> =
            fitting().filter(|entry| entry.has_kid(key.kid())).take(MAX_TRIALS).collect();
        if !named.is_empty() {
            return named;
        }
        fitting().filter(|entry| entry.kid().is_none()).take(MAX_TRIALS).collect()
    }

    /// Recovers the content encryption key through the escrow entry, and proves it on the content:
    /// an entry moved here from another envelope must not be wrapped on.
    pub(super) fn recover(
        &self,
        escrow: &EscrowKey,
    ) -> Result<(Cek, (DataKey, SealAlgorithm)), EnvelopeError> {
        let escrowed = self.escrowed(escrow.kid())?;
        let cek = wrap::unwrap_key(escrow, escrowed).ok_or(EnvelopeError::DoesNotOpen)?;
        let payload = self.open_with(&cek)?;
        Ok((cek, payload))
    }

    /// Puts the entry of the escrow key `kid`, which has wrapped `cek`, in the place of all escrow
    /// entries; this proves `cek` on the content.
    ///
    /// # Errors
    ///
    /// The same as [`Self::open_with`], and [`EnvelopeError::NotExtensible`].
    pub fn replace_escrow(
        &mut self,
        cek: &Cek,
        kid: &Kid,
        wrapped: WrappedKey,
    ) -> Result<(), EnvelopeError> {
        self.check_extensible()?;
        self.open_with(cek)?;
        self.entries.retain(|entry| !entry.is_escrow());
        self.entries.push(Entry::of_escrow(kid, wrapped));
        Ok(())
    }

    /// The content encryption key as the escrow key of that name has wrapped it.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::NoEscrowEntry`].
    pub fn escrowed(&self, kid: &Kid) -> Result<&WrappedKey, EnvelopeError> {
        let escrowed = self.entries.iter().find_map(|entry| entry.escrowed(kid));
        escrowed.ok_or_else(|| EnvelopeError::NoEscrowEntry { kid: kid.clone() })
    }

    /// Opens the envelope with its content encryption key, which this proves to be that.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::DoesNotOpen`], [`EnvelopeError::BadPayload`].
    pub fn open_with(&self, cek: &Cek) -> Result<(DataKey, SealAlgorithm), EnvelopeError> {
        let plaintext = self.content.open(cek, &self.protected.additional_data());
        read_payload(&plaintext.ok_or(EnvelopeError::DoesNotOpen)?)
    }

    pub(super) fn check_extensible(&self) -> Result<(), EnvelopeError> {
        if self.protected.is_extensible() { Ok(()) } else { Err(EnvelopeError::NotExtensible) }
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").field("entries", &self.entries).finish_non_exhaustive()
    }
}

pub(super) fn check_count(entries: usize) -> Result<(), EnvelopeError> {
    if entries > Envelope::MAX_RECIPIENTS {
        return Err(EnvelopeError::TooManyRecipients { max: Envelope::MAX_RECIPIENTS });
    }
    Ok(())
}

/// Private-key operations that one hostile envelope can cost whoever opens it.
const MAX_TRIALS: usize = 8;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jwe::entry::Holder;
    use crate::key::{encode, snakeoil};

    const ALGORITHM: SealAlgorithm = SealAlgorithm::Aes256GcmHkdf4Kb;

    fn data_key() -> DataKey {
        DataKey::from_bytes([7; 32])
    }

    fn seal(recipients: &[&RecipientPrivateKey], escrow: Option<&EscrowKey>) -> Envelope {
        let recipients: Vec<_> = recipients.iter().map(|key| key.public()).collect();
        Envelope::seal(&data_key(), ALGORITHM, &recipients, escrow).unwrap()
    }

    fn assert_opens(envelope: &Envelope, key: &RecipientPrivateKey) {
        assert_eq!(envelope.open(key).unwrap(), (data_key(), ALGORITHM));
    }

    fn content_of(envelope: &Envelope) -> Vec<u8> {
        [&envelope.content.iv[..], &envelope.content.ciphertext, &envelope.content.tag].concat()
    }

    #[test]
    fn each_algorithm_round_trips_through_each_serialization() {
        let (rsa, p256, escrow) = (snakeoil::rsa(), snakeoil::p256(), EscrowKey::generate());
        let envelope = seal(&[rsa, &p256], Some(&escrow));
        let public = Envelope::parse(envelope.public_json().unwrap().as_bytes()).unwrap();
        let whole = Envelope::parse(envelope.to_json_with_escrow().as_bytes()).unwrap();
        for key in [rsa, &p256] {
            let one = Envelope::parse(envelope.for_one(key.kid()).unwrap().to_string().as_bytes())
                .unwrap();
            assert_eq!(one.recipients().collect::<Vec<_>>(), [key.kid().clone()]);
            for envelope in [&envelope, &public, &whole, &one] {
                assert_opens(envelope, key);
            }
        }
        assert_eq!(whole.open_with_escrow(&escrow).unwrap(), (data_key(), ALGORITHM));
        assert_eq!(whole.to_json_with_escrow(), envelope.to_json_with_escrow());
        assert_eq!(whole.escrow_kid().as_ref(), Some(escrow.kid()));
    }

    #[test]
    fn reads_the_compact_serialization() {
        let key = snakeoil::p256();
        let flat = seal(&[&key], None).for_one(key.kid()).unwrap();
        let text = |member: &str| flat[member].as_str().unwrap().to_owned();
        // The header is per recipient there, so it can be read, but is not what the tag covers.
        let header =
            json!({ "alg": "ECDH-ES+A256KW", "enc": "A256GCM", "epk": flat["header"]["epk"] });
        let header = encode(header.to_string().as_bytes());
        let compact =
            [header, text("encrypted_key"), text("iv"), text("ciphertext"), text("tag")].join(".");
        let envelope = Envelope::parse(compact.as_bytes()).unwrap();
        assert_eq!(envelope.open(&key).unwrap_err(), EnvelopeError::DoesNotOpen);
        let mut closed = envelope.clone();
        let escrow = EscrowKey::generate();
        assert_eq!(
            closed.add_recipient(&escrow, snakeoil::p256().public()),
            Err(EnvelopeError::NotExtensible)
        );
    }

    #[test]
    fn wrong_keys_learn_nothing_but_that() {
        let (rsa, p256) = (snakeoil::rsa(), snakeoil::p256());
        let envelope = seal(&[rsa, &p256], None);
        let stranger = snakeoil::p256();
        let expected = EnvelopeError::NoEntry { kid: stranger.kid().clone() };
        assert_eq!(envelope.open(&stranger).unwrap_err(), expected);

        for key in [rsa, &p256] {
            // Damage to the wrapped key and to the content look the same.
            let mut wrapped = envelope.clone();
            for entry in &mut wrapped.entries {
                match &mut entry.wrapped {
                    WrappedKey::RsaOaep256(bytes) => bytes[200] ^= 1,
                    WrappedKey::EcdhEsA256kw(agreed) => agreed.encrypted_key[20] ^= 1,
                    WrappedKey::A256gcmkw(_) | WrappedKey::A256kw(_) => {}
                }
            }
            let mut content = envelope.clone();
            content.content.tag[0] ^= 1;
            assert_eq!(wrapped.open(key).unwrap_err(), EnvelopeError::DoesNotOpen);
            assert_eq!(content.open(key).unwrap_err(), EnvelopeError::DoesNotOpen);
        }
    }

    #[test]
    fn entries_without_a_name_are_tried_but_not_without_end() {
        let key = snakeoil::p256();
        let mut envelope = seal(&[&key], None);
        envelope.entries[0].kid = Some("gateway-7".to_owned());
        assert_opens(&envelope, &key);
        envelope.entries[0].kid = None;
        assert_opens(&envelope, &key);
        let mut other = seal(&[&snakeoil::p256()], None).entries.remove(0);
        other.kid = None;
        for _ in 0..MAX_TRIALS {
            envelope.entries.insert(0, other.clone());
        }
        assert_eq!(envelope.open(&key).unwrap_err(), EnvelopeError::DoesNotOpen);
    }

    #[test]
    fn many_recipients_open_their_own_entry() {
        let keys: Vec<_> = (0..100).map(|_| snakeoil::p256()).collect();
        let envelope = seal(&keys.iter().collect::<Vec<_>>(), Some(&EscrowKey::generate()));
        let envelope = Envelope::parse(envelope.public_json().unwrap().as_bytes()).unwrap();
        assert_eq!(envelope.recipients().count(), 100);
        keys.iter().for_each(|key| assert_opens(&envelope, key));
    }

    #[test]
    fn the_largest_envelope_can_be_read_again() {
        let key = snakeoil::p256();
        let mut envelope = seal(&[&key], None);
        let entry = Entry {
            kid: Some(key.kid().to_string()),
            wrapped: WrappedKey::RsaOaep256(vec![0xff; 512]),
            holder: Holder::Recipient,
        };
        envelope.entries = vec![entry; Envelope::MAX_RECIPIENTS];
        let json = envelope.public_json().unwrap();
        assert_eq!(
            Envelope::parse(json.as_bytes()).unwrap().entries.len(),
            Envelope::MAX_RECIPIENTS
        );
    }

    #[test]
    fn too_many_recipients_are_refused() {
        let (key, escrow) = (snakeoil::p256(), EscrowKey::generate());
        let mut envelope = seal(&[&key], Some(&escrow));
        let entry = envelope.entries.remove(0);
        let full = std::iter::repeat_n(entry, Envelope::MAX_RECIPIENTS - 1);
        envelope.entries.splice(0..0, full);
        let error = envelope.add_recipient(&escrow, snakeoil::p256().public()).unwrap_err();
        assert_eq!(error, EnvelopeError::TooManyRecipients { max: Envelope::MAX_RECIPIENTS });
    }

    #[test]
    fn recipients_are_taken_once_and_someone_must_be_there() {
        let (key, escrow) = (snakeoil::p256(), EscrowKey::generate());
        assert_eq!(seal(&[&key, &key], None).entries.len(), 1);
        let nobody = Envelope::seal(&data_key(), ALGORITHM, &[], None).unwrap_err();
        assert_eq!(nobody, EnvelopeError::NoRecipients);
        let envelope = seal(&[], Some(&escrow));
        assert_eq!(envelope.public_json().unwrap_err(), EnvelopeError::NoRecipients);
        assert!(envelope.open_with_escrow(&escrow).is_ok());
    }

    #[test]
    fn adding_and_removing_changes_only_the_entries() {
        let (first, second, rsa) = (snakeoil::p256(), snakeoil::p256(), snakeoil::rsa());
        let escrow = EscrowKey::generate();
        let mut envelope = seal(&[&first], Some(&escrow));
        let (content, before) = (content_of(&envelope), envelope.to_json_with_escrow());
        for key in [&second, rsa] {
            assert_eq!(envelope.add_recipient(&escrow, key.public()), Ok(true));
            assert_eq!(envelope.add_recipient(&escrow, key.public()), Ok(false));
        }
        for key in [&first, &second, rsa] {
            assert_opens(&envelope, key);
        }
        assert_eq!(content_of(&envelope), content);
        assert!(envelope.remove_recipient(second.kid()));
        assert!(!envelope.remove_recipient(second.kid()));
        assert!(!envelope.has_recipient(second.kid()));
        assert!(envelope.open(&second).is_err());
        assert!(envelope.remove_recipient(rsa.kid()));
        assert_eq!(envelope.to_json_with_escrow(), before);
    }

    #[test]
    fn the_escrow_entry_stays_on_the_server() {
        let (key, escrow) = (snakeoil::p256(), EscrowKey::generate());
        let mut envelope = seal(&[&key], Some(&escrow));
        let kid = escrow.kid();
        let one = envelope.for_one(key.kid()).unwrap().to_string();
        let fresh = envelope
            .for_recipient_via_escrow(&escrow, snakeoil::p256().public())
            .unwrap()
            .to_string();
        for text in [envelope.public_json().unwrap(), one, fresh] {
            assert!(!text.contains(kid.as_str()) && !text.contains("A256GCMKW"), "{text}");
        }
        assert!(envelope.to_json_with_escrow().contains(kid.as_str()));
        assert!(envelope.for_one(kid).is_none());
        assert!(!envelope.has_recipient(kid));
        assert!(!envelope.remove_recipient(kid));
        assert!(envelope.recipients().all(|recipient| recipient != *kid));
    }

    #[test]
    fn a_stranger_gets_an_envelope_through_the_escrow_key() {
        let escrow = EscrowKey::generate();
        let envelope = seal(&[&snakeoil::p256()], Some(&escrow));
        let before = envelope.to_json_with_escrow();
        for key in [snakeoil::rsa(), &snakeoil::p256()] {
            let flat = envelope.for_recipient_via_escrow(&escrow, key.public()).unwrap();
            assert_opens(&Envelope::parse(flat.to_string().as_bytes()).unwrap(), key);
        }
        assert_eq!(envelope.to_json_with_escrow(), before);
    }

    #[test]
    fn escrow_rotation_keeps_the_rest_and_can_be_repeated() {
        let (key, old, new) = (snakeoil::p256(), EscrowKey::generate(), EscrowKey::generate());
        let mut envelope = seal(&[&key], Some(&old));
        let (content, public) = (content_of(&envelope), envelope.public_json());
        for _ in 0..2 {
            envelope.rewrap_escrow(&old, &new).unwrap();
            assert_eq!(
                (content_of(&envelope), envelope.public_json()),
                (content.clone(), public.clone())
            );
            assert_eq!(envelope.entries.len(), 2);
        }
        envelope.rewrap_escrow(&new, &new).unwrap();
        assert!(envelope.open_with_escrow(&new).is_ok());
        let gone = EnvelopeError::NoEscrowEntry { kid: old.kid().clone() };
        assert_eq!(envelope.open_with_escrow(&old).unwrap_err(), gone);
        assert_eq!(envelope.rewrap_escrow(&old, &EscrowKey::generate()), Err(gone));
    }

    #[test]
    fn an_escrow_entry_from_another_envelope_is_not_wrapped_on() {
        let (key, escrow) = (snakeoil::p256(), EscrowKey::generate());
        let mut envelope = seal(&[&key], Some(&escrow));
        envelope.entries[1] = seal(&[&key], Some(&escrow)).entries.remove(1);
        let added = envelope.add_recipient(&escrow, snakeoil::p256().public());
        assert_eq!(added, Err(EnvelopeError::DoesNotOpen));
    }

    #[test]
    fn every_envelope_has_its_own_key_and_iv() {
        let key = snakeoil::p256();
        let (first, second) = (seal(&[&key], None), seal(&[&key], None));
        assert_ne!(first.content.iv, second.content.iv);
        assert_ne!(first.content.ciphertext, second.content.ciphertext);
    }

    #[test]
    fn the_serialization_is_the_one_documented() {
        let key = snakeoil::p256();
        let json: Value =
            serde_json::from_str(&seal(&[&key], None).public_json().unwrap()).unwrap();
        assert_eq!(json["protected"], encode(br#"{"cty":"jwk+json","enc":"A256GCM"}"#));
        let names: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(names, ["ciphertext", "iv", "protected", "recipients", "tag"]);
        let header = json["recipients"][0]["header"].as_object().unwrap();
        assert_eq!(header.keys().collect::<Vec<_>>(), ["alg", "epk", "kid"]);
        assert_eq!(header["kid"], key.kid().as_str());
    }
}
