//! A generator of hostile Uptane repositories: two honest repositories, and one way after another
//! to break them.
//!
//! It **must never** use the server's write side: only the formats of `uptane::canonical` and
//! `uptane::key` and the envelope module are shared, so that whatever is served can be malformed at
//! will, and a mistake of the server's is not made here too. Tests run these attacks against
//! `motorcade-vehicle`; `cargo run --example hostile` writes them as files, for any other client.
//! README.md says how.

#![allow(dead_code, reason = "the tests and the example each use a part of it")]
#![allow(clippy::unwrap_used, reason = "a generator that can't go on has failed")]

pub(crate) mod attack;
pub(crate) mod draft;
pub(crate) mod image;
pub(crate) mod keys;
pub(crate) mod repository;
pub(crate) mod rows;
pub(crate) mod vehicle;
pub(crate) mod world;
pub(crate) mod write;
