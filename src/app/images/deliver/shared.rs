//! Small files that are being sent: all who are sent the same one hold the same bytes, however
//! slowly they take them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use crate::model::Sha256Digest;

/// Files that somebody holds, by their digest.
#[derive(Default)]
pub(in crate::app) struct SharedFiles(Mutex<HashMap<Sha256Digest, Weak<Bytes>>>);

impl SharedFiles {
    /// The bytes that others hold of the same file, or these ones if nobody does.
    ///
    /// `sha256` **must** be the digest of `bytes`.
    pub(super) fn share(&self, sha256: Sha256Digest, bytes: Bytes) -> Bytes {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = files.get(&sha256).and_then(Weak::upgrade) {
            return Bytes::from_owner(Shared(held));
        }
        if files.len() >= MAX_FORGOTTEN {
            files.retain(|_, file| file.strong_count() > 0);
        }
        let held = Arc::new(bytes);
        files.insert(sha256, Arc::downgrade(&held));
        Bytes::from_owner(Shared(held))
    }
}

struct Shared(Arc<Bytes>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Files after which those are forgotten that nobody holds any more.
const MAX_FORGOTTEN: usize = 1024;

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn one_file_is_held_once() {
        let files = SharedFiles::default();
        let file = |text: &str| {
            let digest = Sha256Digest::from_bytes(Sha256::digest(text).into());
            files.share(digest, Bytes::from(text.to_owned()))
        };
        let (one, same, other) = (file("one"), file("one"), file("other"));
        assert_eq!((&one[..], &same[..], &other[..]), (&b"one"[..], &b"one"[..], &b"other"[..]));
        assert_eq!(one.as_ptr(), same.as_ptr());
        drop((one, same));
        for number in 0..2 * MAX_FORGOTTEN {
            file(&number.to_string());
        }
        assert!(files.0.lock().unwrap().len() <= MAX_FORGOTTEN);
        assert_eq!(other, "other");
        assert_eq!(file("other").as_ptr(), other.as_ptr());
    }
}
