//! How many there are of what: for gauges.

use super::{Catalog, During, Error, number};
use crate::model::Timestamp;

/// How many vehicles there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VehicleCounts {
    /// All.
    pub registered: u64,
    /// Those in quarantine.
    pub quarantined: u64,
    /// Those that were heard of, but not for a while (AT-4).
    pub silent: u64,
    /// Those with an ECU that runs what nobody gave it.
    pub unexpected: u64,
    /// Those with an ECU that fell back to something older.
    pub fallen_back: u64,
}

impl Catalog {
    /// Counts vehicles; silent are those that were heard of once but not since `silent_since`.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn count_vehicles(&self, silent_since: Timestamp) -> Result<VehicleCounts, Error> {
        const OP: &str = "count vehicles";
        let count = async |sql: &'static str| {
            let row = sqlx::query(sql).bind(silent_since.as_millisecond()).fetch_one(&self.pool);
            number(&row.await.during(OP)?, "n", OP)
        };
        Ok(VehicleCounts {
            registered: count("SELECT COUNT(*) AS n FROM vehicles WHERE $1 > 0").await?,
            quarantined: count(
                "SELECT COUNT(*) AS n FROM vehicle_status WHERE $1 > 0 AND quarantined_at IS NOT NULL",
            )
            .await?,
            silent: count("SELECT COUNT(*) AS n FROM vehicle_polls WHERE seen_at < $1").await?,
            unexpected: count(
                "SELECT COUNT(*) AS n FROM vehicle_status WHERE $1 > 0 AND unexpected > 0",
            )
            .await?,
            fallen_back: count(
                "SELECT COUNT(*) AS n FROM vehicle_status WHERE $1 > 0 AND fallen_back > 0",
            )
            .await?,
        })
    }
}
