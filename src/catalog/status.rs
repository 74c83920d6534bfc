//! What changes as vehicles are served, and only from the revision on which a change was decided.
//!
//! A poll that finds nothing new changes counters alone, in a small row of its own; whatever else
//! there is comes seldom.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row, Transaction};

use super::published::skip_director_versions;
use super::{Catalog, During, Error, NewAuditEntry, OrCorrupt, audit, column, ecu_column};
use crate::model::{EcuStatus, Quarantine, Timestamp, VehicleChange, VehicleStatus};

/// Makes changes of status, over a connection that it keeps.
#[derive(Debug)]
pub struct StatusWriter {
    catalog: Catalog,
    connection: Option<PoolConnection<Any>>,
    /// How many of the Director's numbers are left out before the next one.
    left_out: u64,
}

impl StatusWriter {
    /// A writer without a connection yet.
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog, connection: None, left_out: 0 }
    }

    /// The same, which leaves out so many of the Director's numbers before the first that it hands
    /// out, and none if it hands out none; never past what every client can count to.
    #[must_use]
    pub fn leaving_out(self, count: u64) -> Self {
        Self { left_out: count, ..self }
    }

    /// Makes changes, in one transaction; each only if its vehicle is still at its revision.
    /// Returns which were made, and `versions` numbers of the Director's sequence, the first of
    /// them.
    ///
    /// # Errors
    ///
    /// [`Error::Older`] if the database has handed the numbers out before; [`Error::Full`];
    /// [`Error::Backend`]; and then none was made.
    pub async fn apply(
        &mut self,
        changes: &[Arc<VehicleChange>],
        versions: u64,
    ) -> Result<(Vec<bool>, u64), Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.catalog.pool.connections().acquire().await.during("reach the catalog")?,
        };
        let wanted = (self.left_out, versions);
        let applied = apply(&self.catalog, &mut connection, changes, wanted).await;
        if applied.is_ok() {
            self.connection = Some(connection);
            if versions > 0 {
                self.left_out = 0;
            }
        } // after a failure nobody knows in what state it is; the pool looks at it
        applied
    }
}

async fn apply(
    catalog: &Catalog,
    connection: &mut AnyConnection,
    changes: &[Arc<VehicleChange>],
    (left_out, versions): (u64, u64),
) -> Result<(Vec<bool>, u64), Error> {
    const OP: &str = "change the status of vehicles";
    // Of two changes of one vehicle only the first can be at its revision.
    let mut seen = HashSet::new();
    let is_first: Vec<bool> =
        changes.iter().map(|change| seen.insert(change.vehicle_id())).collect();
    let first = || {
        changes
            .iter()
            .zip(&is_first)
            .filter(|(_, is_first)| **is_first)
            .map(|(change, _)| &**change)
    };
    let polls: Vec<&VehicleChange> = first().filter(|change| !change.is_news()).collect();
    let mut first_version = 0;
    let mut made;
    if catalog.pool.takes_turns()
        && versions == 0
        && polls.len() <= POLLS_AT_ONCE
        && first().all(|change| !change.is_news())
    {
        made = apply_polls(connection, &polls).await?; // one statement is a transaction by itself
    } else {
        let mut transaction = catalog.pool.begin_on(connection).await.during(OP)?;
        if versions > 0 {
            if left_out > 0 {
                skip_director_versions(&mut transaction, 0, left_out).await?;
            }
            first_version = reserve_versions(&mut transaction, versions).await?;
            if !catalog.numbers.is_new(DIRECTOR, first_version) {
                return Err(Error::Older);
            }
        }
        let mut audited = Vec::new();
        made = HashSet::new();
        for polls in polls.chunks(POLLS_AT_ONCE) {
            made.extend(apply_polls(&mut transaction, polls).await?);
        }
        for change in first().filter(|change| change.is_news()) {
            if apply_news(&mut transaction, change, &mut audited).await? {
                made.insert(change.vehicle_id());
            }
        }
        audit::append(&mut transaction, &audited).await?;
        transaction.commit().await.during(OP)?;
        if versions > 0 {
            catalog.numbers.note(DIRECTOR, first_version + versions - 1);
        }
    }
    let was_made = changes
        .iter()
        .zip(is_first)
        .map(|(change, first)| first && made.contains(&change.vehicle_id()));
    Ok((was_made.collect(), first_version))
}

/// Hands out numbers of the Director's sequence. No other call ever gets them.
async fn reserve_versions(
    transaction: &mut Transaction<'_, Any>,
    count: u64,
) -> Result<u64, Error> {
    const OP: &str = "reserve Director versions";
    let row = sqlx::query(
        "UPDATE sequences SET value = value + $1 WHERE name = 'director' RETURNING value",
    );
    let row = row.bind(column(count)).fetch_one(&mut **transaction).await.during(OP)?;
    Ok(super::number(&row, "value", OP)? + 1 - count)
}

/// What polls change, in one statement: at a fleet's size each statement's own cost is what counts.
async fn apply_polls(
    connection: &mut AnyConnection,
    polls: &[&VehicleChange],
) -> Result<HashSet<i64>, Error> {
    const OP: &str = "record polls";
    // The casts are for PostgreSQL, which would take parameters of VALUES for text.
    let rows: Vec<String> = (0..polls.len())
        .map(|row| {
            let [a, b, c, d] = [1, 2, 3, 4].map(|column| row * 4 + column);
            format!("(CAST(${a} AS BIGINT), CAST(${b} AS BIGINT), CAST(${c} AS TEXT), CAST(${d} AS BIGINT))")
        })
        .collect();
    let sql = format!(
        "WITH polls (vehicle_id, revision, counters, seen_at) AS (VALUES {}) \
         UPDATE vehicle_polls SET counters = polls.counters, seen_at = polls.seen_at, revision = polls.revision + 1 \
         FROM polls WHERE vehicle_polls.vehicle_id = polls.vehicle_id AND vehicle_polls.revision = polls.revision \
         RETURNING vehicle_polls.vehicle_id AS id",
        rows.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for poll in polls {
        let status = poll.status();
        query = query.bind(poll.vehicle_id()).bind(poll.decided_on());
        query = query.bind(json(&status.counters, OP)?);
        query = query.bind(status.seen_at.map(Timestamp::as_millisecond));
    }
    let rows = query.fetch_all(connection).await.during(OP)?;
    rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>().during(OP)
}

/// Makes one change with all that is recorded with it, if its vehicle is still at the revision on
/// which it was decided; returns whether it was. Adds what has to be in the audit log to `audited`:
/// the caller **must** append that before it commits.
pub(super) async fn apply_news(
    transaction: &mut Transaction<'_, Any>,
    change: &VehicleChange,
    audited: &mut Vec<NewAuditEntry>,
) -> Result<bool, Error> {
    const OP: &str = "change a vehicle's status";
    let status = change.status();
    let updated = sqlx::query(
        "UPDATE vehicle_polls SET revision = $1, counters = $2, seen_at = $3 \
         WHERE vehicle_id = $4 AND revision = $5",
    )
    .bind(status.revision)
    .bind(json(&status.counters, OP)?)
    .bind(status.seen_at.map(Timestamp::as_millisecond))
    .bind(change.vehicle_id())
    .bind(change.decided_on())
    .execute(&mut **transaction)
    .await
    .during(OP)?;
    if updated.rows_affected() == 0 {
        return Ok(false);
    }
    audited.extend(audit::quarantined(change));
    update_status(transaction, change.vehicle_id(), status).await?;
    for (id, outcome) in change.ended() {
        sqlx::query(
            "UPDATE assignments SET ended_at = $1, outcome = $2 WHERE id = $3 AND ended_at IS NULL",
        )
        .bind(change.at().as_millisecond())
        .bind(outcome.as_str())
        .bind(id.as_str())
        .execute(&mut **transaction)
        .await
        .during(OP)?;
    }
    super::ecus::update_installed(transaction, change).await?;
    for assignment in change.assigned() {
        super::fleet_log::insert_assignment(transaction, change.vehicle_id(), assignment).await?;
    }
    super::fleet_log::insert_events(transaction, change.events()).await?;
    audited.extend(change.events().iter().filter_map(NewAuditEntry::of_event));
    Ok(true)
}

async fn update_status(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
    status: &VehicleStatus,
) -> Result<(), Error> {
    const OP: &str = "change a vehicle's status";
    let quarantine = status.quarantine.as_ref();
    sqlx::query(
        "UPDATE vehicle_status SET ecus = $1, quarantined_at = $2, quarantine_reason = $3, quarantine_kinds = $4, \
         unexpected = $5, fallen_back = $6, bundle = $7 WHERE vehicle_id = $8",
    )
    .bind(ecu_column::write(&status.ecus).or_corrupt(OP)?)
    .bind(quarantine.map(|quarantine| quarantine.since.as_millisecond()))
    .bind(quarantine.map(|quarantine| quarantine.reason.clone()))
    .bind(quarantine.map(join_kinds).unwrap_or_default())
    .bind(count(status, |ecu| ecu.unexpected))
    .bind(count(status, |ecu| ecu.fallen_from.is_some()))
    .bind(status.bundle.as_deref().map(|bundle| json(bundle, OP)).transpose()?)
    .bind(vehicle_id)
    .execute(&mut **transaction)
    .await
    .map(drop)
    .during(OP)
}

/// The names of what a quarantine is for, as the column holds them.
fn join_kinds(quarantine: &Quarantine) -> String {
    quarantine.kinds.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

/// How many ECUs are as `is` says.
fn count(status: &VehicleStatus, is: impl Fn(&EcuStatus) -> bool) -> i64 {
    column(status.ecus.values().filter(|ecu| is(ecu)).count() as u64)
}

fn json<T: serde::Serialize>(value: &T, op: &'static str) -> Result<String, Error> {
    serde_json::to_string(value).or_corrupt(op)
}

const POLLS_AT_ONCE: usize = 200;
/// What the Director's sequence is called beside the roles.
const DIRECTOR: &str = "director's";
