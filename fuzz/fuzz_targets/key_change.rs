//! The change of an ECU's encryption key: what is read is what an ECU would sign.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use motorcade_uptane::key::SigningKey;
use motorcade_uptane::key_change::{KeyChange, MAX_KEY_CHANGE_SIZE};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::ed25519_from_seed(&[7; 32]));

fuzz_target!(|input: &[u8]| {
    if input.len() > MAX_KEY_CHANGE_SIZE {
        return;
    }
    let Ok(change) = KeyChange::parse(input) else { return };
    let signed = change.content.sign(&KEY).to_string();
    let again = KeyChange::parse(signed.as_bytes()).expect("what is signed can be read");
    assert_eq!(again.content, change.content);
    assert!(again.verify(KEY.public().verifying()));
});
