//! A key of a recipient, public or private, as PEM or JWK: what is read is written so that it is
//! read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_envelope::key::{RecipientKey, RecipientPrivateKey};

fuzz_target!(|text: &str| {
    if let Ok(key) = RecipientKey::read(text) {
        let pem = RecipientKey::read(&key.to_public_pem()).expect("our own PEM can be read");
        let jwk = RecipientKey::read(&key.to_jwk().to_string()).expect("our own JWK can be read");
        assert!(pem == key && jwk == key && jwk.kid() == key.kid());
    }
    if let Ok(key) = RecipientPrivateKey::parse(text) {
        assert!(RecipientKey::read(text).is_err(), "a private key is taken for a public one");
        let again = RecipientPrivateKey::parse(&key.to_pkcs8_pem()).expect("our own can be read");
        assert!(again.public() == key.public());
    }
});
