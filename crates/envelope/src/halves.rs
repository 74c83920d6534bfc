//! The data key of an upload that can be resumed, from two halves (docs/FORMAT.md, 6.9).
//!
//! One half is wrapped, in the catalog; the other one is kept beside the sealed bytes and goes with
//! them. Who brings back the one alone has no key.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::key::DataKey;

/// Derives a data key: for each pair of halves another one.
pub fn join(wrapped: &DataKey, kept: &[u8; 32]) -> DataKey {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(kept), wrapped.as_bytes())
        .expand(DATA_KEY, key.as_mut())
        .expect("HKDF-SHA-256 gives up to 8160 bytes");
    DataKey::from_bytes(*key)
}

const DATA_KEY: &[u8] = b"motorcade upload data key";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_key_needs_both_halves() {
        let [one, other] = [1, 2].map(|byte| DataKey::from_bytes([byte; 32]));
        let joined = join(&one, &[3; 32]);
        assert_eq!(join(&one, &[3; 32]), joined);
        for another in [join(&other, &[3; 32]), join(&one, &[4; 32]), join(&other, &[4; 32])] {
            assert_ne!(another, joined);
        }
        for half in [[1; 32], [3; 32]] {
            assert_ne!(joined, DataKey::from_bytes(half));
        }
    }

    /// Computed with Python's `hmac`, as RFC 5869 says.
    #[test]
    fn is_derived_as_the_format_says() {
        let joined = join(&DataKey::from_bytes([1; 32]), &[3; 32]);
        let expected = "af689aba9aea329b0871eaf4764112869bcaa53b300265df70e1e2089945a4c2";
        let hex = joined.as_bytes().map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(hex, expected);
    }
}
