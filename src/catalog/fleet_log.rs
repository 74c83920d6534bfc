//! What happened to vehicles: assignments and events.

use std::collections::HashSet;

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::{
    Catalog, During, Error, OrCorrupt, number, optional_time, parsed, placeholders, rows_at_once,
    text, time,
};
use crate::model::{
    AssignmentOutcome, AssignmentRecord, EcuSerial, EventKind, NewEvent, VehicleEvent, VehicleId,
};

impl Catalog {
    /// Records events.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn insert_events(&self, events: &[NewEvent]) -> Result<(), Error> {
        const OP: &str = "record events";
        let mut transaction = self.pool.begin().await.during(OP)?;
        insert_events(&mut transaction, events).await?;
        transaction.commit().await.during(OP)
    }

    /// Lists at most `limit` events of a vehicle, the newest first, from the one before `before`.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_events(
        &self,
        vin: &VehicleId,
        before: i64,
        limit: u32,
    ) -> Result<Vec<VehicleEvent>, Error> {
        let rows = sqlx::query(
            "SELECT id, vin, kind, ecu_serial, detail, actor, at, request_id, count, last_at FROM vehicle_events \
             WHERE vin = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        );
        let rows =
            rows.bind(vin.as_str()).bind(before).bind(i64::from(limit)).fetch_all(&self.pool).await;
        rows.during("list events")?.iter().map(event).collect()
    }

    /// Whether an image was ever assigned to an ECU.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn was_assigned(&self, serial: &EcuSerial, path: &str) -> Result<bool, Error> {
        let row = sqlx::query(
            "SELECT id FROM assignments WHERE ecu_serial = $1 AND image_path = $2 LIMIT 1",
        );
        let row = row.bind(serial.as_str()).bind(path).fetch_optional(&self.pool).await;
        Ok(row.during("look for an assignment")?.is_some())
    }

    /// Lists the newest assignments of a vehicle, the newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_assignments(
        &self,
        vehicle_id: i64,
        limit: u32,
    ) -> Result<Vec<AssignmentRecord>, Error> {
        let rows = sqlx::query(
            "SELECT id, ecu_serial, image_path, rollback_reason, created_at, created_by, ended_at, outcome \
             FROM assignments WHERE vehicle_id = $1 ORDER BY created_at DESC, id LIMIT $2",
        );
        let rows = rows.bind(vehicle_id).bind(i64::from(limit)).fetch_all(&self.pool).await;
        rows.during("list assignments")?.iter().map(assignment).collect()
    }
}

pub(super) async fn insert_events(
    transaction: &mut Transaction<'_, Any>,
    events: &[NewEvent],
) -> Result<(), Error> {
    const OP: &str = "record events";
    for events in batches(events) {
        let sql = format!(
            "INSERT INTO vehicle_events (vin, kind, ecu_serial, detail, actor, at, alike, request_id, count, last_at) \
             VALUES {} \
             ON CONFLICT (alike) DO UPDATE SET count = vehicle_events.count + 1, last_at = excluded.last_at",
            placeholders(events.len(), 10)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for event in events {
            query = query
                .bind(event.vin.to_string())
                .bind(event.kind.as_str())
                .bind(event.ecu_serial.as_ref().map(ToString::to_string))
                .bind(event.detail.clone())
                .bind(event.actor.clone())
                .bind(event.at.as_millisecond())
                .bind(event.alike.clone())
                .bind(event.request_id.clone())
                .bind(1_i64)
                .bind(event.at.as_millisecond());
        }
        query.execute(&mut **transaction).await.during(OP)?;
    }
    Ok(())
}

/// Parts of a list that a statement each takes: none has more rows than that, nor two events that
/// are counted as one, since PostgreSQL changes a row once in a statement.
fn batches(events: &[NewEvent]) -> Vec<&[NewEvent]> {
    let mut batches = Vec::new();
    let (mut rest, mut length) = (events, 0);
    let mut seen = HashSet::new();
    for event in events {
        let is_alike = event.alike.as_ref().is_some_and(|alike| seen.contains(alike));
        if is_alike || length == EVENTS_AT_ONCE {
            let (batch, others) = rest.split_at(length);
            batches.push(batch);
            (rest, length) = (others, 0);
            seen.clear();
        }
        seen.extend(event.alike.as_ref());
        length += 1;
    }
    batches.extend(Some(rest).filter(|rest| !rest.is_empty()));
    batches
}

pub(super) async fn insert_assignment(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
    assignment: &AssignmentRecord,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO assignments (id, vehicle_id, ecu_serial, image_path, rollback_reason, created_at, created_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(assignment.id.as_str())
    .bind(vehicle_id)
    .bind(assignment.ecu_serial.as_str())
    .bind(assignment.image_path.as_str())
    .bind(assignment.rollback_reason.as_deref())
    .bind(assignment.created_at.as_millisecond())
    .bind(assignment.created_by.as_str())
    .execute(&mut **transaction)
    .await
    .map(drop)
    .during("insert an assignment")
}

fn event(row: &AnyRow) -> Result<VehicleEvent, Error> {
    const OP: &str = "read an event";
    let kind = text(row, "kind", OP)?;
    let serial: Option<String> = row.try_get("ecu_serial").during(OP)?;
    Ok(VehicleEvent {
        id: row.try_get("id").during(OP)?,
        event: NewEvent {
            vin: parsed(row, "vin", OP)?,
            kind: EventKind::from_name(&kind)
                .ok_or_else(|| Error::corrupt(OP, format!("no event is called {kind}")))?,
            ecu_serial: serial.map(|serial| serial.parse()).transpose().or_corrupt(OP)?,
            detail: text(row, "detail", OP)?,
            actor: text(row, "actor", OP)?,
            at: time(row, "at", OP)?,
            request_id: row.try_get("request_id").during(OP)?,
            alike: None,
        },
        count: number(row, "count", OP)?,
        last_at: time(row, "last_at", OP)?,
    })
}

fn assignment(row: &AnyRow) -> Result<AssignmentRecord, Error> {
    const OP: &str = "read an assignment";
    let outcome: Option<String> = row.try_get("outcome").during(OP)?;
    Ok(AssignmentRecord {
        id: text(row, "id", OP)?,
        ecu_serial: parsed(row, "ecu_serial", OP)?,
        image_path: parsed(row, "image_path", OP)?,
        rollback_reason: row.try_get("rollback_reason").during(OP)?,
        created_at: time(row, "created_at", OP)?,
        created_by: text(row, "created_by", OP)?,
        ended_at: optional_time(row, "ended_at", OP)?,
        outcome: outcome.as_deref().and_then(AssignmentOutcome::from_name),
    })
}

const EVENTS_AT_ONCE: usize = rows_at_once(10);
