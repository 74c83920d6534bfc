//! Who this server is among those that use a catalog: an id in its state directory, which one
//! process at a time has locked.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::Error;
use super::random::random_hex;

/// Reads the id, or makes one. Where it can't be written, as on a full disk, it is one for this
/// process alone: what a server before it had then has to be waited for.
///
/// # Errors
///
/// [`Error::Internal`].
pub(super) fn server_id(state: &Path) -> Result<String, Error> {
    let file = state.join(FILE);
    if let Ok(id) = fs::read_to_string(&file)
        && is_id(id.trim())
    {
        return Ok(id.trim().to_owned());
    }
    let id = random_hex::<ID_BYTES>()?;
    if let Err(error) = write(state, &file, &id) {
        tracing::warn!(path = %file.display(), %error, "failed to write this server's id");
    }
    Ok(id)
}

/// Writes an id, whole or not at all.
pub(super) fn write(state: &Path, file: &Path, id: &str) -> std::io::Result<()> {
    let mut unfinished = tempfile::Builder::new().prefix(".probe-").tempfile_in(state)?;
    writeln!(unfinished, "{id}")?;
    unfinished.as_file().sync_all()?;
    unfinished.persist(file).map(drop).map_err(|error| error.error)
}

pub(super) fn is_id(text: &str) -> bool {
    text.len() == 2 * ID_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What an id has, of a server or an installation.
pub(super) const ID_BYTES: usize = 16;
const FILE: &str = "server-id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_and_a_damaged_one_is_made_anew() {
        let state = tempfile::tempdir().unwrap();
        let id = server_id(state.path()).unwrap();
        assert!(is_id(&id));
        assert_eq!(server_id(state.path()).unwrap(), id);
        fs::write(state.path().join(FILE), "x").unwrap();
        assert_ne!(server_id(state.path()).unwrap(), id);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }
}
