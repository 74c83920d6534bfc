//! Whether who comes back with a ticket still may: a resumed session is not verified by TLS, and
//! its certificate may have expired or been revoked since.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use lru::LruCache;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::verifier::Unexpired;
use crate::model::{Clock, Timestamp};

/// Judges certificates as a handshake does, by the CAs and the revocation lists that are in force.
///
/// What a verification takes longest for is signatures, which don't change: that a chain verified
/// is remembered for as long as its certificates are valid, and not beyond other CAs or lists, with
/// which there is another `Standing`.
pub(super) struct Standing {
    verifier: Arc<Unexpired>,
    clock: Arc<dyn Clock>,
    verified: Mutex<LruCache<[u8; 32], Validity>>,
}

/// From when to when all certificates of a chain are valid, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Validity {
    from: i64,
    to: i64,
}

impl Standing {
    pub(super) fn new(verifier: Arc<Unexpired>, clock: Arc<dyn Clock>) -> Self {
        Self { verifier, clock, verified: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    /// Verifies the chain of a resumed session.
    ///
    /// # Errors
    ///
    /// What a handshake with it would end with.
    pub(super) fn check(&self, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let now = self.clock.now();
        let digest = digest_of(chain.iter().map(AsRef::as_ref));
        let verified =
            self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).copied();
        if verified.is_some_and(|validity| validity.holds(now)) {
            return self.verifier.check_age();
        }
        let (end_entity, intermediates) =
            chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let at = std::time::Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
        let at = UnixTime::since_unix_epoch(at);
        self.verifier.verify_client_cert(end_entity, intermediates, at)?;
        if let Some(validity) = Validity::of(chain) {
            self.verified.lock().unwrap_or_else(PoisonError::into_inner).put(digest, validity);
        }
        Ok(())
    }
}

impl Validity {
    /// None if a certificate can't be read, which the verifier has read.
    fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let mut whole = Self { from: i64::MIN, to: i64::MAX };
        for certificate in chain {
            let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
            let validity = certificate.validity();
            whole.from = whole.from.max(validity.not_before.timestamp());
            whole.to = whole.to.min(validity.not_after.timestamp());
        }
        Some(whole)
    }

    fn holds(self, now: Timestamp) -> bool {
        (self.from..=self.to).contains(&now.as_second())
    }
}

/// For a session of a certificate when no CA is in force any more.
pub(super) fn nobody() -> Error {
    Error::InvalidCertificate(CertificateError::UnknownIssuer)
}

const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not 0"); // some 2 MiB

/// SHA-256 over parts, each after its length.
pub(super) fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
