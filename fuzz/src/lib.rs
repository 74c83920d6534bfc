//! What of Motorcade reads bytes from strangers, without its server.
//!
//! With the server as a dependency a build takes ten minutes of processor time and 2.4 GB, as all
//! of it is instrumented; this takes two and 0.8 GB. The server's modules below do no I/O and import
//! nothing of ours but `model`: if one of them starts to, the build says so.
#![allow(missing_docs, dead_code, reason = "the sources are documented and used where they belong")]

pub use motorcade_envelope as envelope;
pub use motorcade_uptane as uptane;
pub use motorcade_uptane::custom;

/// As the server has them: those of the package, and its own.
pub mod model {
    pub use motorcade_model::*;

    pub use super::key_input::KeyInput;
}

pub mod signer;

#[path = "../../src/app/fleet/bounded.rs"]
mod bounded;
#[path = "../../src/app/fleet/input.rs"]
pub mod input;
#[path = "../../src/blob/key.rs"]
pub mod key;
#[path = "../../src/model/key_input.rs"]
pub mod key_input;
#[path = "../../src/app/fleet/lines.rs"]
pub mod lines;
#[path = "../../src/http/rfc/range.rs"]
pub mod range;
#[path = "../../src/http/rfc/repr_digest.rs"]
pub mod repr_digest;
#[path = "../../src/api/upload.rs"]
pub mod upload;
