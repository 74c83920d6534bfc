//! Ids that nobody can guess and none has twice.

use super::Error;

/// `BYTES` random bytes in hexadecimal.
///
/// # Errors
///
/// [`Error::Internal`] if there is no randomness.
pub(super) fn random_hex<const BYTES: usize>() -> Result<String, Error> {
    let mut id = [0; BYTES];
    getrandom::fill(&mut id).map_err(Error::internal("make an id"))?;
    Ok(hex::encode(id))
}
