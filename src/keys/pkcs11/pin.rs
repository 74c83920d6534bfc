//! The PIN: where it comes from, and that a wrong one is not tried twice.

use std::fs;
use std::path::PathBuf;

use cryptoki::types::AuthPin;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::TokenError;
use crate::environment::Pkcs11Variables;

/// Where a token's PIN is; a file is read each time, so that it can be corrected.
pub(super) enum PinSource {
    File(PathBuf),
    Text(Zeroizing<String>),
    Nowhere,
}

impl PinSource {
    /// The file that a URI names, or what the environment has.
    pub(super) fn new(named: Option<PathBuf>, variables: Pkcs11Variables) -> Self {
        match (named.or(variables.pin_file), variables.pin) {
            (Some(file), _) => Self::File(file),
            (None, Some(pin)) => Self::Text(pin),
            (None, None) => Self::Nowhere,
        }
    }

    pub(super) fn read(&self) -> Result<Pin, TokenError> {
        let text = match self {
            Self::Nowhere => return Err(TokenError::NoPin),
            Self::Text(text) => text.clone(),
            Self::File(file) => Zeroizing::new(fs::read_to_string(file).map_err(|source| {
                TokenError::PinFile { path: file.display().to_string(), source }
            })?),
        };
        let text = text.trim_end_matches(['\r', '\n']);
        Ok(Pin { mark: Sha256::digest(text).into(), pin: AuthPin::new(text.into()) })
    }
}

/// A PIN, and by what it is known again once it was refused.
pub(super) struct Pin {
    pub(super) pin: AuthPin,
    /// In memory alone: of something as short as a PIN, a hash says all.
    pub(super) mark: [u8; 32],
}
