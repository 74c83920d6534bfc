//! The keys of all roles, and the one way in which metadata is signed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{BackendError, Error, hybrid};
use crate::keys::policy::{Policy, key_name};
use crate::model::{RepositorySide, RoleKind};
use motorcade_uptane::key::{KeyId, PublicKey};
use motorcade_uptane::metadata::{Authority, SignedFile, Unsigned};

/// A private key that signs metadata, wherever it is.
#[async_trait]
pub trait Signer: fmt::Debug + Send + Sync {
    /// Where it is, for messages: its file, say.
    fn place(&self) -> String;

    /// The public half.
    fn public(&self) -> &PublicKey;

    /// The key id (TUF 1.0.34, 4.2.1).
    fn id(&self) -> KeyId {
        self.public().id()
    }

    /// Signs a message. **Must not** hold the executor up.
    ///
    /// # Errors
    ///
    /// Whatever the backend says.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BackendError>;
}

/// The keys of all roles that can be reached from here.
#[derive(Debug)]
pub struct Keyring {
    keys: BTreeMap<(RepositorySide, RoleKind), Vec<Arc<dyn Signer>>>,
}

impl Keyring {
    /// Puts keys together. Those of the root roles may be elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::TooFewKeys`] if they are fewer than the policy's threshold,
    /// [`Error::SharedKey`] if one is there twice, and [`Error::Hybrid`] for keys of ML-DSA-65 that
    /// the policy does not want.
    pub fn new(
        keys: BTreeMap<(RepositorySide, RoleKind), Vec<Arc<dyn Signer>>>,
        policy: &Policy,
    ) -> Result<Self, Error> {
        let keyring = Self { keys };
        for (side, kind, role) in policy.roles() {
            let (found, threshold) = (keyring.keys(side, kind).len(), role.threshold);
            if kind != RoleKind::Root && found < usize::from(threshold) {
                let (role, threshold) = (key_name(side, kind), threshold.into());
                return Err(Error::TooFewKeys { role, found, threshold });
            }
            let keys = keyring.public(side, kind);
            if let Some(fault) = hybrid::fault_of_keys(role.hybrid, role.threshold, &keys) {
                return Err(Error::Hybrid { role: key_name(side, kind), fault });
            }
        }
        keyring.refuse_shared_keys()?;
        Ok(keyring)
    }

    /// The keys of a kind of roles.
    pub fn keys(&self, side: RepositorySide, kind: RoleKind) -> &[Arc<dyn Signer>] {
        self.keys.get(&(side, kind)).map_or(&[], Vec::as_slice)
    }

    /// The public halves of a kind of roles' keys.
    pub fn public(&self, side: RepositorySide, kind: RoleKind) -> Vec<&PublicKey> {
        self.keys(side, kind).iter().map(|key| key.public()).collect()
    }

    /// Whether a public key, as PEM, is one of these: a key that signs must not decrypt too.
    pub fn has_public_pem(&self, pem: &str) -> bool {
        self.keys.values().flatten().any(|key| key.public().is_same_as_pem(pem))
    }

    /// Signs a file with every key of its role. `authority` is what is published: a key that was
    /// exchanged signs nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Metadata`] if these are not the keys that `authority` names, or too few of them;
    /// [`Error::Sign`] if a signer refuses.
    pub async fn sign(
        &self,
        side: RepositorySide,
        unsigned: Unsigned,
        authority: &Authority,
    ) -> Result<SignedFile, Error> {
        let role = unsigned.role().clone();
        let keys = self.keys(side, role.kind());
        let authorized = unsigned.authorize(authority, keys.iter().map(|key| key.id()))?;
        let mut signatures = Vec::with_capacity(keys.len());
        for key in keys {
            let signature = key.sign(authorized.message()).await;
            let failed = |source| Error::Sign { role: role.to_string(), source };
            signatures.push((key.id(), signature.map_err(failed)?));
        }
        Ok(authorized.into_file(signatures)?)
    }

    fn refuse_shared_keys(&self) -> Result<(), Error> {
        let mut seen: Vec<(&PublicKey, String)> = Vec::new();
        for ((side, kind), keys) in &self.keys {
            let role = key_name(*side, *kind);
            for key in keys.iter().map(|key| key.public()) {
                // Not by its id: one key counts once, however it is written (TUF 1.0.34, 5.3.4).
                if let Some((_, first)) = seen.iter().find(|(other, _)| other.is_same_key(key)) {
                    let (key_id, first) = (key.id().to_string(), first.clone());
                    return Err(Error::SharedKey { key_id, first, second: role });
                }
                seen.push((key, role.clone()));
            }
        }
        Ok(())
    }
}
