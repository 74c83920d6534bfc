//! An upload's body: pieces of any size, bounded in length, in the pauses between them, and in how
//! slowly they come.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};

use super::slots::UploadSlots;
use crate::app::{Error, Limits};
use crate::model::Sha256Digest;

/// The body, as the socket gives it.
pub(in crate::app::images) struct Body<'a, S> {
    pieces: S,
    received: u64,
    limit: u64,
    idle_timeout: Duration,
    slots: &'a UploadSlots,
    /// Bytes, and the time that was waited for them, since the last [`MILESTONE`].
    since_milestone: (u64, Duration),
}

impl<'a, S> Body<'a, S>
where
    S: Stream<Item = io::Result<Bytes>> + Unpin,
{
    pub(in crate::app::images) fn new(pieces: S, limits: &Limits, slots: &'a UploadSlots) -> Self {
        let (limit, idle_timeout) = (limits.max_image_size, limits.idle_timeout);
        Self {
            pieces,
            received: 0,
            limit,
            idle_timeout,
            slots,
            since_milestone: (0, Duration::ZERO),
        }
    }

    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Stalled`], [`Error::TooSlow`], [`Error::ClientGone`], [`Error::TooLarge`],
    /// [`Error::Invalid`].
    pub(in crate::app::images) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(piece) = self.wait().await? else { return Ok(None) };
        let piece = piece.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Error::Invalid {
                code: "bad_chunk",
                detail: "the body's chunks can't be read: no image was made of it".into(),
            },
            _ => Error::ClientGone,
        })?;
        self.received += piece.len() as u64;
        self.since_milestone.0 += piece.len() as u64;
        if self.since_milestone.0 >= MILESTONE {
            self.since_milestone = (0, Duration::ZERO);
        }
        if self.received > self.limit {
            return Err(Error::TooLarge { limit: self.limit });
        }
        Ok(Some(piece))
    }

    /// Waits for a piece. Only time in which the client is waited for counts against it.
    async fn wait(&mut self) -> Result<Option<io::Result<Bytes>>, Error> {
        let started = Instant::now();
        loop {
            let look = WANTED_PATIENCE.min(self.idle_timeout.saturating_sub(started.elapsed()));
            let asked = Instant::now();
            let next = tokio::time::timeout(look, self.pieces.next()).await;
            self.since_milestone.1 += asked.elapsed();
            if let Ok(next @ (None | Some(Err(_)))) = next {
                return Ok(next);
            }
            let (bytes, waited) = self.since_milestone;
            if waited >= PATIENCE || waited >= WANTED_PATIENCE && self.slots.are_wanted() {
                return Err(Error::TooSlow { bytes, seconds: waited.as_secs() });
            }
            match next {
                Ok(piece) => return Ok(piece),
                Err(_) if started.elapsed() >= self.idle_timeout => {
                    return Err(Error::Stalled { seconds: self.idle_timeout.as_secs() });
                }
                Err(_) => {}
            }
        }
    }

    /// Reads the body to its end and hashes it.
    ///
    /// # Errors
    ///
    /// As of [`Body::next`].
    pub(super) async fn digest(mut self) -> Result<Sha256Digest, Error> {
        let mut hasher = Sha256::new();
        while let Some(piece) = self.next().await? {
            hasher.update(&piece); // a piece is a socket read: short enough not to hold the executor up
        }
        Ok(Sha256Digest::from_bytes(hasher.finalize().into()))
    }
}

/// Bytes after which the time for the next ones begins anew.
const MILESTONE: u64 = 64 * 1024;
/// How long may be waited for them: 270 bytes a second are enough.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long may be waited for them while somebody else waits for a slot: 4 KiB a second are enough.
const WANTED_PATIENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;

    use super::*;

    /// Pieces of some bytes, one after each pause.
    fn pieces(bytes: usize, pause: Duration) -> impl Stream<Item = io::Result<Bytes>> + Unpin {
        Box::pin(stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok(Bytes::from(vec![0; bytes])), ()))
        }))
    }

    async fn read(
        body: &mut Body<'_, impl Stream<Item = io::Result<Bytes>> + Unpin>,
        pieces: usize,
    ) -> Result<(), Error> {
        for _ in 0..pieces {
            body.next().await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_body_that_drips_gives_way_to_whoever_waits_for_its_slot() {
        let slots = Arc::new(UploadSlots::new(1));
        let mut body = Body::new(pieces(1, Duration::from_millis(1)), &Limits::default(), &slots);
        body.since_milestone.1 = WANTED_PATIENCE;
        read(&mut body, 3).await.unwrap();
        let held = slots.take("dripping", Duration::from_secs(1)).await.unwrap();
        let waiting = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.take("other", Duration::from_secs(60)).await.map(drop) }
        });
        while !slots.are_wanted() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(read(&mut body, 3).await, Err(Error::TooSlow { .. })));
        drop(held);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_body_that_flows_is_left_alone_and_one_that_drips_for_ever_is_not() {
        let slots = UploadSlots::new(1);
        let mut flowing =
            Body::new(pieces(MILESTONE as usize, Duration::ZERO), &Limits::default(), &slots);
        flowing.since_milestone.1 = PATIENCE - Duration::from_secs(1);
        read(&mut flowing, 3).await.unwrap();
        assert!(flowing.since_milestone.1 < Duration::from_secs(1));
        let mut dripping = Body::new(pieces(1, Duration::ZERO), &Limits::default(), &slots);
        dripping.since_milestone.1 = PATIENCE;
        assert!(matches!(read(&mut dripping, 3).await, Err(Error::TooSlow { .. })));
    }
}
