//! Uploads that can be resumed: who has one, and what of it stays.

use super::{author, digest, now, seconds_later};
use crate::catalog::{
    BlobsMoved, Catalog, Holder, NewUpload, TokenRecord, UploadProgress, UploadRecord, UploadState,
};
use crate::model::{AccessRole, AuditKind};

/// The escrow key that their keys are wrapped to.
const KEY: &str = "escrow";

pub(in crate::catalog) fn new(id: &str) -> NewUpload {
    NewUpload {
        id: id.into(),
        path: "gw/1/a.bin".parse().unwrap(),
        request: serde_json::json!({ "name": "gateway" }),
        length: 1000,
        parts: format!("parts-{id}"),
        wrapped_key: "wrapped".into(),
        checkpoint: b"start\0".into(),
        created_at: now(),
        created_by: "token".into(),
        expires_at: seconds_later(1000),
    }
}

async fn take(catalog: &Catalog, id: &str, at: u64) -> Option<UploadRecord> {
    let holder =
        Holder { owner: "one", now: seconds_later(at), lease_until: seconds_later(at + 10) };
    catalog.take_upload(id, holder).await.unwrap()
}

fn progress(at: u64) -> UploadProgress<'static> {
    UploadProgress {
        received: at,
        checkpoint: b"later\0\xff",
        intents: &[],
        parts: "parts",
        lease_until: Some(seconds_later(at + 10)),
        expires_at: seconds_later(at + 1000),
    }
}

pub(super) async fn an_upload_is_taken_by_one_and_a_run_that_has_lost_it_changes_nothing(
    catalog: &Catalog,
) {
    assert!(catalog.insert_upload(&new("a"), KEY, 1).await.unwrap());
    assert_eq!(take(catalog, "b", 0).await, None);
    let first = take(catalog, "a", 0).await.unwrap();
    assert_eq!((&first.upload, first.received, first.run), (&new("a"), 0, 1));
    assert_eq!(take(catalog, "a", 9).await, None);
    assert!(!catalog.end_upload("a", None, seconds_later(9), now()).await.unwrap());
    let intents = [digest(1), digest(2)];
    let saved = UploadProgress { intents: &intents, ..progress(5) };
    assert!(catalog.save_upload(("a", 1), &saved).await.unwrap());
    assert_eq!(take(catalog, "a", 14).await, None, "what is saved prolongs it");
    let until = seconds_later(20);
    assert!(catalog.keep_upload(("a", 1), until, seconds_later(1000)).await.unwrap());
    assert_eq!(take(catalog, "a", 19).await, None);
    let second = take(catalog, "a", 20).await.unwrap();
    assert_eq!((second.run, second.received), (2, 5));
    assert_eq!(second.intents, intents);
    assert_eq!(second.upload.checkpoint, b"later\0\xff");
    assert!(!catalog.save_upload(("a", 1), &progress(7)).await.unwrap());
    assert!(!catalog.keep_upload(("a", 1), until, until).await.unwrap());
    assert!(!catalog.end_upload("a", Some(1), seconds_later(20), now()).await.unwrap());
    assert_eq!(catalog.find_upload("a").await.unwrap().unwrap().received, 5);
    catalog.release_uploads("other").await.unwrap();
    assert_eq!(take(catalog, "a", 21).await, None);
    catalog.release_uploads("one").await.unwrap();
    assert!(!catalog.save_upload(("a", 2), &progress(7)).await.unwrap());
    assert_eq!(take(catalog, "a", 21).await.unwrap().run, 4);
    let over = UploadProgress { lease_until: None, ..progress(9) };
    assert!(catalog.save_upload(("a", 4), &over).await.unwrap());
    assert!(!catalog.keep_upload(("a", 4), until, until).await.unwrap());
    assert_eq!(take(catalog, "a", 21).await.unwrap().received, 9);
}

pub(super) async fn an_upload_that_has_ended_keeps_no_key(catalog: &Catalog) {
    for id in ["done", "stopped", "expired", "open"] {
        assert!(catalog.insert_upload(&new(id), KEY, 4).await.unwrap());
    }
    assert!(!catalog.insert_upload(&new("one-too-many"), KEY, 4).await.unwrap());
    assert!(catalog.insert_upload(&new("e"), KEY, 5).await.unwrap());
    catalog.complete_upload("done", seconds_later(50)).await.unwrap();
    assert!(catalog.end_upload("stopped", None, now(), seconds_later(60)).await.unwrap());
    assert!(!catalog.end_upload("stopped", None, now(), seconds_later(60)).await.unwrap());
    for (id, state, received) in
        [("done", UploadState::Complete, 1000), ("stopped", UploadState::Ended, 0)]
    {
        let found = catalog.find_upload(id).await.unwrap().unwrap();
        assert_eq!((found.state, found.received), (state, received));
        assert!(found.upload.wrapped_key.is_empty() && found.upload.checkpoint.is_empty());
        assert_eq!(take(catalog, id, 0).await, None);
    }
    let mut parts = catalog.open_upload_parts().await.unwrap();
    parts.sort();
    assert_eq!(parts, ["parts-e", "parts-expired", "parts-open"]);
    for (id, old) in [("e", "another"), ("open", "wrapped"), ("done", "")] {
        catalog.replace_upload_key(id, (old, "again"), KEY).await.unwrap();
    }
    let keys = catalog.open_upload_keys().await.unwrap();
    let keys: Vec<_> = keys.iter().map(|(id, key)| (id.as_str(), key.as_str())).collect();
    assert_eq!(keys, [("e", "wrapped"), ("expired", "wrapped"), ("open", "again")]);
    assert_eq!(catalog.find_upload("done").await.unwrap().unwrap().upload.wrapped_key, "");
    assert_eq!(catalog.forget_ended_uploads(seconds_later(50), 9).await.unwrap(), 1);
    assert_eq!(catalog.find_upload("done").await.unwrap(), None);
    assert_eq!(catalog.forget_ended_uploads(seconds_later(60), 9).await.unwrap(), 1);
}

pub(super) async fn an_upload_expires_unless_somebody_has_it(catalog: &Catalog) {
    for id in ["a", "b", "c", "d"] {
        catalog.insert_upload(&new(id), KEY, 9).await.unwrap();
    }
    let end = async |at, limit| {
        let forgotten = seconds_later(at + 50);
        catalog.end_expired_uploads(seconds_later(at), forgotten, limit).await.unwrap()
    };
    assert_eq!(end(999, 9).await, [""; 0]);
    assert_eq!(take(catalog, "b", 1000).await, None, "what has expired is not taken");
    take(catalog, "a", 999).await.unwrap();
    assert_eq!(end(1000, 1).await.len(), 1);
    assert_eq!(end(1000, 9).await.len(), 2);
    assert_eq!(end(1008, 9).await, [""; 0]);
    assert_eq!(end(1009, 9).await, ["parts-a"]);
    let ended = catalog.find_upload("a").await.unwrap().unwrap();
    assert_eq!((ended.state, ended.upload.expires_at), (UploadState::Ended, seconds_later(1059)));
    assert_eq!(ended.upload.request, serde_json::json!({}));
    assert!(ended.upload.wrapped_key.is_empty() && ended.upload.checkpoint.is_empty());

    for id in ["e", "f"] {
        catalog.insert_upload(&new(id), KEY, 9).await.unwrap();
    }
    catalog.insert_upload(&new("done"), KEY, 9).await.unwrap();
    catalog.complete_upload("done", seconds_later(50)).await.unwrap();
    take(catalog, "e", 0).await.unwrap();
    assert_eq!(catalog.end_all_uploads(seconds_later(60)).await.unwrap(), 2, "a taken one too");
    assert_eq!(catalog.open_upload_parts().await.unwrap(), [""; 0]);
    let found = catalog.find_upload("e").await.unwrap().unwrap();
    assert_eq!((found.state, found.upload.wrapped_key.as_str()), (UploadState::Ended, ""));
    let done = catalog.find_upload("done").await.unwrap().unwrap();
    assert_eq!(done.state, UploadState::Complete);
}

pub(super) async fn uploads_end_once_with_a_move_of_what_is_kept_of_them(catalog: &Catalog) {
    catalog.insert_upload(&new("a"), KEY, 9).await.unwrap();
    let moved = |id| BlobsMoved { id, to: "s3://cars/ota/", files: 3, bytes: 9 };
    let end = async |id| {
        catalog.end_moving_blobs(&moved(id), seconds_later(60), &author()).await.unwrap()
    };
    assert_eq!(end("one").await, 1);
    let found = catalog.find_upload("a").await.unwrap().unwrap();
    assert_eq!((found.state, found.upload.expires_at), (UploadState::Ended, seconds_later(60)));
    catalog.insert_upload(&new("b"), KEY, 9).await.unwrap();
    assert_eq!(end("one").await, 0, "it has ended before, and b was begun in the new place");
    assert_eq!(catalog.open_upload_parts().await.unwrap(), ["parts-b"]);
    assert_eq!(end("two").await, 1, "another move");
    let kinds = catalog.read_audit(0, 1000).await.unwrap().into_iter().map(|entry| entry.kind);
    assert_eq!(kinds.filter(|kind| *kind == AuditKind::BlobsMoved.as_str()).count(), 2);
}

pub(super) async fn the_uploads_of_a_token_that_is_no_longer_good_expire(catalog: &Catalog) {
    for (number, (id, expires_at)) in
        [("good", None), ("expires", Some(seconds_later(5))), ("revoked", None)]
            .into_iter()
            .enumerate()
    {
        let token = TokenRecord {
            id: id.into(),
            sha256: digest(number as u8),
            role: AccessRole::Uploader,
            label: String::new(),
            path_prefix: None,
            created_at: now(),
            expires_at,
            revoked_at: None,
        };
        catalog.insert_token(&token, &author()).await.unwrap();
        catalog
            .insert_upload(&NewUpload { created_by: id.into(), ..new(id) }, KEY, 9)
            .await
            .unwrap();
    }
    let end = async |at| {
        let forgotten = seconds_later(at + 50);
        catalog.end_expired_uploads(seconds_later(at), forgotten, 9).await.unwrap()
    };
    assert_eq!(end(4).await, [""; 0]);
    catalog.revoke_token("revoked", &author()).await.unwrap();
    take(catalog, "revoked", 4).await.unwrap();
    assert_eq!(end(5).await, ["parts-expires"], "what a request has taken waits for its end");
    assert_eq!(end(14).await, ["parts-revoked"]);
    assert_eq!(end(999).await, [""; 0]);
}

pub(super) async fn of_one_token_so_many_uploads_that_have_ended_are_known(catalog: &Catalog) {
    for (number, id) in ["a", "b", "c"].into_iter().enumerate() {
        catalog.insert_upload(&new(id), KEY, 9).await.unwrap();
        let forgotten = seconds_later(100 + number as u64);
        assert!(catalog.end_upload(id, None, now(), forgotten).await.unwrap());
        let ended = catalog.find_upload(id).await.unwrap().unwrap();
        assert_eq!(ended.upload.request, serde_json::json!({}), "nothing of it is kept");
    }
    let other = NewUpload { created_by: "other".into(), ..new("d") };
    catalog.insert_upload(&other, KEY, 9).await.unwrap();
    catalog.end_upload("d", None, now(), seconds_later(1)).await.unwrap();
    catalog.insert_upload(&new("open"), KEY, 9).await.unwrap();
    assert_eq!(catalog.forget_ended_uploads(now(), 3).await.unwrap(), 0);
    assert_eq!(catalog.forget_ended_uploads(now(), 1).await.unwrap(), 2);
    for (id, is_known) in [("a", false), ("b", false), ("c", true), ("d", true), ("open", true)] {
        assert_eq!(catalog.find_upload(id).await.unwrap().is_some(), is_known, "{id}");
    }
}

pub(super) async fn an_open_upload_is_found_by_what_it_began_with(catalog: &Catalog) {
    catalog.insert_upload(&new("a"), KEY, 9).await.unwrap();
    let find = async |by: &str, length, name: &str, at| {
        let request = serde_json::json!({ "name": name });
        let like = (&new("a").path, length);
        let found = catalog.find_open_upload(by, like, &request, seconds_later(at)).await;
        found.unwrap().map(|found| found.upload.id)
    };
    assert_eq!(find("token", 1000, "gateway", 0).await.as_deref(), Some("a"));
    for (by, length, name, at) in [
        ("other", 1000, "gateway", 0),
        ("token", 1001, "gateway", 0),
        ("token", 1000, "other", 0),
        ("token", 1000, "gateway", 1000),
    ] {
        assert_eq!(find(by, length, name, at).await, None);
    }
}
