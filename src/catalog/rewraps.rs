//! Envelopes that are wrapped again: which are concerned, and a batch of them recorded at once.
//!
//! They are walked in the order of the roles that list them, and of their paths within each: a
//! batch then touches few metadata files, and all batches together sign each of them a few times,
//! however many images there are. Yanked images come last; nothing lists them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::journal::{EntryChange, NumberedChange};
use super::pending_blobs;
use super::{
    AnnouncedBlobs, Catalog, During, Error, NewAuditEntry, audit, column, escrow, number, parsed,
    placeholders, rows_at_once, text, time,
};
use crate::model::{ImagePath, RoleName, Sha256Digest, TargetEntry, Timestamp};

/// Where a walk through all envelopes is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvelopePosition {
    /// After this target of this role; both empty at the start.
    Listed {
        /// The role.
        role: String,
        /// The envelope's target path.
        target: String,
    },
    /// After this yanked image.
    Yanked {
        /// Its path.
        path: String,
    },
    /// Behind the last one.
    End,
}

impl EnvelopePosition {
    /// Before the first one.
    pub fn start() -> Self {
        Self::Listed { role: String::new(), target: String::new() }
    }
}

/// An envelope that has to change.
#[derive(Debug, Clone)]
pub struct ConcernedEnvelope {
    /// Its image.
    pub path: ImagePath,
    /// SHA-256 of the sealed image.
    pub sealed_sha256: Sha256Digest,
    /// The envelope with its escrow entry, as JSON; it **must never** leave the server.
    pub envelope: String,
    /// Whether metadata lists it: not that of a yanked image.
    pub is_listed: bool,
}

/// An envelope as it is, and as it is to be.
#[derive(Debug, Clone)]
pub struct Rewrapped {
    /// Its image.
    pub path: ImagePath,
    /// The envelope that was changed, as it was stored.
    pub before: String,
    /// The changed one, with its escrow entry.
    pub after: String,
    /// Its entry in the metadata.
    pub target: TargetEntry,
    /// The id of the escrow key that it was wrapped to, if it was to another one.
    pub escrow_kid: Option<String>,
    /// The name of its blob, which was announced, if it is listed.
    pub blob: Option<String>,
    /// What is written down of it.
    pub audit: NewAuditEntry,
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRewraps {
    /// Envelopes that were recorded.
    pub count: usize,
    /// Names of blobs that nothing lists, and which are still announced: their image was yanked
    /// meanwhile, or its envelope changed by somebody else.
    pub unused: Vec<String>,
}

/// The file of an envelope that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupersededEnvelope {
    /// Target path.
    pub path: String,
    /// Digest of the file.
    pub sha256: Sha256Digest,
    /// When the one that replaced it was published; until then, when it was replaced.
    pub replaced_at: Timestamp,
}

impl Catalog {
    /// Counts the envelopes in which `kid` has an entry.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn count_envelopes_for(&self, kid: &str) -> Result<u64, Error> {
        const OP: &str = "count envelopes";
        let row = sqlx::query("SELECT COUNT(*) AS n FROM images WHERE envelope LIKE $1");
        let row = row.bind(pattern(kid)).fetch_one(&self.pool).await.during(OP)?;
        number(&row, "n", OP)
    }

    /// The next envelopes in which `kid` has an entry, at most `rows` of them and about `bytes` of
    /// their text, and where to go on after them.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_envelopes_for(
        &self,
        kid: &str,
        after: &EnvelopePosition,
        rows: usize,
        bytes: usize,
    ) -> Result<(Vec<ConcernedEnvelope>, EnvelopePosition), Error> {
        const OP: &str = "list envelopes that are concerned";
        let query = match after {
            EnvelopePosition::End => return Ok((Vec::new(), EnvelopePosition::End)),
            EnvelopePosition::Listed { role, target } => sqlx::query(
                "SELECT targets.role AS role, targets.path AS target, images.path AS path, images.sealed_sha256 AS sealed_sha256, images.envelope AS envelope \
                 FROM targets JOIN images ON images.path = SUBSTR(targets.path, 1, LENGTH(targets.path) - 4) \
                 WHERE (targets.role, targets.path) > ($1, $2) AND targets.path LIKE '%.jwe' AND images.envelope LIKE $3 \
                 ORDER BY targets.role, targets.path LIMIT $4",
            )
            .bind(role.as_str())
            .bind(target.as_str()),
            EnvelopePosition::Yanked { path } => sqlx::query(
                "SELECT '' AS role, '' AS target, path, sealed_sha256, envelope FROM images \
                 WHERE yanked_at IS NOT NULL AND path > $1 AND path <> $2 AND envelope LIKE $3 ORDER BY path LIMIT $4",
            )
            .bind(path.as_str())
            .bind(path.as_str()),
        };
        let limit = i64::try_from(rows).unwrap_or(i64::MAX);
        let mut found = query.bind(pattern(kid)).bind(limit).fetch(&self.pool);
        let (mut envelopes, mut position, mut length) = (Vec::new(), after.clone(), 0);
        while envelopes.len() < rows && length < bytes {
            let Some(row) = found.try_next().await.during(OP)? else {
                return Ok((envelopes, behind(&position)));
            };
            position = position_of(&row, &position, OP)?;
            let envelope = text(&row, "envelope", OP)?;
            length += envelope.len();
            let is_listed = matches!(after, EnvelopePosition::Listed { .. });
            envelopes.push(ConcernedEnvelope {
                path: parsed(&row, "path", OP)?,
                sealed_sha256: parsed(&row, "sealed_sha256", OP)?,
                envelope,
                is_listed,
            });
        }
        Ok((envelopes, position))
    }

    /// Records changed envelopes, all of them but those that somebody else has changed meanwhile;
    /// marks the roles that list them as changed, and notes the files that they replace.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] if another server has taken the blobs for abandoned, or
    /// [`Error::OtherEscrowKey`], and then none is recorded; [`Error::Full`]; [`Error::Backend`].
    pub async fn record_rewraps(
        &self,
        batch: &[Rewrapped],
        owner: &str,
        at: Timestamp,
    ) -> Result<RecordedRewraps, Error> {
        const OP: &str = "record envelopes";
        let mut transaction = self.pool.begin().await.during(OP)?;
        let mut changed = BTreeSet::new();
        for part in batch.chunks(ROWS_AT_ONCE) {
            changed.extend(replace_envelopes(&mut transaction, part).await?);
        }
        let escrow_kids: BTreeSet<&String> =
            batch.iter().filter_map(|new| new.escrow_kid.as_ref()).collect();
        for kid in escrow_kids {
            escrow::refuse_other_key(&mut transaction, kid).await?;
        }
        let recorded: Vec<&Rewrapped> =
            batch.iter().filter(|new| changed.contains(new.path.as_str())).collect();
        let published: Vec<&Rewrapped> =
            recorded.iter().copied().filter(|new| new.blob.is_some()).collect();
        let mut listed = BTreeMap::new();
        for part in published.chunks(ROWS_AT_ONCE) {
            listed.extend(roles_of(&mut transaction, part).await?);
        }
        let changes = mark_changed(&mut transaction, &published, &listed).await?;
        for part in published.chunks(ROWS_AT_ONCE) {
            note_superseded(&mut transaction, part, at).await?;
            replace_targets(&mut transaction, part).await?;
        }
        let is_used = |new: &&Rewrapped| {
            changed.contains(new.path.as_str()) && listed.contains_key(&new.target.path)
        };
        let (used, unused): (Vec<&Rewrapped>, Vec<_>) = batch.iter().partition(is_used);
        let names =
            |of: Vec<&Rewrapped>| of.into_iter().filter_map(|new| new.blob.clone()).collect();
        let used = AnnouncedBlobs { names: names(used), owner: owner.to_owned() };
        pending_blobs::end(&mut transaction, &used).await?;
        let entries: Vec<NewAuditEntry> = recorded.iter().map(|new| new.audit.clone()).collect();
        audit::append(&mut transaction, &entries).await?;
        transaction.commit().await.during(OP)?;
        self.journal.note(changes);
        Ok(RecordedRewraps { count: recorded.len(), unused: names(unused) })
    }

    /// Files of envelopes that no published metadata has listed since `before`: the oldest, at most
    /// `limit` of them.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_superseded_envelopes(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<SupersededEnvelope>, Error> {
        const OP: &str = "list superseded envelopes";
        let rows = sqlx::query(
            "SELECT path, superseded_envelopes.sha256 AS sha256, replaced_at FROM superseded_envelopes \
             JOIN roles ON roles.name = superseded_envelopes.role \
             WHERE replaced_at < $1 AND roles.published_changes >= change ORDER BY replaced_at LIMIT $2",
        );
        let rows = rows.bind(before.as_millisecond()).bind(i64::from(limit));
        rows.fetch_all(&self.pool).await.during(OP)?.iter().map(superseded).collect()
    }

    /// All envelopes that were listed as the target `path` before the last one, whatever role listed
    /// them.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_envelopes_before(
        &self,
        path: &str,
    ) -> Result<Vec<SupersededEnvelope>, Error> {
        let rows = sqlx::query(
            "SELECT path, sha256, replaced_at FROM superseded_envelopes WHERE path = $1 ORDER BY sha256",
        );
        let rows = rows.bind(path).fetch_all(&self.pool).await;
        rows.during("list the envelopes of an image")?.iter().map(superseded).collect()
    }

    /// Forgets replaced envelopes whose files are gone.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn forget_superseded_envelopes(
        &self,
        gone: &[SupersededEnvelope],
    ) -> Result<(), Error> {
        const OP: &str = "forget superseded envelopes";
        let mut transaction = self.pool.begin().await.during(OP)?;
        for SupersededEnvelope { path, sha256, .. } in gone {
            sqlx::query("DELETE FROM superseded_envelopes WHERE path = $1 AND sha256 = $2")
                .bind(path.as_str())
                .bind(sha256.to_string())
                .execute(&mut *transaction)
                .await
                .during(OP)?;
        }
        transaction.commit().await.during(OP)
    }
}

/// A text with a kid in it. That `_`, which kids may have, stands for any character finds a little
/// more than is meant, and what is found is read.
fn pattern(kid: &str) -> String {
    format!("%{kid}%")
}

fn behind(position: &EnvelopePosition) -> EnvelopePosition {
    match position {
        EnvelopePosition::Listed { .. } => EnvelopePosition::Yanked { path: String::new() },
        EnvelopePosition::Yanked { .. } | EnvelopePosition::End => EnvelopePosition::End,
    }
}

fn position_of(
    row: &AnyRow,
    before: &EnvelopePosition,
    op: &'static str,
) -> Result<EnvelopePosition, Error> {
    Ok(match before {
        EnvelopePosition::Listed { .. } => EnvelopePosition::Listed {
            role: text(row, "role", op)?,
            target: text(row, "target", op)?,
        },
        EnvelopePosition::Yanked { .. } | EnvelopePosition::End => {
            EnvelopePosition::Yanked { path: text(row, "path", op)? }
        }
    })
}

/// Returns the paths of the images whose envelopes were still those.
async fn replace_envelopes(
    transaction: &mut Transaction<'_, Any>,
    batch: &[Rewrapped],
) -> Result<Vec<String>, Error> {
    const OP: &str = "replace envelopes";
    let mut update = sqlx::query(AssertSqlSafe(format!(
        "UPDATE images SET envelope = new.column3 FROM (VALUES {}) AS new \
         WHERE images.path = new.column1 AND images.envelope = new.column2 RETURNING images.path AS path",
        placeholders(batch.len(), 3)
    )));
    for new in batch {
        update = update.bind(new.path.as_str()).bind(new.before.as_str()).bind(new.after.as_str());
    }
    let rows = update.fetch_all(&mut **transaction).await.during(OP)?;
    rows.iter().map(|row| text(row, "path", OP)).collect()
}

/// The target paths of envelopes that are listed, each with the role that lists it.
async fn roles_of(
    transaction: &mut Transaction<'_, Any>,
    batch: &[&Rewrapped],
) -> Result<Vec<(String, RoleName)>, Error> {
    const OP: &str = "look for the roles that list envelopes";
    let mut query = sqlx::query(AssertSqlSafe(format!(
        "SELECT path, role FROM targets WHERE path IN ({})",
        numbers(1, batch.len())
    )));
    for new in batch {
        query = query.bind(new.target.path.as_str());
    }
    let rows = query.fetch_all(&mut **transaction).await.during(OP)?;
    rows.iter().map(|row| Ok((text(row, "path", OP)?, parsed(row, "role", OP)?))).collect()
}

/// Notes the files that entries have, before these are replaced and after their roles are marked as
/// changed.
async fn note_superseded(
    transaction: &mut Transaction<'_, Any>,
    batch: &[&Rewrapped],
    at: Timestamp,
) -> Result<(), Error> {
    const OP: &str = "note superseded envelopes";
    let mut note = sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO superseded_envelopes (path, sha256, role, change, replaced_at) \
         SELECT targets.path, targets.sha256, targets.role, roles.changes, $1 FROM targets \
         JOIN roles ON roles.name = targets.role WHERE targets.path IN ({}) \
         ON CONFLICT (path, sha256) DO UPDATE SET change = excluded.change, replaced_at = excluded.replaced_at",
        numbers(2, batch.len())
    )));
    note = note.bind(at.as_millisecond());
    for new in batch {
        note = note.bind(new.target.path.as_str());
    }
    note.execute(&mut **transaction).await.during(OP)?;
    // What is listed again is in use again: an entry that is taken out leads back to an old file.
    let mut used = sqlx::query(AssertSqlSafe(format!(
        "DELETE FROM superseded_envelopes WHERE (path, sha256) IN (VALUES {})",
        placeholders(batch.len(), 2)
    )));
    for new in batch {
        used = used.bind(new.target.path.as_str()).bind(new.target.sha256.to_string());
    }
    used.execute(&mut **transaction).await.map(drop).during(OP)
}

fn superseded(row: &AnyRow) -> Result<SupersededEnvelope, Error> {
    const OP: &str = "read a superseded envelope";
    Ok(SupersededEnvelope {
        path: text(row, "path", OP)?,
        sha256: parsed(row, "sha256", OP)?,
        replaced_at: time(row, "replaced_at", OP)?,
    })
}

/// Has the time of envelopes whose successors a publication lists begin with it, and not with their
/// re-wrap: until then their files were what vehicles asked for. **Must run before the role is
/// marked as published.**
pub(super) async fn date_superseded(
    transaction: &mut Transaction<'_, Any>,
    (role, changes): (&RoleName, u64),
    at: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE superseded_envelopes SET replaced_at = $1 WHERE role = $2 AND change <= $3 \
         AND change > (SELECT published_changes FROM roles WHERE name = $4) AND replaced_at < $5",
    )
    .bind(at.as_millisecond())
    .bind(role.as_str())
    .bind(column(changes))
    .bind(role.as_str())
    .bind(at.as_millisecond())
    .execute(&mut **transaction)
    .await
    .map(drop)
    .during("date superseded envelopes")
}

async fn replace_targets(
    transaction: &mut Transaction<'_, Any>,
    batch: &[&Rewrapped],
) -> Result<(), Error> {
    const OP: &str = "replace the entries of envelopes";
    let mut update = sqlx::query(AssertSqlSafe(format!(
        "UPDATE targets SET sha256 = new.column2, length = CAST(new.column3 AS BIGINT) FROM (VALUES {}) AS new \
         WHERE targets.path = new.column1",
        placeholders(batch.len(), 3)
    )));
    for new in batch {
        let (path, length) = (new.target.path.as_str(), new.target.length.to_string());
        update = update.bind(path).bind(new.target.sha256.to_string()).bind(length);
    }
    update.execute(&mut **transaction).await.map(drop).during(OP)
}

/// Placeholders for `count` values: `$1, $2`.
fn numbers(first: usize, count: usize) -> String {
    let numbers: Vec<String> = (first..first + count).map(|number| format!("${number}")).collect();
    numbers.join(", ")
}

/// Marks the roles as changed, once for each entry.
async fn mark_changed(
    transaction: &mut Transaction<'_, Any>,
    recorded: &[&Rewrapped],
    listed: &BTreeMap<String, RoleName>,
) -> Result<Vec<NumberedChange>, Error> {
    const OP: &str = "mark roles as changed";
    let mut entries: BTreeMap<&RoleName, Vec<&TargetEntry>> = BTreeMap::new();
    for new in recorded {
        if let Some(role) = listed.get(&new.target.path) {
            entries.entry(role).or_default().push(&new.target);
        }
    }
    let mut changes = Vec::with_capacity(listed.len());
    for (role, entries) in entries {
        let row = sqlx::query(
            "UPDATE roles SET changes = changes + $1 WHERE name = $2 RETURNING changes",
        );
        let row = row.bind(column(entries.len() as u64)).bind(role.as_str());
        let Some(row) = row.fetch_optional(&mut **transaction).await.during(OP)? else { continue };
        let before = number(&row, "changes", OP)? - entries.len() as u64;
        let numbered = |(number, entry): (u64, &&TargetEntry)| NumberedChange {
            role: role.clone(),
            number: before + number,
            change: EntryChange::Added((*entry).clone()),
        };
        changes.extend((1..).zip(&entries).map(numbered));
    }
    Ok(changes)
}

const ROWS_AT_ONCE: usize = rows_at_once(3);
