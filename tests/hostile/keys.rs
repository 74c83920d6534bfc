//! Keys of metadata roles, as their thieves would hold them.

use std::sync::Arc;

use motorcade::uptane::canonical::canonical;
use motorcade::uptane::key::{Scheme, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A signing key under some id, which need not be its own.
#[derive(Clone)]
pub(crate) struct Key {
    pair: Arc<SigningKey>,
    pub(crate) id: String,
    pub(crate) object: Value,
}

impl Key {
    /// Makes an Ed25519 key.
    pub(crate) fn generate() -> Self {
        Self::generate_of(Scheme::Ed25519)
    }

    pub(crate) fn generate_of(scheme: Scheme) -> Self {
        let pair = SigningKey::from_pem(&SigningKey::generate_pem(scheme).unwrap()).unwrap();
        let (id, object) = (pair.public().id().to_string(), pair.public().object().clone());
        Self { pair: Arc::new(pair), id, object }
    }

    /// The same key under a second id that is correct, too: its object has one member more.
    pub(crate) fn alias(&self) -> Self {
        let mut object = self.object.clone();
        object["comment"] = json!("the same key");
        let id = hex::encode(Sha256::digest(canonical(&object).unwrap()));
        Self { id, object, ..self.clone() }
    }

    /// The same key under an id that is not its own.
    pub(crate) fn named(&self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self.clone() }
    }

    /// An entry of `signatures` over the canonical form of `signed`.
    pub(crate) fn sign(&self, message: &[u8]) -> Value {
        json!({ "keyid": self.id, "sig": hex::encode(self.pair.sign(message)) })
    }
}

/// The keys of one role and its threshold, which can be any JSON value.
#[derive(Clone)]
pub(crate) struct RoleKeys {
    pub(crate) keys: Vec<Key>,
    pub(crate) threshold: Value,
}

impl RoleKeys {
    /// Three keys, of which two must sign.
    pub(crate) fn generate() -> Self {
        Self { keys: (0..3).map(|_| Key::generate()).collect(), threshold: json!(2) }
    }

    /// One key, which must sign.
    pub(crate) fn single() -> Self {
        Self { keys: vec![Key::generate()], threshold: json!(1) }
    }

    /// As many keys as the threshold asks for, and one if it asks for nonsense.
    pub(crate) fn signers(&self) -> Vec<Key> {
        let count = self.threshold.as_u64().unwrap_or(1).clamp(1, self.keys.len() as u64);
        self.keys[..count as usize].to_vec()
    }

    pub(crate) fn key_ids(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }

    /// `{"keyids": […], "threshold": …}`, as in root and in delegations.
    pub(crate) fn role_object(&self) -> Value {
        json!({ "keyids": self.key_ids(), "threshold": self.threshold })
    }
}

/// The `keys` object of a root or of delegations.
pub(crate) fn key_objects<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Value {
    keys.into_iter().map(|key| (key.id.clone(), key.object.clone())).collect::<serde_json::Map<_, _>>().into()
}
