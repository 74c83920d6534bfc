//! The counters of ECUs that have left a vehicle, for when they come back.
//!
//! An ECU signs its serial and a counter, not the vehicle that it is in. If its counters went with
//! the vehicle, whoever recorded its reports could send them again once it is registered anew under
//! the same key. So nothing that is kept here is ever deleted.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::{During, Error, OrCorrupt, column, optional_time, placeholders, rows_at_once, text};
use crate::model::clock::earlier;
use crate::model::{
    CounterReset, EcuRecord, ReleaseCounter, Timestamp, VehicleChange, VehicleRecord,
};

/// How far the clock of a vehicle may be behind when its report counters start again.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// What is kept of an ECU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    /// The highest of its accepted reports.
    reported: Option<u64>,
    /// The highest of what it was ever offered or ran.
    released: Option<ReleaseCounter>,
    /// When its vehicle was heard of last.
    seen_at: Option<Timestamp>,
}

/// Keeps the counters of `ecus`, which leave `vehicle` or start anew in it.
pub(super) async fn keep(
    transaction: &mut Transaction<'_, Any>,
    vehicle: &VehicleRecord,
    ecus: &[&EcuRecord],
) -> Result<(), Error> {
    const OP: &str = "keep the counters of an ECU";
    let known = LeftEcus::find(transaction, ecus.iter().copied()).await?;
    for ecu in ecus {
        let now = Counters::of(vehicle, ecu);
        let kept = known.of(ecu).map_or(now, |before| before.max(now));
        if kept.reported.is_none() && kept.released.is_none() {
            continue;
        }
        sqlx::query(
            "INSERT INTO left_ecus (serial, signing_key, counter, highest_release_counter, seen_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (serial, signing_key) DO UPDATE SET counter = excluded.counter, \
             highest_release_counter = excluded.highest_release_counter, seen_at = excluded.seen_at",
        )
        .bind(ecu.serial.as_str())
        .bind(public_key(ecu))
        .bind(kept.reported.map(column))
        .bind(kept.released.map(|counter| column(counter.value())))
        .bind(kept.seen_at.map(Timestamp::as_millisecond))
        .execute(&mut **transaction)
        .await
        .during(OP)?;
    }
    Ok(())
}

/// Those of some ECUs that have left a vehicle before.
pub(super) struct LeftEcus(HashMap<(String, String), Counters>);

impl LeftEcus {
    pub(super) async fn find(
        transaction: &mut Transaction<'_, Any>,
        ecus: impl Iterator<Item = &EcuRecord>,
    ) -> Result<Self, Error> {
        const OP: &str = "look for the counters of ECUs";
        let serials: Vec<&str> = ecus.map(|ecu| ecu.serial.as_str()).collect();
        let mut found = HashMap::new();
        for serials in serials.chunks(SERIALS_AT_ONCE) {
            let sql = format!(
                "SELECT serial, signing_key, counter, highest_release_counter, seen_at FROM left_ecus \
                 WHERE serial IN {}",
                placeholders(1, serials.len())
            );
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for serial in serials {
                query = query.bind((*serial).to_owned());
            }
            found.extend(read(&query.fetch_all(&mut **transaction).await.during(OP)?)?);
        }
        Ok(Self(found))
    }

    /// The same of all ECUs of the vehicles that have these numbers.
    pub(super) async fn of_vehicles(
        transaction: &mut Transaction<'_, Any>,
        numbers: &RangeInclusive<i64>,
    ) -> Result<Self, Error> {
        const OP: &str = "look for the counters of ECUs";
        let query = sqlx::query(
            "SELECT left_ecus.serial, signing_key, counter, highest_release_counter, seen_at FROM left_ecus \
             JOIN ecus ON ecus.serial = left_ecus.serial WHERE ecus.vehicle_id BETWEEN $1 AND $2",
        );
        let query = query.bind(*numbers.start()).bind(*numbers.end());
        read(&query.fetch_all(&mut **transaction).await.during(OP)?).map(Self)
    }

    /// Whether nothing is kept of any of them.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&self, ecu: &EcuRecord) -> Option<Counters> {
        self.0.get(&(ecu.serial.to_string(), public_key(ecu))).copied()
    }

    /// Gives `ecus`, which come into a vehicle, what is known of them under their keys; returns
    /// whether anything is.
    pub(super) fn restore<'a>(
        &self,
        ecus: impl IntoIterator<Item = &'a EcuRecord>,
        change: &mut VehicleChange,
    ) -> bool {
        let mut is_any = false;
        for ecu in ecus {
            let Some(left) = self.of(ecu) else { continue };
            is_any = true;
            let counted = change.status().counters.get(&ecu.serial).copied();
            let mut status = change.ecu(&ecu.serial);
            status.highest_counter = status.highest_counter.max(left.released);
            if let Some(counter) = left.reported.filter(|counter| Some(*counter) > counted) {
                let skewed = earlier(change.at(), CLOCK_SKEW);
                let since = left.seen_at.map_or(skewed, |seen_at| seen_at.max(skewed));
                status.reset = Some(Box::new(CounterReset { counter, since }));
            }
            change.put_ecu(&ecu.serial, status);
        }
        is_any
    }
}

fn read(rows: &[AnyRow]) -> Result<HashMap<(String, String), Counters>, Error> {
    const OP: &str = "read the counters of ECUs";
    let counters = |row: &AnyRow| {
        let key = (text(row, "serial", OP)?, text(row, "signing_key", OP)?);
        Ok((key, Counters::read(row, OP)?))
    };
    rows.iter().map(counters).collect()
}

impl Counters {
    fn of(vehicle: &VehicleRecord, ecu: &EcuRecord) -> Self {
        let status = &vehicle.status;
        let ecu_status = status.ecus.get(&ecu.serial);
        let before = ecu_status.and_then(|ecu| ecu.reset.as_ref()).map(|reset| reset.counter);
        Self {
            reported: status.counters.get(&ecu.serial).copied().max(before),
            released: ecu_status.and_then(|ecu| ecu.highest_counter),
            seen_at: status.seen_at,
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            reported: self.reported.max(other.reported),
            released: self.released.max(other.released),
            seen_at: self.seen_at.max(other.seen_at),
        }
    }

    fn read(row: &AnyRow, op: &'static str) -> Result<Self, Error> {
        let number = |column| -> Result<Option<u64>, Error> {
            let value: Option<i64> = row.try_get(column).during(op)?;
            value.map(u64::try_from).transpose().or_corrupt(op)
        };
        let released = number("highest_release_counter")?.map(ReleaseCounter::try_from).transpose();
        Ok(Self {
            reported: number("counter")?,
            released: released.or_corrupt(op)?,
            seen_at: optional_time(row, "seen_at", op)?,
        })
    }
}

/// The public signing key of an ECU, the same however its key object is written.
fn public_key(ecu: &EcuRecord) -> String {
    let key = ecu.signing_key.to_value();
    let text = key["keyval"]["public"].as_str().unwrap_or_default();
    if text.contains("-----") {
        text.lines()
            .filter(|line| !line.starts_with("-----"))
            .flat_map(str::split_whitespace)
            .collect()
    } else {
        text.to_ascii_lowercase()
    }
}

const SERIALS_AT_ONCE: usize = rows_at_once(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::EcuRole;

    fn ecu(public: &str) -> EcuRecord {
        EcuRecord {
            serial: "gw-1".parse().unwrap(),
            hardware_id: "gw-mk3".parse().unwrap(),
            role: EcuRole::Primary,
            signing_key: json!({ "keyval": { "public": public } }).into(),
            encryption_key: None,
        }
    }

    #[test]
    fn a_key_is_the_same_however_it_is_written() {
        assert_eq!(public_key(&ecu("AB01")), public_key(&ecu("ab01")));
        let pem = "-----BEGIN PUBLIC KEY-----\nMFkw\nEwYH\n-----END PUBLIC KEY-----\n";
        let other = "-----BEGIN PUBLIC KEY-----\r\n MFkwEwYH\r\n-----END PUBLIC KEY-----";
        assert_eq!(public_key(&ecu(pem)), public_key(&ecu(other)));
        assert_eq!(public_key(&ecu(pem)), "MFkwEwYH");
    }
}
