//! Suppliers, and the roles of those that were removed.

use super::{author, digest, now};
use crate::catalog::{
    Catalog, EndedStaging, Error, LastFile, Moments, NewStaging, PublishedRole, SupplierConflict,
};
use crate::model::{RepositorySide, RoleName, SupplierName, SupplierRecord};

fn supplier(name: &str, folder: &str) -> SupplierRecord {
    SupplierRecord {
        name: name.parse().unwrap(),
        folder: folder.parse().unwrap(),
        hardware_ids: vec!["brake-1".parse().unwrap()],
        keys: vec![serde_json::json!({ "keytype": "ed25519" })],
        offline: false,
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

pub(super) async fn a_supplier_s_own_keys_make_nothing_due_and_drop_what_is_staged(
    catalog: &Catalog,
) {
    catalog.ensure_roles(&[RoleName::Targets]).await.unwrap();
    let acme = SupplierRecord { offline: true, ..supplier("acme", "acme/") };
    assert_eq!(insert(catalog, &acme).await, Ok(()));
    assert_eq!(catalog.list_suppliers().await.unwrap(), std::slice::from_ref(&acme));
    let (side, role) = (RepositorySide::Image, acme.role());
    let reserved = catalog.reserve_versions(std::slice::from_ref(&role)).await.unwrap().remove(0);
    let content = b"what is signed".to_vec();
    let new = NewStaging { side, role: role.clone(), base: 0, version: 1, changes: 0, content };
    catalog.stage(&new, None, &author()).await.unwrap();
    let keys = [serde_json::json!({ "keytype": "other" })];
    let given = catalog.give_supplier_keys(&acme.name, &keys, 2, &author()).await.unwrap();
    assert_eq!(given, Some(acme.keys.clone()));
    assert_eq!(catalog.find_staging(side, &role).await.unwrap(), None);
    let found = catalog.list_suppliers().await.unwrap().remove(0);
    assert_eq!((found.keys.as_slice(), found.threshold, found.offline), (&keys[..], 2, true));
    let changed = catalog.list_roles().await.unwrap();
    assert!(changed.iter().all(|role| !role.is_changed), "the server has nothing to sign");
    let nobody: SupplierName = "nobody".parse().unwrap();
    assert_eq!(catalog.give_supplier_keys(&nobody, &keys, 1, &author()).await.unwrap(), None);

    let revision = catalog.stage(&new, None, &author()).await.unwrap();
    let publish = async |revision| {
        let staging = Some(EndedStaging { revision, author: author() });
        let (sha256, reserved) = (digest(1), reserved.clone());
        let file =
            PublishedRole { reserved, length: 7, sha256, expires_at: now(), body: None, staging };
        catalog.record_publication(&[file], None, &Moments::default()).await
    };
    let other = publish(revision + 1).await;
    assert!(matches!(other, Err(Error::Overtaken)), "{other:?}");
    assert_eq!(catalog.find_role(&role).await.unwrap().unwrap().version, 0);
    publish(revision).await.unwrap();
    assert_eq!(catalog.find_role(&role).await.unwrap().unwrap().version, 1);
    assert_eq!(catalog.find_staging(side, &role).await.unwrap(), None);
    catalog.stage(&new, None, &author()).await.unwrap();
    catalog.remove_supplier(&acme.name, &author()).await.unwrap().unwrap();
    assert_eq!(catalog.find_staging(side, &role).await.unwrap(), None);
}

pub(super) async fn a_removed_supplier_leaves_the_last_file_of_its_role(catalog: &Catalog) {
    let (published, unpublished) = (supplier("acme", "acme/"), supplier("bolt", "bolt/"));
    for new in [&published, &unpublished] {
        assert_eq!(insert(catalog, new).await, Ok(()));
    }
    let reserved = catalog.reserve_versions(&[published.role()]).await.unwrap().remove(0);
    let file = PublishedRole {
        reserved,
        length: 7,
        sha256: digest(1),
        expires_at: now(),
        body: None,
        staging: None,
    };
    catalog.record_publication(&[file], None, &Moments::default()).await.unwrap();
    let versions = [(&published, 1), (&unpublished, 0)];
    for (supplier, version) in versions {
        let last = catalog.find_last_file(&supplier.role()).await.unwrap();
        assert_eq!(last.map(|last| last.version), Some(version));
    }
    for name in [&published.name, &unpublished.name] {
        let removed = catalog.remove_supplier(name, &author()).await.unwrap().unwrap();
        assert_eq!((removed.images, removed.tokens.len()), (0, 0));
        assert_eq!(catalog.remove_supplier(name, &author()).await.unwrap(), None);
    }
    let last = LastFile { name: published.role(), version: 1, length: 7, sha256: digest(1) };
    assert_eq!(catalog.list_retired_roles().await.unwrap(), std::slice::from_ref(&last));
    assert_eq!(catalog.find_last_file(&last.name).await.unwrap(), Some(last));
    assert_eq!(catalog.find_last_file(&unpublished.role()).await.unwrap(), None);
    assert_eq!(catalog.list_suppliers().await.unwrap(), []);
    assert_eq!(catalog.list_roles().await.unwrap(), []);
    let nobody: SupplierName = "nobody".parse().unwrap();
    assert_eq!(catalog.remove_supplier(&nobody, &author()).await.unwrap(), None);
}
