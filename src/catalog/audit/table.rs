//! The rows of the audit log.

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::{AuditEntry, AuditHead, Author, NewAuditEntry, Who, entry_hash};
use crate::catalog::{
    Catalog, During, Error, Page, column, number, placeholders, rows_at_once, text, time,
};
use crate::model::{AccessRole, AuditKind, NewEvent, Timestamp};

/// Which entries to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only of this kind.
    pub kind: Option<AuditKind>,
    /// Only of the actor with this id.
    pub actor: Option<String>,
    /// Only of this subject.
    pub subject: Option<String>,
    /// Only from then on.
    pub since: Option<Timestamp>,
    /// Only before then.
    pub until: Option<Timestamp>,
}

impl Catalog {
    /// Lists at most `limit` entries of the audit log, the newest first, from the one before number
    /// `before`.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_audit(
        &self,
        filter: &AuditFilter,
        before: i64,
        limit: u32,
    ) -> Result<Page<AuditEntry, u64>, Error> {
        let mut sql = format!("SELECT {COLUMNS} FROM audit WHERE seq > 0 AND seq < $1");
        let texts: Vec<(&str, &str)> = [
            ("kind", filter.kind.map(AuditKind::as_str)),
            ("actor", filter.actor.as_deref()),
            ("subject", filter.subject.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        let times: Vec<(&str, Timestamp)> = [("at >=", filter.since), ("at <", filter.until)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let equal = texts.iter().map(|(name, _)| format!("{name} ="));
        let compared = equal.chain(times.iter().map(|(name, _)| (*name).to_owned()));
        for (condition, number) in compared.zip(2..) {
            sql.push_str(&format!(" AND {condition} ${number}"));
        }
        sql.push_str(&format!(" ORDER BY seq DESC LIMIT ${}", 2 + texts.len() + times.len()));
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(before);
        for (_, value) in &texts {
            query = query.bind((*value).to_owned());
        }
        for (_, value) in &times {
            query = query.bind(value.as_millisecond());
        }
        let rows = query.bind(i64::from(limit) + 1).fetch_all(&self.pool).await;
        let entries = rows.during("list the audit log")?;
        let entries = entries.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Page::of(entries, limit, |entry: &AuditEntry| entry.seq))
    }

    /// At most `limit` entries of the audit log in their order, from the one after number `after`.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn read_audit(&self, after: u64, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(column(after)).bind(i64::from(limit));
        let rows = rows.fetch_all(&self.pool).await.during("read the audit log")?;
        rows.iter().map(entry).collect()
    }

    /// How many rows of the audit log have a number that no entry has: it begins at 1.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn count_audit_before_first(&self) -> Result<u64, Error> {
        const OP: &str = "read the audit log";
        let row = sqlx::query("SELECT COUNT(*) AS n FROM audit WHERE seq < 1");
        let row = row.fetch_one(&self.pool).await.during(OP)?;
        number(&row, "n", OP)
    }

    /// The head of the audit log; none if its row is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_audit_head(&self) -> Result<Option<AuditHead>, Error> {
        const OP: &str = "look at the head of the audit log";
        let row = sqlx::query("SELECT seq, hash FROM audit_head WHERE name = 'head'");
        let row = row.fetch_optional(&self.pool).await.during(OP)?;
        row.as_ref().map(|row| head(row, OP)).transpose()
    }

    /// Writes down what is so from now on, such as the policy that a server goes by, unless the
    /// newest entry of its kind and subject says the same.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn note_audit(&self, new: &NewAuditEntry) -> Result<(), Error> {
        const OP: &str = "write the audit log";
        let filter = AuditFilter {
            kind: Some(new.kind),
            subject: Some(new.subject.clone()),
            ..AuditFilter::default()
        };
        let known = self.list_audit(&filter, i64::MAX, 1).await?.items;
        let detail = new.detail.to_string();
        if known.first().is_some_and(|known| known.detail == detail) {
            return Ok(());
        }
        let mut transaction = self.pool.begin().await.during(OP)?;
        append(&mut transaction, std::slice::from_ref(new)).await?;
        transaction.commit().await.during(OP)
    }
}

/// Adds entries. **Must be the last thing** that a transaction does, and not its first.
pub(in crate::catalog) async fn append(
    transaction: &mut Transaction<'_, Any>,
    entries: &[NewAuditEntry],
) -> Result<(), Error> {
    const OP: &str = "write the audit log";
    if entries.is_empty() {
        return Ok(());
    }
    let row =
        sqlx::query("UPDATE audit_head SET seq = seq + $1 WHERE name = 'head' RETURNING seq, hash")
            .bind(column(entries.len() as u64))
            .fetch_one(&mut **transaction)
            .await
            .during(OP)?;
    let AuditHead { seq, mut hash } = head(&row, OP)?;
    let mut rows = Vec::with_capacity(entries.len());
    for (new, seq) in entries.iter().zip(seq + 1 - entries.len() as u64..) {
        let role = role_of(transaction, &new.author.who, rows.last()).await?;
        let mut entry = stored(new, seq, role);
        entry.hash = entry_hash(&hash, &entry);
        hash.clone_from(&entry.hash);
        rows.push(entry);
    }
    for rows in rows.chunks(ROWS_AT_ONCE) {
        insert(transaction, rows).await?;
    }
    sqlx::query("UPDATE audit_head SET hash = $1 WHERE name = 'head'")
        .bind(hash)
        .execute(&mut **transaction)
        .await
        .map(drop)
        .during(OP)
}

/// Adds an entry for each event that is a change which somebody has made.
pub(in crate::catalog) async fn append_events(
    transaction: &mut Transaction<'_, Any>,
    events: &[NewEvent],
) -> Result<(), Error> {
    let entries: Vec<NewAuditEntry> = events.iter().filter_map(NewAuditEntry::of_event).collect();
    append(transaction, &entries).await
}

fn stored(new: &NewAuditEntry, seq: u64, actor_role: Option<String>) -> AuditEntry {
    let Author { who, at, request_id } = &new.author;
    AuditEntry {
        seq,
        at: *at,
        kind: new.kind.as_str().to_owned(),
        actor_kind: who.kind().to_owned(),
        actor: who.id(),
        actor_role,
        subject: new.subject.clone(),
        detail: new.detail.to_string(),
        request_id: request_id.clone(),
        hash: String::new(),
    }
}

/// What the holder of a token may do, which never changes; `before` has mostly been the same one.
async fn role_of(
    transaction: &mut Transaction<'_, Any>,
    who: &Who,
    before: Option<&AuditEntry>,
) -> Result<Option<String>, Error> {
    const OP: &str = "look for the role of a token";
    let Who::Token { id, role } = who else { return Ok(None) };
    if let Some(role) = role {
        return Ok(Some(AccessRole::as_str(*role).to_owned()));
    }
    if let Some(before) = before.filter(|before| before.actor == *id) {
        return Ok(before.actor_role.clone());
    }
    let row = sqlx::query("SELECT role FROM tokens WHERE id = $1").bind(id.as_str());
    let row = row.fetch_optional(&mut **transaction).await.during(OP)?;
    row.map(|row| text(&row, "role", OP)).transpose()
}

async fn insert(transaction: &mut Transaction<'_, Any>, rows: &[AuditEntry]) -> Result<(), Error> {
    let sql = format!("INSERT INTO audit ({COLUMNS}) VALUES {}", placeholders(rows.len(), 10));
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for row in rows {
        query = query
            .bind(column(row.seq))
            .bind(row.at.as_millisecond())
            .bind(row.kind.clone())
            .bind(row.actor_kind.clone())
            .bind(row.actor.clone())
            .bind(row.actor_role.clone())
            .bind(row.subject.clone())
            .bind(row.detail.clone())
            .bind(row.request_id.clone())
            .bind(row.hash.clone());
    }
    let inserted = query.execute(&mut **transaction).await;
    inserted.map(drop).during("write the audit log")
}

fn head(row: &AnyRow, op: &'static str) -> Result<AuditHead, Error> {
    Ok(AuditHead { seq: number(row, "seq", op)?, hash: text(row, "hash", op)? })
}

fn entry(row: &AnyRow) -> Result<AuditEntry, Error> {
    const OP: &str = "read an entry of the audit log";
    let optional = |name| row.try_get::<Option<String>, _>(name).during(OP);
    Ok(AuditEntry {
        seq: number(row, "seq", OP)?,
        at: time(row, "at", OP)?,
        kind: text(row, "kind", OP)?,
        actor_kind: text(row, "actor_kind", OP)?,
        actor: text(row, "actor", OP)?,
        actor_role: optional("actor_role")?,
        subject: text(row, "subject", OP)?,
        detail: text(row, "detail", OP)?,
        request_id: optional("request_id")?,
        hash: text(row, "hash", OP)?,
    })
}

const COLUMNS: &str =
    "seq, at, kind, actor_kind, actor, actor_role, subject, detail, request_id, hash";
const ROWS_AT_ONCE: usize = rows_at_once(10);
