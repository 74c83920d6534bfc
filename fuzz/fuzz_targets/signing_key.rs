//! A key that signs: PEM, or the key object of TUF. What is read is written so that it is read the
//! same, and has one id.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_uptane::key::{PublicKey, SigningKey};

fuzz_target!(|text: &str| {
    if let Ok(key) = PublicKey::read(text) {
        let again = PublicKey::from_object(key.object().clone()).expect("its object can be read");
        assert!(again.is_same_key(&key) && again.id() == key.id());
        assert!(!key.verifies(b"x", b""));
    }
    if let Ok(key) = SigningKey::from_pem(text) {
        assert!(key.public().verifies(text.as_bytes(), &key.sign(text.as_bytes())));
    }
});
