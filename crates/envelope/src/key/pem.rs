//! PEM keys (RFC 7468): which blocks are keys, and what the others are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use motorcade_model::strict_json::shown_name;
use p256::pkcs8::der::Decode;
use p256::pkcs8::{
    AlgorithmIdentifierRef, ObjectIdentifier, PrivateKeyInfoRef, SubjectPublicKeyInfoRef,
};
use rsa::pkcs1::{RsaPrivateKeyRef, RsaPublicKeyRef};
use zeroize::Zeroizing;

use super::{KeyError, RecipientKey, RecipientPrivateKey};

/// Reads the one public key in `text`.
pub(super) fn parse_public(text: &str) -> Result<RecipientKey, KeyError> {
    // First of all, and wherever it stands: the sender must learn that a secret has left its place.
    if text.contains("PRIVATE KEY") {
        return Err(KeyError::PrivateKey);
    }
    let blocks = blocks(text)?;
    if blocks.iter().any(Block::is_certificate) {
        return Err(KeyError::Certificate);
    }
    let [block] = blocks.as_slice() else { return Err(KeyError::SeveralKeys) };
    match block.label {
        "PUBLIC KEY" => public_from_spki(&block.decode()?),
        "RSA PUBLIC KEY" => public_from_pkcs1(&block.decode()?),
        label => Err(KeyError::UnsupportedPem { label: shown_name(label) }),
    }
}

/// Reads the one private key in `text`.
pub(super) fn parse_private(text: &str) -> Result<RecipientPrivateKey, KeyError> {
    let mut blocks = blocks(text)?;
    // `openssl ecparam -genkey` puts the curve into a block of its own, and again into the key.
    blocks.retain(|block| block.label != "EC PARAMETERS");
    let [block] = blocks.as_slice() else { return Err(KeyError::SeveralKeys) };
    // `Proc-Type: 4,ENCRYPTED` is the older form, inside the block.
    if block.label == "ENCRYPTED PRIVATE KEY" || block.body.contains("ENCRYPTED") {
        return Err(KeyError::EncryptedPrivateKey);
    }
    match block.label {
        "PRIVATE KEY" => private_from_pkcs8(&block.decode()?),
        "RSA PRIVATE KEY" => private_from_pkcs1(&block.decode()?),
        "EC PRIVATE KEY" => private_from_sec1(&block.decode()?),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Err(KeyError::PublicKey),
        _ if block.is_certificate() => Err(KeyError::PublicKey),
        label => Err(KeyError::UnsupportedPem { label: shown_name(label) }),
    }
}

/// One PEM block, still encoded.
struct Block<'a> {
    label: &'a str,
    body: &'a str,
}

impl Block<'_> {
    fn is_certificate(&self) -> bool {
        self.label.ends_with("CERTIFICATE")
    }

    fn decode(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        // Both buffers have their capacity from the start: one that grows leaves secrets in its old
        // place.
        let mut packed = Zeroizing::new(String::with_capacity(self.body.len()));
        packed.extend(self.body.chars().filter(|c| !c.is_ascii_whitespace()));
        let mut der = Zeroizing::new(vec![0; self.body.len()]);
        let length =
            STANDARD.decode_slice(packed.as_bytes(), &mut der).map_err(|_| KeyError::DamagedPem)?;
        der.truncate(length);
        Ok(der)
    }
}

/// Splits `text`, which must consist of PEM blocks and white space.
fn blocks(text: &str) -> Result<Vec<Block<'_>>, KeyError> {
    let mut blocks = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let block = rest.strip_prefix("-----BEGIN ").ok_or(KeyError::TextAroundPem)?;
        let (label, block) = block.split_once("-----").ok_or(KeyError::DamagedPem)?;
        let end = format!("-----END {label}-----");
        let (body, after) = block.split_once(&end).ok_or(KeyError::DamagedPem)?;
        blocks.push(Block { label, body });
        rest = after.trim_start();
    }
    Ok(blocks)
}

fn public_from_spki(der: &[u8]) -> Result<RecipientKey, KeyError> {
    let damaged = KeyError::DamagedDer { expected: "a SubjectPublicKeyInfo" };
    let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| damaged.clone())?;
    let bits = spki.subject_public_key.as_bytes().ok_or(damaged)?;
    match spki.algorithm.oid {
        RSA_ENCRYPTION => public_from_pkcs1(bits),
        EC_PUBLIC_KEY => {
            check_curve(&spki.algorithm)?;
            let point =
                p256::PublicKey::from_sec1_bytes(bits).map_err(|_| KeyError::PointNotOnCurve)?;
            Ok(RecipientKey::from_p256(point))
        }
        oid => Err(unsupported(oid)),
    }
}

fn public_from_pkcs1(der: &[u8]) -> Result<RecipientKey, KeyError> {
    let key = RsaPublicKeyRef::from_der(der)
        .map_err(|_| KeyError::DamagedDer { expected: "an RSAPublicKey" })?;
    RecipientKey::from_rsa_parts(key.modulus.as_bytes(), key.public_exponent.as_bytes())
}

/// Modulus and exponent in the DER `SubjectPublicKeyInfo` of an RSA key.
pub fn rsa_numbers(spki: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let spki = SubjectPublicKeyInfoRef::from_der(spki)
        .ok()
        .filter(|spki| spki.algorithm.oid == RSA_ENCRYPTION)?;
    let key = RsaPublicKeyRef::from_der(spki.subject_public_key.as_bytes()?).ok()?;
    Some((key.modulus.as_bytes().to_vec(), key.public_exponent.as_bytes().to_vec()))
}

fn private_from_pkcs8(der: &[u8]) -> Result<RecipientPrivateKey, KeyError> {
    let info = PrivateKeyInfoRef::from_der(der)
        .map_err(|_| KeyError::DamagedDer { expected: "a PKCS#8 private key" })?;
    match info.algorithm.oid {
        RSA_ENCRYPTION => private_from_pkcs1(info.private_key.as_bytes()),
        EC_PUBLIC_KEY => {
            check_curve(&info.algorithm)?;
            private_from_sec1(info.private_key.as_bytes())
        }
        oid => Err(unsupported(oid)),
    }
}

fn private_from_pkcs1(der: &[u8]) -> Result<RecipientPrivateKey, KeyError> {
    let parts = RsaPrivateKeyRef::from_der(der)
        .map_err(|_| KeyError::DamagedDer { expected: "an RSAPrivateKey" })?;
    let public =
        RecipientKey::from_rsa_parts(parts.modulus.as_bytes(), parts.public_exponent.as_bytes())?;
    let key = rsa::RsaPrivateKey::try_from(parts).map_err(|_| KeyError::Inconsistent)?;
    Ok(RecipientPrivateKey::from_checked_rsa(key, public))
}

fn private_from_sec1(der: &[u8]) -> Result<RecipientPrivateKey, KeyError> {
    p256::SecretKey::from_sec1_der(der)
        .map(RecipientPrivateKey::from_p256)
        .map_err(|_| KeyError::DamagedDer { expected: "an ECPrivateKey on P-256" })
}

/// Refuses every curve but P-256, by name if it has a known one.
fn check_curve(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<(), KeyError> {
    let Ok(oid) = algorithm.parameters_oid() else {
        // CVE-2020-0601: parameters spelled out can describe a curve on which the attacker knows
        // the private key.
        return Err(KeyError::OtherCurve { curve: "with explicit parameters".to_owned() });
    };
    if oid == P256 {
        return Ok(());
    }
    let name = CURVES.iter().find(|(known, _)| *known == oid).map(|(_, name)| (*name).to_owned());
    Err(KeyError::OtherCurve { curve: name.unwrap_or_else(|| oid.to_string()) })
}

fn unsupported(oid: ObjectIdentifier) -> KeyError {
    if let Some((_, name)) = SIGNING.iter().find(|(known, _)| *known == oid) {
        return KeyError::SigningOnly { mark: (*name).to_owned() };
    }
    match MONTGOMERY.iter().find(|(known, _)| *known == oid) {
        Some((_, name)) => KeyError::OtherCurve { curve: (*name).to_owned() },
        None => KeyError::UnsupportedAlgorithm { algorithm: oid.to_string() },
    }
}

const RSA_ENCRYPTION: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = oid("1.2.840.10045.2.1");
const P256: ObjectIdentifier = oid("1.2.840.10045.3.1.7");

const CURVES: [(ObjectIdentifier, &str); 7] = [
    (oid("1.3.132.0.33"), "P-224"),
    (oid("1.3.132.0.34"), "P-384"),
    (oid("1.3.132.0.35"), "P-521"),
    (oid("1.3.132.0.10"), "secp256k1"),
    (oid("1.3.36.3.3.2.8.1.1.7"), "brainpoolP256r1"),
    (oid("1.3.36.3.3.2.8.1.1.11"), "brainpoolP384r1"),
    (oid("1.2.156.10197.1.301"), "SM2"),
];

/// Curves that are algorithms of their own (RFC 8410).
const MONTGOMERY: [(ObjectIdentifier, &str); 2] =
    [(oid("1.3.101.110"), "X25519"), (oid("1.3.101.111"), "X448")];

const SIGNING: [(ObjectIdentifier, &str); 7] = [
    (oid("1.3.101.112"), "Ed25519"),
    (oid("1.3.101.113"), "Ed448"),
    (oid("1.2.840.113549.1.1.10"), "RSASSA-PSS"),
    (oid("1.2.840.10040.4.1"), "DSA"),
    (oid("2.16.840.1.101.3.4.3.17"), "ML-DSA-44"),
    (oid("2.16.840.1.101.3.4.3.18"), "ML-DSA-65"),
    (oid("2.16.840.1.101.3.4.3.19"), "ML-DSA-87"),
];

const fn oid(dotted: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(dotted)
}

#[cfg(test)]
mod tests {
    use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
    use rsa::pkcs8::LineEnding;

    use super::super::snakeoil::{self, pem};
    use super::super::{PrivateMaterial, PublicMaterial};
    use super::*;

    fn check_refused(text: &str, expected: KeyError) {
        assert_eq!(RecipientKey::parse(text).unwrap_err(), expected, "{text}");
    }

    #[test]
    fn both_kinds_round_trip_through_public_pem() {
        for key in [snakeoil::rsa().public(), snakeoil::p256().public()] {
            let pem = key.to_public_pem();
            assert_eq!(RecipientKey::parse(&pem).unwrap(), *key);
            let dressed = format!("\u{feff}\r\n{}\n\n", pem.replace('\n', "\r\n"));
            assert_eq!(RecipientKey::parse(&dressed).unwrap(), *key);
        }
    }

    #[test]
    fn reads_pkcs1_and_compressed_points() {
        let key = snakeoil::rsa().public();
        let PublicMaterial::Rsa(rsa) = key.material() else { panic!("an RSA key") };
        assert_eq!(RecipientKey::parse(&rsa.to_pkcs1_pem(LineEnding::LF).unwrap()).unwrap(), *key);

        let pem = pem(
            "PUBLIC KEY",
            "MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgADaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY=",
        );
        assert_eq!(
            RecipientKey::parse(&pem).unwrap().to_jwk()["x"],
            "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY"
        );
    }

    #[test]
    fn every_private_block_is_recognised_wherever_it_stands() {
        let public = snakeoil::p256().public().to_public_pem();
        for label in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "EC PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
        ] {
            check_refused(&pem(label, "!"), KeyError::PrivateKey);
            check_refused(&format!("{public}{}", pem(label, "AAAA")), KeyError::PrivateKey);
        }
        check_refused(&snakeoil::p256().to_pkcs8_pem(), KeyError::PrivateKey);
    }

    #[test]
    fn signing_keys_are_refused_by_name() {
        for (hex, name) in [
            (
                "302a300506032b65700321009d31433f2fe58ed583eb659f938f78f1ce090aec374795f86600c7674b9c7921",
                "Ed25519",
            ),
            // The algorithm comes first, so an empty key will do for the others.
            ("300a300506032b6571030100", "Ed448"),
            ("3010300b06092a864886f70d01010a030100", "RSASSA-PSS"),
            ("300e300906072a8648ce380401030100", "DSA"),
        ] {
            let text = pem("PUBLIC KEY", &STANDARD.encode(hex::decode(hex).unwrap()));
            check_refused(&text, KeyError::SigningOnly { mark: name.to_owned() });
        }
    }

    #[test]
    fn other_curves_are_refused_by_name() {
        let other = |curve: &str| KeyError::OtherCurve { curve: curve.to_owned() };
        for (base64, curve) in [
            (P384, "P-384"),
            (SECP256K1, "secp256k1"),
            (EXPLICIT, "with explicit parameters"),
            ("MCowBQYDK2VuAyEABJ9ac98D+pLdWQzRa5oX8uLZVXVFOAIv9vt/WPtzRVY=", "X25519"),
        ] {
            check_refused(&pem("PUBLIC KEY", base64), other(curve));
        }
    }

    #[test]
    fn points_off_the_curve_and_at_infinity_are_refused() {
        let valid = STANDARD.decode(P256_BASE64).unwrap();
        let mut off_curve = valid.clone();
        *off_curve.last_mut().unwrap() ^= 1;
        check_refused(&pem("PUBLIC KEY", &STANDARD.encode(off_curve)), KeyError::PointNotOnCurve);
        // The same SubjectPublicKeyInfo with the one-byte encoding of infinity.
        let mut infinity = vec![0x30, 0x19];
        infinity.extend(&valid[2..23]);
        infinity.extend([0x03, 0x02, 0x00, 0x00]);
        check_refused(&pem("PUBLIC KEY", &STANDARD.encode(infinity)), KeyError::PointNotOnCurve);
        assert!(RecipientKey::parse(&pem("PUBLIC KEY", P256_BASE64)).is_ok());
    }

    #[test]
    fn weak_rsa_is_refused() {
        check_refused(&pem("PUBLIC KEY", RSA_1024), KeyError::RsaTooSmall { bits: 1024 });
    }

    #[test]
    fn what_is_not_one_public_key_is_refused() {
        let key = snakeoil::p256().public().to_public_pem();
        let damaged = |expected| KeyError::DamagedDer { expected };
        check_refused(&pem("CERTIFICATE", "AAAA"), KeyError::Certificate);
        check_refused(
            &format!("{key}{}", pem("TRUSTED CERTIFICATE", "AAAA")),
            KeyError::Certificate,
        );
        let label = "CERTIFICATE REQUEST".to_owned();
        check_refused(&pem(&label, "AAAA"), KeyError::UnsupportedPem { label: label.clone() });
        check_refused(&format!("{key}{key}"), KeyError::SeveralKeys);
        check_refused(&format!("{key}x"), KeyError::TextAroundPem);
        check_refused(&format!("my key:\n{key}"), KeyError::TextAroundPem);
        check_refused(&key.replace("END PUBLIC", "END"), KeyError::DamagedPem);
        check_refused(&pem("PUBLIC KEY", "?"), KeyError::DamagedPem);
        check_refused(&pem("PUBLIC KEY", "AAAA"), damaged("a SubjectPublicKeyInfo"));
        check_refused(&pem("RSA PUBLIC KEY", "AAAA"), damaged("an RSAPublicKey"));
        // DER with something behind it.
        let mut longer = STANDARD.decode(P256_BASE64).unwrap();
        longer.push(0);
        check_refused(
            &pem("PUBLIC KEY", &STANDARD.encode(longer)),
            damaged("a SubjectPublicKeyInfo"),
        );
    }

    #[test]
    fn reads_private_keys_in_three_notations() {
        let (rsa, p256) = (snakeoil::rsa(), snakeoil::p256());
        let PrivateMaterial::Rsa(rsa_key) = rsa.material() else { panic!("an RSA key") };
        let PrivateMaterial::P256(p256_key) = p256.material() else { panic!("a P-256 key") };
        let sec1 = p256_key.to_sec1_pem(LineEnding::LF).unwrap();
        let with_parameters = format!("{}{}", pem("EC PARAMETERS", "BggqhkjOPQMBBw=="), *sec1);
        for (text, kid) in [
            (rsa.to_pkcs8_pem().as_str(), rsa.kid()),
            (rsa_key.to_pkcs1_pem(LineEnding::CRLF).unwrap().as_str(), rsa.kid()),
            (p256.to_pkcs8_pem().as_str(), p256.kid()),
            (sec1.as_str(), p256.kid()),
            (&with_parameters, p256.kid()),
        ] {
            assert_eq!(RecipientPrivateKey::parse(text).unwrap().kid(), kid);
        }
    }

    #[test]
    fn what_is_not_one_private_key_is_refused() {
        let check = |text: &str, expected: KeyError| {
            assert_eq!(RecipientPrivateKey::parse(text).unwrap_err(), expected);
        };
        check(&pem("PUBLIC KEY", P256_BASE64), KeyError::PublicKey);
        check(&pem("CERTIFICATE", "AAAA"), KeyError::PublicKey);
        check(&pem("ENCRYPTED PRIVATE KEY", "AAAA"), KeyError::EncryptedPrivateKey);
        let old = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA";
        check(&pem("RSA PRIVATE KEY", old), KeyError::EncryptedPrivateKey);
        let key = snakeoil::p256().to_pkcs8_pem();
        check(&format!("{0}{0}", *key), KeyError::SeveralKeys);
        check(
            &pem("PRIVATE KEY", "AAAA"),
            KeyError::DamagedDer { expected: "a PKCS#8 private key" },
        );
        check(
            &pem("EC PRIVATE KEY", "AAAA"),
            KeyError::DamagedDer { expected: "an ECPrivateKey on P-256" },
        );
        let label = "OPENSSH PRIVATE KEY".to_owned();
        check(&pem(&label, "AAAA"), KeyError::UnsupportedPem { label: label.clone() });
    }

    const P256_BASE64: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";
    const P384: &str = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEw3LcBrJ+TvJLuc/gpqBRZRe65z1UC20VgewxDQ8etvW1NsgKKWhdMNdjiN+MGJqd8rrL4zTkMIoWkkQubITXxRf6IiFijhydRBgVhtGMjyV4a46XVOkumkqT+PAcP9O6";
    const SECP256K1: &str = "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAET5J+cDoaksJSmd79f8xuMSYVuMQKcoLU380QDNZcU9pqJ+UNmsYBxxPClhIB1MzSH28aPsEhnssNp5uSFh3HWQ==";
    const EXPLICIT: &str = "MIIBSzCCAQMGByqGSM49AgEwgfcCAQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAAAAAAAAAAAAAA////////////////MFsEIP////8AAAABAAAAAAAAAAAAAAAA///////////////8BCBaxjXYqjqT57PrvVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSdNgiG5wSTamZ44ROdJreBn36QBEEEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA//////////+85vqtpxeehPO5ysL8YyVRAgEBA0IABCpy6kmS5cNEb9hkal9zzt7hdhDfOjJnl/bmDAPAiJ+aZbqDVhfF2VVhxOBaX+iOnjtlBr9BeE4Rcu3BuklPTj0=";
    const RSA_1024: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCzvnliTRqM9ZMw0Tmf+Pw4aggaj81uzMX361prUI2wLD2YKtF7Zmo8QlquJehGytXBAvgmZgKBXikYR2JJ/+MXi8+8hRI2mNQZJ6vwK0LrhtTkP1HtV2o1w3mQnN5Zx3yNxRR16zApWet8fR+KIJRVNauaRwawx8n7LJmfkZ0E5QIDAQAB";
}
