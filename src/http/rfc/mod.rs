//! What RFC 9110 and RFC 9530 say of conditions, ranges, dates and digests, as pure functions.

pub mod byteranges;
pub mod conditional;
pub mod date;
pub(super) mod digest_fields;
pub mod range;
pub mod repr_digest;
