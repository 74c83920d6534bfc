//! Tokens and recipients.

use super::{author, digest, now, seconds_later};
use crate::catalog::{Catalog, TokenRecord};
use crate::model::{AccessRole, RecipientRecord};

pub(super) async fn a_token_is_found_by_its_digest_and_revoked_once(catalog: &Catalog) {
    let token = TokenRecord {
        id: "0123456789ab".into(),
        sha256: digest(1),
        role: AccessRole::Uploader,
        label: "CI".into(),
        path_prefix: Some("supplier-a/".into()),
        created_at: now(),
        expires_at: Some(seconds_later(60)),
        revoked_at: None,
    };
    catalog.insert_token(&token, &author()).await.unwrap();
    assert!(catalog.insert_token(&token, &author()).await.is_err(), "an id is one token's");
    assert_eq!(catalog.find_token(&digest(1)).await.unwrap(), Some(token.clone()));
    assert_eq!(catalog.find_token(&digest(2)).await.unwrap(), None);
    assert_eq!(catalog.find_token_by_id(&token.id).await.unwrap(), Some(token.clone()));
    assert!(catalog.revoke_token(&token.id, &author()).await.unwrap());
    assert!(!catalog.revoke_token(&token.id, &author()).await.unwrap());
    let revoked = TokenRecord { revoked_at: Some(now()), ..token };
    assert_eq!(catalog.list_tokens().await.unwrap(), [revoked]);
}

fn recipient(hardware_id: &str, kid: &str) -> RecipientRecord {
    RecipientRecord {
        hardware_id: hardware_id.parse().unwrap(),
        kid: kid.into(),
        jwk: "{}".into(),
        created_at: now(),
        created_by: "engineer".into(),
    }
}

pub(super) async fn a_recipient_is_registered_once_for_a_hardware_id(catalog: &Catalog) {
    let first = recipient("gw-mk3", "key-1");
    assert!(catalog.insert_recipient(&first, &author()).await.unwrap());
    assert!(!catalog.insert_recipient(&first, &author()).await.unwrap());
    let other = recipient("gw-mk4", "key-1");
    assert!(catalog.insert_recipient(&other, &author()).await.unwrap());
    let found = catalog.find_recipients(&first.hardware_id).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&first));
    assert_eq!(catalog.list_recipients().await.unwrap(), [first, other]);
}

pub(super) async fn a_recipient_is_removed_from_one_hardware_id_or_from_all(catalog: &Catalog) {
    for (hardware_id, kid) in [("a", "key-1"), ("b", "key-1"), ("c", "key-1"), ("a", "key-2")] {
        catalog.insert_recipient(&recipient(hardware_id, kid), &author()).await.unwrap();
    }
    let remove = async |kid: &str, hardware_id: Option<&str>| {
        let hardware_id = hardware_id.map(|id| id.parse().unwrap());
        catalog.delete_recipient(kid, hardware_id.as_ref(), &author()).await.unwrap()
    };
    assert_eq!(remove("key-1", Some("b")).await, 1);
    assert_eq!(remove("key-1", Some("b")).await, 0);
    assert_eq!(remove("key-1", None).await, 2);
    assert_eq!(catalog.list_recipients().await.unwrap(), [recipient("a", "key-2")]);
}
