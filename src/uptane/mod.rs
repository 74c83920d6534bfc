//! What is signed, and by whom: the keys and the policy of this server over the formats, the writer
//! and the verifier of `motorcade-uptane` (TUF 1.0.34, Uptane 2.1.0).
//!
//! Nothing here stores, serves or decides when to publish; `app::publish` does. [`client`] is
//! another implementation's client, which shares no code with ours.

pub mod client;
pub mod director;
pub mod image_repo;
pub mod root;
pub mod root_diff;
pub mod targets_diff;
mod told;

pub use motorcade_uptane::*;
