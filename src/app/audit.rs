//! The audit log: who is written down for a change, what people see of the log, and whether it is
//! whole.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::Error;
use super::access::Principal;
use super::setup::StateDir;
pub use crate::catalog::{AuditEntry, AuditFilter, AuditHead, Author, NewAuditEntry, Who};
use crate::catalog::{Catalog, Page, entry_hash};
use crate::keys::Keyring;
use crate::keys::policy::{Policy, key_name};
use crate::model::{AuditKind, Timestamp};
use crate::telemetry::Chain;

/// What was found of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFindings {
    /// Entries that were read.
    pub entries: u64,
    /// The last of them: to be remembered elsewhere, and given to a later check.
    pub head: AuditHead,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
}

impl Principal {
    /// This caller as the author of a change.
    pub(in crate::app) fn author(&self, at: Timestamp) -> Author {
        let who = Who::Token { id: self.id.clone(), role: Some(self.role) };
        Author { who, at, request_id: self.request_id.clone() }
    }
}

/// Whoever runs this process, as the author of a change: the user who logged in, also behind
/// `sudo`, or the one that it runs as.
pub fn local_author(at: Timestamp) -> Author {
    let login = fs::read_to_string("/proc/self/loginuid").ok();
    let login = login.and_then(|text| text.trim().parse().ok()).filter(|uid| *uid != u32::MAX);
    let uid = login.unwrap_or_else(|| rustix::process::getuid().as_raw());
    Author { who: Who::Local(uid), at, request_id: None }
}

/// Who changed what.
pub struct AuditLog {
    catalog: Catalog,
    /// A filter can make the catalog read all of a long log, which must not keep others from it.
    turn: Semaphore,
}

impl AuditLog {
    pub(super) fn new(catalog: Catalog) -> Self {
        Self { catalog, turn: Semaphore::new(1) }
    }

    /// Lists the audit log, the newest entry first, from the one before number `before`.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn list(
        &self,
        filter: &AuditFilter,
        before: i64,
        limit: u32,
    ) -> Result<Page<AuditEntry, u64>, Error> {
        let _turn = self.turn.acquire().await.map_err(Error::internal("wait for a turn"))?;
        Ok(self.catalog.list_audit(filter, before, limit).await?)
    }

    /// Says in the server's log where the audit log ends, if that is not `logged`: whoever collects
    /// the one elsewhere remembers the other. Returns what was said last.
    pub(super) async fn log_head(&self, logged: Option<AuditHead>) -> Option<AuditHead> {
        match self.catalog.find_audit_head().await {
            Ok(Some(head)) if logged.as_ref() != Some(&head) => {
                tracing::info!(head = %format_args!("{}:{}", head.seq, head.hash), "head of the audit log");
                Some(head)
            }
            Ok(_) => logged,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "failed to look at the head of the audit log");
                logged
            }
        }
    }
}

/// Writes down which keys and which policy a server goes by, if they are others than before.
pub(super) async fn note_loaded(
    catalog: &Catalog,
    keyring: &Keyring,
    policy: &Policy,
    policy_text: &[u8],
    author: &Author,
) -> Result<(), Error> {
    let ids =
        |side, kind| keyring.keys(side, kind).iter().map(|key| key.id().to_string()).collect();
    let keys: BTreeMap<String, Vec<String>> =
        policy.roles().map(|(side, kind, _)| (key_name(side, kind), ids(side, kind))).collect();
    catalog.note_audit(&author.entry(AuditKind::RoleKeysLoaded, "keys", json!(keys))).await?;
    let sha256 = hex::encode(Sha256::digest(policy_text));
    let detail = json!({ "sha256": sha256 });
    Ok(catalog.note_audit(&author.entry(AuditKind::PolicyLoaded, "policy", detail)).await?)
}

/// Reads the whole log and compares each entry with its hash and with the entry before it; and each
/// of `known`, which somebody has remembered, with the entry of its number. Safe beside a running
/// server.
///
/// # Errors
///
/// [`Error::NotFound`] if the directory isn't initialized, [`Error::Internal`]; what is wrong with
/// the log is in the findings.
pub async fn verify(state: &StateDir, known: &[AuditHead]) -> Result<AuditFindings, Error> {
    let catalog = state.open_catalog().await?;
    let verified = verify_log(&catalog, known).await;
    catalog.close().await;
    verified
}

pub(super) async fn verify_log(
    catalog: &Catalog,
    known: &[AuditHead],
) -> Result<AuditFindings, Error> {
    let mut walk = Walk::new(known);
    walk.before_first(catalog.count_audit_before_first().await?);
    let mut head = catalog.find_audit_head().await?;
    loop {
        let page = catalog.read_audit(walk.findings.head.seq, PAGE).await?;
        if page.is_empty() {
            // A server may have added some since: the head is read after what it has to fit.
            let newest = catalog.find_audit_head().await?;
            if newest == head {
                break;
            }
            head = newest;
        }
        page.iter().for_each(|entry| walk.step(entry));
    }
    Ok(walk.end(head))
}

/// Goes along the log.
struct Walk<'a> {
    known: &'a [AuditHead],
    findings: AuditFindings,
}

impl<'a> Walk<'a> {
    fn new(known: &'a [AuditHead]) -> Self {
        let head = AuditHead::before_all();
        Self { known, findings: AuditFindings { entries: 0, head, problems: Vec::new() } }
    }

    fn before_first(&mut self, count: u64) {
        if count > 0 {
            let problem = format!("rows with numbers below 1 were put in: {count}");
            self.findings.problems.push(problem);
        }
    }

    fn step(&mut self, entry: &AuditEntry) {
        let AuditHead { seq: before, hash: previous } = &self.findings.head;
        let (seq, kind) = (entry.seq, &entry.kind);
        let fault = if seq != before + 1 {
            Some(format!("entries {} to {} are missing", before + 1, seq - 1))
        } else if entry_hash(previous, entry) != entry.hash {
            Some(format!(
                "entry {seq} ({kind}) does not fit its hash and the entry before it: one of them was changed or moved"
            ))
        } else {
            None
        };
        self.findings.problems.extend(fault);
        for known in self.known.iter().filter(|known| known.seq == seq) {
            if known.hash != entry.hash {
                let problem = format!("entry {seq} ({kind}) is not the one that was remembered");
                self.findings.problems.push(problem);
            }
        }
        self.findings.entries += 1;
        // What follows is judged by itself.
        self.findings.head = AuditHead { seq, hash: entry.hash.clone() };
    }

    fn end(mut self, head: Option<AuditHead>) -> AuditFindings {
        let last = &self.findings.head;
        let mut problems = Vec::new();
        match head {
            None => problems.push("the head of the log is missing".to_owned()),
            Some(head) if head.seq > last.seq => {
                problems.push(format!("entries {} to {} are missing", last.seq + 1, head.seq));
            }
            Some(head) if head != *last => {
                problems.push(format!(
                    "the head of the log is {} and not its last entry, {}",
                    head.seq, last.seq
                ));
            }
            Some(_) => {}
        }
        for known in self.known.iter().filter(|known| known.seq > last.seq) {
            let seq = known.seq;
            problems.push(format!("the log ends at {}, and entry {seq} was remembered", last.seq));
        }
        self.findings.problems.extend(problems);
        self.findings
    }
}

const PAGE: u32 = 1000;
