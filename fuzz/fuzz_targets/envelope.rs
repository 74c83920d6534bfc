//! An envelope from anyone: reading never fails but with an error, and what was read is written the
//! same again.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::envelope::jwe::Envelope;
use motorcade_fuzz::envelope::key::RecipientPrivateKey;

static KEY: LazyLock<RecipientPrivateKey> = LazyLock::new(|| {
    RecipientPrivateKey::parse(include_str!("../../tests/vectors/keys/snakeoil_p256.pem"))
        .expect("it is a key")
});

fuzz_target!(|input: &[u8]| {
    let Ok(envelope) = Envelope::parse(input) else { return };
    let opened = envelope.open(&KEY);
    let whole = envelope.to_json_with_escrow();
    let again = Envelope::parse(whole.as_bytes()).expect("our own envelopes can be read");
    assert_eq!(again.to_json_with_escrow(), whole);
    assert_eq!(again.open(&KEY), opened);
});
