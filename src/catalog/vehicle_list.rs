//! Lists and counts of vehicles.

use std::collections::BTreeSet;

use super::vehicles::{quarantine, select_vehicles, vehicle};
use super::{Catalog, During, EcuFilter, Error, Page, column, parsed};
use crate::model::{ImagePath, Timestamp, VehicleId, VehicleRecord};

/// Which vehicles to list.
#[derive(Debug, Clone, Default)]
pub struct VehicleFilter {
    /// Only those in quarantine.
    pub quarantined: bool,
    /// Only those that have sent no manifest since.
    pub silent_since: Option<Timestamp>,
    /// Only those of which an ECU is to install this image.
    pub assigned: Option<ImagePath>,
    /// Only those with an ECU that runs what nobody gave it.
    pub unexpected: bool,
    /// Only those with an ECU that fell back to something older.
    pub fallen_back: bool,
    /// Only those with such an ECU.
    pub ecu: EcuFilter,
}

/// A query of a page of vehicles, by more conditions.
macro_rules! list_vehicles {
    ($($conditions:literal),+) => {
        select_vehicles!(
            "WHERE v.vin > $1 AND ($2 = 0 OR s.quarantined_at IS NOT NULL) \
             AND ($3 < 0 OR p.seen_at IS NULL OR p.seen_at < $4) \
             AND ($5 = '' OR v.id IN (SELECT vehicle_id FROM assignments WHERE image_path = $6 AND ended_at IS NULL)) \
             AND s.unexpected >= $7 AND s.fallen_back >= $8 ",
            $($conditions),+
        )
    };
}

/// The same, of those with a certain ECU: by the index of what ECUs run.
macro_rules! list_by_ecu {
    ($ecus:literal, $limit:literal) => {
        list_vehicles!(
            "AND v.id IN (SELECT vehicle_id FROM ",
            $ecus,
            ") ORDER BY v.vin LIMIT ",
            $limit
        )
    };
}

const LIST: &str = list_vehicles!("ORDER BY v.vin LIMIT $9");
const LIST_BY_HARDWARE: &str =
    list_by_ecu!("ecus WHERE hardware_id = $9 AND retired_at IS NULL", "$10");
const LIST_BELOW: &str = list_by_ecu!("ecu_releases WHERE release_counter < $9", "$10");
const LIST_BY_HARDWARE_BELOW: &str =
    list_by_ecu!("ecu_releases WHERE hardware_id = $9 AND release_counter < $10", "$11");

/// Vehicles whose ECUs' keys have one of two texts in them.
const LIST_BY_KEY: &str = select_vehicles!(
    "WHERE LOWER(v.ecus) LIKE $1 OR LOWER(v.ecus) LIKE $2 ORDER BY v.vin LIMIT $3"
);

/// A vehicle in quarantine.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// Its id.
    pub vin: VehicleId,
    /// Since when.
    pub since: Timestamp,
    /// Names of everything that it is for.
    pub kinds: BTreeSet<String>,
}

impl Catalog {
    /// Lists at most `limit` vehicles of which a key may have one of two texts in it, small or
    /// capital letters: reads every vehicle, so it is for what people do now and then.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_vehicles_with_key(
        &self,
        [one, other]: [&str; 2],
        limit: u32,
    ) -> Result<Vec<VehicleRecord>, Error> {
        const OP: &str = "look for a key of an ECU";
        let pattern = |text: &str| format!("%{}%", text.to_ascii_lowercase());
        let rows = sqlx::query(LIST_BY_KEY).bind(pattern(one)).bind(pattern(other));
        let rows = rows.bind(i64::from(limit)).fetch_all(&self.pool).await.during(OP)?;
        rows.iter().map(vehicle).collect()
    }

    /// Lists at most `limit` vehicles whose ids come after `after`.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_vehicles(
        &self,
        after: &str,
        limit: u32,
        filter: VehicleFilter,
    ) -> Result<Page<VehicleRecord>, Error> {
        const OP: &str = "list vehicles";
        let silent_since = filter.silent_since.map_or(-1, Timestamp::as_millisecond);
        let assigned = filter.assigned.as_ref().map_or("", ImagePath::as_str);
        let EcuFilter { hardware_id, below_release } = &filter.ecu;
        let mut query = sqlx::query(match (hardware_id, below_release) {
            (None, None) => LIST,
            (Some(_), None) => LIST_BY_HARDWARE,
            (None, Some(_)) => LIST_BELOW,
            (Some(_), Some(_)) => LIST_BY_HARDWARE_BELOW,
        })
        .bind(after)
        .bind(i64::from(filter.quarantined))
        .bind(silent_since)
        .bind(silent_since)
        .bind(assigned)
        .bind(assigned)
        .bind(i64::from(filter.unexpected))
        .bind(i64::from(filter.fallen_back));
        if let Some(hardware_id) = hardware_id {
            query = query.bind(hardware_id.as_str());
        }
        if let Some(counter) = below_release {
            query = query.bind(column((*counter).into()));
        }
        let rows = query.bind(i64::from(limit) + 1).fetch_all(&self.pool).await;
        let rows = rows.during(OP)?;
        let vehicles = rows.iter().map(vehicle).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(vehicles, limit, |vehicle| vehicle.vin.to_string()))
    }

    /// Lists at most `limit` vehicles in quarantine whose ids come after `after`, in the order of
    /// their ids.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_quarantined(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Quarantined>, Error> {
        const OP: &str = "list vehicles in quarantine";
        let rows = sqlx::query(
            "SELECT v.vin, s.quarantined_at, s.quarantine_reason, s.quarantine_kinds FROM vehicle_status s \
             JOIN vehicles v ON v.id = s.vehicle_id WHERE s.quarantined_at IS NOT NULL AND v.vin > $1 ORDER BY v.vin LIMIT $2",
        );
        let rows =
            rows.bind(after).bind(i64::from(limit)).fetch_all(&self.pool).await.during(OP)?;
        let read = |row| {
            let quarantine =
                quarantine(row)?.ok_or_else(|| Error::corrupt(OP, "it has no time"))?;
            Ok(Quarantined {
                vin: parsed(row, "vin", OP)?,
                since: quarantine.since,
                kinds: quarantine.kinds,
            })
        };
        rows.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row};

    use super::*;

    /// How the engine goes about a query, a step a line.
    async fn plan_of(query: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.sqlite");
        let catalog = Catalog::own_sqlite(&file, Timestamp::UNIX_EPOCH).await.unwrap();
        let explain = format!("EXPLAIN QUERY PLAN {query}");
        let rows = sqlx::query(AssertSqlSafe(explain)).fetch_all(&catalog.pool).await.unwrap();
        rows.iter().map(|row| row.try_get("detail").unwrap()).collect()
    }

    #[tokio::test]
    async fn ecus_below_a_release_are_an_index_look_up() {
        let plan = plan_of(LIST_BY_HARDWARE_BELOW).await;
        let by_index = "SEARCH ecu_releases USING INDEX ecu_releases_by_hardware (hardware_id=? AND release_counter<?)";
        assert!(plan.iter().any(|step| step == by_index), "{plan:#?}");
        assert!(
            plan.iter().any(|step| step == "SEARCH v USING INTEGER PRIMARY KEY (rowid=?)"),
            "{plan:#?}"
        );
        let is_scan = |step: &String| ["SCAN v", "SCAN ecu_releases"].contains(&step.as_str());
        assert!(!plan.iter().any(is_scan), "{plan:#?}");
    }
}
