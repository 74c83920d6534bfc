//! The two formats of docs/FORMAT.md: the sealed image and its envelope.
//!
//! Bytes in, bytes out: this crate does no file, network or clock access, never logs, and imports
//! nothing of ours but [`motorcade_model`]. Both formats are open standards (Tink streaming AEAD;
//! JWE, RFC 7516), so anything sealed here opens elsewhere.

pub mod halves;
pub mod jwe;
pub mod key;
pub mod resume;
pub mod segment;
pub mod stream;
pub mod wrap;
