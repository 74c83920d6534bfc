//! Small parts, and what they cost everybody else.
//!
//! What fills no block yet is kept in the catalog, up to 1 MiB of it, and each request that brings
//! some more has all of it written again. Who sends an image byte by byte would keep the one writer
//! of the catalog from all others; so parts that are small for what they have rewritten take turns,
//! and leave the writer alone for most of the time.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// The turn of small parts.
#[derive(Debug, Default)]
pub(in crate::app::images) struct SmallParts(Mutex<()>);

impl SmallParts {
    /// Has what was kept so far saved again, `kept` bytes with the `added` ones of this request.
    pub(super) async fn save<T>(
        &self,
        (kept, added): (usize, usize),
        save: impl Future<Output = T>,
    ) -> T {
        if kept < CHEAP || added >= kept / SMALL {
            return save.await;
        }
        let _turn = self.0.lock().await;
        let begun = Instant::now();
        let saved = save.await;
        tokio::time::sleep((begun.elapsed() * REST).min(LONGEST_REST)).await;
        saved
    }
}

/// As many bytes are written for anything.
const CHEAP: usize = 64 * 1024; // 64 KiB
/// A part is small if it is not even that share of what is written for it.
const SMALL: usize = 16;
/// For each part of the time that such a write takes, none is made for so many.
const REST: u32 = 9;
const LONGEST_REST: Duration = Duration::from_secs(1); // on a disk that takes long for everything

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Duration = Duration::from_millis(20);

    async fn at_once(parts: [(usize, usize); 3]) -> Duration {
        let (small, begun) = (SmallParts::default(), Instant::now());
        let save = |part| small.save(part, async { tokio::time::sleep(WRITE).await });
        let [one, two, three] = parts.map(save);
        tokio::join!(one, two, three);
        begun.elapsed()
    }

    #[tokio::test]
    async fn small_parts_leave_the_writer_alone_for_nine_tenths_of_the_time() {
        assert!(at_once([(1_000_000, 1); 3]).await >= 3 * 10 * WRITE);
        assert!(at_once([(1_000_000, 0); 3]).await >= 3 * 10 * WRITE);
    }

    #[tokio::test]
    async fn other_parts_do_not_wait() {
        assert!(
            at_once([(1_000_000, 64 * 1024), (1_000_000, 999_999), (CHEAP - 1, 1)]).await
                < 10 * WRITE
        );
    }
}
