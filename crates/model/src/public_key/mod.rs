//! Public keys that protect nothing, although they have the form of a key: numbers that anybody
//! factors, points of small order, points off the curve, modules that hide no secret.
//!
//! This is the one check of every public key that comes in, for encryption and for signatures.
//! P-256 is not here: the types of its keys hold that a point is on the curve and not the neutral
//! one, and all of its points have the same order.

mod ed25519;
mod ml_dsa;
mod modulus;

pub use ed25519::check_ed25519;
pub use ml_dsa::check_ml_dsa_65;
pub use modulus::check_rsa;

/// Why a public key protects nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakKey {
    /// An exponent with which RSA is no encryption, or one that only slows down.
    #[error(
        "the RSA exponent must be odd and from 3 to 2^33 - 1: make a new key with the usual 65537"
    )]
    Exponent,
    /// A modulus that trial division factors.
    #[error("the RSA modulus is divisible by {factor}, so anybody can factor it: make a new key")]
    SmallFactor {
        /// The smallest of its factors.
        factor: u32,
    },
    /// A modulus that is a number times itself, once or more often.
    #[error("the RSA modulus is a power of one number, so anybody can factor it: make a new key")]
    Power,
    /// A modulus whose two primes are close together (CVE-2022-26320).
    #[error(
        "the two primes of the RSA modulus are so close together that anybody can factor it: make a new key, with another \
         program"
    )]
    ClosePrimes,
    /// A modulus as Infineon's RSALib made them (ROCA, CVE-2017-15361).
    #[error(
        "the RSA modulus has the fingerprint of ROCA (CVE-2017-15361), so it can be factored: make a new key, with \
         another program or chip"
    )]
    Roca,
    /// A modulus that is one prime instead of two.
    #[error("the RSA modulus is a prime, so anybody can compute the private key: make a new key")]
    Prime,
    /// Bytes that are no point of edwards25519, or not in their one form (RFC 8032, 5.1.3).
    #[error(
        "the public key is not a point on the curve of Ed25519: it was damaged on the way, or made to attack"
    )]
    NotAPoint,
    /// A point under which anybody can sign.
    #[error(
        "the public key is a point of small order, for which anybody can make signatures: make a new key"
    )]
    SmallOrder,
    /// Bytes that are no public key of ML-DSA-65 (FIPS 204, algorithm 22).
    #[error("the public key of ML-DSA-65 does not have its 1952 bytes")]
    NotModule,
    /// A module under which anybody can sign.
    #[error(
        "the public key of ML-DSA-65 hides no secret, so that anybody can make signatures for it: make a new key"
    )]
    SmallModule,
}
