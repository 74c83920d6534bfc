//! The inventory of vehicles and ECUs (Uptane 2.1.0, 5.3.2.2).

use std::sync::Arc;

use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::left_ecus::{self, LeftEcus};
use super::{
    Catalog, During, Error, OrCorrupt, audit, ecu_column, fleet_log, json, old_reason,
    optional_time, parsed, status, text, time,
};
use crate::model::{
    EcuRecord, EcuSerial, NewEvent, Quarantine, Sha256Digest, Timestamp, VehicleChange, VehicleId,
    VehicleRecord, VehicleStatus,
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

impl Catalog {
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

    /// The revision of a vehicle by its number; none if it is not registered any more.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_revision(&self, vehicle_id: i64) -> Result<Option<i64>, Error> {
        const OP: &str = "look for a vehicle's revision";
        let query = sqlx::query("SELECT revision FROM vehicle_polls WHERE vehicle_id = $1");
        let row = self.reads.fetch_optional(query.bind(vehicle_id)).await.during(OP)?;
        row.map(|row| row.try_get("revision").during(OP)).transpose()
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
