//! Faults of keys that someone sends, and the remedy for each.

use motorcade_model::WeakKey;
use motorcade_model::strict_json::JsonFault;

/// A key that was refused.
///
/// Every message says what is wrong and how to do it right, and **never** repeats key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Longer than any key is.
    #[error("the key is over {max_bytes} bytes: send one public key and nothing else")]
    TooLarge {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// Neither PEM nor a JSON object.
    #[error(
        "neither PEM nor a JWK: send a file that starts with `-----BEGIN PUBLIC KEY-----`, or a JWK object"
    )]
    NotAKey,
    /// A private key where a public key belongs.
    #[error(
        "this is a private key, and it was not stored: send its public half (`openssl pkey -in KEY.pem -pubout`), and \
         replace the key if it left the device it was made for"
    )]
    PrivateKey,
    /// A public key where a private key belongs.
    #[error("this is a public key: opening needs the private half")]
    PublicKey,
    /// A private key under a passphrase.
    #[error(
        "the private key is encrypted: decrypt it first (`openssl pkey -in KEY.pem -out PLAIN.pem`)"
    )]
    EncryptedPrivateKey,
    /// A symmetric key.
    #[error(
        "this is a secret (symmetric) key, and it was not stored: recipients are RSA or P-256 public keys"
    )]
    SymmetricKey,
    /// A certificate where a bare key belongs.
    #[error(
        "this is a certificate: extract its public key (`openssl x509 -in CERT.pem -pubkey -noout`)"
    )]
    Certificate,
    /// More than one key.
    #[error("more than one key: send each in its own request")]
    SeveralKeys,
    /// Text before or after the PEM block.
    #[error(
        "there is text around the PEM block: send the lines from BEGIN to END and nothing else"
    )]
    TextAroundPem,
    /// A PEM block of another kind.
    #[error("a PEM block `{label}` is not a key: expected `PUBLIC KEY`")]
    UnsupportedPem {
        /// Its label, from the BEGIN line.
        label: String,
    },
    /// A PEM block that cannot be decoded.
    #[error("the PEM block is damaged: its BEGIN and END lines must match, with base64 in between")]
    DamagedPem,
    /// A key whose DER encoding is wrong.
    #[error("the key is damaged: not a DER encoding of {expected}")]
    DamagedDer {
        /// The ASN.1 type that should have been there.
        expected: &'static str,
    },
    /// A key type that cannot receive.
    #[error(
        "a key of type {algorithm} cannot be a recipient: use RSA of 2048 to 4096 bits, or EC on P-256"
    )]
    UnsupportedAlgorithm {
        /// The object identifier or JWK `kty`.
        algorithm: String,
    },
    /// A key that is only for signatures.
    #[error(
        "a signing key ({mark}) cannot be a recipient: make a separate key for decryption, RSA of 2048 to 4096 bits or \
         EC on P-256"
    )]
    SigningOnly {
        /// What gives it away.
        mark: String,
    },
    /// An elliptic curve that is not P-256.
    #[error(
        "a key on the curve {curve} cannot be a recipient: use P-256 (`openssl ecparam -name prime256v1 -genkey -noout`)"
    )]
    OtherCurve {
        /// The name of the curve.
        curve: String,
    },
    /// A public key that is no point of the curve, or the point at infinity.
    #[error(
        "the public key is not a point on the curve P-256: it was damaged on the way, or made to attack"
    )]
    PointNotOnCurve,
    /// An RSA key that is too weak.
    #[error("an RSA key of {bits} bits is too weak: use 2048 to 4096 bits")]
    RsaTooSmall {
        /// The size of the modulus.
        bits: usize,
    },
    /// An RSA key that is too slow.
    #[error("an RSA key of {bits} bits is too large: use 2048 to 4096 bits")]
    RsaTooLarge {
        /// The size of the modulus.
        bits: usize,
    },
    /// An RSA modulus that cannot be one.
    #[error("the RSA modulus is even, so this is not an RSA key: make a new one")]
    RsaModulus,
    /// An RSA exponent that is weak, slow or impossible.
    #[error(
        "the RSA exponent must be odd and from 3 to 2^33 - 1: make a new key with the usual 65537"
    )]
    RsaExponent,
    /// A key that protects nothing, although it has the form and the size of one.
    #[error(transparent)]
    Weak(#[from] WeakKey),
    /// A JWK that is not well-formed JSON, or has a member of the wrong type.
    #[error(
        "the JWK is not a JSON object of strings as RFC 7517 has it (line {line}, column {column})"
    )]
    BadJson {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
    },
    /// A JWK with one member twice.
    #[error("the JWK has the member `{member}` twice")]
    DuplicateMember {
        /// The name.
        member: String,
    },
    /// A JWK without a member it needs.
    #[error("the JWK has no `{member}`")]
    MissingMember {
        /// The name.
        member: &'static str,
    },
    /// A JWK member that is not base64url, or has the wrong length.
    #[error(
        "the JWK member `{member}` is not base64url without padding, or not of the right length"
    )]
    BadMember {
        /// The name.
        member: &'static str,
    },
    /// A JWK whose `alg` is for something else.
    #[error("the JWK is for `{alg}`: this key type receives with `{expected}`")]
    OtherAlgorithm {
        /// Its `alg`.
        alg: String,
        /// The `alg` that would be accepted.
        expected: &'static str,
    },
    /// A JWK whose `key_ops` leave out what it would be used for.
    #[error(
        "the JWK's `key_ops` do not allow `{expected}`, and a recipient's key is used for nothing else: make a key for it, \
         or leave `key_ops` out"
    )]
    OtherOperations {
        /// The operation that would have to be there.
        expected: &'static str,
    },
    /// A private key whose parts do not belong together.
    #[error("the private key is damaged: its parts do not belong together")]
    Inconsistent,
}

impl From<JsonFault> for KeyError {
    fn from(fault: JsonFault) -> Self {
        match fault {
            JsonFault::Syntax { line, column } => Self::BadJson { line, column },
            JsonFault::Duplicate { member } => Self::DuplicateMember { member },
        }
    }
}
