//! An upload's body: pieces of any size, bounded in length and in the pauses between them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};

use crate::app::{Error, Limits};
use crate::model::Sha256Digest;

/// The body of an upload.
pub(super) struct Body<S> {
    pieces: S,
    received: u64,
    limit: u64,
    idle_timeout: Duration,
}

impl<S> Body<S>
where
    S: Stream<Item = io::Result<Bytes>> + Unpin,
{
    pub(super) fn new(pieces: S, limits: &Limits) -> Self {
        Self { pieces, received: 0, limit: limits.max_image_size, idle_timeout: limits.idle_timeout }
    }

    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Stalled`], [`Error::ClientGone`] or [`Error::TooLarge`].
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let next = tokio::time::timeout(self.idle_timeout, self.pieces.next()).await;
        let Some(piece) = next.map_err(|_| Error::Stalled { seconds: self.idle_timeout.as_secs() })? else {
            return Ok(None);
        };
        let piece = piece.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                Error::Invalid { code: "bad_chunk", detail: "the body's chunks can't be read: nothing was kept".into() }
            }
            _ => Error::ClientGone,
        })?;
        self.received += piece.len() as u64;
        if self.received > self.limit {
            return Err(Error::TooLarge { limit: self.limit });
        }
        Ok(Some(piece))
    }

    /// Hashes the body and keeps nothing of it.
    ///
    /// # Errors
    ///
    /// As [`Body::next`].
    pub(super) async fn digest(mut self) -> Result<Sha256Digest, Error> {
        let mut hasher = Sha256::new();
        while let Some(piece) = self.next().await? {
            hasher.update(&piece); // a piece is a socket read: short enough not to hold the executor up
        }
        Ok(Sha256Digest::from_bytes(hasher.finalize().into()))
    }
}
