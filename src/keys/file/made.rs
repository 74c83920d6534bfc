//! Key files that come to those that a role has.

use std::path::{Path, PathBuf};

use super::super::Error;
use super::encrypted;
use super::write_secret;
use motorcade_uptane::key::{Scheme, SigningKey};

/// Makes a key for a role, beside those that it has, and returns its file: `<role>-` and the first
/// digits of its id.
///
/// # Errors
///
/// [`Error::KeyFile`].
pub fn add(directory: &Path, role: &str, scheme: Scheme) -> Result<PathBuf, Error> {
    let failed = |source| Error::KeyFile {
        verb: "make a key in",
        path: directory.display().to_string(),
        source,
    };
    let pem = SigningKey::generate_pem(scheme).map_err(|e| failed(e.into()))?;
    let key = SigningKey::from_pem(&pem).map_err(|e| failed(e.into()))?;
    let id = key.public().id().to_string();
    let path = directory.join(format!("{role}-{}.pem", &id[..DIGITS]));
    let text = encrypted::if_wanted(pem).map_err(failed)?;
    write_secret(&path, text.as_bytes())?;
    Ok(path)
}

/// Enough to tell a role's keys apart.
const DIGITS: usize = 12;
