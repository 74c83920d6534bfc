//! Uploads that go on while envelopes are wrapped again.
//!
//! A batch and an upload wait for the same disk: what syncs one of them syncs what the other has
//! written. So batches keep their distance while there are uploads.

use std::time::{Duration, Instant};

use crate::app::images::Images;

/// What is known of the uploads beside the last batch.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    begun: Option<Instant>,
    /// Slots that had been given when the last batch began.
    given: usize,
    rest: Duration,
}

impl Uploads {
    /// Leaves the disk to the uploads for a while, if there were any beside the last batch.
    pub(super) async fn let_pass(&mut self, images: &Images) {
        tokio::time::sleep(std::mem::take(&mut self.rest)).await;
        self.begun = Some(Instant::now());
        self.given = images.upload_slots.given();
    }

    /// A batch is done.
    pub(super) fn note(&mut self, images: &Images) {
        let took = self.begun.take().map_or(Duration::ZERO, |begun| begun.elapsed());
        if images.upload_slots.were_used_since(self.given) {
            self.rest = (took * SHARE).min(LONGEST_REST);
        }
    }
}

/// Of the time, batches have one part and uploads so many.
const SHARE: u32 = 10;
const LONGEST_REST: Duration = Duration::from_secs(10);
