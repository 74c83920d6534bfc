//! Keys in tokens, by PKCS#11 v2.40 and later: HSMs, smart cards, SoftHSM.
//!
//! `uri.rs` says where a key is, `module.rs` loads the library, `token.rs` has a pool of sessions,
//! and `login.rs` knows which PINs were tried. A wrong one is never tried twice by itself, since
//! tokens lock.

mod error;
mod escrow;
mod key;
mod login;
mod module;
mod pin;
mod signer;
mod token;
mod uri;

pub use error::TokenError;
pub use escrow::Pkcs11Escrow;
pub use signer::Pkcs11Signer;
pub use uri::{ParsePkcs11UriError, Pkcs11Uri};
