//! The content encryption key of one envelope.

use zeroize::Zeroizing;

use super::random::random;

/// The content encryption key: random, for one envelope.
pub struct Cek(Zeroizing<[u8; 32]>);

impl Cek {
    /// Makes one from the operating system's randomness.
    pub fn generate() -> Self {
        Self(random())
    }

    /// Takes 32 bytes, and no other number.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; 32]);
        (bytes.len() == key.len()).then(|| {
            key.copy_from_slice(bytes);
            Self(key)
        })
    }

    /// The key itself, for whoever wraps it.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
