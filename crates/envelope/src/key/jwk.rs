//! JWK (RFC 7517) with the members of RFC 7518 section 6, public and private.

use motorcade_model::strict_json::{JsonFault, check_json, shown_name};
use rsa::BoxedUint;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    KeyAlgorithm, KeyError, RecipientKey, RecipientPrivateKey, decode, decode_array, decode_secret,
    p256_point,
};

/// Reads a public JWK.
pub(super) fn parse_public(text: &str) -> Result<RecipientKey, KeyError> {
    Members::parse(text)?.public_only()
}

/// Reads a public JWK that is already parsed.
pub(super) fn public_from_value(jwk: &Value) -> Result<RecipientKey, KeyError> {
    let members =
        Members::deserialize(jwk).map_err(|error| KeyError::from(JsonFault::from(error)))?;
    members.public_only()
}

/// Reads a private JWK.
pub(super) fn parse_private(text: &str) -> Result<RecipientPrivateKey, KeyError> {
    Members::parse(text)?.private()
}

/// The members that matter; a key may have others, which RFC 7517 section 4 says to ignore.
///
/// All of them are borrowed, so that a private key is not copied. A value with an escape cannot be
/// borrowed and is refused: no base64url and no registered name needs one.
#[derive(Deserialize)]
struct Members<'a> {
    kty: Option<&'a str>,
    #[serde(rename = "use")]
    public_use: Option<&'a str>,
    #[serde(borrow)]
    key_ops: Option<Vec<&'a str>>,
    alg: Option<&'a str>,
    crv: Option<&'a str>,
    n: Option<&'a str>,
    e: Option<&'a str>,
    x: Option<&'a str>,
    y: Option<&'a str>,
    d: Option<&'a str>,
    p: Option<&'a str>,
    q: Option<&'a str>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
    keys: Option<IgnoredAny>,
}

impl<'a> Members<'a> {
    fn parse(text: &'a str) -> Result<Self, KeyError> {
        check_json(text)?;
        serde_json::from_str(text).map_err(|error| KeyError::from(JsonFault::from(error)))
    }

    fn public_only(&self) -> Result<RecipientKey, KeyError> {
        if self.k.is_some() || self.kty == Some("oct") {
            return Err(KeyError::SymmetricKey);
        }
        let secrets = [self.d, self.p, self.q].iter().any(Option::is_some);
        if secrets || [&self.dp, &self.dq, &self.qi, &self.oth].into_iter().any(Option::is_some) {
            return Err(KeyError::PrivateKey);
        }
        self.check_operations()?;
        self.public()
    }

    /// Refuses a public key that says what it is for, and not that it wraps (RFC 7517 section 4.3).
    /// RSA wraps by itself; of a point on a curve another key is derived, which then wraps. Web
    /// Crypto writes an empty list for such a point, since it is the private half that derives
    /// there.
    fn check_operations(&self) -> Result<(), KeyError> {
        let Some(operations) = &self.key_ops else { return Ok(()) };
        let (wanted, expected): (&[&str], _) = match self.kty {
            Some("EC") if operations.is_empty() => return Ok(()),
            Some("EC") => (&["deriveKey", "deriveBits", "wrapKey"], "deriveKey"),
            Some("RSA") => (&["wrapKey"], "wrapKey"),
            _ => return Ok(()),
        };
        let signs = operations.iter().any(|operation| SIGNING_OPERATIONS.contains(operation));
        let wraps = operations.iter().any(|operation| wanted.contains(operation));
        if wraps || signs { Ok(()) } else { Err(KeyError::OtherOperations { expected }) }
    }

    /// The public half, whether or not there is a private one.
    fn public(&self) -> Result<RecipientKey, KeyError> {
        if self.keys.is_some() {
            return Err(KeyError::SeveralKeys);
        }
        match required(self.kty, "kty")? {
            "RSA" => {
                self.check_purpose(KeyAlgorithm::RsaOaep256)?;
                RecipientKey::from_rsa_parts(&bytes(self.n, "n")?, &bytes(self.e, "e")?)
            }
            "EC" => self.public_ec(),
            "OKP" => Err(self.octet_key_pair()),
            "oct" => Err(KeyError::SymmetricKey),
            other => Err(KeyError::UnsupportedAlgorithm { algorithm: shown_name(other) }),
        }
    }

    fn public_ec(&self) -> Result<RecipientKey, KeyError> {
        self.check_purpose(KeyAlgorithm::EcdhEsA256kw)?;
        let curve = required(self.crv, "crv")?;
        if curve != "P-256" {
            return Err(KeyError::OtherCurve { curve: shown_name(curve) });
        }
        // RFC 7518 section 6.2.1.2: coordinates have their full length, leading zeros included.
        let x = decode_array(required(self.x, "x")?).ok_or(KeyError::BadMember { member: "x" })?;
        let y = decode_array(required(self.y, "y")?).ok_or(KeyError::BadMember { member: "y" })?;
        p256_point(&x, &y).map(RecipientKey::from_p256).ok_or(KeyError::PointNotOnCurve)
    }

    /// RFC 8037: Ed25519 and Ed448 sign; X25519 and X448 agree on keys, but are not accepted here.
    fn octet_key_pair(&self) -> KeyError {
        match self.crv {
            Some(curve @ ("X25519" | "X448")) => KeyError::OtherCurve { curve: curve.to_owned() },
            Some(curve) => KeyError::SigningOnly { mark: shown_name(curve) },
            None => KeyError::MissingMember { member: "crv" },
        }
    }

    /// Refuses a key that says it is for signatures (RFC 7517 sections 4.2 to 4.4) or for another
    /// algorithm.
    fn check_purpose(&self, expected: KeyAlgorithm) -> Result<(), KeyError> {
        if let Some(public_use) = self.public_use.filter(|value| *value != "enc") {
            return Err(KeyError::SigningOnly {
                mark: format!("use is {}", shown_name(public_use)),
            });
        }
        let operations = self.key_ops.as_deref().unwrap_or_default();
        if let Some(operation) =
            operations.iter().find(|operation| SIGNING_OPERATIONS.contains(operation))
        {
            return Err(KeyError::SigningOnly { mark: format!("key_ops has {operation}") });
        }
        match self.alg {
            None => Ok(()),
            Some(alg) if alg == expected.as_str() => Ok(()),
            Some(alg) if is_signature(alg) => {
                Err(KeyError::SigningOnly { mark: format!("alg is {}", shown_name(alg)) })
            }
            Some(alg) => {
                Err(KeyError::OtherAlgorithm { alg: shown_name(alg), expected: expected.as_str() })
            }
        }
    }

    fn private(&self) -> Result<RecipientPrivateKey, KeyError> {
        let public = self.public()?;
        if self.d.is_none() {
            return Err(KeyError::PublicKey);
        }
        match self.kty {
            Some("EC") => self.private_ec(&public),
            _ => self.private_rsa(public),
        }
    }

    fn private_ec(&self, public: &RecipientKey) -> Result<RecipientPrivateKey, KeyError> {
        let scalar: Zeroizing<[u8; 32]> =
            decode_secret(required(self.d, "d")?).ok_or(KeyError::BadMember { member: "d" })?;
        let key = p256::SecretKey::from_slice(&*scalar).map_err(|_| KeyError::Inconsistent)?;
        let private = RecipientPrivateKey::from_p256(key);
        if private.public() != public {
            return Err(KeyError::Inconsistent);
        }
        Ok(private)
    }

    fn private_rsa(&self, public: RecipientKey) -> Result<RecipientPrivateKey, KeyError> {
        if self.oth.is_some() {
            return Err(KeyError::UnsupportedAlgorithm {
                algorithm: "RSA with more than two primes".to_owned(),
            });
        }
        let (n, e) = (bytes(self.n, "n")?, bytes(self.e, "e")?);
        let d = secret(self.d, "d")?;
        // Without primes (RFC 7518 section 6.3.2 allows it) they are recovered from n, e and d.
        let primes = match (self.p, self.q) {
            (None, None) => Vec::new(),
            (p, q) => vec![number(&secret(p, "p")?), number(&secret(q, "q")?)],
        };
        let key = rsa::RsaPrivateKey::from_components(number(&n), number(&e), number(&d), primes)
            .map_err(|_| KeyError::Inconsistent)?;
        Ok(RecipientPrivateKey::from_checked_rsa(key, public))
    }
}

fn required<'a>(value: Option<&'a str>, member: &'static str) -> Result<&'a str, KeyError> {
    value.ok_or(KeyError::MissingMember { member })
}

fn bytes(value: Option<&str>, member: &'static str) -> Result<Vec<u8>, KeyError> {
    decode(required(value, member)?).ok_or(KeyError::BadMember { member })
}

fn secret(value: Option<&str>, member: &'static str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    bytes(value, member).map(Zeroizing::new)
}

fn number(big_endian: &[u8]) -> BoxedUint {
    BoxedUint::from_be_slice_vartime(big_endian)
}

/// The signature algorithms of RFC 7518 section 3.1, RFC 8037, RFC 8812 and RFC 9864.
fn is_signature(alg: &str) -> bool {
    let mut numbered =
        ["RS", "PS", "ES", "HS"].into_iter().filter_map(|family| alg.strip_prefix(family));
    numbered.any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        || alg.starts_with("Ed")
        || alg == "none"
}

const SIGNING_OPERATIONS: [&str; 2] = ["sign", "verify"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{encode, snakeoil};
    use super::*;

    /// The key of RFC 7638 section 3.1.
    const RFC_7638_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    fn check_refused(jwk: Value, expected: KeyError) {
        assert_eq!(RecipientKey::from_jwk(&jwk).unwrap_err(), expected, "{jwk}");
        assert_eq!(RecipientKey::parse(&jwk.to_string()).unwrap_err(), expected, "{jwk}");
    }

    fn with(mut jwk: Value, member: &str, value: impl Into<Value>) -> Value {
        jwk[member] = value.into();
        jwk
    }

    fn ec() -> Value {
        snakeoil::p256().public().to_jwk()
    }

    fn rsa() -> Value {
        json!({ "kty": "RSA", "n": RFC_7638_N, "e": "AQAB" })
    }

    #[test]
    fn thumbprint_is_that_of_rfc_7638_section_3_1() {
        let key = RecipientKey::from_jwk(&with(rsa(), "kid", "2011-04-29")).unwrap();
        assert_eq!(key.kid().as_str(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!(
            key.to_jwk().to_string(),
            format!(r#"{{"e":"AQAB","kty":"RSA","n":"{RFC_7638_N}"}}"#)
        );
        // The same number with a leading zero is the same key.
        let padded = encode(&[&[0], decode(RFC_7638_N).unwrap().as_slice()].concat());
        assert_eq!(RecipientKey::from_jwk(&with(rsa(), "n", padded)).unwrap(), key);
        // The RFC's own example is marked for signatures.
        check_refused(
            with(rsa(), "alg", "RS256"),
            KeyError::SigningOnly { mark: "alg is RS256".to_owned() },
        );
    }

    #[test]
    fn both_kinds_round_trip_and_take_their_own_purpose() {
        for (jwk, alg) in [(ec(), "ECDH-ES+A256KW"), (rsa(), "RSA-OAEP-256")] {
            let key = RecipientKey::from_jwk(&jwk).unwrap();
            assert_eq!(key.to_jwk(), jwk);
            assert_eq!(key.alg().as_str(), alg);
            let marked = with(with(jwk, "alg", alg), "use", "enc");
            let marked = with(marked, "key_ops", json!(["wrapKey", "deriveBits"]));
            assert_eq!(RecipientKey::parse(&marked.to_string()).unwrap(), key);
        }
    }

    #[test]
    fn any_private_member_is_recognised() {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth"] {
            check_refused(with(ec(), member, "AA"), KeyError::PrivateKey);
            check_refused(with(rsa(), member, "AA"), KeyError::PrivateKey);
        }
        check_refused(with(ec(), "k", "AA"), KeyError::SymmetricKey);
        check_refused(json!({ "kty": "oct", "k": "AA" }), KeyError::SymmetricKey);
    }

    #[test]
    fn signing_keys_are_refused() {
        let signing = |mark: &str| KeyError::SigningOnly { mark: mark.to_owned() };
        check_refused(with(ec(), "use", "sig"), signing("use is sig"));
        check_refused(
            with(ec(), "key_ops", json!(["deriveKey", "verify"])),
            signing("key_ops has verify"),
        );
        check_refused(with(rsa(), "key_ops", json!(["sign"])), signing("key_ops has sign"));
        for alg in ["ES256", "PS256", "RS512", "EdDSA", "Ed25519", "HS256", "none"] {
            check_refused(with(ec(), "alg", alg), signing(&format!("alg is {alg}")));
        }
        check_refused(json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" }), signing("Ed25519"));
        check_refused(json!({ "kty": "OKP", "crv": "Ed448", "x": "AA" }), signing("Ed448"));
    }

    #[test]
    fn keys_that_say_they_do_not_wrap_are_refused() {
        let other = |expected| KeyError::OtherOperations { expected };
        for operations in
            [json!([]), json!(["encrypt"]), json!(["decrypt", "unwrapKey"]), json!(["deriveKey"])]
        {
            check_refused(with(rsa(), "key_ops", operations), other("wrapKey"));
        }
        for operations in [json!(["encrypt"]), json!(["unwrapKey"]), json!(["future"])] {
            check_refused(with(ec(), "key_ops", operations), other("deriveKey"));
        }
        for operations in [json!([]), json!(["deriveBits"]), json!(["deriveKey", "deriveBits"])] {
            assert!(RecipientKey::from_jwk(&with(ec(), "key_ops", operations)).is_ok());
        }
        assert!(
            RecipientKey::from_jwk(&with(rsa(), "key_ops", json!(["encrypt", "wrapKey"]))).is_ok()
        );
    }

    #[test]
    fn other_algorithms_and_curves_are_refused() {
        let other =
            |alg: &str, expected| KeyError::OtherAlgorithm { alg: alg.to_owned(), expected };
        check_refused(with(rsa(), "alg", "RSA-OAEP"), other("RSA-OAEP", "RSA-OAEP-256"));
        check_refused(
            with(rsa(), "alg", "ECDH-ES+A256KW"),
            other("ECDH-ES+A256KW", "RSA-OAEP-256"),
        );
        check_refused(with(ec(), "alg", "ECDH-ES"), other("ECDH-ES", "ECDH-ES+A256KW"));
        let curve = |curve: &str| KeyError::OtherCurve { curve: curve.to_owned() };
        check_refused(with(ec(), "crv", "P-384"), curve("P-384"));
        check_refused(with(ec(), "crv", "x".repeat(43)), curve("(unprintable)"));
        check_refused(json!({ "kty": "OKP", "crv": "X25519", "x": "AA" }), curve("X25519"));
        let algorithm = "AKP".to_owned();
        check_refused(json!({ "kty": "AKP" }), KeyError::UnsupportedAlgorithm { algorithm });
    }

    #[test]
    fn bad_points_are_refused() {
        let swapped = with(with(ec(), "x", ec()["y"].clone()), "y", ec()["x"].clone());
        check_refused(swapped, KeyError::PointNotOnCurve);
        let zero = encode(&[0; 32]);
        check_refused(with(with(ec(), "x", zero.clone()), "y", zero), KeyError::PointNotOnCurve);
        check_refused(with(ec(), "y", encode(&[7; 31])), KeyError::BadMember { member: "y" });
        check_refused(
            with(ec(), "x", format!("{}=", ec()["x"].as_str().unwrap())),
            KeyError::BadMember { member: "x" },
        );
        check_refused(
            json!({ "kty": "EC", "crv": "P-256" }),
            KeyError::MissingMember { member: "x" },
        );
    }

    #[test]
    fn bad_rsa_numbers_are_refused() {
        let number = |length: usize, first: u8, last: u8| {
            let mut bytes = vec![0x55; length];
            (bytes[0], bytes[length - 1]) = (first, last);
            encode(&bytes)
        };
        check_refused(with(rsa(), "n", number(256, 0x7f, 1)), KeyError::RsaTooSmall { bits: 2047 });
        check_refused(with(rsa(), "n", number(513, 0x01, 1)), KeyError::RsaTooLarge { bits: 4097 });
        check_refused(with(rsa(), "n", ""), KeyError::RsaTooSmall { bits: 0 });
        check_refused(with(rsa(), "n", number(256, 0x80, 2)), KeyError::RsaModulus);
        for e in [&[][..], &[0], &[1], &[0, 1], &[2], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1; 9]] {
            check_refused(with(rsa(), "e", encode(e)), KeyError::RsaExponent);
        }
        for e in [&[3][..], &[1, 0, 1], &[1, 0xff, 0xff, 0xff, 0xff]] {
            assert!(RecipientKey::from_jwk(&with(rsa(), "e", encode(e))).is_ok());
        }
        check_refused(with(rsa(), "n", "!"), KeyError::BadMember { member: "n" });
    }

    #[test]
    fn what_is_not_one_jwk_is_refused() {
        let check = |text: &str, expected: KeyError| {
            assert_eq!(RecipientKey::parse(text).unwrap_err(), expected, "{text}");
        };
        check(
            r#"{"kty":"EC","kty":"RSA"}"#,
            KeyError::DuplicateMember { member: "kty".to_owned() },
        );
        check(r#"{"kty":"EC"} x"#, KeyError::BadJson { line: 1, column: 14 });
        check(r#"{"kty":"EC"}{"kty":"EC"}"#, KeyError::BadJson { line: 1, column: 13 });
        check(&json!({ "keys": [ec()] }).to_string(), KeyError::SeveralKeys);
        check(&json!([ec()]).to_string(), KeyError::SeveralKeys);
        check("{}", KeyError::MissingMember { member: "kty" });
        check("", KeyError::NotAKey);
        check("ssh-rsa AAAA", KeyError::NotAKey);
        check(&" ".repeat(16 * 1024 + 1), KeyError::TooLarge { max_bytes: 16 * 1024 });
        assert!(matches!(RecipientKey::parse(r#"{"kty":7}"#), Err(KeyError::BadJson { .. })));
    }

    #[test]
    fn no_error_repeats_key_material() {
        let secret = encode(&[0xa5; 32]);
        for jwk in [
            with(ec(), "d", secret.clone()),
            with(ec(), "d", json!([secret.clone()])),
            with(ec(), "crv", secret.clone()),
            with(ec(), "alg", secret.clone()),
            with(ec(), "use", secret.clone()),
            with(ec(), "kty", secret.clone()),
            with(ec(), "x", json!({ "d": secret.clone() })),
        ] {
            let (public, private) = (
                RecipientKey::parse(&jwk.to_string()),
                RecipientPrivateKey::parse(&jwk.to_string()),
            );
            for error in [public.unwrap_err(), private.unwrap_err()] {
                assert!(!format!("{error} {error:?}").contains(&secret[..16]), "{error}");
            }
        }
    }

    #[test]
    fn private_keys_round_trip_with_and_without_primes() {
        let key = snakeoil::p256();
        let jwk = with(key.public().to_jwk(), "d", encode(&p256_scalar(&key)));
        assert_eq!(RecipientPrivateKey::parse(&jwk.to_string()).unwrap().kid(), key.kid());
        let other = with(ec(), "d", jwk["d"].clone());
        assert_eq!(
            RecipientPrivateKey::parse(&other.to_string()).unwrap_err(),
            KeyError::Inconsistent
        );
        assert_eq!(RecipientPrivateKey::parse(&ec().to_string()).unwrap_err(), KeyError::PublicKey);

        let key = snakeoil::rsa();
        let [d, p, q] = rsa_numbers(key);
        let bare = with(key.public().to_jwk(), "d", d);
        let full = with(with(bare.clone(), "p", p.clone()), "q", q);
        for jwk in [&bare, &full] {
            assert_eq!(RecipientPrivateKey::parse(&jwk.to_string()).unwrap().kid(), key.kid());
        }
        let check = |jwk: Value, expected| {
            assert_eq!(RecipientPrivateKey::parse(&jwk.to_string()).unwrap_err(), expected);
        };
        check(with(bare.clone(), "p", p.clone()), KeyError::MissingMember { member: "q" });
        check(with(full.clone(), "q", p), KeyError::Inconsistent);
        check(with(full, "n", RFC_7638_N), KeyError::Inconsistent);
        let algorithm = "RSA with more than two primes".to_owned();
        check(with(bare, "oth", json!([])), KeyError::UnsupportedAlgorithm { algorithm });
    }

    fn p256_scalar(key: &RecipientPrivateKey) -> [u8; 32] {
        match key.material() {
            super::super::PrivateMaterial::P256(key) => key.to_bytes().into(),
            super::super::PrivateMaterial::Rsa(_) => panic!("a P-256 key"),
        }
    }

    fn rsa_numbers(key: &RecipientPrivateKey) -> [String; 3] {
        use rsa::traits::PrivateKeyParts;
        match key.material() {
            super::super::PrivateMaterial::Rsa(key) => {
                [key.d(), &key.primes()[0], &key.primes()[1]]
                    .map(|number| encode(&number.to_be_bytes()))
            }
            super::super::PrivateMaterial::P256(_) => panic!("an RSA key"),
        }
    }
}
