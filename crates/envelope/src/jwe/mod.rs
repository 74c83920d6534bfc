//! The envelope: a JWE (RFC 7516) whose payload is the data key as a JWK, wrapped to many
//! recipients.
//!
//! The protected header holds only what is common, so that recipients come and go without touching
//! it, the iv, the ciphertext or the tag. One entry may be for the escrow key; it is in
//! [`Envelope::to_json_with_escrow`] and in no other output. The protected header names the sealed
//! image that the data key is for, if whoever made the envelope knew it (`binding.rs`). Whatever fails in a cryptographic
//! operation is [`EnvelopeError::DoesNotOpen`] and nothing more.

mod binding;
mod content;
mod entry;
mod envelope;
mod error;
mod header;
mod parse;
mod protected;
mod rewrap;
mod write;

pub use envelope::Envelope;
pub use error::EnvelopeError;
