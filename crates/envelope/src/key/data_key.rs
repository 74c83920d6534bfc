//! The data key, which an envelope carries.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::random::random;

/// The 256-bit secret that seals one image, and one image only.
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// Makes a data key from the operating system's randomness.
    pub fn generate() -> Self {
        Self(random())
    }

    /// Takes the bytes of an existing data key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes of the data key, which **must never** be written anywhere but into an envelope.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for DataKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for DataKey {}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_data_key_shows_only_its_type() {
        assert_eq!(format!("{:?}", DataKey::from_bytes([7; 32])), "DataKey");
    }

    #[test]
    fn generated_data_keys_differ() {
        assert_ne!(DataKey::generate(), DataKey::generate());
        assert_eq!(DataKey::from_bytes([7; 32]), DataKey::from_bytes([7; 32]));
    }
}
