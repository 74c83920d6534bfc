//! Roles that are handed over from some keys to others.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{
    AuditKind, Author, Catalog, During, Error, OrCorrupt, audit, column, images, json, number,
    optional_time, text, time,
};
use crate::model::{RepositorySide, RoleKind, RoleName, Sha256Digest, Timestamp};

/// A role that is handed over: both its keys before and after sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Of which repository.
    pub side: RepositorySide,
    /// Of which kind of roles.
    pub kind: RoleKind,
    /// Ids of all keys that it is to have.
    pub keys: BTreeSet<Sha256Digest>,
    /// How many of them are to sign.
    pub threshold: u64,
    /// Ids of those that it has and is to lose.
    pub leaving: BTreeSet<Sha256Digest>,
    /// When it began.
    pub begun_at: Timestamp,
    /// When those that leave stop to sign; none until clients can see the change.
    pub ends_at: Option<Timestamp>,
}

impl Catalog {
    /// Begins to hand a role over, in place of what was begun for it before, and marks `changed` as
    /// changed, so that they are signed by all of these keys.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn begin_handover(
        &self,
        handover: &Handover,
        changed: &[RoleName],
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "begin to hand a role over";
        let Handover { side, kind, keys, threshold, leaving, begun_at, ends_at } = handover;
        let mut transaction = self.pool.begin().await.during(OP)?;
        sqlx::query(
            "INSERT INTO handovers (side, role, keys, threshold, leaving, begun_at, ends_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (side, role) DO UPDATE SET keys = excluded.keys, \
             threshold = excluded.threshold, leaving = excluded.leaving, begun_at = excluded.begun_at, \
             ends_at = excluded.ends_at",
        )
        .bind(side.as_str())
        .bind(kind.as_str())
        .bind(serde_json::to_string(keys).or_corrupt(OP)?)
        .bind(column(*threshold))
        .bind(serde_json::to_string(leaving).or_corrupt(OP)?)
        .bind(begun_at.as_millisecond())
        .bind(ends_at.map(|time| time.as_millisecond()))
        .execute(&mut *transaction)
        .await
        .during(OP)?;
        for role in changed {
            images::count_change(&mut transaction, role).await?;
        }
        let detail = json!({
            "repository": side.as_str(), "keys": keys, "threshold": threshold, "leaving": leaving,
        });
        let entry = author.entry(AuditKind::RoleHandoverBegun, kind.as_str(), detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)
    }

    /// The roles that are being handed over.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_handovers(&self) -> Result<Vec<Handover>, Error> {
        let rows = sqlx::query(
            "SELECT side, role, keys, threshold, leaving, begun_at, ends_at FROM handovers ORDER BY side, role",
        );
        let rows =
            rows.fetch_all(&self.pool).await.during("list the roles that are handed over")?;
        rows.iter().map(handover).collect()
    }

    /// Notes that clients can see a handover, and when it ends, unless another was begun meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn bound_handover(
        &self,
        handover: &Handover,
        ends_at: Timestamp,
    ) -> Result<(), Error> {
        sqlx::query(
            "UPDATE handovers SET ends_at = $1 WHERE side = $2 AND role = $3 AND begun_at = $4",
        )
        .bind(ends_at.as_millisecond())
        .bind(handover.side.as_str())
        .bind(handover.kind.as_str())
        .bind(handover.begun_at.as_millisecond())
        .execute(&self.pool)
        .await
        .map(drop)
        .during("note when a role is handed over")
    }

    /// Ends a handover: `retired` sign no more. Returns whether it was still there: another
    /// server may have ended it, or another may have been begun in its place.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn end_handover(
        &self,
        handover: &Handover,
        retired: &BTreeSet<Sha256Digest>,
        author: &Author,
    ) -> Result<bool, Error> {
        const OP: &str = "end the handover of a role";
        let Handover { side, kind, begun_at, .. } = handover;
        let mut transaction = self.pool.begin().await.during(OP)?;
        let deleted =
            sqlx::query("DELETE FROM handovers WHERE side = $1 AND role = $2 AND begun_at = $3")
                .bind(side.as_str())
                .bind(kind.as_str())
                .bind(begun_at.as_millisecond())
                .execute(&mut *transaction)
                .await
                .during(OP)?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        let detail = json!({ "repository": side.as_str(), "retired": retired });
        let entry = author.entry(AuditKind::RoleHandoverEnded, kind.as_str(), detail);
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)?;
        Ok(true)
    }

    /// Writes down that the files of keys were moved to where nothing signs with them.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn note_moved_keys(
        &self,
        moved: &BTreeSet<Sha256Digest>,
        author: &Author,
    ) -> Result<(), Error> {
        const OP: &str = "note that keys were moved away";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let entry = author.entry(AuditKind::RoleKeysMoved, "keys", json!({ "keys": moved }));
        audit::append(&mut transaction, &[entry]).await?;
        transaction.commit().await.during(OP)
    }
}

fn handover(row: &AnyRow) -> Result<Handover, Error> {
    const OP: &str = "read the handover of a role";
    let side: String = row.try_get("side").during(OP)?;
    let side = RepositorySide::ALL.into_iter().find(|known| known.as_str() == side);
    let side = side.ok_or("there is no such repository").or_corrupt(OP)?;
    let kind = text(row, "role", OP)?;
    let kind = side.kinds().iter().find(|known| known.as_str() == kind).copied();
    Ok(Handover {
        side,
        kind: kind.ok_or("there is no such role").or_corrupt(OP)?,
        keys: json(row, "keys", OP)?,
        threshold: number(row, "threshold", OP)?,
        leaving: json(row, "leaving", OP)?,
        begun_at: time(row, "begun_at", OP)?,
        ends_at: optional_time(row, "ends_at", OP)?,
    })
}
