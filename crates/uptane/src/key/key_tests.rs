use aws_lc_rs::signature::{ML_DSA_65_SIGNING, PqdsaKeyPair};

use super::*;

/// AT-26: a key counts once, however it is written.
/// One byte of the algorithm's name has changed; the curve's is whole.
#[test]
fn a_key_of_an_algorithm_that_nobody_knows_is_refused() {
    let text = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj5CAQYIKoZIzj0DAQcDQgAEPWNNApUUaOF3/oU24R3dhy0MWwvi\n\
        t9Sy6TKhECbrdTvWb4QgZEN98bopjtMK5jezdy2mrg4VYcP4d39AhaRCeA==\n\
        -----END PUBLIC KEY-----\n";
    assert!(matches!(PublicKey::read(text), Err(KeyError::Malformed)));
}

#[test]
fn one_key_in_two_encodings_is_the_same_key() {
    for scheme in [Scheme::EcdsaSha2Nistp256, Scheme::RsassaPssSha256] {
        let key = SigningKey::from_pem(&SigningKey::generate_pem(scheme).unwrap()).unwrap();
        let der = key.public().verifying.bytes.to_vec();
        let other = match scheme {
            Scheme::RsassaPssSha256 => der[24..].to_vec(), // PKCS#1
            _ => der[der.len() - 65..].to_vec(),           // the point alone
        };
        for other in [other, [&der[..], b"more"].concat()] {
            let mut object = key.public().object().clone();
            object["keyval"]["public"] = json!(to_pem("PUBLIC KEY", &other).as_str());
            let again = PublicKey::from_object(object).unwrap();
            assert_ne!(again.id(), key.public().id());
            assert!(again.is_same_key(key.public()));
        }
    }
}

#[test]
fn every_scheme_signs_and_verifies_after_a_round_trip() {
    for scheme in Scheme::ALL {
        let key = SigningKey::from_pem(&SigningKey::generate_pem(scheme).unwrap()).unwrap();
        let public = PublicKey::from_object(key.public().object().clone()).unwrap();
        assert_eq!((public.id(), public.scheme()), (key.public().id(), scheme));
        let signature = key.sign(b"message");
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"messagf", &signature));
        assert!(!public.verifies(b"message", &signature[1..]));
    }
}

#[test]
fn reads_pem_and_refuses_private_and_broken_keys() {
    let pem = SigningKey::generate_pem(Scheme::EcdsaSha2Nistp256).unwrap();
    let key = SigningKey::from_pem(&pem).unwrap();
    let public = key.public().object()["keyval"]["public"].as_str().unwrap();
    assert_eq!(&PublicKey::parse(public).unwrap(), key.public());
    assert!(key.public().is_same_as_pem(public));
    assert_eq!(PublicKey::parse(&pem), Err(KeyError::Private));
    assert_eq!(PublicKey::parse("hello"), Err(KeyError::Malformed));
    let ed25519 =
        SigningKey::from_pem(&SigningKey::generate_pem(Scheme::Ed25519).unwrap()).unwrap();
    let raw = hex::decode(ed25519.public().object()["keyval"]["public"].as_str().unwrap()).unwrap();
    let spki = to_pem("PUBLIC KEY", &[&ED25519_SPKI[..], &raw].concat());
    assert_eq!(&PublicKey::parse(&spki).unwrap(), ed25519.public());
}

#[test]
fn an_rsa_key_has_at_most_4096_bits() {
    use rsa::pkcs8::EncodePublicKey;
    let pem = |bytes: usize| {
        let modulus = rsa::BoxedUint::from_be_slice_vartime(&vec![0xff; bytes]);
        let key = rsa::RsaPublicKey::new_unchecked(modulus, rsa::BoxedUint::from(65537_u64));
        key.to_public_key_pem(rsa::pkcs8::LineEnding::LF).unwrap()
    };
    assert_eq!(PublicKey::parse(&pem(1024)), Err(KeyError::RsaTooLarge { bits: 8192 }));
    assert_eq!(PublicKey::parse(&pem(513)), Err(KeyError::RsaTooLarge { bits: 4104 }));
    assert_eq!(
        PublicKey::parse(&pem(512)),
        Err(KeyError::Weak(WeakKey::SmallFactor { factor: 3 }))
    );
}

/// The key and the id that the fixtures of python-tuf, tuf-js and php-tuf have in common.
#[test]
fn key_ids_cover_the_whole_key_object() {
    let public = "edcd0a32a07dce33f7c7873aaffbff36d20ea30787574ead335eefd337e4dacd";
    let mut object =
        json!({ "keytype": "ed25519", "keyval": { "public": public }, "scheme": "ed25519" });
    object["keyid_hash_algorithms"] = json!(["sha256", "sha512"]);
    let id = PublicKey::from_object(object).unwrap().id().to_string();
    assert_eq!(id, "59a4df8af818e9ed7abe0764c0b47b4240952aa0d179b5b78346c470ac30278d");
}

/// TAP 21, as securesystemslib has it: `tests/vectors/make_ml_dsa.py`.
#[test]
fn a_signature_of_ml_dsa_that_securesystemslib_made_verifies() {
    let vector = include_str!("../../../../tests/vectors/ml_dsa/tap21.json");
    let vector: Value = serde_json::from_str(vector).unwrap();
    let bytes = |name: &str| hex::decode(vector[name].as_str().unwrap()).unwrap();
    let key = PublicKey::from_object(vector["key"].clone()).unwrap();
    assert_eq!((key.scheme(), key.check_strength()), (Scheme::MlDsa65, Ok(())));
    assert_eq!(key.id().to_string(), vector["keyid"].as_str().unwrap());
    let (message, signature) = (vector["message"].as_str().unwrap(), bytes("signature"));
    assert!(key.verifies(message.as_bytes(), &signature));
    assert!(!key.verifies(&message.as_bytes()[1..], &signature));
    assert!(!key.verifies(message.as_bytes(), &bytes("signature_of_the_message_itself")));
}

/// What has several forms counts twice (AT-26): RFC 9881 has one.
#[test]
fn a_key_of_ml_dsa_has_one_form() {
    let key = SigningKey::from_pem(&SigningKey::generate_pem(Scheme::MlDsa65).unwrap()).unwrap();
    let der = key.public().verifying.bytes.to_vec();
    let null_parameters =
        [&[0x30, 0x82, 0x07, 0xb4, 0x30, 0x0d][..], &der[6..17], &[0x05, 0x00][..], &der[17..]]
            .concat();
    for other in [&der[22..], &der[1..], &[&der[..], b"more"].concat(), &null_parameters] {
        let mut object = key.public().object().clone();
        object["keyval"]["public"] = json!(to_pem("PUBLIC KEY", other).as_str());
        assert_eq!(PublicKey::from_object(object), Err(KeyError::Malformed));
    }
    for (member, value) in
        [("scheme", "ml-dsa-65"), ("scheme", "ml-dsa-65/2"), ("scheme", "ml-dsa-87/1")]
    {
        let mut object = key.public().object().clone();
        object[member] = json!(value);
        assert_eq!(PublicKey::from_object(object), Err(KeyError::Scheme), "{value}");
    }
    let public = key.public().object()["keyval"]["public"].as_str().unwrap();
    assert_eq!(&PublicKey::parse(public).unwrap(), key.public());
    assert_eq!(serde_json::to_value(Scheme::MlDsa65).unwrap(), Scheme::MlDsa65.as_str());
}

/// The key of a secret that is nothing: what it signs verifies, and anybody can sign so.
#[test]
fn a_key_of_ml_dsa_that_hides_no_secret_is_weak() {
    let hash = hex::decode(HASH_OF_THE_EMPTY_KEY).unwrap();
    let zeros = |byte: u8, bytes: usize| vec![byte; bytes];
    // 0 is 4 in nibbles of eta - s, and 4096 in 13 bits of 2^12 - t0 (FIPS 204, algorithm 24).
    let nothing = [0x00, 0x10, 0x00, 0x02, 0x40, 0x00, 0x08, 0x00, 0x01, 0x20, 0x00, 0x04, 0x80];
    let secret = [zeros(0, 64), hash, zeros(0x44, 11 * 128), nothing.repeat(6 * 32)].concat();
    let pair = PqdsaKeyPair::from_raw_private_key(&ML_DSA_65_SIGNING, &secret).unwrap();
    let key = PublicKey::from_raw(Scheme::MlDsa65, &ml_dsa::spki(&pair).unwrap()).unwrap();
    assert!(key.verifies(b"anything", &ml_dsa::sign(&pair, b"anything")));
    assert_eq!(key.check_strength(), Err(KeyError::Weak(WeakKey::SmallModule)));
}

/// SHAKE256 of 1952 zeros, which is in a private key (FIPS 204, algorithm 6).
const HASH_OF_THE_EMPTY_KEY: &str = "e019e67a77cb2e66521ced7155ffbb9712b7739fd2beb6493d8ae673529cd500\
    8b50abc881a1484ec327ef9df34b88f263246baa8f7afdad8e115b2717b96a30";
