//! Registration of vehicles: one, or a million by a thousand at a time.
//!
//! A fleet comes in at once, and each statement has a cost of its own, most of all over a network.
//! So what comes from outside goes in by many rows a statement, and what follows from it, such as a
//! status that is empty, is made of those rows in the database: new vehicles have numbers without a
//! gap, and a range of numbers says which they are.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::left_ecus::LeftEcus;
use super::pool::Pool;
use super::vehicles::remove_vehicle;
use super::{
    Author, Catalog, During, Error, OrCorrupt, audit, json, parsed, placeholders, status, text,
};
use crate::model::{
    EcuRecord, EcuSerial, EventKind, NewVehicle, Sha256Digest, Timestamp, VehicleChange, VehicleId,
};

/// What came of registering one vehicle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// It is new.
    Registered,
    /// It was registered before, with the same ECUs and keys.
    Unchanged,
    /// It was registered before, with others: the first registration stands.
    Different,
    /// An ECU of it is, or was, in another vehicle.
    EcuTaken(EcuSerial),
}

/// Vehicles that were inserted.
pub(super) struct Inserted {
    /// Their numbers.
    ids: HashMap<VehicleId, i64>,
    /// Their numbers are in here, and those of no other vehicle.
    range: RangeInclusive<i64>,
}

impl Inserted {
    /// The number of one of them.
    pub(super) fn number(&self, vin: &VehicleId) -> Option<i64> {
        self.ids.get(vin).copied()
    }
}

impl Catalog {
    /// Registers vehicles, each whole or not at all, with an event for each; the first registration
    /// of an id or a serial stands. The outcomes are in the order of `vehicles`.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`], and then none is registered.
    pub async fn register_vehicles(
        &self,
        vehicles: &[NewVehicle],
        author: &Author,
    ) -> Result<Vec<Registration>, Error> {
        const OP: &str = "register vehicles";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let inserted =
            insert_vehicles(&mut transaction, &self.pool, vehicles, (&author.who.id(), author.at))
                .await?;
        let taken = insert_ecus(&mut transaction, &self.pool, vehicles, &inserted).await?;
        remove_refused(&mut transaction, &taken, &inserted).await?;
        restore_counters(&mut transaction, vehicles, &inserted, &taken, author.at).await?;
        record_registered(&mut transaction, &inserted, author).await?;
        let outcomes = outcomes(&mut transaction, &self.pool, vehicles, &inserted, taken).await?;
        let registered = audit::registered(vehicles, &outcomes, author);
        audit::append(&mut transaction, registered.as_slice()).await?;
        transaction.commit().await.during(OP)?;
        Ok(outcomes)
    }
}

/// Inserts those whose id is new, without their ECUs.
pub(super) async fn insert_vehicles(
    transaction: &mut Transaction<'_, Any>,
    pool: &Pool,
    vehicles: &[NewVehicle],
    (by, now): (&str, Timestamp),
) -> Result<Inserted, Error> {
    const OP: &str = "insert vehicles";
    let vehicles: Vec<&NewVehicle> = first_of_each(vehicles).collect();
    let first = reserve_numbers(transaction, vehicles.len()).await?;
    let last = first + i64::try_from(vehicles.len()).unwrap_or(i64::MAX) - 1;
    let mut ids = HashMap::with_capacity(vehicles.len());
    let mut numbers = first..;
    for rows in vehicles.chunks(pool.rows_at_once(6)) {
        let sql = format!(
            "INSERT INTO vehicles (id, vin, ecus, token_sha256, created_at, created_by) VALUES {} \
             ON CONFLICT DO NOTHING RETURNING vin, id",
            placeholders(rows.len(), 6)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (vehicle, id) in rows.iter().zip(&mut numbers) {
            let ecus = serde_json::to_string(&vehicle.ecus).or_corrupt(OP)?;
            query = query.bind(id).bind(vehicle.vin.to_string()).bind(ecus);
            query = query.bind(vehicle.token_sha256.map(|digest| digest.to_string()));
            query = query.bind(now.as_millisecond()).bind(by.to_owned());
        }
        for row in query.fetch_all(&mut **transaction).await.during(OP)? {
            ids.insert(parsed(&row, "vin", OP)?, row.try_get("id").during(OP)?);
        }
    }
    let inserted = Inserted { ids, range: first..=last };
    if !inserted.ids.is_empty() {
        for sql in [
            "INSERT INTO vehicle_polls (vehicle_id) SELECT id FROM vehicles WHERE id BETWEEN $1 AND $2",
            "INSERT INTO vehicle_status (vehicle_id) SELECT id FROM vehicles WHERE id BETWEEN $1 AND $2",
        ] {
            let made = sqlx::query(sql).bind(first).bind(last);
            made.execute(&mut **transaction).await.during(OP)?;
        }
    }
    Ok(inserted)
}

/// Hands out numbers of vehicles, and returns the first. No other vehicle ever gets them, or a
/// change that was decided for one that was removed could be made to another.
async fn reserve_numbers(
    transaction: &mut Transaction<'_, Any>,
    count: usize,
) -> Result<i64, Error> {
    const OP: &str = "number vehicles";
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let row = sqlx::query(
        "UPDATE sequences SET value = value + $1 WHERE name = 'vehicles' RETURNING value",
    );
    let row = row.bind(count).fetch_one(&mut **transaction).await.during(OP)?;
    Ok(row.try_get::<i64, _>("value").during(OP)? + 1 - count)
}

/// Inserts the ECUs of new vehicles, and returns the vehicles of which one was taken.
async fn insert_ecus(
    transaction: &mut Transaction<'_, Any>,
    pool: &Pool,
    vehicles: &[NewVehicle],
    inserted: &Inserted,
) -> Result<HashMap<VehicleId, EcuSerial>, Error> {
    const OP: &str = "insert ECUs";
    let mut seen = HashSet::new();
    let mut taken = HashMap::new();
    let mut rows = Vec::new();
    for vehicle in first_of_each(vehicles) {
        let Some(id) = inserted.number(&vehicle.vin) else { continue };
        for ecu in &vehicle.ecus {
            if seen.insert(&ecu.serial) {
                rows.push((ecu, id, &vehicle.vin));
            } else {
                taken.insert(vehicle.vin.clone(), ecu.serial.clone()); // twice in one batch
            }
        }
    }
    for rows in rows.chunks(pool.rows_at_once(3)) {
        let sql = format!(
            "INSERT INTO ecus (serial, vehicle_id, hardware_id) VALUES {} ON CONFLICT (serial) DO NOTHING RETURNING serial",
            placeholders(rows.len(), 3)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (ecu, id, _) in rows {
            query = query.bind(ecu.serial.to_string()).bind(*id).bind(ecu.hardware_id.to_string());
        }
        let inserted = query.fetch_all(&mut **transaction).await.during(OP)?;
        if inserted.len() == rows.len() {
            continue;
        }
        let serial = |row: &AnyRow| text(row, "serial", OP);
        let inserted = inserted.iter().map(serial).collect::<Result<HashSet<_>, _>>()?;
        for (ecu, _, vin) in rows.iter().filter(|(ecu, ..)| !inserted.contains(ecu.serial.as_str()))
        {
            taken.insert((*vin).clone(), ecu.serial.clone());
        }
    }
    Ok(taken)
}

/// Leaves nothing of vehicles of which an ECU was taken.
async fn remove_refused(
    transaction: &mut Transaction<'_, Any>,
    taken: &HashMap<VehicleId, EcuSerial>,
    inserted: &Inserted,
) -> Result<(), Error> {
    for id in taken.keys().filter_map(|vin| inserted.number(vin)) {
        remove_vehicle(transaction, id).await?;
    }
    Ok(())
}

/// Gives ECUs that were in a vehicle before their counters. It has nothing for the audit log: the
/// registration is there.
async fn restore_counters(
    transaction: &mut Transaction<'_, Any>,
    vehicles: &[NewVehicle],
    inserted: &Inserted,
    taken: &HashMap<VehicleId, EcuSerial>,
    now: Timestamp,
) -> Result<(), Error> {
    let left = LeftEcus::of_vehicles(transaction, &inserted.range).await?;
    if left.is_empty() {
        return Ok(());
    }
    for vehicle in first_of_each(vehicles).filter(|vehicle| !taken.contains_key(&vehicle.vin)) {
        let Some(id) = inserted.number(&vehicle.vin) else { continue };
        let mut change = VehicleChange::first(vehicle.vin.clone(), now).numbered(id);
        if left.restore(&vehicle.ecus, &mut change) {
            status::apply_news(transaction, &change, &mut Vec::new()).await?;
        }
    }
    Ok(())
}

/// Writes down for each vehicle that it was registered.
async fn record_registered(
    transaction: &mut Transaction<'_, Any>,
    inserted: &Inserted,
    author: &Author,
) -> Result<(), Error> {
    let at = author.at.as_millisecond();
    let recorded = sqlx::query(
        "INSERT INTO vehicle_events (vin, kind, detail, actor, at, request_id, count, last_at) \
         SELECT vin, CAST($1 AS TEXT), '', CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS TEXT), 1, CAST($5 AS BIGINT) \
         FROM vehicles WHERE id BETWEEN $6 AND $7 ORDER BY id",
    )
    .bind(EventKind::Registered.as_str())
    .bind(author.who.id())
    .bind(at)
    .bind(author.request_id.clone())
    .bind(at)
    .bind(*inserted.range.start())
    .bind(*inserted.range.end())
    .execute(&mut **transaction)
    .await;
    recorded.map(drop).during("record registrations")
}

async fn outcomes(
    transaction: &mut Transaction<'_, Any>,
    pool: &Pool,
    vehicles: &[NewVehicle],
    inserted: &Inserted,
    mut taken: HashMap<VehicleId, EcuSerial>,
) -> Result<Vec<Registration>, Error> {
    let mut seen = HashSet::new();
    let is_new: Vec<bool> = vehicles
        .iter()
        .map(|vehicle| seen.insert(&vehicle.vin) && inserted.number(&vehicle.vin).is_some())
        .collect();
    let old = vehicles.iter().zip(&is_new).filter(|(_, is_new)| !**is_new);
    let old: HashSet<&str> = old.map(|(vehicle, _)| vehicle.vin.as_str()).collect();
    let known = find_known(transaction, pool, &old.into_iter().collect::<Vec<_>>()).await?;
    let outcome = |(vehicle, is_new): (&NewVehicle, bool)| match taken.remove(&vehicle.vin) {
        Some(serial) if is_new => Registration::EcuTaken(serial),
        _ if is_new => Registration::Registered,
        _ => compare(vehicle, known.get(vehicle.vin.as_str())),
    };
    Ok(vehicles.iter().zip(is_new).map(outcome).collect())
}

/// A registered vehicle, as far as it is compared with one that comes again.
struct Known {
    ecus: Vec<EcuRecord>,
    token: Option<String>,
}

async fn find_known(
    transaction: &mut Transaction<'_, Any>,
    pool: &Pool,
    vins: &[&str],
) -> Result<HashMap<String, Known>, Error> {
    const OP: &str = "compare vehicles";
    let mut known = HashMap::with_capacity(vins.len());
    for vins in vins.chunks(pool.rows_at_once(1)) {
        let sql = format!(
            "SELECT vin, ecus, token_sha256 FROM vehicles WHERE vin IN {}",
            placeholders(1, vins.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for vin in vins {
            query = query.bind((*vin).to_owned());
        }
        for row in query.fetch_all(&mut **transaction).await.during(OP)? {
            let token = row.try_get("token_sha256").during(OP)?;
            known.insert(text(&row, "vin", OP)?, Known { ecus: json(&row, "ecus", OP)?, token });
        }
    }
    Ok(known)
}

/// What is said of a vehicle that is not new; one that isn't known has the token of another one.
fn compare(new: &NewVehicle, known: Option<&Known>) -> Registration {
    let is_same = known.is_some_and(|known| {
        let has_token = |digest: Sha256Digest| known.token == Some(digest.to_string());
        known.ecus == new.ecus && new.token_sha256.is_none_or(has_token)
    });
    if is_same { Registration::Unchanged } else { Registration::Different }
}

/// Those that count: the first of each id.
fn first_of_each(vehicles: &[NewVehicle]) -> impl Iterator<Item = &NewVehicle> {
    let mut seen = HashSet::new();
    vehicles.iter().filter(move |vehicle| seen.insert(&vehicle.vin))
}
