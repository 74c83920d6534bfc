//! Suppliers, and the roles of those that were removed.

use super::{author, digest, now};
use crate::catalog::{Catalog, Moments, PublishedRole, RetiredRole, SupplierConflict};
use crate::model::{RoleName, SupplierName, SupplierRecord};

fn supplier(name: &str, folder: &str) -> SupplierRecord {
    SupplierRecord {
        name: name.parse().unwrap(),
        folder: folder.parse().unwrap(),
        hardware_ids: vec!["brake-1".parse().unwrap()],
        keys: vec![serde_json::json!({ "keytype": "ed25519" })],
        threshold: 1,
        terminating: true,
        created_at: now(),
        created_by: "officer".into(),
    }
}

async fn insert(catalog: &Catalog, new: &SupplierRecord) -> Result<(), SupplierConflict> {
    let foreseen = catalog.find_supplier_conflict(new).await.unwrap();
    let inserted = catalog.insert_supplier(new, &author()).await.unwrap();
    assert_eq!(inserted.clone().err(), foreseen);
    inserted
}

pub(super) async fn a_folder_has_one_supplier_and_a_name_is_used_once(catalog: &Catalog) {
    catalog.ensure_roles(&[RoleName::Targets]).await.unwrap();
    let acme = supplier("acme", "acme/");
    assert_eq!(insert(catalog, &acme).await, Ok(()));
    let used = |is_removed| Err(SupplierConflict::NameUsed { is_removed });
    assert_eq!(insert(catalog, &supplier("acme", "other/")).await, used(false));
    let taken = Err(SupplierConflict::FolderTaken { by: acme.name.clone() });
    for folder in ["acme/", "acme/eu/"] {
        assert_eq!(insert(catalog, &supplier("bolt", folder)).await, taken);
    }
    assert_eq!(insert(catalog, &supplier("bolt", "acme-2/")).await, Ok(()));
    let listed = catalog.list_suppliers().await.unwrap();
    assert_eq!(listed, [acme.clone(), supplier("bolt", "acme-2/")]);
    let roles = catalog.list_roles().await.unwrap();
    let changed: Vec<_> = roles.iter().map(|role| (role.name.as_str(), role.is_changed)).collect();
    assert_eq!(
        changed,
        [("supplier-acme", false), ("supplier-bolt", false), ("targets", true)],
        "what is refused leaves nothing"
    );
    assert!(catalog.remove_supplier(&acme.name, &author()).await.unwrap().is_some());
    assert_eq!(insert(catalog, &supplier("acme", "acme/")).await, used(true));
    assert_eq!(insert(catalog, &supplier("acme-2", "acme/")).await, Ok(()));
}

pub(super) async fn a_removed_supplier_leaves_the_last_file_of_its_role(catalog: &Catalog) {
    let (published, unpublished) = (supplier("acme", "acme/"), supplier("bolt", "bolt/"));
    for new in [&published, &unpublished] {
        assert_eq!(insert(catalog, new).await, Ok(()));
    }
    let reserved = catalog.reserve_versions(&[published.role()]).await.unwrap().remove(0);
    let file =
        PublishedRole { reserved, length: 7, sha256: digest(1), expires_at: now(), body: None };
    catalog.record_publication(&[file], None, &Moments::default()).await.unwrap();
    for name in [&published.name, &unpublished.name] {
        let removed = catalog.remove_supplier(name, &author()).await.unwrap().unwrap();
        assert_eq!((removed.images, removed.tokens.len()), (0, 0));
        assert_eq!(catalog.remove_supplier(name, &author()).await.unwrap(), None);
    }
    let retired = RetiredRole { name: published.role(), version: 1, length: 7, sha256: digest(1) };
    assert_eq!(catalog.list_retired_roles().await.unwrap(), [retired]);
    assert_eq!(catalog.list_suppliers().await.unwrap(), []);
    assert_eq!(catalog.list_roles().await.unwrap(), []);
    let nobody: SupplierName = "nobody".parse().unwrap();
    assert_eq!(catalog.remove_supplier(&nobody, &author()).await.unwrap(), None);
}
