//! What is known of a blob that comes in by parts.

use std::fmt;

use zeroize::Zeroizing;

/// A blob that comes in by parts: what its store needs to go on with it, as text to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parts(String);

impl Parts {
    /// Takes what [`Self::as_str`] gave.
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// The text to be kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A secret that a store keeps beside a blob's parts, and that goes with them. Nobody else keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct PartsSecret(Zeroizing<[u8; 32]>);

impl PartsSecret {
    /// Takes 32 random bytes, or what a store has kept.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PartsSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartsSecret")
    }
}
