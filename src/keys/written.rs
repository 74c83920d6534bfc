//! Files that a server writes down beside its keys, and replaces.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Writes a file that only its owner can read, in the place of the one that is there, whole or not
/// at all.
pub(super) fn replace(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(directory.join(name))?;
    File::open(directory)?.sync_all()
}
