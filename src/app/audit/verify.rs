//! Whether the audit log is whole.

use crate::app::Error;
use crate::app::state_dir::StateDir;
use crate::catalog::{AuditEntry, AuditHead, Catalog, entry_hash};

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

pub(in crate::app) async fn verify_log(
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
