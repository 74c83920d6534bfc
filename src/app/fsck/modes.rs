//! Modes and owners: what others may read or write, and what the server's user may not.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Check;
use crate::files::is_lost_and_found;

impl Check {
    /// All in the state directory belongs to whom the catalog belongs to; nobody else writes there,
    /// and nobody else reads keys or the catalog. The directory itself may be root's: it is where a
    /// volume is mounted, with Kubernetes' `fsGroup`.
    pub(super) fn modes(&mut self) {
        let root = self.state.path().to_owned();
        let Ok(owner) = fs::metadata(root.join("catalog.sqlite")).map(|metadata| metadata.uid())
        else {
            return;
        };
        let mut found = Faults { root, owner, lines: Vec::new(), skipped: Vec::new(), more: 0 };
        found.look_at_all();
        let Faults { lines, skipped, more, .. } = found;
        self.findings.problems.extend(lines);
        self.findings.skipped.extend(skipped);
        if more > 0 {
            self.problem(format!(
                "{more} more files have a wrong owner or mode, or can't be looked at"
            ));
        }
    }
}

struct Faults {
    root: PathBuf,
    owner: u32,
    lines: Vec<String>,
    skipped: Vec<String>,
    more: usize,
}

impl Faults {
    /// Looks at everything; what can't be looked at is said, and keeps nothing else from it.
    fn look_at_all(&mut self) {
        let mut folders = vec![self.root.clone()];
        if let Err(error) = self.look_at(&self.root.clone()) {
            self.skip(&self.root.clone(), &error);
        }
        while let Some(folder) = folders.pop() {
            if let Err(error) = self.look_into(&folder, &mut folders) {
                self.skip(&folder, &error);
            }
        }
    }

    fn look_into(&mut self, folder: &Path, folders: &mut Vec<PathBuf>) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // removed meanwhile
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if is_lost_and_found(&self.root, &path)
                || is_lost_and_found(&self.root.join("repo"), &path)
            {
                continue;
            }
            match self.look_at(&path) {
                Ok(true) => folders.push(path),
                Ok(false) => {}
                Err(error) => self.skip(&path, &error),
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: &Path, error: &io::Error) {
        if self.skipped.len() < MOST {
            self.skipped
                .push(format!("owners and modes: {} can't be looked at: {error}", path.display()));
        } else {
            self.more += 1;
        }
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
        let is_root = name.is_empty();
        let name = if is_root { "the state directory".to_owned() } else { name };
        let mode = metadata.mode() & 0o777;
        if metadata.uid() != self.owner && !(is_root && metadata.uid() == 0) {
            let (found, owner) = (metadata.uid(), self.owner);
            self.add(format!(
                "{name} belongs to user {found}, and catalog.sqlite to {owner}: run `chown` on it"
            ));
        }
        if mode & 0o002 != 0 {
            self.add(format!(
                "{name} can be written by everybody (mode {mode:03o}): run `chmod o-w` on it"
            ));
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
