//! Modes and owners: what others may read or write, and what the server's user may not.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Check;

impl Check<'_> {
    /// All in the state directory belongs to whom the directory belongs to; nobody else writes there, and nobody else reads
    /// keys or the catalog.
    pub(super) fn modes(&mut self) {
        let root = self.state.path().to_owned();
        let Ok(owner) = fs::metadata(&root).map(|metadata| metadata.uid()) else { return };
        let mut found = Faults { root: root.clone(), owner, lines: Vec::new(), more: 0 };
        if let Err(error) = found.look_below(&root) {
            self.problem(format!("{} can't be looked at: {error}", root.display()));
        }
        let Faults { lines, more, .. } = found;
        self.findings.problems.extend(lines);
        if more > 0 {
            self.problem(format!("{more} more files have a wrong owner or mode"));
        }
    }
}

struct Faults {
    root: PathBuf,
    owner: u32,
    lines: Vec<String>,
    more: usize,
}

impl Faults {
    fn look_below(&mut self, root: &Path) -> io::Result<()> {
        let mut folders = vec![root.to_owned()];
        self.look_at(root)?;
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // removed meanwhile
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                if self.look_at(&path)? {
                    folders.push(path);
                }
            }
        }
        Ok(())
    }

    /// Returns whether it is a folder.
    fn look_at(&mut self, path: &Path) -> io::Result<bool> {
        let metadata = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            metadata => metadata?,
        };
        if metadata.is_symlink() {
            return Ok(false); // its mode says nothing
        }
        let name = path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        let name = if name.is_empty() { "the state directory".to_owned() } else { name };
        let mode = metadata.mode() & 0o777;
        if metadata.uid() != self.owner {
            let (found, owner) = (metadata.uid(), self.owner);
            self.add(format!("{name} belongs to user {found}, and the state directory to {owner}: run `chown` on it"));
        }
        if mode & 0o002 != 0 {
            self.add(format!("{name} can be written by everybody (mode {mode:03o}): run `chmod o-w` on it"));
        } else if mode & 0o004 != 0 && metadata.is_file() && is_secret(&name) {
            self.add(format!("{name} can be read by everybody (mode {mode:03o}): run `chmod 600` on it, and replace it if they may have"));
        }
        Ok(metadata.is_dir())
    }

    fn add(&mut self, line: String) {
        if self.lines.len() < MOST {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }
}

fn is_secret(name: &str) -> bool {
    name.starts_with("keys/") || name.starts_with("catalog.sqlite")
}

const MOST: usize = 20; // lines; a whole repository of another user is said once
