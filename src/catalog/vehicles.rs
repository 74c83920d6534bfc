//! The inventory of vehicles and ECUs (Uptane 2.1.0, 5.3.2.2).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::left_ecus::{self, LeftEcus};
use super::{
    Author, Catalog, During, Error, OrCorrupt, audit, ecu_column, fleet_log, json, old_reason,
    optional_time, parsed, placeholders, rows_at_once, status, text, time,
};
use crate::model::{
    EcuRecord, EcuSerial, NewEvent, NewVehicle, Quarantine, Sha256Digest, Timestamp, VehicleChange,
    VehicleId, VehicleRecord, VehicleStatus,
};

/// A query of vehicles with all that [`vehicle`] reads, by its conditions.
macro_rules! select_vehicles {
    ($($conditions:literal),+) => {
        concat!(
            "SELECT v.id, v.vin, v.ecus, v.created_at, v.created_by, p.revision, p.counters, p.seen_at, s.ecus AS state, ",
            "s.quarantined_at, s.quarantine_reason, s.quarantine_kinds, s.bundle FROM vehicles v ",
            "JOIN vehicle_polls p ON p.vehicle_id = v.id JOIN vehicle_status s ON s.vehicle_id = v.id ",
            $($conditions),+
        )
    };
}

pub(super) use select_vehicles;

/// A vehicle by its number.
pub(super) const SELECT_BY_ID: &str = select_vehicles!("WHERE v.id = $1");
/// A vehicle by its id.
pub(super) const SELECT_BY_VIN: &str = select_vehicles!("WHERE v.vin = $1");
/// A vehicle by its bearer token.
const SELECT_BY_TOKEN: &str = select_vehicles!("WHERE v.token_sha256 = $1");

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

impl Catalog {
    /// Registers vehicles, each whole or not at all; the first registration of an id or a serial
    /// stands. The outcomes are in the order of `vehicles`.
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
        let mut outcomes = Vec::with_capacity(vehicles.len());
        for chunk in vehicles.chunks(REGISTERED_AT_ONCE) {
            let (created_by, now) = (author.who.id(), author.at);
            outcomes.extend(register_chunk(&mut transaction, chunk, &created_by, now).await?);
        }
        let registered = audit::registered(vehicles, &outcomes, author);
        audit::append(&mut transaction, registered.as_slice()).await?;
        transaction.commit().await.during(OP)?;
        Ok(outcomes)
    }

    /// Looks a vehicle up.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_vehicle(&self, vin: &VehicleId) -> Result<Option<VehicleRecord>, Error> {
        const OP: &str = "find a vehicle";
        let query = sqlx::query(SELECT_BY_VIN).bind(vin.as_str());
        let row = self.reads.fetch_optional(query).await.during(OP)?;
        row.as_ref().map(vehicle).transpose()
    }

    /// The vehicle that a bearer token belongs to.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_vehicle_of_token(
        &self,
        sha256: &Sha256Digest,
    ) -> Result<Option<VehicleRecord>, Error> {
        const OP: &str = "find a vehicle by its token";
        let query = sqlx::query(SELECT_BY_TOKEN).bind(sha256.to_string());
        let row = self.reads.fetch_optional(query).await.during(OP)?;
        row.as_ref().map(vehicle).transpose()
    }

    /// Gives a vehicle another bearer token, and records `event` with it; the one before stops
    /// working. Returns whether there is such a vehicle.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn set_vehicle_token(
        &self,
        vin: &VehicleId,
        sha256: &Sha256Digest,
        event: &NewEvent,
    ) -> Result<bool, Error> {
        const OP: &str = "set a vehicle's token";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let updated = sqlx::query("UPDATE vehicles SET token_sha256 = $1 WHERE vin = $2")
            .bind(sha256.to_string())
            .bind(vin.as_str())
            .execute(&mut *transaction)
            .await
            .during(OP)?;
        if updated.rows_affected() == 0 {
            return Ok(false);
        }
        fleet_log::insert_events(&mut transaction, std::slice::from_ref(event)).await?;
        audit::append_events(&mut transaction, std::slice::from_ref(event)).await?;
        transaction.commit().await.during(OP)?;
        Ok(true)
    }

    /// Approves that an ECU is replaced until `expires_at`, and records `event`, which says by whom
    /// and when; a second approval takes the place of the first.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn approve_replacement(
        &self,
        vehicle_id: i64,
        serial: &EcuSerial,
        expires_at: Timestamp,
        event: &NewEvent,
    ) -> Result<(), Error> {
        const OP: &str = "approve a replacement";
        let mut transaction = self.pool.begin().await.during(OP)?;
        sqlx::query(
            "INSERT INTO ecu_replacements (vehicle_id, ecu_serial, approved_at, approved_by, expires_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (vehicle_id, ecu_serial) DO UPDATE SET approved_at = excluded.approved_at, \
             approved_by = excluded.approved_by, expires_at = excluded.expires_at, used_at = NULL",
        )
        .bind(vehicle_id)
        .bind(serial.as_str())
        .bind(event.at.as_millisecond())
        .bind(event.actor.as_str())
        .bind(expires_at.as_millisecond())
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        fleet_log::insert_events(&mut transaction, std::slice::from_ref(event)).await?;
        audit::append_events(&mut transaction, std::slice::from_ref(event)).await?;
        transaction.commit().await.during(OP)
    }

    /// Whether an ECU may be replaced now.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn is_replacement_approved(
        &self,
        vehicle_id: i64,
        serial: &EcuSerial,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let approval = sqlx::query(
            "SELECT approved_by FROM ecu_replacements WHERE vehicle_id = $1 AND ecu_serial = $2 AND used_at IS NULL \
             AND expires_at > $3",
        );
        let approval = approval.bind(vehicle_id).bind(serial.as_str()).bind(now.as_millisecond());
        let approval = approval.fetch_optional(&self.pool).await;
        approval.map(|row| row.is_some()).during("look for the approval of a replacement")
    }

    /// Replaces an ECU, if that was approved and the approval has neither expired nor been used,
    /// and makes `change` with it. `ecus` is the vehicle's whole new list. The new serial must be
    /// new, or that of the old ECU with other keys.
    ///
    /// Returns who approved it, or none if nobody did.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] if the new serial is, or was, in use; [`Error::Overtaken`] if the
    /// vehicle's status has changed since; [`Error::Full`]; [`Error::Backend`].
    pub async fn replace_ecu(
        &self,
        old: &EcuSerial,
        new: &EcuRecord,
        ecus: &[EcuRecord],
        change: &VehicleChange,
        now: Timestamp,
    ) -> Result<Option<String>, Error> {
        const OP: &str = "replace an ECU";
        let vehicle_id = change.vehicle_id();
        let mut transaction = self.pool.begin().await.during(OP)?;
        let approval = sqlx::query(
            "UPDATE ecu_replacements SET used_at = $1 WHERE vehicle_id = $2 AND ecu_serial = $3 AND used_at IS NULL \
             AND expires_at > $4 RETURNING approved_by",
        )
        .bind(now.as_millisecond())
        .bind(vehicle_id)
        .bind(old.as_str())
        .bind(now.as_millisecond())
        .fetch_optional(&mut *transaction)
        .await
        .during(OP)?;
        let Some(approval) = approval else { return Ok(None) };
        let row =
            sqlx::query(SELECT_BY_ID).bind(vehicle_id).fetch_optional(&mut *transaction).await;
        let row = row.during(OP)?.ok_or(Error::Overtaken)?;
        let known = vehicle(&row)?;
        let leaves: Vec<&EcuRecord> = known.ecus.iter().filter(|ecu| ecu.serial == *old).collect();
        left_ecus::keep(&mut transaction, &known, &leaves).await?;
        put_in_place(&mut transaction, vehicle_id, old, new, now).await?;
        let ecus = serde_json::to_string(ecus).or_corrupt(OP)?;
        let updated =
            sqlx::query("UPDATE vehicles SET ecus = $1 WHERE id = $2").bind(ecus).bind(vehicle_id);
        updated.execute(&mut *transaction).await.during(OP)?;
        let mut change = change.clone();
        let left = LeftEcus::find(&mut transaction, std::iter::once(new)).await?;
        left.restore([new], &mut change);
        let mut audited = Vec::new();
        if !status::apply_news(&mut transaction, &change, &mut audited).await? {
            return Err(Error::Overtaken);
        }
        audit::append(&mut transaction, &audited).await?;
        transaction.commit().await.during(OP)?;
        Ok(Some(text(&approval, "approved_by", OP)?))
    }
}

/// Enters an ECU in the place of another one, or of the one that had its serial.
async fn put_in_place(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
    old: &EcuSerial,
    new: &EcuRecord,
    now: Timestamp,
) -> Result<(), Error> {
    const OP: &str = "replace an ECU";
    if new.serial == *old {
        let updated = sqlx::query("UPDATE ecus SET hardware_id = $1 WHERE serial = $2");
        let updated = updated.bind(new.hardware_id.as_str()).bind(old.as_str());
        return updated.execute(&mut **transaction).await.map(drop).during(OP);
    }
    let inserted = sqlx::query(
        "INSERT INTO ecus (serial, vehicle_id, hardware_id) VALUES ($1, $2, $3) ON CONFLICT (serial) DO NOTHING",
    );
    let inserted =
        inserted.bind(new.serial.as_str()).bind(vehicle_id).bind(new.hardware_id.as_str());
    let inserted = inserted.execute(&mut **transaction).await.during(OP)?;
    if inserted.rows_affected() == 0 {
        return Err(Error::AlreadyExists(new.serial.to_string()));
    }
    let retired = sqlx::query("UPDATE ecus SET retired_at = $1 WHERE serial = $2");
    let retired = retired.bind(now.as_millisecond()).bind(old.as_str());
    retired.execute(&mut **transaction).await.map(drop).during(OP)
}

async fn register_chunk(
    transaction: &mut Transaction<'_, Any>,
    vehicles: &[NewVehicle],
    created_by: &str,
    now: Timestamp,
) -> Result<Vec<Registration>, Error> {
    let ids = insert_vehicles(transaction, vehicles, created_by, now).await?;
    let mut taken = insert_ecus(transaction, vehicles, &ids).await?;
    let new = vehicles.iter().filter(|vehicle| ids.contains_key(&vehicle.vin));
    let left = LeftEcus::find(transaction, new.flat_map(|vehicle| &vehicle.ecus)).await?;
    let mut outcomes = Vec::with_capacity(vehicles.len());
    let mut seen = HashSet::new();
    for vehicle in vehicles {
        let is_first = seen.insert(&vehicle.vin);
        let outcome = match (ids.get(&vehicle.vin).filter(|_| is_first), taken.remove(&vehicle.vin))
        {
            (Some(id), None) => {
                let mut change = VehicleChange::first(vehicle.vin.clone(), now).numbered(*id);
                if left.restore(&vehicle.ecus, &mut change) {
                    // It has nothing for the audit log: the registration is there.
                    status::apply_news(transaction, &change, &mut Vec::new()).await?;
                }
                Registration::Registered
            }
            (Some(id), Some(serial)) => {
                remove_vehicle(transaction, *id).await?;
                Registration::EcuTaken(serial)
            }
            (None, _) => compare(transaction, vehicle).await?,
        };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Inserts those whose id is new, and returns their numbers.
pub(super) async fn insert_vehicles(
    transaction: &mut Transaction<'_, Any>,
    vehicles: &[NewVehicle],
    created_by: &str,
    now: Timestamp,
) -> Result<HashMap<VehicleId, i64>, Error> {
    const OP: &str = "insert vehicles";
    let mut seen = HashSet::new();
    let vehicles: Vec<&NewVehicle> =
        vehicles.iter().filter(|vehicle| seen.insert(&vehicle.vin)).collect();
    let sql = format!(
        "INSERT INTO vehicles (id, vin, ecus, token_sha256, created_at, created_by) VALUES {} \
         ON CONFLICT DO NOTHING RETURNING vin, id",
        placeholders(vehicles.len(), 6)
    );
    let first = reserve_numbers(transaction, vehicles.len()).await?;
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (id, vehicle) in (first..).zip(vehicles) {
        let ecus = serde_json::to_string(&vehicle.ecus).or_corrupt(OP)?;
        query = query.bind(id).bind(vehicle.vin.to_string()).bind(ecus);
        query = query.bind(vehicle.token_sha256.map(|digest| digest.to_string()));
        query = query.bind(now.as_millisecond()).bind(created_by.to_owned());
    }
    let rows = query.fetch_all(&mut **transaction).await.during(OP)?;
    let number = |row: &AnyRow| Ok((parsed(row, "vin", OP)?, row.try_get("id").during(OP)?));
    let ids = rows.iter().map(number).collect::<Result<HashMap<VehicleId, i64>, Error>>()?;
    if ids.is_empty() {
        return Ok(ids);
    }
    for table in ["vehicle_polls", "vehicle_status"] {
        let sql = format!("INSERT INTO {table} (vehicle_id) VALUES {}", placeholders(ids.len(), 1));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for id in ids.values() {
            query = query.bind(*id);
        }
        query.execute(&mut **transaction).await.during(OP)?;
    }
    Ok(ids)
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
    vehicles: &[NewVehicle],
    ids: &HashMap<VehicleId, i64>,
) -> Result<HashMap<VehicleId, EcuSerial>, Error> {
    const OP: &str = "insert ECUs";
    let mut seen = HashSet::new();
    let mut taken = HashMap::new();
    let mut rows = Vec::new();
    let mut done = HashSet::new();
    for vehicle in vehicles.iter().filter(|vehicle| done.insert(&vehicle.vin)) {
        let Some(id) = ids.get(&vehicle.vin) else { continue };
        for ecu in &vehicle.ecus {
            if seen.insert(&ecu.serial) {
                rows.push((ecu, *id));
            } else {
                taken.insert(vehicle.vin.clone(), ecu.serial.clone()); // twice in one batch
            }
        }
    }
    for rows in rows.chunks(ECUS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO ecus (serial, vehicle_id, hardware_id) VALUES {} ON CONFLICT (serial) DO NOTHING RETURNING serial",
            placeholders(rows.len(), 3)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (ecu, id) in rows {
            query = query.bind(ecu.serial.to_string()).bind(*id).bind(ecu.hardware_id.to_string());
        }
        let inserted = query.fetch_all(&mut **transaction).await.during(OP)?;
        let inserted = inserted
            .iter()
            .map(|row| text(row, "serial", OP))
            .collect::<Result<HashSet<_>, _>>()?;
        for (ecu, id) in rows.iter().filter(|(ecu, _)| !inserted.contains(ecu.serial.as_str())) {
            if let Some((vin, _)) = ids.iter().find(|(_, number)| *number == id) {
                taken.insert(vin.clone(), ecu.serial.clone());
            }
        }
    }
    Ok(taken)
}

/// Removes a vehicle with its ECUs, its status and what was approved for them.
pub(super) async fn remove_vehicle(
    transaction: &mut Transaction<'_, Any>,
    id: i64,
) -> Result<(), Error> {
    for sql in [
        "DELETE FROM ecus WHERE vehicle_id = $1",
        "DELETE FROM ecu_replacements WHERE vehicle_id = $1",
        "DELETE FROM ecu_key_approvals WHERE vehicle_id = $1",
        "DELETE FROM ecu_releases WHERE vehicle_id = $1",
        "DELETE FROM vehicle_polls WHERE vehicle_id = $1",
        "DELETE FROM vehicle_status WHERE vehicle_id = $1",
        "DELETE FROM vehicles WHERE id = $1",
    ] {
        let removed = sqlx::query(sql).bind(id).execute(&mut **transaction).await;
        removed.during("remove a vehicle")?;
    }
    Ok(())
}

async fn compare(
    transaction: &mut Transaction<'_, Any>,
    new: &NewVehicle,
) -> Result<Registration, Error> {
    const OP: &str = "compare vehicles";
    let row = sqlx::query("SELECT ecus, token_sha256 FROM vehicles WHERE vin = $1")
        .bind(new.vin.as_str());
    let Some(row) = row.fetch_optional(&mut **transaction).await.during(OP)? else {
        return Ok(Registration::Different); // its token is another vehicle's
    };
    let ecus: Vec<EcuRecord> = json(&row, "ecus", OP)?;
    let token: Option<String> = row.try_get("token_sha256").during(OP)?;
    let same_token = new.token_sha256.is_none_or(|digest| token == Some(digest.to_string()));
    Ok(if ecus == new.ecus && same_token {
        Registration::Unchanged
    } else {
        Registration::Different
    })
}

pub(super) fn vehicle(row: &AnyRow) -> Result<VehicleRecord, Error> {
    const OP: &str = "read a vehicle";
    let bundle: Option<String> = row.try_get("bundle").during(OP)?;
    let bundle = bundle.map(|bundle| serde_json::from_str(&bundle).map(Arc::new)).transpose();
    let bundle = bundle.or_corrupt(OP)?;
    Ok(VehicleRecord {
        id: row.try_get("id").during(OP)?,
        vin: parsed(row, "vin", OP)?,
        ecus: json::<Vec<EcuRecord>>(row, "ecus", OP)?.into(),
        created_at: time(row, "created_at", OP)?,
        created_by: text(row, "created_by", OP)?,
        status: VehicleStatus {
            revision: row.try_get("revision").during(OP)?,
            counters: json(row, "counters", OP)?,
            ecus: ecu_column::read(&text(row, "state", OP)?).or_corrupt(OP)?,
            seen_at: optional_time(row, "seen_at", OP)?,
            quarantine: quarantine(row)?,
            bundle,
        },
    })
}

pub(super) fn quarantine(row: &AnyRow) -> Result<Option<Quarantine>, Error> {
    const OP: &str = "read a quarantine";
    let Some(since) = optional_time(row, "quarantined_at", OP)? else { return Ok(None) };
    let (reason, kinds) = (text(row, "quarantine_reason", OP)?, text(row, "quarantine_kinds", OP)?);
    let kinds = match kinds.as_str() {
        "" => old_reason::kinds_in_reason(&reason),
        kinds => old_reason::words(kinds).map(str::to_owned).collect(),
    };
    Ok(Some(Quarantine { since, reason, kinds }))
}

const REGISTERED_AT_ONCE: usize = rows_at_once(6);
const ECUS_AT_ONCE: usize = rows_at_once(3);
