//! Metadata in gzip (RFC 1952): made when it is first asked for, and kept while it is.
//!
//! Signatures and digests are over the plain file, so this is between the server and whoever can
//! undo it; metadata shrinks to about a third. Sealed images are never compressed: ciphertext does
//! not get shorter.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use lru::LruCache;
use tokio::runtime::Handle;

use crate::model::Sha256Digest;

/// What was compressed lately, by the digest of the plain file.
pub(in crate::app) struct CompressedFiles {
    kept: Arc<Mutex<Kept>>,
    /// One file is made at a time, also if whoever asked for it has gone: nobody can have many made
    /// at once.
    making: Arc<tokio::sync::Mutex<()>>,
}

struct Kept {
    files: LruCache<Sha256Digest, Bytes>,
    bytes: usize,
    max_bytes: usize,
}

impl CompressedFiles {
    /// Keeps at most `max_bytes`.
    pub(in crate::app) fn new(max_bytes: usize) -> Self {
        let kept = Kept { files: LruCache::unbounded(), bytes: 0, max_bytes };
        Self { kept: Arc::new(Mutex::new(kept)), making: Arc::default() }
    }

    /// The file in gzip; nothing if others have to be made first, since the plain one is at hand.
    pub(super) async fn get(
        &self,
        sha256: Sha256Digest,
        plain: &Bytes,
        runtime: &Handle,
    ) -> Option<Bytes> {
        if let Some(file) = lock(&self.kept).find(sha256) {
            return Some(file);
        }
        let making =
            tokio::time::timeout(PATIENCE, Arc::clone(&self.making).lock_owned()).await.ok()?;
        if let Some(file) = lock(&self.kept).find(sha256) {
            return Some(file); // whoever was here before wanted the same
        }
        let (plain, kept) = (plain.clone(), Arc::clone(&self.kept));
        let made = runtime.spawn_blocking(move || {
            let file = gzip(&plain);
            lock(&kept).keep(sha256, file.clone());
            drop(making);
            file
        });
        made.await.ok()
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn find(&mut self, sha256: Sha256Digest) -> Option<Bytes> {
        self.files.get(&sha256).cloned()
    }

    fn keep(&mut self, sha256: Sha256Digest, file: Bytes) {
        self.bytes += file.len();
        if let Some(before) = self.files.put(sha256, file) {
            self.bytes -= before.len();
        }
        while self.bytes > self.max_bytes
            && let Some((_, oldest)) = self.files.pop_lru()
        {
            self.bytes -= oldest.len();
        }
    }
}

fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 2), Compression::default());
    let file = encoder
        .write_all(plain)
        .and_then(|()| encoder.finish())
        .expect("a vector takes everything");
    file.into_boxed_slice().into() // no more memory than is counted
}

/// How long a request waits for its turn: as long as some ten files of usual size take.
const PATIENCE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use sha2::{Digest, Sha256};

    use super::*;

    fn sha256(bytes: &[u8]) -> Sha256Digest {
        Sha256Digest::from_bytes(Sha256::digest(bytes).into())
    }

    #[tokio::test]
    async fn keeps_no_more_than_it_may_and_the_latest() {
        let files = CompressedFiles::new(10_000);
        let plain: Vec<Bytes> =
            (0..40).map(|_| rand::random::<[u8; 512]>().repeat(2).into()).collect();
        for file in &plain {
            let compressed = files.get(sha256(file), file, &Handle::current()).await.unwrap();
            let mut read = Vec::new();
            GzDecoder::new(&compressed[..]).read_to_end(&mut read).unwrap();
            assert!(read == *file && compressed.len() < file.len());
        }
        let mut kept = lock(&files.kept);
        assert!(
            kept.bytes <= 10_000 && kept.files.len() > 10,
            "{} files of {} bytes",
            kept.files.len(),
            kept.bytes
        );
        assert_eq!(kept.bytes, kept.files.iter().map(|(_, file)| file.len()).sum::<usize>());
        assert!(kept.find(sha256(&plain[39])).is_some() && kept.find(sha256(&plain[0])).is_none());
    }

    #[tokio::test]
    async fn what_is_asked_for_at_once_is_made_once() {
        let files = CompressedFiles::new(10_000);
        let plain = Bytes::from(vec![7; 5000]);
        let get = || async { files.get(sha256(&plain), &plain, &Handle::current()).await.unwrap() };
        let (one, other) = tokio::join!(get(), get());
        assert_eq!(one.as_ptr(), other.as_ptr());
    }

    #[tokio::test]
    async fn what_was_begun_is_kept_although_nobody_waits() {
        let files = CompressedFiles::new(10_000);
        let plain = Bytes::from(vec![7; 5000]);
        let digest = sha256(&plain);
        let gone =
            tokio::time::timeout(Duration::ZERO, files.get(digest, &plain, &Handle::current()))
                .await;
        drop(files.making.lock().await); // until it is made
        assert!(lock(&files.kept).find(digest).is_some(), "whoever asked got {gone:?}");
    }

    #[tokio::test]
    async fn nobody_waits_long_for_others() {
        let files = CompressedFiles::new(10_000);
        let plain = Bytes::from(vec![7; 5000]);
        let busy = Arc::clone(&files.making).lock_owned().await;
        assert_eq!(files.get(sha256(&plain), &plain, &Handle::current()).await, None);
        drop(busy);
        assert!(files.get(sha256(&plain), &plain, &Handle::current()).await.is_some());
    }
}
