//! What each ECU runs, as columns: for questions about all ECUs of a kind.

use sqlx::{Any, Transaction};

use super::{During, Error, column};
use crate::model::{EcuSerial, HardwareId, ReleaseCounter, VehicleChange};

/// Which ECUs are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EcuFilter {
    /// Those of this hardware id.
    pub hardware_id: Option<HardwareId>,
    /// Those that run a release with a lower counter than this. One that runs what the Image
    /// repository does not have, or has said nothing yet, is not among them: nobody knows how old
    /// that is.
    pub below_release: Option<ReleaseCounter>,
}

/// Writes what ECUs run, as far as a change changes it.
pub(super) async fn update_installed(
    transaction: &mut Transaction<'_, Any>,
    change: &VehicleChange,
) -> Result<(), Error> {
    for (serial, counter) in change.installed() {
        let ecu = change.status().ecus.get(serial);
        match ecu.and_then(|ecu| ecu.installed.as_ref()) {
            Some(image) => {
                put(transaction, change.vehicle_id(), serial, &image.path, *counter).await?;
            }
            None => remove(transaction, change.vehicle_id(), serial).await?,
        }
    }
    Ok(())
}

async fn put(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
    serial: &EcuSerial,
    path: &str,
    counter: Option<ReleaseCounter>,
) -> Result<(), Error> {
    let put = sqlx::query(
        "INSERT INTO ecu_releases (serial, vehicle_id, hardware_id, installed_path, release_counter) \
         SELECT serial, vehicle_id, hardware_id, CAST($1 AS TEXT), CAST($2 AS BIGINT) FROM ecus \
         WHERE serial = $3 AND vehicle_id = $4 ON CONFLICT (serial) DO UPDATE SET vehicle_id = excluded.vehicle_id, \
         hardware_id = excluded.hardware_id, installed_path = excluded.installed_path, \
         release_counter = excluded.release_counter",
    );
    let put = put.bind(path).bind(counter.map(|counter| column(counter.into())));
    let put = put.bind(serial.as_str()).bind(vehicle_id).execute(&mut **transaction).await;
    put.map(drop).during("write what an ECU runs")
}

async fn remove(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
    serial: &EcuSerial,
) -> Result<(), Error> {
    let removed = sqlx::query("DELETE FROM ecu_releases WHERE serial = $1 AND vehicle_id = $2");
    let removed = removed.bind(serial.as_str()).bind(vehicle_id).execute(&mut **transaction).await;
    removed.map(drop).during("forget what an ECU runs")
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row};

    use crate::catalog::Catalog;
    use crate::model::Timestamp;

    const MIGRATION: &str = include_str!("../../migrations/sqlite/0009_ecu_releases.sql");

    #[tokio::test]
    async fn what_ecus_ran_before_there_was_a_table_is_filled_in() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.sqlite");
        let catalog = Catalog::own_sqlite(&file, Timestamp::UNIX_EPOCH).await.unwrap();
        let (ours, other) = ("aa".repeat(32), "bb".repeat(32));
        let state = format!(
            r#"{{"e-1":{{"installed":["gw/7",10,"{ours}"]}},"e.2":{{"installed":["gw/7",10,"{other}"]}},"e_3":{{}},"gone":{{"installed":["gw/7",10,"{ours}"]}}}}"#
        );
        let rows = format!(
            "INSERT INTO images (path, name, version, hardware_ids, release_counter, target_format, algorithm, sealed_length, \
             sealed_sha256, plaintext_length, plaintext_sha256, envelope, created_at, created_by) \
             VALUES ('gw/7', 'gw', '7', '[]', 7, 'BINARY', 'x', 10, '{ours}', 1, 'x', 'x', 0, 'x'); \
             INSERT INTO vehicle_status (vehicle_id, ecus) VALUES (1, '{state}'); \
             INSERT INTO ecus (serial, vehicle_id, hardware_id, retired_at) \
             VALUES ('e-1', 1, 'gw', NULL), ('e.2', 1, 'gw', NULL), ('e_3', 1, 'gw', NULL), ('gone', 1, 'gw', 5);"
        );
        let fill = &MIGRATION[MIGRATION.find("INSERT").unwrap()..];
        for statements in [rows.as_str(), fill] {
            sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
                .execute(&catalog.pool)
                .await
                .unwrap();
        }
        let rows = sqlx::query(
            "SELECT serial, vehicle_id, hardware_id, installed_path, release_counter FROM ecu_releases ORDER BY serial",
        );
        let rows = rows.fetch_all(&catalog.pool).await.unwrap();
        let found: Vec<(String, i64, String, String, Option<i64>)> = rows
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)))
            .collect();
        let row = |serial: &str, counter| (serial.into(), 1, "gw".into(), "gw/7".into(), counter);
        assert_eq!(found, [row("e-1", Some(7)), row("e.2", None)]);
    }
}
