//! Reading envelopes that anyone may have made (RFC 7516 sections 5.2 and 7).

use std::borrow::Cow;
use std::fmt;

use motorcade_model::strict_json::{JsonFault, check_json};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::EnvelopeError;
use super::content::Content;
use super::entry::Entry;
use super::envelope::{Envelope, check_count};
use super::header::{Header, Joined};
use super::protected::Protected;
use crate::key::{decode, decode_array};

impl Envelope {
    /// Reads an envelope in the general, the flattened or the compact serialization, ours or
    /// another library's.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] names the header or member that is wrong. The input may be hostile.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > Self::MAX_SIZE {
            return Err(EnvelopeError::TooLarge { max_bytes: Self::MAX_SIZE });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| EnvelopeError::NotAJwe)?.trim_ascii();
        if text.starts_with('{') {
            Json::parse(text)?.envelope()
        } else {
            Json::from_compact(text)?.envelope()
        }
    }
}

/// The members of both JSON serializations (RFC 7516 section 7.2); the others are ignored.
#[derive(Deserialize)]
struct Json<'a> {
    #[serde(borrow)]
    protected: Option<Cow<'a, str>>,
    #[serde(borrow)]
    unprotected: Option<&'a RawValue>,
    #[serde(borrow)]
    header: Option<&'a RawValue>,
    #[serde(borrow)]
    encrypted_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    recipients: Option<Recipients<'a>>,
    #[serde(borrow)]
    aad: Option<Cow<'a, str>>,
    #[serde(borrow)]
    iv: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ciphertext: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tag: Option<Cow<'a, str>>,
}

impl<'a> Json<'a> {
    fn parse(text: &'a str) -> Result<Self, EnvelopeError> {
        check_json(text).map_err(|fault| EnvelopeError::json(ENVELOPE, fault))?;
        serde_json::from_str(text)
            .map_err(|error| EnvelopeError::json(ENVELOPE, JsonFault::from(error)))
    }

    /// RFC 7516 section 7.1: header, encrypted key, iv, ciphertext and tag.
    fn from_compact(text: &'a str) -> Result<Self, EnvelopeError> {
        let mut parts = text.split('.').map(Cow::Borrowed);
        let mut next = || parts.next().ok_or(EnvelopeError::NotAJwe);
        let (protected, encrypted_key, iv) = (Some(next()?), Some(next()?), Some(next()?));
        let (ciphertext, tag) = (Some(next()?), Some(next()?));
        if parts.next().is_some() {
            return Err(EnvelopeError::NotAJwe);
        }
        let (unprotected, header, recipients, aad) = (None, None, None, None);
        Ok(Self {
            protected,
            unprotected,
            header,
            encrypted_key,
            recipients,
            aad,
            iv,
            ciphertext,
            tag,
        })
    }

    fn envelope(self) -> Result<Envelope, EnvelopeError> {
        let protected_text = self.protected_text()?;
        let protected = Header::parse(&protected_text, "the protected header")?;
        let shared = match self.unprotected {
            None => Header::default(),
            Some(raw) => Header::parse(raw.get(), "the shared header")?,
        };
        shared.check_disjoint(&protected, "the shared header")?;
        let mut entries = Vec::new();
        let mut passed_over = None;
        for (index, recipient) in self.recipients()?.into_iter().enumerate() {
            match recipient.entry(index, &protected, &shared) {
                // Others may be served in ways that we don't know; one entry that we can open is
                // enough (RFC 7516, 5.2).
                Err(unknown @ EnvelopeError::UnsupportedAlg { .. }) => {
                    passed_over = passed_over.or(Some(unknown))
                }
                entry => entries.push(entry?),
            }
        }
        if let (true, Some(unknown)) = (entries.is_empty(), passed_over) {
            return Err(unknown);
        }
        Ok(Envelope { entries, content: self.content()?, protected: self.protected(&protected)? })
    }

    /// The JSON of the protected header, which may be absent (RFC 7516 section 7.2.1).
    fn protected_text(&self) -> Result<String, EnvelopeError> {
        let encoded = self.protected.as_deref().unwrap_or_default();
        if encoded.is_empty() {
            return Ok("{}".to_owned());
        }
        let text = decode(encoded).and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| bad_member("protected"))?;
        check_json(&text).map_err(|fault| EnvelopeError::json("the protected header", fault))?;
        Ok(text)
    }

    fn protected(&self, header: &Header<'_>) -> Result<Protected, EnvelopeError> {
        let aad = self.aad.as_deref().map(str::to_owned);
        if aad.as_deref().is_some_and(|aad| decode(aad).is_none()) {
            return Err(bad_member("aad"));
        }
        let names = header.names.iter().map(|name| name.clone().into_owned()).collect();
        let text = self.protected.as_deref().unwrap_or_default().to_owned();
        Ok(Protected { text, names, aad, image: header.image("the protected header")? })
    }

    /// The entries of the general form, or the one of the flattened form (RFC 7516 section 7.2.2).
    fn recipients(&self) -> Result<Vec<Recipient<'a>>, EnvelopeError> {
        let Some(recipients) = &self.recipients else {
            return Ok(vec![Recipient {
                header: self.header,
                encrypted_key: self.encrypted_key.clone(),
            }]);
        };
        if self.header.is_some() || self.encrypted_key.is_some() {
            return Err(EnvelopeError::MixedSerialization);
        }
        if recipients.0.is_empty() {
            return Err(EnvelopeError::NoRecipients);
        }
        check_count(recipients.0.len())?;
        Ok(recipients.0.clone())
    }

    fn content(&self) -> Result<Content, EnvelopeError> {
        let iv = decode_array(required("iv", &self.iv)?).ok_or_else(|| bad_member("iv"))?;
        let ciphertext = decode(required("ciphertext", &self.ciphertext)?)
            .ok_or_else(|| bad_member("ciphertext"))?;
        let tag = decode_array(required("tag", &self.tag)?).ok_or_else(|| bad_member("tag"))?;
        Ok(Content { iv, ciphertext, tag })
    }
}

/// One element of `recipients`, or the flattened form's only one.
#[derive(Deserialize, Clone)]
struct Recipient<'a> {
    #[serde(borrow)]
    header: Option<&'a RawValue>,
    #[serde(borrow)]
    encrypted_key: Option<Cow<'a, str>>,
}

impl Recipient<'_> {
    fn entry(
        &self,
        index: usize,
        protected: &Header<'_>,
        shared: &Header<'_>,
    ) -> Result<Entry, EnvelopeError> {
        let place = format!("recipient {index}");
        let own = match self.header {
            None => Header::default(),
            Some(raw) => Header::parse(raw.get(), &place)?,
        };
        own.check_disjoint(protected, &place)?;
        own.check_disjoint(shared, &place)?;
        Joined { headers: [protected, shared, &own], place: &place }
            .entry(self.encrypted_key.as_deref())
    }
}

/// `recipients`, of which no more are kept than are needed to know that there are too many.
struct Recipients<'a>(Vec<Recipient<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Recipients<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RecipientsVisitor)
    }
}

struct RecipientsVisitor;

impl<'de> Visitor<'de> for RecipientsVisitor {
    type Value = Recipients<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of recipients")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut recipients = Vec::new();
        while recipients.len() <= Envelope::MAX_RECIPIENTS {
            match seq.next_element()? {
                Some(recipient) => recipients.push(recipient),
                None => return Ok(Recipients(recipients)),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Recipients(recipients))
    }
}

fn required<'t>(
    member: &'static str,
    value: &'t Option<Cow<'_, str>>,
) -> Result<&'t str, EnvelopeError> {
    value.as_deref().ok_or_else(|| EnvelopeError::Missing { place: ENVELOPE.to_owned(), member })
}

fn bad_member(member: &'static str) -> EnvelopeError {
    EnvelopeError::BadMember { place: ENVELOPE.to_owned(), member }
}

const ENVELOPE: &str = "the envelope";

#[cfg(test)]
mod tests {
    use motorcade_model::SealAlgorithm;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::key::{DataKey, RecipientPrivateKey, encode, snakeoil};

    /// A flattened envelope for a P-256 key, as JSON to change.
    fn flattened(key: &RecipientPrivateKey) -> Value {
        let data_key = DataKey::from_bytes([7; 32]);
        let envelope =
            Envelope::seal(&data_key, SealAlgorithm::Aes256GcmHkdf1Mb, &[key.public()], None)
                .unwrap();
        envelope.for_one(key.kid()).unwrap()
    }

    fn general(flattened: &Value) -> Value {
        let entry =
            json!({ "header": flattened["header"], "encrypted_key": flattened["encrypted_key"] });
        let mut general = flattened.clone();
        general
            .as_object_mut()
            .unwrap()
            .retain(|name, _| name != "header" && name != "encrypted_key");
        general["recipients"] = json!([entry]);
        general
    }

    fn parse_json(json: &Value) -> Result<Envelope, EnvelopeError> {
        Envelope::parse(json.to_string().as_bytes())
    }

    fn check(json: &Value, expected: EnvelopeError) {
        assert_eq!(parse_json(json).unwrap_err(), expected, "{json}");
    }

    fn at(place: &str) -> String {
        place.to_owned()
    }

    #[test]
    fn headers_are_refused_by_name() {
        let flat = flattened(&snakeoil::p256());
        let header = |change: &dyn Fn(&mut Value), expected| {
            let mut changed = flat.clone();
            change(&mut changed["header"]);
            check(&changed, expected);
        };
        for alg in ["dir", "none", "RSA1_5", "RSA-OAEP", "ECDH-ES", "A256KW", "PBES2-HS512+A256KW"]
        {
            let expected =
                EnvelopeError::UnsupportedAlg { place: at("recipient 0"), alg: alg.to_owned() };
            header(&|h| h["alg"] = json!(alg), expected);
        }
        header(
            &|h| h["crit"] = json!(["exp"]),
            EnvelopeError::UnsupportedFeature { member: "crit" },
        );
        header(&|h| h["crit"] = Value::Null, EnvelopeError::UnsupportedFeature { member: "crit" });
        header(&|h| h["zip"] = json!("DEF"), EnvelopeError::UnsupportedFeature { member: "zip" });
        header(&|h| h["enc"] = json!("A256GCM"), repeated("enc"));
        let missing = |member| EnvelopeError::Missing { place: at("recipient 0"), member };
        header(&|h| h["alg"] = Value::Null, missing("alg"));
        header(&|h| h["epk"] = Value::Null, missing("epk"));
        header(&|h| h["apu"] = json!("a b"), bad("recipient 0", "apu"));
        header(&|h| h["alg"] = json!("A256GCMKW"), missing("iv"));
        header(&|h| h["alg"] = json!("RSA-OAEP-256"), bad("recipient 0", "encrypted_key"));
        let long = EnvelopeError::HeaderTooLong { place: at("recipient 0"), max: 32 };
        header(&|h| (0..33).for_each(|i| h[format!("x{i}")] = json!(1)), long);
        for change in [("x", "y"), ("y", "x")] {
            let point = EnvelopeError::BadEphemeralKey { place: at("recipient 0") };
            header(&|h| h["epk"][change.0] = h["epk"][change.1].clone(), point);
        }
        for (member, value) in [("crv", "P-384"), ("kty", "OKP"), ("x", "AA")] {
            let point = EnvelopeError::BadEphemeralKey { place: at("recipient 0") };
            header(&|h| h["epk"][member] = json!(value), point);
        }
    }

    fn repeated(member: &str) -> EnvelopeError {
        EnvelopeError::RepeatedHeader { place: at("recipient 0"), member: member.to_owned() }
    }

    fn bad(place: &str, member: &'static str) -> EnvelopeError {
        EnvelopeError::BadMember { place: at(place), member }
    }

    #[test]
    fn protected_and_shared_headers_are_refused_by_name() {
        let flat = flattened(&snakeoil::p256());
        let protected = |text: &str, expected| {
            let mut changed = flat.clone();
            changed["protected"] = json!(encode(text.as_bytes()));
            check(&changed, expected);
        };
        let place = || at("the protected header");
        protected(r#"{"enc":"A128GCM"}"#, EnvelopeError::UnsupportedEnc { enc: at("A128GCM") });
        protected(
            r#"{"enc":"A256GCM","cty":"JWT"}"#,
            EnvelopeError::UnsupportedCty { cty: at("JWT") },
        );
        protected("{}", EnvelopeError::Missing { place: at("recipient 0"), member: "enc" });
        protected(
            r#"{"enc":"A256GCM","zip":"DEF"}"#,
            EnvelopeError::UnsupportedFeature { member: "zip" },
        );
        protected(r#"{"enc":"A256GCM","alg":"RSA1_5"}"#, repeated("alg"));
        let member = at("enc");
        protected(
            r#"{"enc":"A256GCM","enc":"x"}"#,
            EnvelopeError::DuplicateMember { place: place(), member },
        );
        protected("[]", EnvelopeError::BadJson { place: place(), line: 1, column: 0 });
        protected("\u{1}", EnvelopeError::BadJson { place: place(), line: 1, column: 1 });

        let mut changed = flat.clone();
        changed["unprotected"] = json!({ "cty": "jwk+json" });
        let expected =
            EnvelopeError::RepeatedHeader { place: at("the shared header"), member: at("cty") };
        check(&changed, expected);
        changed["unprotected"] = json!({ "kid": "x" });
        check(&changed, repeated("kid"));
        changed["unprotected"] = json!({ "jku": "x" });
        assert!(parse_json(&changed).is_ok());
    }

    #[test]
    fn members_are_refused_by_name() {
        let flat = flattened(&snakeoil::p256());
        let general = general(&flat);
        assert!(parse_json(&general).is_ok());
        for member in ["iv", "ciphertext", "tag"] {
            let mut changed = flat.clone();
            changed[member] = Value::Null;
            check(&changed, EnvelopeError::Missing { place: at(ENVELOPE), member });
            for value in ["A", "AA==", "A/==", "=", " AAAA"] {
                changed[member] = json!(value);
                check(&changed, bad(ENVELOPE, member));
            }
        }
        for (member, value) in
            [("iv", "AAAA"), ("tag", "AAAA"), ("iv", ""), ("aad", "?"), ("protected", "?")]
        {
            let mut changed = flat.clone();
            changed[member] = json!(value);
            check(&changed, bad(ENVELOPE, member));
        }
        let mut changed = flat.clone();
        changed["encrypted_key"] = json!(encode(&[0; 48]));
        check(&changed, bad("recipient 0", "encrypted_key"));
        changed["encrypted_key"] = Value::Null;
        check(
            &changed,
            EnvelopeError::Missing { place: at("recipient 0"), member: "encrypted_key" },
        );
        let mut changed = general.clone();
        changed["header"] = json!({});
        check(&changed, EnvelopeError::MixedSerialization);
        changed = general;
        changed["recipients"] = json!([]);
        check(&changed, EnvelopeError::NoRecipients);
    }

    #[test]
    fn text_that_is_no_jwe_is_refused() {
        for text in [&b""[..], b"a", b"a.b.c.d", b"a.b.c.d.e.f", b"\xff", b"[]"] {
            assert_eq!(Envelope::parse(text).unwrap_err(), EnvelopeError::NotAJwe);
        }
        let duplicate = EnvelopeError::DuplicateMember { place: at(ENVELOPE), member: at("iv") };
        assert_eq!(Envelope::parse(br#"{"iv":"A","iv":"B"}"#).unwrap_err(), duplicate);
        let nested = EnvelopeError::DuplicateMember { place: at(ENVELOPE), member: at("alg") };
        assert_eq!(
            Envelope::parse(br#"{"recipients":[{"header":{"alg":1,"alg":2}}]}"#).unwrap_err(),
            nested
        );
        let large = vec![b' '; Envelope::MAX_SIZE + 1];
        assert_eq!(
            Envelope::parse(&large).unwrap_err(),
            EnvelopeError::TooLarge { max_bytes: Envelope::MAX_SIZE }
        );
        let json = |column| EnvelopeError::BadJson { place: at(ENVELOPE), line: 1, column };
        assert_eq!(Envelope::parse(b"{").unwrap_err(), json(1));
        assert_eq!(Envelope::parse(br#"{"iv":7}"#).unwrap_err(), json(7));
    }

    #[test]
    fn too_many_recipients_are_refused_before_they_are_read() {
        let mut general = general(&flattened(&snakeoil::p256()));
        general["recipients"] = json!(vec![json!({}); Envelope::MAX_RECIPIENTS + 2]);
        check(&general, EnvelopeError::TooManyRecipients { max: Envelope::MAX_RECIPIENTS });
    }

    #[test]
    fn every_change_of_a_field_is_noticed() {
        let key = snakeoil::p256();
        let flat = flattened(&key);
        for pointer in [
            "/ciphertext",
            "/encrypted_key",
            "/iv",
            "/protected",
            "/tag",
            "/header/kid",
            "/header/epk/x",
        ] {
            let text = flat.pointer(pointer).unwrap().as_str().unwrap();
            for index in 0..text.len() {
                let mut changed = flat.clone();
                let swap = if &text[index..=index] == "A" { "B" } else { "A" };
                let mut other = text.to_owned();
                other.replace_range(index..=index, swap);
                *changed.pointer_mut(pointer).unwrap() = json!(other);
                let opened = parse_json(&changed).and_then(|envelope| envelope.open(&key));
                // A kid that has lost its form is no name of a key, so the entry is tried.
                let harmless =
                    pointer == "/header/kid" && other.parse::<crate::key::Kid>().is_err();
                assert_eq!(opened.is_ok(), harmless, "{pointer} at {index}");
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_and_never_give_another_key(
            at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(),
        ) {
            let key = snakeoil::p256();
            let mut bytes = flattened(&key).to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok((data_key, _)) = Envelope::parse(&bytes).and_then(|envelope| envelope.open(&key)) {
                prop_assert_eq!(data_key, DataKey::from_bytes([7; 32]));
            }
            bytes.truncate(cut.index(bytes.len()));
            prop_assert!(Envelope::parse(&bytes).is_err());
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(Envelope::parse(&bytes).is_err());
        }
    }
}
