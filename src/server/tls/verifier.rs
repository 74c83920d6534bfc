//! The check that `rustls` can't make with a grace: that the revocation lists are still good.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::model::{Clock, Timestamp};

/// Verifies client certificates as another verifier does, and refuses all of them once the
/// revocation lists are too old (RFC 5280, 6.3.3): nobody knows then which of them are revoked.
pub(super) struct Unexpired {
    verifier: Arc<dyn ClientCertVerifier>,
    until: Option<Timestamp>,
    clock: Arc<dyn Clock>,
}

impl Unexpired {
    pub(super) fn new(
        verifier: Arc<dyn ClientCertVerifier>,
        until: Option<Timestamp>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self { verifier, until, clock })
    }
}

impl Unexpired {
    /// Whether the revocation lists still count.
    ///
    /// # Errors
    ///
    /// [`CertificateError::ExpiredRevocationList`].
    pub(super) fn check_age(&self) -> Result<(), Error> {
        if self.until.is_some_and(|until| until <= self.clock.now()) {
            return Err(Error::InvalidCertificate(CertificateError::ExpiredRevocationList));
        }
        Ok(())
    }
}

impl fmt::Debug for Unexpired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unexpired")
            .field("verifier", &self.verifier)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Unexpired {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // The verifier's word first: a certificate that is bad anyway is refused for what it is.
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        self.check_age()?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
