//! The audit log: what people see of it, and whether it is whole.

mod verify;

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::Error;
pub use crate::catalog::{AuditEntry, AuditFilter, AuditHead, Author, NewAuditEntry, Who};
use crate::catalog::{Catalog, Page};
use crate::keys::Keyring;
use crate::keys::policy::{Policy, key_name};
use crate::model::AuditKind;
use crate::telemetry::Chain;
pub(super) use verify::verify_log;
pub use verify::{AuditFindings, verify};

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
