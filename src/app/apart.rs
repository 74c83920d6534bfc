//! Whether a folder that a command writes to is apart from every state directory.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How a folder and a state directory overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlap {
    /// The folder is a state directory, or is within one.
    Within,
    /// A part of the state directory is within the folder.
    Around,
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Within => "is, or is within,",
            Self::Around => "has within it",
        })
    }
}

/// How `folder`, which need not be there yet, overlaps with `state`, or is within another state
/// directory, by whatever name.
///
/// # Errors
///
/// [`io::Error`] if it can't be looked at.
pub(super) fn overlap(state: &Path, folder: &Path) -> io::Result<Option<Overlap>> {
    let above = chain(folder)?;
    // A mounted folder has other names, so folders are compared by what they are.
    let parts =
        ["", "repo", "staging", "keys", "metadata", "quarantine"].map(|part| state.join(part));
    let ours: Vec<Identity> = parts.iter().filter_map(|part| identity(part)).collect();
    let is_ours = |path: &PathBuf| identity(path).is_some_and(|found| ours.contains(&found));
    if above.iter().any(|path| is_ours(path) || is_state(path)) {
        return Ok(Some(Overlap::Within));
    }
    let is_folder = identity(folder);
    let is_around = parts.iter().any(|part| {
        let part = chain(part).unwrap_or_default();
        is_folder.is_some() && part.iter().any(|path| identity(path) == is_folder)
    });
    Ok(is_around.then_some(Overlap::Around))
}

/// A folder and all above it, the links on the way resolved; what is not there yet is left out.
fn chain(path: &Path) -> io::Result<Vec<PathBuf>> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find_map(|path| fs::canonicalize(path).ok()).unwrap_or_default();
    Ok(there.ancestors().map(Path::to_owned).collect())
}

type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn is_state(path: &Path) -> bool {
    path.join("catalog.sqlite").is_file() && path.join("repo").is_dir()
}
