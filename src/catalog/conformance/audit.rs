//! The audit log.

use futures_util::future::join_all;
use serde_json::json;

use super::{author, digest, now, seconds_later};
use crate::catalog::{
    AuditEntry, AuditFilter, AuditHead, Author, Catalog, TokenRecord, Who, entry_hash,
};
use crate::model::{AccessRole, AuditKind, RecipientRecord};

async fn all(catalog: &Catalog) -> Vec<AuditEntry> {
    catalog.read_audit(0, 1000).await.unwrap()
}

fn token(number: u8) -> TokenRecord {
    TokenRecord {
        id: format!("token-{number}"),
        sha256: digest(number),
        role: AccessRole::Engineer,
        label: String::new(),
        path_prefix: None,
        created_at: now(),
        expires_at: None,
        revoked_at: None,
    }
}

pub(super) async fn entries_that_are_written_at_once_make_one_chain(catalog: &Catalog) {
    let writes = (0..30).map(|number| async move {
        catalog.insert_token(&token(number), &author()).await.unwrap();
    });
    join_all(writes).await;
    let mut head = AuditHead::before_all();
    for entry in all(catalog).await {
        assert_eq!(entry.seq, head.seq + 1);
        assert_eq!(entry.hash, entry_hash(&head.hash, &entry));
        head = AuditHead { seq: entry.seq, hash: entry.hash };
    }
    assert_eq!(head.seq, 30);
    assert_eq!(catalog.find_audit_head().await.unwrap(), Some(head));
}

pub(super) async fn a_change_that_does_not_happen_leaves_no_entry(catalog: &Catalog) {
    let before = catalog.find_audit_head().await.unwrap();
    let path = "gw/1/a.bin".parse().unwrap();
    assert!(!catalog.yank_image(&path, &author()).await.unwrap());
    assert!(!catalog.revoke_token("nobody", &author()).await.unwrap());
    assert_eq!(catalog.delete_recipient("nobody", None, &author()).await.unwrap(), 0);
    assert!(!catalog.cancel_job("nothing", &author()).await.unwrap());
    catalog.insert_token(&token(1), &author()).await.unwrap();
    assert!(catalog.insert_token(&token(1), &author()).await.is_err());
    let entries = all(catalog).await;
    assert_eq!(entries.len(), 1);
    assert_ne!(catalog.find_audit_head().await.unwrap(), before);
}

pub(super) async fn a_log_is_listed_by_every_filter(catalog: &Catalog) {
    catalog.insert_token(&token(1), &author()).await.unwrap();
    // The role of a token is looked up where nobody says it.
    let who = Who::Token { id: "token-1".into(), role: None };
    let by_token = Author { who, at: seconds_later(10), request_id: Some("r".into()) };
    for hardware_id in ["a", "b"] {
        let record = RecipientRecord {
            hardware_id: hardware_id.parse().unwrap(),
            kid: format!("key-{hardware_id}"),
            jwk: "{}".into(),
            created_at: now(),
            created_by: "token-1".into(),
        };
        catalog.insert_recipient(&record, &by_token).await.unwrap();
    }
    let list = async |filter: AuditFilter, before, limit| {
        let found = catalog.list_audit(&filter, before, limit).await.unwrap();
        found.items.into_iter().map(|entry| entry.seq).collect::<Vec<_>>()
    };
    let any = AuditFilter::default;
    assert_eq!(list(any(), i64::MAX, 10).await, [3, 2, 1]);
    assert_eq!(list(any(), 3, 1).await, [2]);
    let kind = Some(AuditKind::RecipientRegistered);
    assert_eq!(list(AuditFilter { kind, ..any() }, i64::MAX, 10).await, [3, 2]);
    let actor = Some("token-1".to_owned());
    assert_eq!(list(AuditFilter { actor, ..any() }, i64::MAX, 10).await, [3, 2]);
    let subject = Some("key-a".to_owned());
    assert_eq!(list(AuditFilter { kind, subject, ..any() }, i64::MAX, 10).await, [2]);
    let since = Some(seconds_later(10));
    assert_eq!(list(AuditFilter { since, ..any() }, i64::MAX, 10).await, [3, 2]);
    assert_eq!(list(AuditFilter { until: since, ..any() }, i64::MAX, 10).await, [1]);
    let entry = all(catalog).await.remove(1);
    assert_eq!(
        (entry.actor_kind.as_str(), entry.actor_role.as_deref()),
        ("token", Some("engineer"))
    );
    assert_eq!(entry.request_id.as_deref(), Some("r"));
}

pub(super) async fn what_is_noted_again_and_the_same_is_no_entry(catalog: &Catalog) {
    let note = async |subject: &str, value: u64| {
        let entry = author().entry(AuditKind::PolicyLoaded, subject, json!({ "sha256": value }));
        catalog.note_audit(&entry).await.unwrap();
        catalog.find_audit_head().await.unwrap().unwrap().seq
    };
    assert_eq!(note("policy", 1).await, 1);
    assert_eq!(note("policy", 1).await, 1);
    assert_eq!(note("another", 1).await, 2);
    assert_eq!(note("policy", 2).await, 3);
    assert_eq!(note("policy", 1).await, 4, "it has changed back");
}
