//! Escrow keys that come and go.

use super::author;
use crate::catalog::{AuditFilter, Catalog, EscrowKeyAdded};
use crate::model::AuditKind;

async fn entries(catalog: &Catalog, kind: AuditKind) -> usize {
    let filter = AuditFilter { kind: Some(kind), ..AuditFilter::default() };
    catalog.list_audit(&filter, i64::MAX, 100).await.unwrap().items.len()
}

pub(super) async fn an_escrow_key_comes_and_goes_once(catalog: &Catalog) {
    let find = async |name| catalog.find_installed(name).await.unwrap();
    catalog.insert_installed("proof", "of the first").await.unwrap();
    let key = EscrowKeyAdded { kid: "second", source: "file:second.jwk" };
    for proof in ["of the second", "of the second, made again"] {
        catalog.add_escrow_key("proof.second", proof, key, &author()).await.unwrap();
        assert_eq!(find("proof.second").await.as_deref(), Some("of the second"));
        assert_eq!(entries(catalog, AuditKind::EscrowKeyAdded).await, 1);
    }
    assert_eq!(find("proof").await.as_deref(), Some("of the first"));
    for _ in 0..2 {
        let proofs = ["proof.second", "proof"];
        catalog.retire_escrow_key("first", proofs, &author()).await.unwrap();
        assert_eq!(find("proof").await.as_deref(), Some("of the second"));
        assert_eq!(find("proof.second").await, None);
        assert_eq!(entries(catalog, AuditKind::EscrowKeyRetired).await, 1);
    }
}
