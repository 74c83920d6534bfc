//! Binding an envelope to its sealed image (docs/FORMAT.md, 6.8).
//!
//! The SHA-256 of the sealed image is a parameter of the protected header, which the content's tag
//! covers: who can't open the envelope can't change it, and it is read without a key. It says
//! nothing of who made the envelope.

use motorcade_model::Sha256Digest;

use super::EnvelopeError;
use super::content::{Content, read_payload};
use super::envelope::Envelope;
use super::protected::Protected;
use crate::key::Cek;

impl Envelope {
    /// The SHA-256 of the sealed image that this envelope is bound to; none if it was made before
    /// envelopes were bound. Proven only by opening the envelope.
    pub fn image(&self) -> Option<Sha256Digest> {
        self.protected.image
    }

    /// Checks that the envelope is not bound to another image than the one whose sealed bytes have
    /// this SHA-256.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::OtherImage`].
    pub fn check_image(&self, image: &Sha256Digest) -> Result<(), EnvelopeError> {
        match self.protected.image {
            Some(found) if found != *image => {
                Err(EnvelopeError::OtherImage { expected: *image, found })
            }
            _ => Ok(()),
        }
    }

    /// Binds an envelope from before to its image, with its content encryption key, which this
    /// proves to be that. Recipients and their entries stay; the content is encrypted again.
    ///
    /// Returns whether the envelope changed.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::OtherImage`]; [`EnvelopeError::NotExtensible`] for an envelope that its
    /// maker closed; the same as [`Self::open_with`].
    pub fn bind(&mut self, cek: &Cek, image: Sha256Digest) -> Result<bool, EnvelopeError> {
        self.check_image(&image)?;
        if self.protected.image.is_some() {
            return Ok(false);
        }
        self.check_extensible()?;
        let payload = self
            .content
            .open(cek, &self.protected.additional_data())
            .ok_or(EnvelopeError::DoesNotOpen)?;
        read_payload(&payload)?;
        let protected = Protected::ours(Some(image));
        // A second message under one key: its iv is another random one, which is what GCM asks for.
        self.content = Content::seal_again(cek, &protected.additional_data(), &payload);
        self.protected = protected;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use motorcade_model::SealAlgorithm;

    use super::*;
    use crate::key::{DataKey, EscrowKey, RecipientKey, RecipientPrivateKey, snakeoil};
    use crate::wrap::{self, WrappedKey};

    const ALGORITHM: SealAlgorithm = SealAlgorithm::Aes256GcmHkdf1Mb;
    const IMAGE: Sha256Digest = Sha256Digest::from_bytes([0xab; 32]);
    const OTHER: Sha256Digest = Sha256Digest::from_bytes([0xcd; 32]);

    fn seal(
        key: &RecipientPrivateKey,
        escrow: &EscrowKey,
        image: Option<Sha256Digest>,
    ) -> Envelope {
        let (cek, data_key) = (Cek::generate(), DataKey::from_bytes([7; 32]));
        let escrowed = (escrow.kid().clone(), wrap::wrap_key(escrow, &cek));
        let recipients = [key.public()];
        Envelope::seal_with(&cek, (&data_key, ALGORITHM), image, &recipients, Some(escrowed))
            .unwrap()
    }

    fn again(envelope: &Envelope) -> Envelope {
        Envelope::parse(envelope.to_json_with_escrow().as_bytes()).unwrap()
    }

    #[test]
    fn a_bound_envelope_names_its_image_in_every_serialization() {
        let (key, escrow) = (snakeoil::p256(), EscrowKey::generate());
        let envelope = seal(&key, &escrow, Some(IMAGE));
        let one = envelope.for_one(key.kid()).unwrap().to_string();
        for text in [envelope.to_json_with_escrow(), envelope.public_json().unwrap(), one] {
            let envelope = Envelope::parse(text.as_bytes()).unwrap();
            assert_eq!(envelope.image(), Some(IMAGE));
            envelope.check_image(&IMAGE).unwrap();
            let other = EnvelopeError::OtherImage { expected: OTHER, found: IMAGE };
            assert_eq!(envelope.check_image(&OTHER), Err(other));
            assert!(envelope.open(&key).is_ok());
        }
    }

    #[test]
    fn a_changed_binding_does_not_open() {
        let (key, escrow) = (snakeoil::p256(), EscrowKey::generate());
        for (from, to) in [(Some(IMAGE), Some(OTHER)), (Some(IMAGE), None), (None, Some(IMAGE))] {
            let mut envelope = seal(&key, &escrow, from);
            envelope.protected = Protected::ours(to);
            let envelope = again(&envelope);
            assert_eq!(envelope.image(), to);
            assert_eq!(envelope.open(&key).unwrap_err(), EnvelopeError::DoesNotOpen);
            assert_eq!(envelope.open_with_escrow(&escrow).unwrap_err(), EnvelopeError::DoesNotOpen);
        }
    }

    #[test]
    fn an_envelope_from_before_is_bound_once_and_keeps_its_recipients() {
        let (key, escrow) = (snakeoil::p256(), EscrowKey::generate());
        let mut envelope = seal(&key, &escrow, None);
        envelope.check_image(&OTHER).unwrap();
        let (cek, opened) = envelope.recover(&escrow).unwrap();
        let before = envelope.content.clone();
        assert_eq!(envelope.bind(&Cek::generate(), IMAGE), Err(EnvelopeError::DoesNotOpen));
        assert_eq!(envelope.bind(&cek, IMAGE), Ok(true));
        assert_eq!(envelope.bind(&cek, IMAGE), Ok(false));
        let other = EnvelopeError::OtherImage { expected: OTHER, found: IMAGE };
        assert_eq!(envelope.bind(&cek, OTHER), Err(other));
        assert_ne!(envelope.content.iv, before.iv);
        let envelope = again(&envelope);
        assert_eq!(envelope.image(), Some(IMAGE));
        assert_eq!(envelope.open(&key).unwrap(), opened);
        assert_eq!(envelope.open_with_escrow(&escrow).unwrap(), opened);
    }

    #[test]
    fn a_binding_outside_of_the_protected_header_binds_nothing() {
        let (key, escrow) = (snakeoil::p256(), EscrowKey::generate());
        let text = seal(&key, &escrow, None).to_json_with_escrow();
        let unprotected = format!(r#"{{"unprotected":{{"sealed_sha256":"{IMAGE}"}},"#);
        let envelope = Envelope::parse(text.replacen('{', &unprotected, 1).as_bytes()).unwrap();
        assert_eq!(envelope.image(), None);
    }

    #[test]
    fn a_binding_that_is_no_digest_is_refused() {
        let (key, escrow) = (snakeoil::p256(), EscrowKey::generate());
        let text = seal(&key, &escrow, None).to_json_with_escrow();
        let encoded = |header: &str| crate::key::encode(header.as_bytes());
        let (ours, bad) = (
            encoded(r#"{"cty":"jwk+json","enc":"A256GCM"}"#),
            encoded(r#"{"cty":"jwk+json","enc":"A256GCM","sealed_sha256":"AB"}"#),
        );
        assert!(text.contains(&ours));
        let error = Envelope::parse(text.replace(&ours, &bad).as_bytes()).unwrap_err();
        let place = "the protected header".to_owned();
        assert_eq!(error, EnvelopeError::BadMember { place, member: "sealed_sha256" });
    }

    #[test]
    fn an_escrow_entry_of_a_recipients_kind_stays_on_the_server() {
        let (key, token) = (snakeoil::p256(), snakeoil::p256());
        let cek = Cek::generate();
        let public: &RecipientKey = token.public();
        let escrowed = [
            (public.kid().clone(), WrappedKey::to_public(public, &cek)),
            (EscrowKey::generate().kid().clone(), WrappedKey::A256kw([5; 40])),
        ];
        for (kid, wrapped) in escrowed {
            let data_key = DataKey::from_bytes([7; 32]);
            let sealed =
                Envelope::seal_with(&cek, (&data_key, ALGORITHM), None, &[key.public()], None);
            let mut envelope = sealed.unwrap();
            envelope.replace_escrow(&cek, &kid, wrapped).unwrap();
            let mut envelope = again(&envelope);
            assert_eq!(envelope.escrow_kid(), Some(kid.clone()));
            assert_eq!(envelope.recipients().collect::<Vec<_>>(), [key.kid().clone()]);
            assert!(envelope.escrowed(&kid).is_ok() && !envelope.has_recipient(&kid));
            assert!(!envelope.public_json().unwrap().contains(kid.as_str()));
            assert!(envelope.for_one(&kid).is_none() && !envelope.remove_recipient(&kid));
            assert!(matches!(envelope.open(&token), Err(EnvelopeError::NoEntry { .. })));
            assert_eq!(again(&envelope).to_json_with_escrow(), envelope.to_json_with_escrow());
        }
    }

    #[test]
    fn a_token_that_agrees_on_the_secret_unwraps() {
        let key = snakeoil::p256();
        let cek = Cek::generate();
        let WrappedKey::EcdhEsA256kw(agreed) = WrappedKey::to_public(key.public(), &cek) else {
            panic!("a key on P-256")
        };
        let crate::key::PrivateMaterial::P256(secret) = key.material() else { panic!("P-256") };
        let point = p256::PublicKey::from_sec1_bytes(&agreed.ephemeral_point()).unwrap();
        let z = p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), point.as_affine());
        let unwrapped = agreed.unwrap_with(z.raw_secret_bytes()).unwrap();
        assert_eq!(unwrapped.as_bytes(), cek.as_bytes());
        assert!(agreed.unwrap_with(&[1; 32]).is_none());
    }
}
