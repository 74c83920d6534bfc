//! The role keys of a server as it uses them: each signature is counted, and it is known which keys
//! can't be used, be they in a token that is away or whose PIN is wrong.
//!
//! What only such a key can sign is refused with 503 until it can be used again; what is signed
//! stays served.

mod measured;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::OnceCell;

use super::Error;
use crate::keys::{self, Keyring, Signer};
use crate::telemetry::{Chain, Metrics};
use crate::uptane::key::KeyId;
use crate::uptane::metadata::Authority;
use measured::{Measured, SigningHealth};

/// Knows of the role keys whether they can be used.
#[derive(Debug)]
pub struct Signing {
    metrics: Arc<Metrics>,
    health: Arc<SigningHealth>,
    /// Set once all keys that are elsewhere were tried: nobody may have used them since the start.
    tried: OnceCell<()>,
}

impl Signing {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, health: Arc::default(), tried: OnceCell::new() }
    }

    /// Has the use of a keyring's keys counted.
    pub(super) fn measured(&self, keyring: Keyring) -> Keyring {
        keyring.map(|key| {
            let (metrics, health) = (Arc::clone(&self.metrics), Arc::clone(&self.health));
            Arc::new(Measured::new(key, metrics, health))
        })
    }

    /// The keys that can't be used, with the reason; those that failed are tried again.
    pub(super) async fn failing(&self, keyring: &Keyring) -> BTreeMap<KeyId, String> {
        let remote = || keyring.all().filter(|key| key.source().is_remote());
        self.tried.get_or_init(|| try_keys(remote())).await;
        try_keys(remote().filter(|key| self.health.is_due(key.id()))).await;
        let fault = |key: &Arc<dyn Signer>| Some((key.id(), self.health.fault(key.id())?));
        keyring.all().filter_map(fault).collect()
    }

    /// Refuses at once what could not be signed a moment ago either, before anything is spent on
    /// it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub(super) fn refuse_resting(
        &self,
        keyring: &Keyring,
        authorities: [&Authority; 3],
    ) -> Result<(), Error> {
        let rests = |authority: &Authority| {
            let keys = keyring.named(&authority.key_ids);
            let usable = keys.iter().filter(|key| !self.health.is_resting(key.id())).count();
            usable < keys.len() && (usable as u64) < authority.threshold
        };
        if authorities.into_iter().any(rests) { Err(unavailable()) } else { Ok(()) }
    }
}

/// Has each key sign; what comes of it is noted where they are measured.
async fn try_keys<'a>(keys: impl Iterator<Item = &'a Arc<dyn Signer>>) {
    join_all(keys.map(|key| key.sign(TRIAL))).await;
}

/// What a failure to sign is to whoever asked: a key that can't be used is waited for.
pub(super) fn signing_failed(op: &'static str) -> impl FnOnce(keys::Error) -> Error {
    move |error| match error {
        keys::Error::Sign { role, source } => {
            tracing::error!(role, error = %Chain(source.as_ref()), "a role can't be signed");
            unavailable()
        }
        other => Error::internal(op)(other),
    }
}

fn unavailable() -> Error {
    let detail = "a key that has to sign this can't be used at the moment: try again later; GET /readyz says which one";
    Error::Unavailable { code: KEY_UNAVAILABLE, detail: detail.into() }
}

/// The code of what waits for a role key.
pub(super) const KEY_UNAVAILABLE: &str = "role_key_unavailable";
/// No metadata, and nothing that anybody could take for some.
const TRIAL: &[u8] = b"motorcade: a role key signs this to show that it can be used";
