//! Files that were found damaged on the vehicle's own disk and could be replaced, for whoever
//! reports it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A list that all parts of one vehicle write to.
#[derive(Debug, Clone, Default)]
pub(super) struct Mended(Rc<RefCell<Vec<PathBuf>>>);

impl Mended {
    /// Writes a file down.
    pub(super) fn note(&self, path: &Path) {
        let mut paths = self.0.borrow_mut();
        if !paths.iter().any(|known| known == path) {
            paths.push(path.to_owned());
        }
    }

    /// What was written down, which begins anew.
    pub(super) fn take(&self) -> Vec<PathBuf> {
        std::mem::take(&mut self.0.borrow_mut())
    }
}
