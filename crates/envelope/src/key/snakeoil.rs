//! Keys for tests: made anew in each run, so that no private key lies in the source.

use std::sync::LazyLock;

use super::RecipientPrivateKey;

/// An RSA key of 2048 bits; making one takes long enough to share it.
pub(crate) fn rsa() -> &'static RecipientPrivateKey {
    static KEY: LazyLock<RecipientPrivateKey> =
        LazyLock::new(|| RecipientPrivateKey::generate_rsa(2048).unwrap());
    &KEY
}

/// A P-256 key, another one for each call.
pub(crate) fn p256() -> RecipientPrivateKey {
    RecipientPrivateKey::generate_p256()
}

/// Wraps base64 into a PEM block.
pub(crate) fn pem(label: &str, base64: &str) -> String {
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}
