//! Keys of metadata roles, as their thieves would hold them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

    /// The same key in another encoding, under an id that is correct, too.
    ///
    /// P-256: the bare point, the same with one coordinate, and the older name of the key type.
    /// RSA: PKCS#1. Both: bytes after the end, and white space.
    pub(crate) fn other_encodings(&self) -> Vec<(&'static str, Self)> {
        let pem = self.object["keyval"]["public"].as_str().unwrap();
        let Some(body) = pem.strip_prefix("-----BEGIN PUBLIC KEY-----") else { return Vec::new() };
        let body: String = body.split("-----").next().unwrap().split_whitespace().collect();
        let der = STANDARD.decode(body).unwrap();
        let with = |change: &dyn Fn(&mut Value)| {
            let mut object = self.object.clone();
            change(&mut object);
            let id = hex::encode(Sha256::digest(canonical(&object).unwrap()));
            Self { id, object, ..self.clone() }
        };
        let with_der = |der: &[u8]| {
            let pem = format!(
                "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
                STANDARD.encode(der)
            );
            with(&|object| object["keyval"]["public"] = json!(pem))
        };
        let spaced = with(&|object| object["keyval"]["public"] = json!(pem.replace('\n', "\n\n")));
        if self.object["keytype"] == "rsa" {
            let trailing = with_der(&[&der[..], b"more"].concat());
            return vec![
                ("rsa-pkcs1", with_der(&der[RSA_SPKI_HEAD..])),
                ("rsa-trailing", trailing),
                ("rsa-spaces", spaced),
            ];
        }
        let point = &der[der.len() - 65..];
        let sign = 2 + point[64] % 2;
        let compressed = [&P256_COMPRESSED_HEAD[..], &[sign], &point[1..33]].concat();
        vec![
            ("p256-point", with_der(point)),
            ("p256-compressed", with_der(&compressed)),
            ("p256-compressed-point", with_der(&[&[sign], &point[1..33]].concat())),
            ("p256-trailing", with_der(&[&der[..], b"more"].concat())),
            ("p256-older-name", with(&|object| object["keytype"] = json!("ecdsa-sha2-nistp256"))),
            ("p256-spaces", spaced),
        ]
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
    keys.into_iter()
        .map(|key| (key.id.clone(), key.object.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

const RSA_SPKI_HEAD: usize = 24; // of a key of 2048 bits or more: what is before the RSAPublicKey (RFC 8017)
/// SubjectPublicKeyInfo of a P-256 key up to its point, if that has one coordinate (RFC 5480).
const P256_COMPRESSED_HEAD: [u8; 26] = [
    0x30, 0x39, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x22, 0x00,
];
