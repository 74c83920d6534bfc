//! Base64url as JOSE writes it: no padding, no line breaks, no stray bits (RFC 7515 section 2).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Encodes public bytes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Appends the encoding of secret bytes to `text`, whose capacity **must** suffice: a `String` that
/// grows leaves its old buffer behind, not zeroized.
pub(crate) fn push_encoded(text: &mut Zeroizing<String>, secret: &[u8]) {
    debug_assert!(text.capacity() - text.len() >= secret.len().div_ceil(3) * 4);
    URL_SAFE_NO_PAD.encode_string(secret, text);
}

/// Decodes public bytes of any length.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes public bytes of one length.
pub(crate) fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode_secret(text).map(|bytes| *bytes)
}

/// Decodes secret bytes of one length, leaving no copy behind.
pub(crate) fn decode_secret<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    if text.len() != encoded_len(N) {
        return None;
    }
    let mut bytes = Zeroizing::new([0; N]);
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes).ok()?;
    (length == N).then_some(bytes)
}

fn encoded_len(length: usize) -> usize {
    (length * 4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_every_remainder_round_trip() {
        assert_eq!(decode_array::<1>(&encode(&[9; 1])), Some([9; 1]));
        assert_eq!(decode_array::<12>(&encode(&[9; 12])), Some([9; 12]));
        assert_eq!(decode_array::<16>(&encode(&[9; 16])), Some([9; 16]));
        assert_eq!(decode_array::<32>(&encode(&[9; 32])), Some([9; 32]));
        assert_eq!(decode_array::<40>(&encode(&[9; 40])), Some([9; 40]));
    }

    #[test]
    fn padding_other_alphabets_and_stray_bits_are_refused() {
        for bad in ["AA==", "A+", "A/", "A A", "AB", "A", "AA\n"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode("AA"), Some(vec![0]));
        assert_eq!(decode(""), Some(Vec::new()));
    }
}
