//! The keys of all roles, and the one way in which metadata is signed.
//!
//! A keyring is a pool: for which role a key was put in says who is to be appointed, and nothing of
//! who signs. Who signs is what the published metadata names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::{BackendError, Error, hybrid};
use crate::keys::policy::{Policy, key_name};
use crate::keys::source::KeySource;
use crate::model::{RepositorySide, RoleKind};
use motorcade_uptane::key::{KeyId, PublicKey};
use motorcade_uptane::metadata::{Authority, SignedFile, Unsigned};

/// A private key that signs metadata, wherever it is.
#[async_trait]
pub trait Signer: fmt::Debug + Send + Sync {
    /// Where it is, for messages: its file, say.
    fn place(&self) -> String;

    /// Where it is, as the policy names it.
    fn source(&self) -> KeySource;

    /// Why it can't be used, if that is known without asking its backend.
    fn fault(&self) -> Option<String> {
        None
    }

    /// Its file, if this server can move it away.
    fn file(&self) -> Option<&Path> {
        None
    }

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
    keys: KeysByRole,
    /// Who signs besides those that are named, while a role is handed over.
    cosigners: Cosigners,
}

/// Ids of keys by the role that they sign too.
pub type Cosigners = BTreeMap<(RepositorySide, RoleKind), BTreeSet<KeyId>>;

/// Keys by the role that they were made or declared for.
pub type KeysByRole = BTreeMap<(RepositorySide, RoleKind), Vec<Arc<dyn Signer>>>;

impl Keyring {
    /// Puts keys together. Those of the root roles may be elsewhere, and those of targets that
    /// people sign.
    ///
    /// # Errors
    ///
    /// [`Error::TooFewKeys`] if they are fewer than the policy's threshold,
    /// [`Error::SharedKey`] if one is there twice, and [`Error::Hybrid`] for keys of ML-DSA-65 that
    /// the policy does not want.
    pub fn new(keys: KeysByRole, policy: &Policy) -> Result<Self, Error> {
        let keyring = Self { keys, cosigners: BTreeMap::new() };
        for (side, kind, role) in policy.roles() {
            let (found, threshold) = (keyring.keys(side, kind).len(), role.threshold);
            if kind != RoleKind::Root && !role.offline && found < usize::from(threshold) {
                let (role, threshold) = (key_name(side, kind), threshold.into());
                return Err(Error::TooFewKeys { role, found, threshold });
            }
            let keys = keyring.public(side, kind);
            if let Some(fault) = hybrid::fault_of_pool(role.hybrid, role.threshold, &keys) {
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

    /// Has these sign too what their role signs, those of them that are here: clients then take the
    /// files before and after they learn of a change.
    pub fn cosigned_by(self, cosigners: Cosigners) -> Self {
        Self { cosigners, ..self }
    }

    /// The same keys, each as `wrap` makes it.
    pub fn map(self, wrap: impl Fn(Arc<dyn Signer>) -> Arc<dyn Signer>) -> Self {
        let wrap_all = |keys: Vec<_>| keys.into_iter().map(&wrap).collect();
        let keys = self.keys.into_iter().map(|(role, keys)| (role, wrap_all(keys)));
        Self { keys: keys.collect(), ..self }
    }

    /// Those of some keys that are here, whatever they were declared for.
    pub fn named(&self, key_ids: &BTreeSet<KeyId>) -> Vec<&Arc<dyn Signer>> {
        self.all().filter(|key| key_ids.contains(&key.id())).collect()
    }

    /// All keys.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Signer>> {
        self.keys.values().flatten()
    }

    /// Signs a file with all keys that are here of those that `authority`, which is what is
    /// published, names for its role. One that can't be reached is left out as long as there are
    /// enough others.
    ///
    /// # Errors
    ///
    /// [`Error::Metadata`] if none of these, or too few, are here; [`Error::Sign`] if too few of
    /// them sign.
    pub async fn sign(
        &self,
        side: RepositorySide,
        unsigned: Unsigned,
        authority: &Authority,
    ) -> Result<SignedFile, Error> {
        let role = unsigned.role().clone();
        let mut keys = self.named(&authority.key_ids);
        if keys.is_empty() {
            keys.extend(self.keys(side, role.kind())); // whose ids say what is wrong
        }
        let authorized = unsigned.authorize(authority, keys.iter().map(|key| key.id()))?;
        let mut signatures = Vec::with_capacity(keys.len());
        let mut failed = None;
        for key in keys {
            match key.sign(authorized.message()).await {
                Ok(signature) => signatures.push((key.id(), signature)),
                Err(source) => {
                    tracing::warn!(%role, key = key.place(), error = %source, "a key does not sign");
                    failed = Some(source);
                }
            }
        }
        if let Some(source) = failed
            && (signatures.len() as u64) < authority.threshold.max(1)
        {
            return Err(Error::Sign { role: role.to_string(), source });
        }
        self.cosign(side, role.kind(), authorized.message(), &mut signatures).await;
        Ok(authorized.into_file(signatures)?)
    }

    /// Adds the signatures of those who are to sign, or have signed, in other versions of root.
    /// Nobody needs them who can wait, so that one that is missing stops nothing.
    async fn cosign(
        &self,
        side: RepositorySide,
        kind: RoleKind,
        message: &[u8],
        signatures: &mut Vec<(KeyId, Vec<u8>)>,
    ) {
        let Some(cosigners) = self.cosigners.get(&(side, kind)) else { return };
        for key in self.named(cosigners) {
            if signatures.iter().any(|(id, _)| *id == key.id()) {
                continue;
            }
            match key.sign(message).await {
                Ok(signature) => signatures.push((key.id(), signature)),
                Err(error) => {
                    tracing::warn!(role = key_name(side, kind), key = key.place(), %error, "a key does not sign")
                }
            }
        }
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
