//! The clocks of replicas, which sign one after the other, and that of the database.

use std::sync::Arc;
use std::time::Duration;

use crate::app::Error;
use crate::catalog::Catalog;
use crate::model::Clock;

/// Compares this server's clock with the database's, and says so if they differ. Leases go by the
/// database's from then on.
///
/// # Errors
///
/// [`Error::Unavailable`] if they differ by more than [`MOST`], or the catalog can't be reached;
/// [`Error::Internal`].
pub(in crate::app) async fn compare(
    catalog: &Catalog,
    clock: &Arc<dyn Clock>,
) -> Result<(), Error> {
    let ahead = catalog.compare_clocks(clock.as_ref()).await?;
    let apart = Duration::from_millis(ahead.unsigned_abs());
    if apart > MOST {
        let detail = format!(
            "{}: replicas with such clocks sign metadata that is older or newer than it should be; set the clock of \
             whichever is wrong",
            describe(ahead)
        );
        return Err(Error::Unavailable { code: "clocks_differ", detail });
    }
    if apart > AGREE {
        tracing::warn!(difference_ms = ahead, "{}", describe(ahead));
    }
    Ok(())
}

fn describe(ahead: i64) -> String {
    let seconds = ahead.unsigned_abs() / 1000;
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    format!("the database's clock is {seconds} seconds {side} this server's")
}

/// As much as the clocks of two machines that are kept right may differ.
const AGREE: Duration = Duration::from_secs(2);
/// Far less than what a clock that went back may be behind what was signed (`publish::time`).
const MOST: Duration = Duration::from_secs(60);
