//! The clock of the database, by which leases end: servers whose own clocks differ agree on it.
//!
//! Callers say times by their own clock; what is stored of a lease is the same moment by the
//! database's, as far as the two were last compared.

use super::{Catalog, During, Error, time};
use crate::model::{Clock, Timestamp};

impl Catalog {
    /// Compares a clock with the database's, and returns by how many milliseconds that is ahead; a
    /// file has no clock of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn compare_clocks(&self, clock: &dyn Clock) -> Result<i64, Error> {
        const OP: &str = "ask the database for the time";
        let Some(question) = self.place.ask_time() else { return Ok(0) };
        let asked = clock.now();
        let row = sqlx::query(question).fetch_one(&self.pool).await.during(OP)?;
        let (answered, theirs) = (clock.now(), time(&row, "now", OP)?);
        // It was read at some moment between the two.
        let (first, last) = (millis(theirs) - millis(answered), millis(theirs) - millis(asked));
        let ahead = if first <= 0 && last >= 0 { 0 } else { first.midpoint(last) };
        self.offset.set(ahead);
        Ok(ahead)
    }

    /// A moment of the server's clock, by the one that leases go by.
    pub(super) fn leased_until(&self, at: Timestamp) -> i64 {
        millis(at).saturating_add(self.offset.millis())
    }

    /// A moment by which a lease goes, by the server's own clock.
    pub(super) fn by_own_clock(&self, at: Timestamp) -> Timestamp {
        let own = millis(at).saturating_sub(self.offset.millis());
        Timestamp::from_millisecond(own).unwrap_or(at)
    }
}

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}
