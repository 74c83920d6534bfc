//! What servers know the vehicle by, and whom it takes for a server: a token and certificates.
//!
//! They are renewed while a service runs, which reads them again when they are others.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Error;
use super::config::Config;
use super::ecu;
use super::folder::Folder;
use super::http::Token;

/// Which content the files had; tells nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen([u8; 32]);

/// What the files have now.
pub(super) fn see(folder: &Folder, config: &Config) -> Seen {
    let tls = [&config.tls.ca_file, &config.tls.client_cert, &config.tls.client_key];
    let tls = tls.into_iter().flatten().map(|path| folder.path().join(path));
    let mut hasher = Sha256::new();
    for path in tls.chain([folder.token()]) {
        hasher.update(digest(&path));
    }
    Seen(hasher.finalize().into())
}

/// None of a file that isn't there, or can't be read.
fn digest(path: &PathBuf) -> [u8; 32] {
    let content = std::fs::read(path).map(Zeroizing::new);
    content.map_or([0; 32], |content| Sha256::digest(&content).into())
}

/// The token, if the vehicle has one.
pub(super) fn token(folder: &Folder) -> Result<Option<Token>, Error> {
    match folder.token().exists() {
        true => ecu::read_token(&folder.token()).map(Some),
        false => Ok(None),
    }
}
