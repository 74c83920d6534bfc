//! The JSON serializations (RFC 7516 section 7.2). Members are in lexicographic order, so the same
//! envelope always gives the same bytes.

use serde::Serialize;
use serde_json::Value;

use super::EnvelopeError;
use super::content::Content;
use super::entry::Entry;
use super::envelope::Envelope;
use super::header::ESCROW_MARK;
use super::protected::Protected;
use crate::key::{Cek, EscrowKey, KeyAlgorithm, Kid, RecipientKey, encode, p256_jwk};
use crate::wrap::WrappedKey;

impl Envelope {
    /// The flattened serialization with the entry of one recipient; never that of the escrow key.
    pub fn for_one(&self, kid: &Kid) -> Option<Value> {
        let entry = self.entries.iter().find(|entry| !entry.is_escrow() && entry.has_kid(kid))?;
        Some(self.flattened(entry))
    }

    /// The flattened serialization for someone who is not in the envelope: the content encryption
    /// key is wrapped afresh, and the envelope stays as it is.
    ///
    /// # Errors
    ///
    /// The same as [`Self::open_with_escrow`], and [`EnvelopeError::NotExtensible`].
    pub fn for_recipient_via_escrow(
        &self,
        escrow: &EscrowKey,
        recipient: &RecipientKey,
    ) -> Result<Value, EnvelopeError> {
        self.check_extensible()?;
        let (cek, _) = self.recover(escrow)?;
        self.for_recipient(&cek, recipient)
    }

    /// The same with the envelope's content encryption key, which this proves to be that.
    ///
    /// # Errors
    ///
    /// The same as [`Self::open_with`], and [`EnvelopeError::NotExtensible`].
    pub fn for_recipient(
        &self,
        cek: &Cek,
        recipient: &RecipientKey,
    ) -> Result<Value, EnvelopeError> {
        self.check_extensible()?;
        self.open_with(cek)?;
        Ok(self.flattened(&Entry::wrap(recipient, cek)))
    }

    /// The general serialization without the escrow entry, for everyone.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::NoRecipients`] if the escrow key is the only one left.
    pub fn public_json(&self) -> Result<String, EnvelopeError> {
        let entries: Vec<_> = self.entries.iter().filter(|entry| !entry.is_escrow()).collect();
        if entries.is_empty() {
            return Err(EnvelopeError::NoRecipients);
        }
        Ok(self.general(&entries))
    }

    /// The general serialization with the escrow entry, for the catalog: it **must never** leave
    /// the server.
    pub fn to_json_with_escrow(&self) -> String {
        self.general(&self.entries.iter().collect::<Vec<_>>())
    }

    fn general(&self, entries: &[&Entry]) -> String {
        let recipients =
            entries.iter().map(|entry| Recipient::of(entry, &self.protected)).collect();
        let text =
            serde_json::to_string(&Json { recipients: Some(recipients), ..Json::common(self) });
        text.expect("strings and objects with string keys are JSON")
    }

    fn flattened(&self, entry: &Entry) -> Value {
        let Recipient { encrypted_key, header } = Recipient::of(entry, &self.protected);
        let value = serde_json::to_value(Json {
            encrypted_key: Some(encrypted_key),
            header,
            ..Json::common(self)
        });
        value.expect("strings and objects with string keys are JSON")
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
    #[serde(skip_serializing_if = "Option::is_none", rename = "use")]
    usage: Option<&'static str>,
}

impl<'a> Header<'a> {
    fn of(entry: &'a Entry) -> Self {
        let (alg, kid) = (Some(entry.alg().as_str()), entry.kid.as_deref());
        // What only an escrow key does needs no mark.
        let is_marked = entry.is_escrow() && entry.alg() != KeyAlgorithm::A256gcmkw;
        let usage = is_marked.then_some(ESCROW_MARK);
        let common = Self { alg, kid, enc: Some("A256GCM"), usage, ..Self::default() };
        match &entry.wrapped {
            WrappedKey::RsaOaep256(_) | WrappedKey::A256kw(_) => common,
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
            usage: keep(protected, "use", self.usage),
        }
    }
}
