//! Roles that are handed over.

use std::collections::BTreeSet;

use super::{author, digest, now, seconds_later};
use crate::catalog::{AuditFilter, Catalog, Handover};
use crate::model::{AuditKind, RepositorySide, RoleKind, RoleName};

fn handover(key: u8) -> Handover {
    Handover {
        side: RepositorySide::Image,
        kind: RoleKind::Timestamp,
        keys: BTreeSet::from([digest(key)]),
        threshold: 1,
        leaving: BTreeSet::from([digest(0)]),
        begun_at: now(),
        ends_at: None,
    }
}

pub(super) async fn a_role_is_handed_over_once_at_a_time(catalog: &Catalog) {
    catalog.ensure_roles(&[RoleName::Timestamp]).await.unwrap();
    let changed = [RoleName::Timestamp];
    catalog.begin_handover(&handover(1), &changed, &author()).await.unwrap();
    let state = catalog.find_role(&RoleName::Timestamp).await.unwrap().unwrap();
    assert!(state.is_changed);
    catalog.begin_handover(&handover(2), &[], &author()).await.unwrap();
    assert_eq!(catalog.list_handovers().await.unwrap(), [handover(2)]);
    let ends_at = seconds_later(60);
    let stale = Handover { begun_at: seconds_later(1), ..handover(2) };
    catalog.bound_handover(&stale, ends_at).await.unwrap();
    assert!(!catalog.end_handover(&stale, &BTreeSet::new(), &author()).await.unwrap());
    assert_eq!(catalog.list_handovers().await.unwrap(), [handover(2)], "it is not that one");
    catalog.bound_handover(&handover(2), ends_at).await.unwrap();
    let bounded = Handover { ends_at: Some(ends_at), ..handover(2) };
    assert_eq!(catalog.list_handovers().await.unwrap(), [bounded]);
    let retired = BTreeSet::from([digest(0)]);
    assert!(catalog.end_handover(&handover(2), &retired, &author()).await.unwrap());
    assert!(!catalog.end_handover(&handover(2), &retired, &author()).await.unwrap());
    assert_eq!(catalog.list_handovers().await.unwrap(), []);
    let filter = AuditFilter { kind: Some(AuditKind::RoleHandoverEnded), ..AuditFilter::default() };
    let logged = catalog.list_audit(&filter, i64::MAX, 10).await.unwrap();
    assert_eq!(logged.items.len(), 1, "what does not happen leaves no entry");
}
