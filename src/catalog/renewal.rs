//! Vehicles that leave the inventory, and vehicles that start anew. What happened to them stays in
//! the log.

use std::collections::BTreeSet;

use sqlx::{Any, Row, Transaction};

use super::left_ecus::{self, LeftEcus};
use super::{
    Catalog, During, Error, NewAuditEntry, OrCorrupt, audit, ecu_keys, fleet_log, json,
    registration, status, text, time, vehicles,
};
use crate::model::{
    AssignmentOutcome, EcuRecord, EcuRole, EcuSerial, NewEvent, NewVehicle, Timestamp,
    VehicleChange, VehicleId,
};

/// A permission to enrol anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReEnrolment {
    /// Which vehicle; it need not be registered.
    pub vin: VehicleId,
    /// ECUs that it may take from other vehicles.
    pub ecu_serials: BTreeSet<EcuSerial>,
    /// When it was given.
    pub approved_at: Timestamp,
    /// Id of the token that gave it.
    pub approved_by: String,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// Who has an ECU, or had it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcuOwner {
    /// The vehicle.
    pub vin: VehicleId,
    /// What the ECU does there; none if it is retired.
    pub role: Option<EcuRole>,
}

/// What came of an enrolment anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// It is done.
    Done,
    /// Nobody has approved it, or not any more.
    NotApproved,
    /// An ECU is, or was, in a vehicle from which it may not be taken, or is its Primary.
    EcuTaken(EcuSerial),
    /// The bearer token is another vehicle's.
    TokenTaken,
}

impl Catalog {
    /// Takes a vehicle out of the inventory, with its ECUs, its token and whatever was approved for
    /// it. Its number is never another vehicle's, and the counters of its ECUs are kept. Returns
    /// whether it was there; `event` is recorded then.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn remove_vehicle(&self, vin: &VehicleId, event: &NewEvent) -> Result<bool, Error> {
        const OP: &str = "remove a vehicle";
        let mut transaction = self.pool.begin().await.during(OP)?;
        sqlx::query("DELETE FROM re_enrolments WHERE vin = $1")
            .bind(vin.as_str())
            .execute(&mut *transaction)
            .await
            .during(OP)?;
        let row = sqlx::query(vehicles::SELECT_BY_VIN).bind(vin.as_str());
        let row = row.fetch_optional(&mut *transaction).await.during(OP)?;
        let Some(record) = row.as_ref().map(vehicles::vehicle).transpose()? else {
            return Ok(false);
        };
        let id = record.id;
        let ecus: Vec<&EcuRecord> = record.ecus.iter().collect();
        left_ecus::keep(&mut transaction, &record, &ecus).await?;
        vehicles::remove_vehicle(&mut transaction, id).await?;
        sqlx::query("UPDATE assignments SET ended_at = $1, outcome = $2 WHERE vehicle_id = $3 AND ended_at IS NULL")
            .bind(event.at.as_millisecond())
            .bind(AssignmentOutcome::Cancelled.as_str())
            .bind(id)
            .execute(&mut *transaction)
            .await
            .during(OP)?;
        fleet_log::insert_events(&mut transaction, std::slice::from_ref(event)).await?;
        audit::append_events(&mut transaction, std::slice::from_ref(event)).await?;
        transaction.commit().await.during(OP)?;
        Ok(true)
    }

    /// Records a permission to enrol anew, and `event` with it; it takes the place of an earlier
    /// one.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn approve_re_enrolment(
        &self,
        approval: &ReEnrolment,
        event: &NewEvent,
    ) -> Result<(), Error> {
        const OP: &str = "approve a re-enrolment";
        let mut transaction = self.pool.begin().await.during(OP)?;
        sqlx::query(
            "INSERT INTO re_enrolments (vin, ecu_serials, approved_at, approved_by, expires_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (vin) DO UPDATE SET ecu_serials = excluded.ecu_serials, \
             approved_at = excluded.approved_at, approved_by = excluded.approved_by, expires_at = excluded.expires_at, \
             used_at = NULL",
        )
        .bind(approval.vin.as_str())
        .bind(serde_json::to_string(&approval.ecu_serials).or_corrupt(OP)?)
        .bind(approval.approved_at.as_millisecond())
        .bind(approval.approved_by.as_str())
        .bind(approval.expires_at.as_millisecond())
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        fleet_log::insert_events(&mut transaction, std::slice::from_ref(event)).await?;
        audit::append_events(&mut transaction, std::slice::from_ref(event)).await?;
        transaction.commit().await.during(OP)
    }

    /// The permission that a vehicle has to enrol anew, if it can still be used.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_re_enrolment(
        &self,
        vin: &VehicleId,
        now: Timestamp,
    ) -> Result<Option<ReEnrolment>, Error> {
        const OP: &str = "find a re-enrolment";
        let row = sqlx::query(
            "SELECT ecu_serials, approved_at, approved_by, expires_at FROM re_enrolments \
             WHERE vin = $1 AND used_at IS NULL AND expires_at > $2",
        );
        let row =
            row.bind(vin.as_str()).bind(now.as_millisecond()).fetch_optional(&self.pool).await;
        let Some(row) = row.during(OP)? else { return Ok(None) };
        Ok(Some(ReEnrolment {
            vin: vin.clone(),
            ecu_serials: json(&row, "ecu_serials", OP)?,
            approved_at: time(&row, "approved_at", OP)?,
            approved_by: text(&row, "approved_by", OP)?,
            expires_at: time(&row, "expires_at", OP)?,
        }))
    }

    /// Which vehicle has an ECU, or had it last.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_ecu_owner(&self, serial: &EcuSerial) -> Result<Option<EcuOwner>, Error> {
        const OP: &str = "find an ECU's vehicle";
        let row = sqlx::query(
            "SELECT v.vin, v.ecus, e.retired_at FROM ecus e JOIN vehicles v ON v.id = e.vehicle_id WHERE e.serial = $1",
        );
        let row = row.bind(serial.as_str()).fetch_optional(&self.pool).await.during(OP)?;
        let Some(row) = row else { return Ok(None) };
        let ecus: Vec<EcuRecord> = json(&row, "ecus", OP)?;
        let role = ecus.iter().find(|ecu| ecu.serial == *serial).map(|ecu| ecu.role);
        Ok(Some(EcuOwner { vin: super::parsed(&row, "vin", OP)?, role }))
    }

    /// Enrols a vehicle anew, if that was approved and the approval has neither expired nor been
    /// used: its ECUs and its token are those of `new`, and its status is what `change` says, with
    /// the counters of each ECU that was known under the same key. A vehicle that is not there yet
    /// gets a number, and `change` is then its first.
    ///
    /// `lost` makes the event of a vehicle that loses an ECU by that.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] if the vehicle's status has changed since; [`Error::Full`];
    /// [`Error::Backend`].
    pub async fn re_enrol(
        &self,
        new: &NewVehicle,
        change: VehicleChange,
        by: &str,
        lost: impl Fn(&VehicleId, &EcuSerial) -> NewEvent,
    ) -> Result<Renewal, Error> {
        const OP: &str = "enrol a vehicle anew";
        let now = change.at();
        let mut transaction = self.pool.begin().await.during(OP)?;
        let approval = sqlx::query(
            "UPDATE re_enrolments SET used_at = $1 WHERE vin = $2 AND used_at IS NULL AND expires_at > $3 \
             RETURNING ecu_serials",
        );
        let approval =
            approval.bind(now.as_millisecond()).bind(new.vin.as_str()).bind(now.as_millisecond());
        let approval = approval.fetch_optional(&mut *transaction).await.during(OP)?;
        let Some(approval) = approval else { return Ok(Renewal::NotApproved) };
        let may_take: BTreeSet<EcuSerial> = json(&approval, "ecu_serials", OP)?;
        if is_token_taken(&mut transaction, new).await? {
            return Ok(Renewal::TokenTaken);
        }
        let mut change = if change.is_first() {
            let new_one = std::slice::from_ref(new);
            let inserted =
                registration::insert_vehicles(&mut transaction, &self.pool, new_one, (by, now));
            change.numbered(inserted.await?.number(&new.vin).ok_or(Error::Overtaken)?)
        } else {
            keep_all(&mut transaction, change.vehicle_id()).await?;
            change
        };
        let vehicle_id = change.vehicle_id();
        let mut audited = Vec::new();
        for ecu in &new.ecus {
            let taken =
                take_ecu(&mut transaction, vehicle_id, ecu, &may_take, now, &lost, &mut audited);
            if taken.await? == Taken::No {
                return Ok(Renewal::EcuTaken(ecu.serial.clone()));
            }
        }
        let left = LeftEcus::find(&mut transaction, new.ecus.iter()).await?;
        left.restore(&new.ecus, &mut change);
        if !status::apply_news(&mut transaction, &change, &mut audited).await? {
            return Err(Error::Overtaken);
        }
        replace_inventory(&mut transaction, vehicle_id, new, now).await?;
        audit::append(&mut transaction, &audited).await?;
        transaction.commit().await.during(OP)?;
        Ok(Renewal::Done)
    }
}

/// Keeps the counters of all ECUs of a vehicle that starts anew.
async fn keep_all(transaction: &mut Transaction<'_, Any>, vehicle_id: i64) -> Result<(), Error> {
    const OP: &str = "keep the counters of a vehicle";
    let row = sqlx::query(vehicles::SELECT_BY_ID).bind(vehicle_id);
    let row = row.fetch_optional(&mut **transaction).await.during(OP)?;
    let record = vehicles::vehicle(&row.ok_or(Error::Overtaken)?)?; // it was removed meanwhile
    let ecus: Vec<&EcuRecord> = record.ecus.iter().collect();
    left_ecus::keep(transaction, &record, &ecus).await
}

#[derive(PartialEq, Eq)]
enum Taken {
    Yes,
    /// It is another vehicle's, and stays there.
    No,
}

/// Enters an ECU of a vehicle, and takes it from the vehicle that had it, if it may.
async fn take_ecu(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
    ecu: &EcuRecord,
    may_take: &BTreeSet<EcuSerial>,
    now: Timestamp,
    lost: &impl Fn(&VehicleId, &EcuSerial) -> NewEvent,
    audited: &mut Vec<NewAuditEntry>,
) -> Result<Taken, Error> {
    const OP: &str = "take an ECU over";
    let owner = sqlx::query("SELECT vehicle_id FROM ecus WHERE serial = $1 AND vehicle_id <> $2");
    let owner =
        owner.bind(ecu.serial.as_str()).bind(vehicle_id).fetch_optional(&mut **transaction).await;
    let owner = owner.during(OP)?.map(|row| row.try_get::<i64, _>("vehicle_id")).transpose();
    let owner = owner.during(OP)?;
    if let Some(other) = owner
        && (!may_take.contains(&ecu.serial)
            || lose_ecu(transaction, other, &ecu.serial, now, lost, audited).await? == Taken::No)
    {
        return Ok(Taken::No);
    }
    sqlx::query(
        "INSERT INTO ecus (serial, vehicle_id, hardware_id) VALUES ($1, $2, $3) ON CONFLICT (serial) DO UPDATE SET \
         vehicle_id = excluded.vehicle_id, hardware_id = excluded.hardware_id, retired_at = NULL",
    )
    .bind(ecu.serial.as_str())
    .bind(vehicle_id)
    .bind(ecu.hardware_id.as_str())
    .execute(&mut **transaction)
    .await
    .during(OP)?;
    Ok(Taken::Yes)
}

/// Takes an ECU out of a vehicle that keeps its others; not its Primary, without which there is no
/// vehicle.
async fn lose_ecu(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
    serial: &EcuSerial,
    now: Timestamp,
    lost: &impl Fn(&VehicleId, &EcuSerial) -> NewEvent,
    audited: &mut Vec<NewAuditEntry>,
) -> Result<Taken, Error> {
    const OP: &str = "take an ECU out of a vehicle";
    let row = sqlx::query(vehicles::SELECT_BY_ID)
        .bind(vehicle_id)
        .fetch_optional(&mut **transaction)
        .await;
    let row = row.during(OP)?.ok_or_else(|| Error::corrupt(OP, "it has no vehicle"))?;
    let record = vehicles::vehicle(&row)?;
    if record.ecu(serial).is_some_and(|ecu| ecu.role == EcuRole::Primary) {
        return Ok(Taken::No);
    }
    let leaves: Vec<&EcuRecord> = record.ecu(serial).into_iter().collect();
    left_ecus::keep(transaction, &record, &leaves).await?;
    let mut change = VehicleChange::of(&record, now);
    change.remove_ecu(serial);
    change.forget_counter(serial);
    change.record(lost(&record.vin, serial));
    if !status::apply_news(transaction, &change, audited).await? {
        return Err(Error::Overtaken);
    }
    let rest: Vec<&EcuRecord> = record.ecus.iter().filter(|ecu| ecu.serial != *serial).collect();
    let rest = serde_json::to_string(&rest).or_corrupt(OP)?;
    let updated =
        sqlx::query("UPDATE vehicles SET ecus = $1 WHERE id = $2").bind(rest).bind(vehicle_id);
    updated.execute(&mut **transaction).await.during(OP)?;
    Ok(Taken::Yes)
}

/// Replaces ECUs and token of a vehicle, retires the ECUs that it has no more, and ends what was
/// approved for one of them.
async fn replace_inventory(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
    new: &NewVehicle,
    now: Timestamp,
) -> Result<(), Error> {
    const OP: &str = "replace a vehicle's ECUs";
    let ecus = serde_json::to_string(&new.ecus).or_corrupt(OP)?;
    sqlx::query("UPDATE vehicles SET ecus = $1, token_sha256 = $2 WHERE id = $3")
        .bind(ecus)
        .bind(new.token_sha256.map(|digest| digest.to_string()))
        .bind(vehicle_id)
        .execute(&mut **transaction)
        .await
        .during(OP)?;
    sqlx::query("UPDATE ecus SET retired_at = $1 WHERE vehicle_id = $2 AND retired_at IS NULL")
        .bind(now.as_millisecond())
        .bind(vehicle_id)
        .execute(&mut **transaction)
        .await
        .during(OP)?;
    for ecu in &new.ecus {
        let kept = sqlx::query("UPDATE ecus SET retired_at = NULL WHERE serial = $1")
            .bind(ecu.serial.as_str());
        kept.execute(&mut **transaction).await.during(OP)?;
    }
    let ended = sqlx::query("DELETE FROM ecu_replacements WHERE vehicle_id = $1").bind(vehicle_id);
    ended.execute(&mut **transaction).await.during(OP)?;
    ecu_keys::end_approvals(transaction, vehicle_id).await
}

async fn is_token_taken(
    transaction: &mut Transaction<'_, Any>,
    new: &NewVehicle,
) -> Result<bool, Error> {
    let Some(token) = &new.token_sha256 else { return Ok(false) };
    let other = sqlx::query("SELECT id FROM vehicles WHERE token_sha256 = $1 AND vin <> $2");
    let other = other
        .bind(token.to_string())
        .bind(new.vin.as_str())
        .fetch_optional(&mut **transaction)
        .await;
    Ok(other.during("look for a token")?.is_some())
}
