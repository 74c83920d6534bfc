//! Metadata that was read lately: many vehicles ask for the same few files.
//!
//! A version is stored once and never again, so what was read stays right. Roots are not kept: one
//! that was stored and not recorded can be removed, and another one come in its place.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::blob::{Blob, BlobKey};
use crate::model::RoleName;

/// Open blobs whose bytes are in memory.
pub(super) struct Kept(Mutex<Files>);

struct Files {
    files: LruCache<String, Blob>,
    bytes: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self(Mutex::new(Files { files: LruCache::unbounded(), bytes: 0 }))
    }
}

impl Kept {
    /// Whether blobs of that key can be kept.
    pub(super) fn takes(key: &BlobKey) -> bool {
        matches!(key, BlobKey::Metadata { role, .. } if *role != RoleName::Root)
    }

    pub(super) fn find(&self, name: &str) -> Option<Blob> {
        self.lock().files.get(name).cloned()
    }

    /// Keeps a blob, all of which it **must** have in memory, and lets go of those that nobody has
    /// asked for longest.
    pub(super) fn keep(&self, name: &str, blob: &Blob) {
        let mut kept = self.lock();
        kept.bytes += blob.length;
        if let Some(before) = kept.files.put(name.to_owned(), blob.clone()) {
            kept.bytes -= before.length;
        }
        while kept.bytes > MOST_BYTES
            && let Some((_, oldest)) = kept.files.pop_lru()
        {
            kept.bytes -= oldest.length;
        }
    }

    pub(super) fn forget(&self, name: &str) {
        let mut kept = self.lock();
        if let Some(blob) = kept.files.pop(name) {
            kept.bytes -= blob.length;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const MOST_BYTES: u64 = 16 * 1024 * 1024; // 16 MiB
