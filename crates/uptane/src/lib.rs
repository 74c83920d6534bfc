//! The formats of what is signed, and the verifier of both repositories' metadata (TUF 1.0.34,
//! Uptane 2.1.0).
//!
//! [`verify`] shares no code with what writes metadata but the formats of [`canonical`], [`key`],
//! [`custom`] and [`manifest`]. Nothing here fetches, stores or reads a clock.

pub mod canonical;
pub mod custom;
pub mod gzip;
pub mod key;
pub mod manifest;
pub mod verify;
