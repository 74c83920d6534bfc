//! Role keys whose use is counted, and of which it is known whether they can be used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::keys::source::KeySource;
use crate::keys::{BackendError, Signer};
use crate::telemetry::{Chain, KeyBackend, Metrics};
use crate::uptane::key::{KeyId, PublicKey};

/// Which role keys can't be used at the moment.
#[derive(Debug, Default)]
pub(super) struct SigningHealth {
    faults: Mutex<BTreeMap<KeyId, Fault>>,
}

#[derive(Debug)]
struct Fault {
    reason: String,
    /// When it was tried last.
    tried: Instant,
}

impl SigningHealth {
    /// Why a key can't be used, if it failed the last time.
    pub(super) fn fault(&self, key: KeyId) -> Option<String> {
        self.faults().get(&key).map(|fault| fault.reason.clone())
    }

    /// Whether a key failed, and was not tried for a while.
    pub(super) fn is_due(&self, key: KeyId) -> bool {
        self.faults().get(&key).is_some_and(|fault| fault.tried.elapsed() >= TRY_INTERVAL)
    }

    /// Whether a key failed a moment ago, so that it is not asked now.
    pub(super) fn is_resting(&self, key: KeyId) -> bool {
        self.faults().get(&key).is_some_and(|fault| fault.tried.elapsed() < REST)
    }

    /// Why a key is not asked now. Whoever is told nothing asks it, alone: a token that does not
    /// answer keeps one waiting and not all.
    fn rest(&self, key: KeyId) -> Option<String> {
        let mut faults = self.faults();
        let fault = faults.get_mut(&key)?;
        if fault.tried.elapsed() < REST {
            return Some(fault.reason.clone());
        }
        fault.tried = Instant::now();
        None
    }

    fn note(&self, key: &dyn Signer, outcome: &Result<Vec<u8>, BackendError>) {
        let mut faults = self.faults();
        match outcome {
            Ok(_) => {
                if faults.remove(&key.id()).is_some() {
                    tracing::info!(key = key.place(), "a role key can be used again");
                }
            }
            Err(error) => {
                let (reason, tried) = (Chain(error.as_ref()).to_string(), Instant::now());
                faults.insert(key.id(), Fault { reason, tried });
            }
        }
    }

    fn faults(&self) -> MutexGuard<'_, BTreeMap<KeyId, Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A role key whose use is counted.
#[derive(Debug)]
pub(super) struct Measured {
    key: Arc<dyn Signer>,
    backend: KeyBackend,
    metrics: Arc<Metrics>,
    health: Arc<SigningHealth>,
}

impl Measured {
    pub(super) fn new(
        key: Arc<dyn Signer>,
        metrics: Arc<Metrics>,
        health: Arc<SigningHealth>,
    ) -> Self {
        let backend = match key.source() {
            KeySource::File(_) => KeyBackend::File,
            KeySource::Pkcs11(_) => KeyBackend::Pkcs11,
            KeySource::AwsKms(_) => KeyBackend::AwsKms,
        };
        Self { key, backend, metrics, health }
    }
}

#[async_trait]
impl Signer for Measured {
    fn place(&self) -> String {
        self.key.place()
    }

    fn source(&self) -> KeySource {
        self.key.source()
    }

    fn fault(&self) -> Option<String> {
        self.key.fault()
    }

    fn file(&self) -> Option<&Path> {
        self.key.file()
    }

    fn public(&self) -> &PublicKey {
        self.key.public()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        if let Some(reason) = self.health.rest(self.key.id()) {
            return Err(reason.into());
        }
        let started = Instant::now();
        let signed = self.key.sign(message).await;
        self.metrics.keys().add_signature(self.backend, started.elapsed());
        if signed.is_err() {
            self.metrics.keys().add_signature_failure(self.backend);
        }
        self.health.note(self.key.as_ref(), &signed);
        signed
    }
}

/// A key that failed is tried again when somebody asks for readiness, and not more often: an HSM
/// that comes back has enough to do.
const TRY_INTERVAL: Duration = Duration::from_secs(5);
/// For so long after a failure a key is not asked, whoever wants its signature.
const REST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use crate::uptane::key::{Scheme, SigningKey};

    /// A key in a token that comes and goes.
    #[derive(Debug)]
    struct Fickle {
        public: PublicKey,
        is_away: AtomicBool,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Signer for Fickle {
        fn place(&self) -> String {
            self.source().to_string()
        }

        fn source(&self) -> KeySource {
            KeySource::Pkcs11("pkcs11:token=a;object=b".into())
        }

        fn public(&self) -> &PublicKey {
            &self.public
        }

        async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, BackendError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.is_away.load(Ordering::Relaxed) { Err("away".into()) } else { Ok(vec![1]) }
        }
    }

    #[tokio::test]
    async fn a_key_that_failed_rests_and_is_then_asked_again() {
        let pem = SigningKey::generate_pem(Scheme::Ed25519).unwrap();
        let public = SigningKey::from_pem(&pem).unwrap().public().as_named().unwrap();
        let (is_away, asked) = (AtomicBool::new(true), AtomicUsize::new(0));
        let key = Arc::new(Fickle { public, is_away, asked });
        let (metrics, health) = (Arc::new(Metrics::new("0")), Arc::<SigningHealth>::default());
        let measured =
            Measured::new(Arc::clone(&key) as Arc<dyn Signer>, metrics, Arc::clone(&health));
        for _ in 0..5 {
            assert_eq!(measured.sign(b"m").await.unwrap_err().to_string(), "away");
        }
        assert_eq!(key.asked.load(Ordering::Relaxed), 1);
        assert!(health.is_resting(key.id()) && !health.is_due(key.id()));
        assert_eq!(health.fault(key.id()).as_deref(), Some("away"));

        key.is_away.store(false, Ordering::Relaxed);
        tokio::time::sleep(REST).await;
        assert_eq!(measured.sign(b"m").await.unwrap(), [1]);
        assert_eq!(health.fault(key.id()), None);
    }
}
