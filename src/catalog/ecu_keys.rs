//! Encryption keys of ECUs that are changed, and the approvals for it.

use sqlx::{Any, Transaction};

use super::{Catalog, During, Error, OrCorrupt, audit, fleet_log, status};
use crate::model::{EcuRecord, EcuSerial, NewEvent, Timestamp, VehicleChange};

/// Who says that a key may be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPermission {
    /// A person, for this ECU and the key of this id; it is used up.
    Approval {
        /// The ECU.
        serial: EcuSerial,
        /// Id of the new key.
        kid: String,
    },
    /// The policy, for all.
    Policy,
}

impl Catalog {
    /// Approves that an ECU's encryption key is changed to the one of id `kid` until `expires_at`,
    /// and records `event`, which says by whom and when; a second approval takes the place of the
    /// first.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn approve_key_change(
        &self,
        vehicle_id: i64,
        serial: &EcuSerial,
        kid: &str,
        expires_at: Timestamp,
        event: &NewEvent,
    ) -> Result<(), Error> {
        const OP: &str = "approve the change of a key";
        let mut transaction = self.pool.begin().await.during(OP)?;
        sqlx::query(
            "INSERT INTO ecu_key_approvals (vehicle_id, ecu_serial, kid, approved_at, approved_by, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (vehicle_id, ecu_serial) DO UPDATE SET kid = excluded.kid, \
             approved_at = excluded.approved_at, approved_by = excluded.approved_by, expires_at = excluded.expires_at, \
             used_at = NULL",
        )
        .bind(vehicle_id)
        .bind(serial.as_str())
        .bind(kid)
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

    /// Whether an ECU's encryption key may be changed to this one now.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn is_key_change_approved(
        &self,
        vehicle_id: i64,
        serial: &EcuSerial,
        kid: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let approval = sqlx::query(
            "SELECT approved_by FROM ecu_key_approvals WHERE vehicle_id = $1 AND ecu_serial = $2 AND kid = $3 \
             AND used_at IS NULL AND expires_at > $4",
        );
        let approval = approval.bind(vehicle_id).bind(serial.as_str()).bind(kid);
        let approval = approval.bind(now.as_millisecond()).fetch_optional(&self.pool).await;
        approval.map(|row| row.is_some()).during("look for the approval of a key")
    }

    /// Changes the encryption key of an ECU, if that is permitted, and makes `change` with it.
    /// `ecus` is the vehicle's whole list with the new key. Returns whether it was permitted.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] if the vehicle's status has changed since; [`Error::Full`];
    /// [`Error::Backend`].
    pub async fn change_encryption_key(
        &self,
        ecus: &[EcuRecord],
        permission: &KeyPermission,
        change: &VehicleChange,
    ) -> Result<bool, Error> {
        const OP: &str = "change an ECU's encryption key";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let is_permitted = match permission {
            KeyPermission::Policy => true,
            KeyPermission::Approval { serial, kid } => {
                use_up(&mut transaction, change.vehicle_id(), serial, kid, change.at()).await?
            }
        };
        if !is_permitted {
            return Ok(false);
        }
        let ecus = serde_json::to_string(ecus).or_corrupt(OP)?;
        let updated = sqlx::query("UPDATE vehicles SET ecus = $1 WHERE id = $2");
        let updated = updated.bind(ecus).bind(change.vehicle_id()).execute(&mut *transaction).await;
        updated.during(OP)?;
        let mut audited = Vec::new();
        if !status::apply_news(&mut transaction, change, &mut audited).await? {
            return Err(Error::Overtaken); // and the key with it
        }
        audit::append(&mut transaction, &audited).await?;
        transaction.commit().await.during(OP)?;
        Ok(true)
    }
}

async fn use_up(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
    serial: &EcuSerial,
    kid: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let used = sqlx::query(
        "UPDATE ecu_key_approvals SET used_at = $1 WHERE vehicle_id = $2 AND ecu_serial = $3 AND kid = $4 \
         AND used_at IS NULL AND expires_at > $5 RETURNING approved_by",
    );
    let used = used.bind(now.as_millisecond()).bind(vehicle_id).bind(serial.as_str()).bind(kid);
    let used = used.bind(now.as_millisecond()).fetch_optional(&mut **transaction).await;
    Ok(used.during("use the approval of a key")?.is_some())
}

/// Ends what was approved for a vehicle.
pub(super) async fn end_approvals(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
) -> Result<(), Error> {
    let ended = sqlx::query("DELETE FROM ecu_key_approvals WHERE vehicle_id = $1").bind(vehicle_id);
    ended.execute(&mut **transaction).await.map(drop).during("end approvals of keys")
}
