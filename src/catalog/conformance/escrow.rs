//! Escrow keys that come and go, and what another one than the one that wraps has wrapped.

use super::images::{image, insert, path, with_bins};
use super::{author, now, rewraps, uploads};
use crate::catalog::{AuditFilter, Catalog, Error, EscrowKeyAdded, NewImage, Rewrapped};
use crate::model::AuditKind;

const SECOND: EscrowKeyAdded<'static> =
    EscrowKeyAdded { kid: "second", source: "file:second.jwk", after: "first" };

async fn entries(catalog: &Catalog, kind: AuditKind) -> usize {
    let filter = AuditFilter { kind: Some(kind), ..AuditFilter::default() };
    catalog.list_audit(&filter, i64::MAX, 100).await.unwrap().items.len()
}

async fn wrapping(catalog: &Catalog) -> Option<String> {
    catalog.find_escrow_kid().await.unwrap()
}

pub(super) async fn an_escrow_key_comes_and_goes_once(catalog: &Catalog) {
    let find = async |name| catalog.find_installed(name).await.unwrap();
    catalog.note_escrow_kid("first").await.unwrap();
    catalog.insert_installed("proof", "of the first").await.unwrap();
    for proof in ["of the second", "of the second, made again"] {
        catalog.add_escrow_key("proof.second", proof, SECOND, &author()).await.unwrap();
        assert_eq!(find("proof.second").await.as_deref(), Some("of the second"));
        assert_eq!(wrapping(catalog).await.as_deref(), Some("second"));
        assert_eq!(entries(catalog, AuditKind::EscrowKeyAdded).await, 1);
    }
    assert_eq!(find("proof").await.as_deref(), Some("of the first"));
    for _ in 0..2 {
        let proofs = ["proof.second", "proof"];
        catalog.retire_escrow_key("first", proofs, &author()).await.unwrap();
        assert_eq!(find("proof").await.as_deref(), Some("of the second"));
        assert_eq!(find("proof.second").await, None);
        assert_eq!(entries(catalog, AuditKind::EscrowKeyRetired).await, 1);
        assert!(catalog.is_escrow_retired("first").await.unwrap());
        assert!(!catalog.is_escrow_retired("second").await.unwrap());
    }
    let back = EscrowKeyAdded { kid: "first", source: "file:first.jwk", after: "second" };
    catalog.add_escrow_key("proof.first", "of the first", back, &author()).await.unwrap();
    assert_eq!(wrapping(catalog).await.as_deref(), Some("first"));
    assert!(!catalog.is_escrow_retired("first").await.unwrap());
}

/// Of two servers: each begins with what it has read.
pub(super) async fn of_two_rotations_at_once_one_is_refused(catalog: &Catalog) {
    catalog.note_escrow_kid("first").await.unwrap();
    catalog.add_escrow_key("proof.second", "proof", SECOND, &author()).await.unwrap();
    let third = EscrowKeyAdded { kid: "third", ..SECOND };
    let refused = catalog.add_escrow_key("proof.third", "proof", third, &author()).await;
    assert!(
        matches!(&refused, Err(Error::OtherEscrowKey { wanted }) if wanted == "second"),
        "{refused:?}"
    );
    assert_eq!(wrapping(catalog).await.as_deref(), Some("second"));
    assert_eq!(catalog.find_installed("proof.third").await.unwrap(), None);
    assert_eq!(entries(catalog, AuditKind::EscrowKeyAdded).await, 1);
}

pub(super) async fn the_first_note_of_the_escrow_key_stays(catalog: &Catalog) {
    assert_eq!(wrapping(catalog).await, None);
    for kid in ["first", "second"] {
        catalog.note_escrow_kid(kid).await.unwrap();
        assert_eq!(wrapping(catalog).await.as_deref(), Some("first"));
    }
}

/// As by a server that was paused over a rotation.
pub(super) async fn what_is_wrapped_to_another_escrow_key_is_not_recorded(catalog: &Catalog) {
    with_bins(catalog).await;
    let is_refused = |outcome: Result<(), Error>| {
        assert!(
            matches!(&outcome, Err(Error::OtherEscrowKey { wanted }) if wanted == "second"),
            "{outcome:?}"
        );
    };
    let wrapped_to = |kid: &str, at: &str| NewImage {
        escrow_kid: Some(kid.to_owned()),
        envelope: "former".into(),
        ..image(at, 10)
    };
    let rewrapped_to = |kid: &str| {
        [Rewrapped {
            escrow_kid: Some(kid.to_owned()),
            ..rewraps::rewrapped("gw/1/a.bin", "former", "later")
        }]
    };
    let envelope = async || catalog.find_envelope(&path("gw/1/a.bin")).await.unwrap();
    // As in a catalog of an earlier version, which says nothing.
    insert(catalog, &[wrapped_to("first", "gw/1/a.bin")]).await.unwrap();
    assert!(catalog.insert_upload(&uploads::new("before"), "first", 9).await.unwrap());
    catalog.note_escrow_kid("first").await.unwrap();
    catalog.add_escrow_key("proof.second", "proof", SECOND, &author()).await.unwrap();

    is_refused(insert(catalog, &[wrapped_to("first", "gw/2/a.bin")]).await);
    assert!(catalog.find_image(&path("gw/2/a.bin")).await.unwrap().is_none());
    assert_eq!(entries(catalog, AuditKind::ImagePublished).await, 1);
    insert(catalog, &[wrapped_to("second", "gw/2/a.bin")]).await.unwrap();

    rewraps::announce(catalog, &rewrapped_to("first")).await;
    let recorded = catalog.record_rewraps(&rewrapped_to("first"), "one", now()).await;
    is_refused(recorded.map(drop));
    assert_eq!(envelope().await.as_deref(), Some("former"));
    let recorded = catalog.record_rewraps(&rewrapped_to("second"), "one", now()).await.unwrap();
    assert_eq!((recorded.count, envelope().await.as_deref()), (1, Some("later")));

    is_refused(catalog.insert_upload(&uploads::new("late"), "first", 9).await.map(drop));
    assert!(catalog.find_upload("late").await.unwrap().is_none());
    assert!(catalog.insert_upload(&uploads::new("late"), "second", 9).await.unwrap());
    is_refused(catalog.replace_upload_key("before", ("wrapped", "again"), "first").await);
    let key = async || catalog.find_upload("before").await.unwrap().unwrap().upload.wrapped_key;
    assert_eq!(key().await, "wrapped");
    catalog.replace_upload_key("before", ("wrapped", "again"), "second").await.unwrap();
    assert_eq!(key().await, "again");
}
