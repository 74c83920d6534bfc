//! What is staged, and who has signed it.

use super::{author, digest, seconds_later};
use crate::catalog::{AuditFilter, Catalog, DirectorRoot, Error, NewStaging, RefusedSignature};
use crate::model::{RepositorySide, RoleName};

fn new(side: RepositorySide, content: &str) -> NewStaging {
    let (role, content) = (RoleName::Root, content.into());
    NewStaging { side, role, base: 1, version: 2, changes: 0, content }
}

pub(super) async fn a_revision_is_never_used_twice(catalog: &Catalog) {
    let (side, role) = (RepositorySide::Image, RoleName::Root);
    assert_eq!(catalog.find_staging(side, &role).await.unwrap(), None);
    let first = catalog.stage(&new(side, "one"), None, &author()).await.unwrap();
    let other =
        catalog.stage(&new(RepositorySide::Director, "two"), None, &author()).await.unwrap();
    let second = catalog.stage(&new(side, "three"), Some(first), &author()).await.unwrap();
    for wrong in [None, Some(first), Some(other)] {
        let refused = catalog.stage(&new(side, "four"), wrong, &author()).await;
        assert!(matches!(refused, Err(Error::Overtaken)), "{refused:?}");
    }
    let refused = catalog.cancel_staging(side, &role, first, &author()).await;
    assert!(matches!(refused, Err(Error::Overtaken)));
    catalog.cancel_staging(side, &role, second, &author()).await.unwrap();
    let third = catalog.stage(&new(side, "five"), None, &author()).await.unwrap();
    assert!(first < other && other < second && second < third);
    let found = catalog.find_staging(side, &role).await.unwrap().unwrap();
    assert_eq!((found.staged, found.revision), (new(side, "five"), third));
}

pub(super) async fn a_signature_is_kept_once_and_for_its_revision_alone(catalog: &Catalog) {
    let (side, role) = (RepositorySide::Image, RoleName::Root);
    let first = catalog.stage(&new(side, "one"), None, &author()).await.unwrap();
    let staging = catalog.find_staging(side, &role).await.unwrap().unwrap();
    for (key, is_new) in [(1, true), (2, true), (1, false)] {
        let kept =
            catalog.add_staged_signature(&staging, digest(key), b"signature", &author()).await;
        assert_eq!(kept.unwrap(), is_new, "{key}");
    }
    let found = catalog.find_staging(side, &role).await.unwrap().unwrap();
    let keys: Vec<_> = found.signatures.iter().map(|signature| signature.key_id).collect();
    assert_eq!(keys, [digest(1), digest(2)]);
    assert_eq!(found.signatures[0].signature, b"signature");
    let refused = RefusedSignature { key_id: "k".repeat(100), code: "unknown_key" };
    catalog.note_refused_signatures(&staging, &[refused], &author()).await.unwrap();
    catalog.stage(&new(side, "two"), Some(first), &author()).await.unwrap();
    let late = catalog.add_staged_signature(&staging, digest(3), b"signature", &author()).await;
    assert!(matches!(late, Err(Error::Overtaken)), "{late:?}");
    let found = catalog.find_staging(side, &role).await.unwrap().unwrap();
    assert_eq!(found.signatures, [], "those of what was staged before went with it");
    let log = catalog.list_audit(&AuditFilter::default(), i64::MAX, 10).await.unwrap().items;
    let kinds: Vec<&str> = log.iter().rev().map(|entry| entry.kind.as_str()).collect();
    let (staged, signed) = ("metadata_staged", "metadata_signed");
    assert_eq!(kinds, [staged, signed, signed, "signature_refused", staged]);
    assert!(log[1].detail.contains(&format!("\"{}\"", "k".repeat(64))), "{}", log[1].detail);
}

pub(super) async fn a_published_root_ends_its_staging_or_is_not_recorded(catalog: &Catalog) {
    let (image, director, role) = (RepositorySide::Image, RepositorySide::Director, RoleName::Root);
    catalog.insert_first_root(7, digest(1), seconds_later(60), &author()).await.unwrap();
    let revision = catalog.stage(&new(image, "one"), None, &author()).await.unwrap();
    let record = async |staging| {
        catalog.record_root(Some(staging), 2, 8, digest(2), seconds_later(61), &author()).await
    };
    assert!(matches!(record(revision + 1).await, Err(Error::Overtaken)));
    assert_eq!(catalog.find_role(&role).await.unwrap().unwrap().version, 1);
    record(revision).await.unwrap();
    assert_eq!(catalog.find_role(&role).await.unwrap().unwrap().version, 2);
    assert_eq!(catalog.find_staging(image, &role).await.unwrap(), None);

    let root = DirectorRoot { version: 2, body: b"two".into(), expires_at: seconds_later(60) };
    let revision = catalog.stage(&new(director, "one"), None, &author()).await.unwrap();
    let wrong = catalog.publish_director_root(&root, revision + 1, &author()).await;
    assert!(matches!(wrong, Err(Error::Overtaken)), "{wrong:?}");
    assert_eq!(catalog.find_director_root(None).await.unwrap(), None);
    catalog.publish_director_root(&root, revision, &author()).await.unwrap();
    assert_eq!(catalog.find_director_root(None).await.unwrap(), Some(root));
    assert_eq!(catalog.find_staging(director, &role).await.unwrap(), None);
}
