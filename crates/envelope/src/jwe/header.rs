//! JOSE headers (RFC 7516 section 4) as they come in: the three places where a parameter can be,
//! joined.

use std::borrow::Cow;
use std::fmt;

use motorcade_model::Sha256Digest;
use motorcade_model::strict_json::{JsonFault, shown_name};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::EnvelopeError;
use super::entry::{Entry, Holder};
use super::protected::IMAGE;
use crate::key::{KeyAlgorithm, decode, decode_array, p256_point};
use crate::wrap::WrappedKey;
use crate::wrap::a256gcmkw::EscrowedKey;
use crate::wrap::ecdh_es::{AgreedKey, Parties, WRAPPED_SIZE};

/// One header, borrowed from its text.
#[derive(Default)]
pub(super) struct Header<'a> {
    pub(super) names: Vec<Cow<'a, str>>,
    parameters: Parameters<'a>,
}

/// The parameters that matter; all others are ignored (RFC 7516 section 4).
#[derive(Deserialize, Default)]
struct Parameters<'a> {
    #[serde(borrow)]
    alg: Option<Cow<'a, str>>,
    #[serde(borrow)]
    enc: Option<Cow<'a, str>>,
    #[serde(borrow)]
    cty: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    epk: Option<EphemeralKey<'a>>,
    #[serde(borrow)]
    apu: Option<Cow<'a, str>>,
    #[serde(borrow)]
    apv: Option<Cow<'a, str>>,
    #[serde(borrow)]
    iv: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tag: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "sealed_sha256")]
    image: Option<Cow<'a, str>>,
    /// Ours marks the entry of an escrow key in a token; anything else of this name is ignored.
    #[serde(borrow, rename = "use")]
    usage: Option<&'a RawValue>,
}

/// `epk` (RFC 7518 section 4.6.1.1).
#[derive(Deserialize)]
struct EphemeralKey<'a> {
    #[serde(borrow)]
    kty: Cow<'a, str>,
    #[serde(borrow)]
    crv: Option<Cow<'a, str>>,
    #[serde(borrow)]
    x: Option<Cow<'a, str>>,
    #[serde(borrow)]
    y: Option<Cow<'a, str>>,
}

impl<'a> Header<'a> {
    /// Reads a header, whose JSON was checked for duplicates; `place` names it in errors.
    pub(super) fn parse(text: &'a str, place: &str) -> Result<Self, EnvelopeError> {
        let fault = |error| EnvelopeError::json(place, JsonFault::from(error));
        let Names(names) = serde_json::from_str(text).map_err(fault)?;
        if names.len() > MAX_PARAMETERS {
            return Err(EnvelopeError::HeaderTooLong {
                place: place.to_owned(),
                max: MAX_PARAMETERS,
            });
        }
        // RFC 7516 section 4.1.13: who does not understand an extension must refuse it, and we
        // understand none.
        for member in ["crit", "zip"] {
            if names.iter().any(|name| name == member) {
                return Err(EnvelopeError::UnsupportedFeature { member });
            }
        }
        Ok(Self { names, parameters: serde_json::from_str(text).map_err(fault)? })
    }

    /// The sealed image that this header binds its envelope to; only the protected header does.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::BadMember`] for what is no digest.
    pub(super) fn image(&self, place: &str) -> Result<Option<Sha256Digest>, EnvelopeError> {
        let bad = |_| EnvelopeError::BadMember { place: place.to_owned(), member: IMAGE };
        self.parameters.image.as_deref().map(|text| text.parse().map_err(bad)).transpose()
    }

    /// RFC 7516 section 7.2.1: no parameter may be in two of the headers that are joined.
    pub(super) fn check_disjoint(&self, other: &Self, place: &str) -> Result<(), EnvelopeError> {
        match self.names.iter().find(|name| other.names.contains(name)) {
            None => Ok(()),
            Some(name) => Err(EnvelopeError::RepeatedHeader {
                place: place.to_owned(),
                member: shown_name(name),
            }),
        }
    }
}

/// The protected, the shared unprotected and the per-recipient header, which are disjoint.
pub(super) struct Joined<'h, 'a> {
    pub(super) headers: [&'h Header<'a>; 3],
    pub(super) place: &'h str,
}

impl<'h, 'a> Joined<'h, 'a> {
    /// Reads one entry, whose `encrypted_key` stands outside the headers.
    pub(super) fn entry(&self, encrypted_key: Option<&str>) -> Result<Entry, EnvelopeError> {
        self.check_content()?;
        let alg = self.required("alg", self.parameter(|p| p.alg.as_deref()))?;
        let is_marked = self.parameter(|p| p.usage).is_some_and(|usage| usage.get() == MARK_JSON);
        let algorithm = match KeyAlgorithm::from_name(alg) {
            Some(algorithm) => algorithm,
            None if is_marked && alg == KeyAlgorithm::A256kw.as_str() => KeyAlgorithm::A256kw,
            None => {
                let (place, alg) = (self.place.to_owned(), shown_name(alg));
                return Err(EnvelopeError::UnsupportedAlg { place, alg });
            }
        };
        let encrypted_key = self.required("encrypted_key", encrypted_key)?;
        let wrapped = match algorithm {
            KeyAlgorithm::RsaOaep256 => self.rsa_oaep(encrypted_key)?,
            KeyAlgorithm::EcdhEsA256kw => self.ecdh_es(encrypted_key)?,
            KeyAlgorithm::A256gcmkw => self.escrow(encrypted_key)?,
            KeyAlgorithm::A256kw => {
                WrappedKey::A256kw(self.array("encrypted_key", Some(encrypted_key))?)
            }
        };
        let is_escrow = is_marked || algorithm == KeyAlgorithm::A256gcmkw;
        let holder = if is_escrow { Holder::Escrow } else { Holder::Recipient };
        Ok(Entry { kid: self.parameter(|p| p.kid.as_deref()).map(str::to_owned), wrapped, holder })
    }

    /// Checks content encryption and content type.
    fn check_content(&self) -> Result<(), EnvelopeError> {
        let enc = self.required("enc", self.parameter(|p| p.enc.as_deref()))?;
        if enc != "A256GCM" {
            return Err(EnvelopeError::UnsupportedEnc { enc: shown_name(enc) });
        }
        match self.parameter(|p| p.cty.as_deref()) {
            // RFC 7515 section 4.1.10: the prefix may be left out, and should be.
            None | Some("jwk+json" | "application/jwk+json") => Ok(()),
            Some(cty) => Err(EnvelopeError::UnsupportedCty { cty: shown_name(cty) }),
        }
    }

    fn rsa_oaep(&self, encrypted_key: &str) -> Result<WrappedKey, EnvelopeError> {
        decode(encrypted_key)
            .filter(|bytes| RSA_SIZES.contains(&bytes.len()))
            .map(WrappedKey::RsaOaep256)
            .ok_or_else(|| self.bad("encrypted_key"))
    }

    fn ecdh_es(&self, encrypted_key: &str) -> Result<WrappedKey, EnvelopeError> {
        let parties = Parties {
            apu: self.party("apu", |p| p.apu.as_deref())?,
            apv: self.party("apv", |p| p.apv.as_deref())?,
        };
        let encrypted_key = self.array::<WRAPPED_SIZE>("encrypted_key", Some(encrypted_key))?;
        Ok(WrappedKey::EcdhEsA256kw(Box::new(AgreedKey {
            epk: self.ephemeral_key()?,
            parties,
            encrypted_key,
        })))
    }

    fn escrow(&self, encrypted_key: &str) -> Result<WrappedKey, EnvelopeError> {
        Ok(WrappedKey::A256gcmkw(EscrowedKey {
            iv: self.array("iv", self.parameter(|p| p.iv.as_deref()))?,
            tag: self.array("tag", self.parameter(|p| p.tag.as_deref()))?,
            encrypted_key: self.array("encrypted_key", Some(encrypted_key))?,
        }))
    }

    fn ephemeral_key(&self) -> Result<p256::PublicKey, EnvelopeError> {
        let epk = self.required("epk", self.parameter(|p| p.epk.as_ref()))?;
        let on_p256 = epk.kty == "EC" && epk.crv.as_deref() == Some("P-256");
        let coordinate = |text: &Option<Cow<'a, str>>| text.as_deref().and_then(decode_array);
        // The check that the point is on the curve is what stops invalid-curve attacks on the
        // recipient's key.
        coordinate(&epk.x)
            .zip(coordinate(&epk.y))
            .filter(|_| on_p256)
            .and_then(|(x, y)| p256_point(&x, &y))
            .ok_or_else(|| EnvelopeError::BadEphemeralKey { place: self.place.to_owned() })
    }

    fn party<'p>(
        &'p self,
        member: &'static str,
        pick: impl Fn(&'h Parameters<'a>) -> Option<&'h str>,
    ) -> Result<Option<Vec<u8>>, EnvelopeError> {
        let Some(text) = self.parameter(pick) else { return Ok(None) };
        decode(text).map(Some).ok_or_else(|| self.bad(member))
    }

    fn array<const N: usize>(
        &self,
        member: &'static str,
        text: Option<&str>,
    ) -> Result<[u8; N], EnvelopeError> {
        decode_array(self.required(member, text)?).ok_or_else(|| self.bad(member))
    }

    fn parameter<T>(&self, pick: impl Fn(&'h Parameters<'a>) -> Option<T>) -> Option<T> {
        self.headers.iter().find_map(|header| pick(&header.parameters))
    }

    fn required<T>(&self, member: &'static str, value: Option<T>) -> Result<T, EnvelopeError> {
        value.ok_or_else(|| EnvelopeError::Missing { place: self.place.to_owned(), member })
    }

    fn bad(&self, member: &'static str) -> EnvelopeError {
        EnvelopeError::BadMember { place: self.place.to_owned(), member }
    }
}

/// The names of the members of an object; values are skipped, and names past the limit are not
/// kept.
struct Names<'a>(Vec<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Names<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            map.next_value::<IgnoredAny>()?;
            if names.len() <= MAX_PARAMETERS {
                names.push(name);
            }
        }
        Ok(Names(names))
    }
}

/// A member name, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The value of `use` in the entry of an escrow key, which is in no envelope that leaves the server.
pub(super) const ESCROW_MARK: &str = "escrow";
const MARK_JSON: &str = "\"escrow\"";
const MAX_PARAMETERS: usize = 32;
/// Moduli of 2048 to 4096 bits.
const RSA_SIZES: std::ops::RangeInclusive<usize> = 256..=512;
