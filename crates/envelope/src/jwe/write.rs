//! The JSON serializations (RFC 7516 section 7.2). Members are in lexicographic order, so the same
//! envelope always gives the same bytes.

use serde::Serialize;
use serde_json::Value;

use super::entry::{Entry, WrappedKey};
use super::{Content, Envelope};
use crate::key::{encode, p256_jwk};

impl Envelope {
    pub(super) fn general(&self, entries: &[&Entry]) -> String {
        let recipients =
            entries.iter().map(|entry| Recipient::of(entry, &self.protected)).collect();
        let text =
            serde_json::to_string(&Json { recipients: Some(recipients), ..Json::common(self) });
        text.expect("strings and objects with string keys are JSON")
    }

    pub(super) fn flattened(&self, entry: &Entry) -> Value {
        let Recipient { encrypted_key, header } = Recipient::of(entry, &self.protected);
        let value = serde_json::to_value(Json {
            encrypted_key: Some(encrypted_key),
            header,
            ..Json::common(self)
        });
        value.expect("strings and objects with string keys are JSON")
    }
}

/// The protected header, kept as its maker wrote it: those bytes are authenticated.
#[derive(Clone)]
pub(super) struct Protected {
    /// In base64url.
    pub(super) text: String,
    /// The names of its parameters, which must not be repeated elsewhere (RFC 7516 section 7.2.1).
    pub(super) names: Vec<String>,
    /// `aad`, in base64url.
    pub(super) aad: Option<String>,
}

impl Protected {
    /// The header of every envelope that we make.
    pub(super) fn ours() -> Self {
        let names = ["cty", "enc"].map(str::to_owned).to_vec();
        Self { text: encode(br#"{"cty":"jwk+json","enc":"A256GCM"}"#), names, aad: None }
    }

    /// What the tag covers besides the ciphertext (RFC 7516 section 5.1 step 14).
    pub(super) fn additional_data(&self) -> Vec<u8> {
        match &self.aad {
            None => self.text.clone().into_bytes(),
            Some(aad) => format!("{}.{aad}", self.text).into_bytes(),
        }
    }

    /// Whether another recipient can be added: not if the header describes the one that there is.
    pub(super) fn is_extensible(&self) -> bool {
        !PER_RECIPIENT.iter().any(|name| self.has(name))
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

/// Both serializations; each leaves out the members of the other.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    aad: Option<&'a str>,
    ciphertext: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header<'a>>,
    iv: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    protected: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipients: Option<Vec<Recipient<'a>>>,
    tag: String,
}

impl<'a> Json<'a> {
    fn common(envelope: &'a Envelope) -> Self {
        let Content { iv, ciphertext, tag } = &envelope.content;
        Self {
            aad: envelope.protected.aad.as_deref(),
            ciphertext: encode(ciphertext),
            encrypted_key: None,
            header: None,
            iv: encode(iv),
            protected: &envelope.protected.text,
            recipients: None,
            tag: encode(tag),
        }
    }
}

#[derive(Serialize)]
struct Recipient<'a> {
    encrypted_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header<'a>>,
}

impl<'a> Recipient<'a> {
    fn of(entry: &'a Entry, protected: &Protected) -> Self {
        let header = Header::of(entry).without(protected);
        let header = (header != Header::default()).then_some(header);
        Self { encrypted_key: encode(entry.encrypted_key()), header }
    }
}

/// The per-recipient unprotected header.
#[derive(Serialize, Default, PartialEq)]
struct Header<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    apu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    apv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enc: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epk: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

impl<'a> Header<'a> {
    fn of(entry: &'a Entry) -> Self {
        let (alg, kid) = (Some(entry.alg().as_str()), entry.kid.as_deref());
        let common = Self { alg, kid, enc: Some("A256GCM"), ..Self::default() };
        match &entry.wrapped {
            WrappedKey::RsaOaep256(_) => common,
            WrappedKey::EcdhEsA256kw(agreed) => Self {
                epk: Some(p256_jwk(&agreed.epk)),
                apu: agreed.parties.apu.as_deref().map(encode),
                apv: agreed.parties.apv.as_deref().map(encode),
                ..common
            },
            WrappedKey::A256gcmkw(escrowed) => {
                Self { iv: Some(encode(&escrowed.iv)), tag: Some(encode(&escrowed.tag)), ..common }
            }
        }
    }

    fn without(self, protected: &Protected) -> Self {
        fn keep<T>(protected: &Protected, name: &str, value: Option<T>) -> Option<T> {
            value.filter(|_| !protected.has(name))
        }
        Self {
            alg: keep(protected, "alg", self.alg),
            apu: keep(protected, "apu", self.apu),
            apv: keep(protected, "apv", self.apv),
            enc: keep(protected, "enc", self.enc),
            epk: keep(protected, "epk", self.epk),
            iv: keep(protected, "iv", self.iv),
            kid: keep(protected, "kid", self.kid),
            tag: keep(protected, "tag", self.tag),
        }
    }
}

/// Header parameters that belong to one recipient.
const PER_RECIPIENT: [&str; 7] = ["alg", "apu", "apv", "epk", "iv", "kid", "tag"];
