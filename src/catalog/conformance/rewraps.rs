//! Envelopes that are wrapped again, and keys that are retired.

use serde_json::json;

use super::images::{bin, image, insert, path, with_bins};
use super::{author, digest, now, seconds_later};
use crate::catalog::{
    AuditKind, Catalog, EnvelopePosition, Error, Holder, Moments, PublishedRole, RetiredRecipient,
    Rewrapped, Successor,
};
use crate::model::{RecipientRecord, TargetEntry};

/// An image whose envelope has these kids in it.
pub(super) async fn seal(catalog: &Catalog, at: &str, envelope: &str) {
    let mut image = image(at, 10);
    image.envelope = envelope.to_owned();
    insert(catalog, &[image]).await.unwrap();
}

pub(super) fn rewrapped(at: &str, before: &str, after: &str) -> Rewrapped {
    let target =
        TargetEntry { path: format!("{at}.jwe"), length: 7, sha256: digest(7), custom: None };
    Rewrapped {
        path: path(at),
        before: before.to_owned(),
        after: after.to_owned(),
        target,
        escrow_kid: None,
        blob: Some(format!("blob of {at}")),
        audit: author().entry(AuditKind::EnvelopeRewrapped, at, json!({})),
    }
}

pub(super) async fn announce(catalog: &Catalog, batch: &[Rewrapped]) {
    let names: Vec<String> = batch.iter().filter_map(|new| new.blob.clone()).collect();
    let holder = Holder { owner: "one", now: now(), lease_until: seconds_later(60) };
    catalog.announce_blobs(&names, holder).await.unwrap();
}

pub(super) async fn a_walk_finds_each_envelope_of_a_key_once_and_yanked_ones_last(
    catalog: &Catalog,
) {
    with_bins(catalog).await;
    for (at, envelope) in [("a", "old"), ("b", "old"), ("c", "else"), ("d", "old"), ("e", "old")] {
        seal(catalog, at, envelope).await;
    }
    catalog.yank_image(&path("a"), &author()).await.unwrap();
    assert_eq!(catalog.count_envelopes_for("old").await.unwrap(), 4);
    for (rows, bytes) in [(1, 1000), (2, 1000), (100, 1), (100, 1000)] {
        let (mut position, mut found) = (EnvelopePosition::start(), Vec::new());
        while position != EnvelopePosition::End {
            let page = catalog.list_envelopes_for("old", &position, rows, bytes).await.unwrap();
            assert!(page.0.len() <= rows);
            found.extend(page.0.iter().map(|one| (one.path.to_string(), one.is_listed)));
            position = page.1;
        }
        let expected = [("b", true), ("d", true), ("e", true), ("a", false)];
        assert_eq!(found, expected.map(|(at, listed)| (at.to_owned(), listed)));
    }
}

pub(super) async fn a_batch_is_recorded_but_for_what_others_have_changed(catalog: &Catalog) {
    with_bins(catalog).await;
    for at in ["a", "b", "c"] {
        seal(catalog, at, "old").await;
    }
    catalog.yank_image(&path("c"), &author()).await.unwrap();
    let reserved = catalog.reserve_versions(&[bin("bin-1")]).await.unwrap();
    let batch = [
        rewrapped("a", "old", "new"),
        rewrapped("b", "another", "new"),
        rewrapped("c", "old", "new"),
    ];
    announce(catalog, &batch).await;
    let recorded = catalog.record_rewraps(&batch, "one", now()).await.unwrap();
    assert_eq!(recorded.count, 2);
    assert_eq!(recorded.unused, ["blob of b", "blob of c"]);
    assert_eq!(catalog.pending_blobs().await.unwrap(), recorded.unused);
    let envelope = async |at: &str| catalog.find_envelope(&path(at)).await.unwrap().unwrap();
    assert_eq!(
        [envelope("a").await, envelope("b").await, envelope("c").await],
        ["new", "old", "new"]
    );
    let listed = catalog.find_target("a.jwe").await.unwrap().unwrap();
    assert_eq!((listed.length, listed.sha256), (7, digest(7)));
    assert_eq!(catalog.find_target("b.jwe").await.unwrap().unwrap().sha256, digest(1));
    let after = catalog.reserve_versions(&[bin("bin-1")]).await.unwrap();
    assert_eq!(after[0].changes, reserved[0].changes + 1);
    let again = catalog.record_rewraps(&batch, "one", now()).await.unwrap();
    assert_eq!((again.count, again.unused.len()), (0, 3), "a second time changes nothing");
}

pub(super) async fn a_batch_whose_blobs_were_taken_is_not_recorded(catalog: &Catalog) {
    with_bins(catalog).await;
    seal(catalog, "a", "old").await;
    let batch = [rewrapped("a", "old", "new")];
    announce(catalog, &batch).await;
    let refused = catalog.record_rewraps(&batch, "another", now()).await;
    assert!(matches!(refused, Err(Error::Overtaken)), "{refused:?}");
    assert_eq!(catalog.find_envelope(&path("a")).await.unwrap().unwrap(), "old");
}

pub(super) async fn a_replaced_envelope_is_superseded_once_its_successor_is_published(
    catalog: &Catalog,
) {
    with_bins(catalog).await;
    seal(catalog, "a", "old").await;
    let batch = [rewrapped("a", "old", "new")];
    announce(catalog, &batch).await;
    catalog.record_rewraps(&batch, "one", now()).await.unwrap();
    let later = seconds_later(60);
    assert_eq!(catalog.list_superseded_envelopes(later, 10).await.unwrap(), []);
    let before = catalog.list_envelopes_before("a.jwe").await.unwrap();
    assert_eq!((before.len(), before[0].sha256), (1, digest(1)), "whatever is published");
    assert_eq!(catalog.list_envelopes_before("a").await.unwrap(), []);
    let reserved = catalog.reserve_versions(&[bin("bin-1")]).await.unwrap().remove(0);
    let published = PublishedRole {
        reserved,
        length: 1,
        sha256: digest(9),
        expires_at: seconds_later(3600),
        body: None,
        staging: None,
    };
    let moments = Moments { signed: Some(seconds_later(30)), leap: None };
    let first = std::slice::from_ref(&published);
    catalog.record_publication(first, None, &moments).await.unwrap();
    assert_eq!(catalog.list_superseded_envelopes(now(), 10).await.unwrap(), [], "not yet");
    let since = seconds_later(30);
    assert_eq!(
        catalog.list_superseded_envelopes(since, 10).await.unwrap(),
        [],
        "nor from its re-wrap on"
    );
    // What is published later dates what is replaced later.
    let reserved = catalog.reserve_versions(&[bin("bin-1")]).await.unwrap().remove(0);
    let moments = Moments { signed: Some(seconds_later(50)), leap: None };
    let again = PublishedRole { reserved, ..published };
    catalog.record_publication(&[again], None, &moments).await.unwrap();
    let gone = catalog.list_superseded_envelopes(seconds_later(31), 10).await.unwrap();
    assert_eq!((gone.len(), gone[0].path.as_str(), gone[0].sha256), (1, "a.jwe", digest(1)));
    assert_eq!(gone[0].replaced_at, since);
    let gone = catalog.list_superseded_envelopes(later, 10).await.unwrap();
    catalog.forget_superseded_envelopes(&gone).await.unwrap();
    assert_eq!(catalog.list_superseded_envelopes(later, 10).await.unwrap(), []);
}

fn successor(kid: &str) -> Successor {
    Successor { kid: kid.into(), jwk: "{}".into() }
}

async fn registered(catalog: &Catalog) -> Vec<(String, String)> {
    let all = catalog.list_recipients().await.unwrap();
    all.into_iter().map(|one| (one.hardware_id.into(), one.kid)).collect()
}

pub(super) async fn a_key_has_one_successor_unless_that_is_taken_back(catalog: &Catalog) {
    for hardware_id in ["a", "b"] {
        let recipient = RecipientRecord {
            hardware_id: hardware_id.parse().unwrap(),
            kid: "1".into(),
            jwk: "{}".into(),
            created_at: now(),
            created_by: "officer".into(),
        };
        catalog.insert_recipient(&recipient, &author()).await.unwrap();
    }
    let retire = async |kid: &str, by: &str| {
        catalog.retire_recipient(kid, Some(&successor(by)), &author()).await
    };
    for _ in 0..2 {
        retire("1", "2").await.unwrap();
        assert_eq!(registered(catalog).await, [("a".into(), "2".into()), ("b".into(), "2".into())]);
    }
    let other = retire("1", "3").await;
    assert!(matches!(other, Err(Error::AlreadyExists(_))), "{other:?}");
    let found = catalog.find_retired("1").await.unwrap();
    assert_eq!(found, Some(RetiredRecipient::Replaced { by: "2".into() }));
    retire("2", "1").await.unwrap();
    assert_eq!(catalog.find_retired("1").await.unwrap(), None);
    for _ in 0..2 {
        catalog.retire_recipient("1", None, &author()).await.unwrap();
        assert_eq!(registered(catalog).await, []);
    }
    assert_eq!(catalog.find_retired("1").await.unwrap(), Some(RetiredRecipient::Revoked));
    retire("1", "3").await.unwrap();
    assert_eq!(catalog.find_retired("1").await.unwrap(), Some(RetiredRecipient::Revoked));
    assert_eq!(registered(catalog).await, [], "a revoked key has no successor");
    let head = catalog.find_audit_head().await.unwrap().unwrap();
    assert_eq!(head.seq, 2 + 3, "one entry a change");
}

pub(super) async fn revoked_keys_are_listed_with_the_images_that_are_left(catalog: &Catalog) {
    with_bins(catalog).await;
    for (at, envelope) in [("a", "one two"), ("b", "one"), ("c", "two"), ("d", "three")] {
        seal(catalog, at, envelope).await;
    }
    assert_eq!(catalog.list_revoked().await.unwrap(), [].into());
    assert_eq!(catalog.count_sealed_for_revoked().await.unwrap(), []);
    for kid in ["one", "gone"] {
        catalog.retire_recipient(kid, None, &author()).await.unwrap();
    }
    catalog.retire_recipient("two", Some(&successor("three")), &author()).await.unwrap();
    assert_eq!(catalog.list_revoked().await.unwrap(), ["gone".into(), "one".into()].into());
    let left = || catalog.count_sealed_for_revoked();
    assert_eq!(left().await.unwrap(), [("one".to_owned(), 2)]);
    catalog.yank_image(&path("a"), &author()).await.unwrap();
    assert_eq!(left().await.unwrap(), [("one".to_owned(), 1)]);
    catalog.yank_image(&path("b"), &author()).await.unwrap();
    assert_eq!(left().await.unwrap(), []);
}
