//! Faults of envelopes.

use motorcade_model::Sha256Digest;
use motorcade_model::strict_json::JsonFault;

use crate::key::Kid;

/// An envelope that cannot be read, opened or changed.
///
/// Faults of form are precise. Faults of cryptography are all [`EnvelopeError::DoesNotOpen`], so
/// that a key holder who reports them is no oracle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Longer than an envelope may be.
    #[error("the envelope is over {max_bytes} bytes")]
    TooLarge {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// More entries than an envelope may have.
    #[error("the envelope has over {max} recipients")]
    TooManyRecipients {
        /// The limit.
        max: usize,
    },
    /// Nobody could open the envelope.
    #[error("the envelope has no recipient")]
    NoRecipients,
    /// Neither of the three serializations.
    #[error("not a JWE: expected a JSON object or the compact form with five parts")]
    NotAJwe,
    /// Not well-formed JSON, or a member of the wrong type.
    #[error("{place} is not the JSON that RFC 7516 has there (line {line}, column {column})")]
    BadJson {
        /// Which text: the envelope, or a header in it.
        place: String,
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
    },
    /// One object with one member twice.
    #[error("{place} has the member `{member}` twice")]
    DuplicateMember {
        /// Which text: the envelope, or a header in it.
        place: String,
        /// The name.
        member: String,
    },
    /// Members of the general and of the flattened serialization together.
    #[error("`recipients` excludes `header` and `encrypted_key` beside it")]
    MixedSerialization,
    /// A header parameter in more than one header.
    #[error("the header parameter `{member}` is in more than one header ({place})")]
    RepeatedHeader {
        /// Where the second one is.
        place: String,
        /// The name.
        member: String,
    },
    /// A header with more parameters than any use has.
    #[error("{place} has over {max} parameters")]
    HeaderTooLong {
        /// Which header.
        place: String,
        /// The limit.
        max: usize,
    },
    /// A member that must be there.
    #[error("{place} has no `{member}`")]
    Missing {
        /// Which text.
        place: String,
        /// The name.
        member: &'static str,
    },
    /// A member that is not base64url without padding, or has the wrong length.
    #[error("`{member}` of {place} is not base64url without padding, or not of the right length")]
    BadMember {
        /// Which text.
        place: String,
        /// The name.
        member: &'static str,
    },
    /// A key management algorithm that is not accepted.
    #[error(
        "`alg` {alg} of {place} is not accepted: RSA-OAEP-256, ECDH-ES+A256KW and A256GCMKW are"
    )]
    UnsupportedAlg {
        /// Which text.
        place: String,
        /// Its `alg`.
        alg: String,
    },
    /// A content encryption algorithm that is not accepted.
    #[error("`enc` {enc} is not accepted: A256GCM is")]
    UnsupportedEnc {
        /// Its `enc`.
        enc: String,
    },
    /// A payload type other than a key.
    #[error("`cty` {cty} is not accepted: an envelope holds jwk+json")]
    UnsupportedCty {
        /// Its `cty`.
        cty: String,
    },
    /// `crit` or `zip`: extensions and compression are not accepted.
    #[error("`{member}` is not accepted: envelopes have no extensions and no compression")]
    UnsupportedFeature {
        /// The header parameter.
        member: &'static str,
    },
    /// An ephemeral key that is not a point on P-256.
    #[error("`epk` of {place} is not an EC key on P-256")]
    BadEphemeralKey {
        /// Which text.
        place: String,
    },
    /// No entry is for this key.
    #[error("the envelope is not for the key {kid}")]
    NoEntry {
        /// The name of the key.
        kid: Kid,
    },
    /// No entry is for this escrow key.
    #[error("the envelope has no entry for the escrow key {kid}")]
    NoEscrowEntry {
        /// The name of the escrow key.
        kid: Kid,
    },
    /// Wrong key, or a changed envelope; which of them is not told.
    #[error("the envelope does not open with this key")]
    DoesNotOpen,
    /// The envelope is bound to another image than the one that it is opened for.
    #[error("the envelope is bound to the sealed image {found}, and was opened for {expected}")]
    OtherImage {
        /// SHA-256 of the sealed image that it was opened for.
        expected: Sha256Digest,
        /// The one that it names.
        found: Sha256Digest,
    },
    /// Opened and authentic, but not a data key inside.
    #[error(
        "the envelope holds no data key: expected a JWK with `kty` oct, a sealing `alg` and 32 bytes of `k`"
    )]
    BadPayload,
    /// The protected header belongs to one recipient, so there can be no other.
    #[error("the envelope was made for one recipient only: its protected header names it")]
    NotExtensible,
}

impl EnvelopeError {
    /// Says in which text a fault of JSON is.
    pub(super) fn json(place: &str, fault: JsonFault) -> Self {
        let place = place.to_owned();
        match fault {
            JsonFault::Syntax { line, column } => Self::BadJson { place, line, column },
            JsonFault::Duplicate { member } => Self::DuplicateMember { place, member },
        }
    }
}
