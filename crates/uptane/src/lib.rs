//! The formats of what is signed, and the verifier of both repositories' metadata (TUF 1.0.34,
//! Uptane 2.1.0).
//!
//! [`metadata`] writes and [`verify`] verifies, and they share no code but the formats of
//! [`canonical`], [`key`] and [`custom`]. Nothing here fetches, stores, holds a repository's key or
//! reads a clock.

pub mod canonical;
pub mod counter;
pub mod custom;
pub mod gzip;
pub mod key;
pub mod key_change;
pub mod manifest;
pub mod metadata;
pub mod verify;
