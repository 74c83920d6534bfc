//! Each sentence of the [`BlobStore`] contract, on every implementation.

mod local;
#[cfg(feature = "s3")]
mod s3;

use bytes::Bytes;
use futures_util::TryStreamExt;

use super::{BlobKey, BlobStore, Error, Names, Parts, PartsSecret, SecondName};
use crate::model::{RoleName, Sha256Digest};

/// All of it, on a store that is empty; `many` is what it can be asked to take at once in a test.
async fn keeps_the_contract(store: &dyn BlobStore, many: usize) {
    a_blob_is_visible_whole_or_not_at_all(store).await;
    the_same_bytes_can_be_put_again_and_others_cannot(store).await;
    the_timestamp_is_replaced(store).await;
    several_are_stored_together(store).await;
    very_many_are_stored_together(store, many).await;
    dropped_uploads_leave_nothing(store).await;
    deleting_is_idempotent_and_keeps_open_blobs(store).await;
    ranges_are_half_open_and_a_short_blob_fails(store).await;
    all_bytes_are_read_by_a_thread_that_blocks(store).await;
    both_names_stand_for_the_same_bytes(store).await;
    a_damaged_blob_is_set_aside(store).await;
    metadata_and_all_else_are_listed(store).await;
    parts_stay_until_they_are_abandoned(store).await;
    parts_that_are_wanted_are_not_swept(store).await;
    what_is_recorded_of_a_block_first_stays(store).await;
    the_secret_of_parts_goes_with_them(store).await;
    assert_eq!(store.sweep().await.unwrap(), 0, "nothing is left of what was staged");
}

fn key(path: &str) -> BlobKey {
    BlobKey::target(path, Sha256Digest::from_bytes([0x11; 32]))
}

async fn content(store: &dyn BlobStore, key: &BlobKey) -> Vec<u8> {
    store.open(key).await.unwrap().read_all(u64::MAX).await.unwrap().to_vec()
}

async fn a_blob_is_visible_whole_or_not_at_all(store: &dyn BlobStore) {
    let key = key("whole");
    let mut upload = store.begin(0).unwrap();
    upload.write(b"first ").unwrap();
    assert!(matches!(store.open(&key).await, Err(Error::NotFound(_))));
    upload.write(b"second").unwrap();
    let staged = upload.finish().unwrap();
    assert!(matches!(store.open(&key).await, Err(Error::NotFound(_))));
    store.promote_all(vec![(staged, key.clone())]).await.unwrap();
    assert_eq!(content(store, &key).await, b"first second");
    let again = store.stage_all(vec![Bytes::from_static(b"other")]).await.unwrap().remove(0);
    assert!(matches!(
        store.promote_all(vec![(again, key.clone())]).await,
        Err(Error::AlreadyExists(_))
    ));
    assert_eq!(content(store, &key).await, b"first second");
}

async fn the_same_bytes_can_be_put_again_and_others_cannot(store: &dyn BlobStore) {
    let key = BlobKey::Metadata { version: 7, role: RoleName::Snapshot };
    store.put(&key, Bytes::from_static(b"one")).await.unwrap();
    store.put(&key, Bytes::from_static(b"one")).await.unwrap();
    assert!(matches!(
        store.put(&key, Bytes::from_static(b"two")).await,
        Err(Error::AlreadyExists(_))
    ));
    assert_eq!(content(store, &key).await, b"one");
}

async fn the_timestamp_is_replaced(store: &dyn BlobStore) {
    for text in ["one", "two"] {
        store.replace(&BlobKey::Timestamp, Bytes::from(text)).await.unwrap();
        assert_eq!(content(store, &BlobKey::Timestamp).await, text.as_bytes());
    }
}

async fn several_are_stored_together(store: &dyn BlobStore) {
    let keys = [key("together/a"), key("together/b/c"), BlobKey::Timestamp];
    let files = ["a", "c", "three"].map(Bytes::from);
    let staged = store.stage_all(files.to_vec()).await.unwrap();
    store.promote_all(staged.into_iter().zip(keys.clone()).collect()).await.unwrap();
    for (key, file) in keys.iter().zip(&files) {
        assert_eq!(content(store, key).await, *file, "{key}");
    }
    let before = store.list().await.unwrap().len();
    drop(store.stage_all(files.to_vec()).await.unwrap());
    assert_eq!(store.list().await.unwrap().len(), before);
}

async fn very_many_are_stored_together(store: &dyn BlobStore, many: usize) {
    let keys: Vec<_> = (0..many).map(|number| key(&format!("many/{number}/a.bin"))).collect();
    let bytes = |key: &BlobKey| Bytes::from(key.name());
    let staged = store.stage_all(keys.iter().map(bytes).collect()).await.unwrap();
    store.promote_all(staged.into_iter().zip(keys.iter().cloned()).collect()).await.unwrap();
    for key in &keys {
        assert_eq!(content(store, key).await, bytes(key));
        store.delete(key).await.unwrap();
    }
}

async fn dropped_uploads_leave_nothing(store: &dyn BlobStore) {
    let before = store.list().await.unwrap().len();
    let mut upload = store.begin(0).unwrap();
    upload.write(b"cut").unwrap();
    drop(upload);
    drop(store.begin(0).unwrap().finish().unwrap());
    assert_eq!(store.list().await.unwrap().len(), before);
}

async fn deleting_is_idempotent_and_keeps_open_blobs(store: &dyn BlobStore) {
    let key = key("folder/gone");
    store.put(&key, Bytes::from_static(b"still here")).await.unwrap();
    let open = store.open(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    assert!(matches!(store.open(&key).await, Err(Error::NotFound(_))));
    assert_eq!(open.read_all(100).await.unwrap(), "still here");
}

async fn ranges_are_half_open_and_a_short_blob_fails(store: &dyn BlobStore) {
    let key = key("ranges");
    let bytes: Vec<u8> = (0..600_000_u32).map(|i| i as u8).collect();
    store.put(&key, bytes.clone().into()).await.unwrap();
    let blob = store.open(&key).await.unwrap();
    let part: Vec<Bytes> = blob.read(5..500_005).try_collect().await.unwrap();
    assert_eq!(part.concat(), bytes[5..500_005]);
    assert!(blob.read(599_999..600_001).try_collect::<Vec<_>>().await.is_err());
}

async fn all_bytes_are_read_by_a_thread_that_blocks(store: &dyn BlobStore) {
    let key = key("read");
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
    store.put(&key, bytes.clone().into()).await.unwrap();
    let mut reader = store.open(&key).await.unwrap().reader();
    let read = tokio::task::spawn_blocking(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).map(|_| read)
    });
    assert_eq!(read.await.unwrap().unwrap(), bytes);
}

async fn both_names_stand_for_the_same_bytes(store: &dyn BlobStore) {
    let alone = key("alone.bin");
    store.put(&alone, "sealed".into()).await.unwrap();
    assert_eq!(store.second_name(&alone).await.unwrap(), SecondName::Same);
    assert!(store.open_alias(&alone).await.is_none());
    let key = key("gw/4.2.0/two-names.bin");
    store.put(&key, "sealed".into()).await.unwrap();
    for _ in 0..2 {
        let alias = store.open_alias(&key).await.unwrap().unwrap();
        assert_eq!(alias.read_all(100).await.unwrap(), "sealed");
        assert_ne!(store.second_name(&key).await.unwrap(), SecondName::Apart);
        for names in [Names::FromName, Names::FromAlias] {
            store.link_again(&key, names).await.unwrap();
        }
    }
    assert_eq!(content(store, &key).await, b"sealed");
    store.delete(&key).await.unwrap();
    let alias = store.open_alias(&key).await.unwrap();
    assert!(matches!(alias, Err(Error::NotFound(_))), "both names are gone");
}

async fn a_damaged_blob_is_set_aside(store: &dyn BlobStore) {
    let key = key("gw/damaged.bin");
    store.put(&key, "damaged".into()).await.unwrap();
    let place = store.quarantine(&key).await.unwrap();
    assert!(place.contains("quarantine"), "{place}");
    assert!(matches!(store.open(&key).await, Err(Error::NotFound(_))));
    let listed = store.list().await.unwrap();
    assert!(!listed.iter().any(|(name, _)| name.contains("damaged")), "{listed:?}");
}

async fn metadata_and_all_else_are_listed(store: &dyn BlobStore) {
    let root = BlobKey::Metadata { version: 1, role: RoleName::Root };
    store.put(&root, "root".into()).await.unwrap();
    let metadata = store.list_metadata().await.unwrap();
    assert!(metadata.contains(&root) && metadata.contains(&BlobKey::Timestamp), "{metadata:?}");
    assert!(!metadata.iter().any(|key| matches!(key, BlobKey::Target { .. })), "{metadata:?}");
    let target = key("gw/listed.bin");
    store.put(&target, "sealed".into()).await.unwrap();
    let all = store.list().await.unwrap();
    for name in [root.name(), target.name(), target.alias().unwrap()] {
        let found = all.iter().find(|(found, _)| *found == name);
        assert!(found.is_some_and(|(_, key)| key.is_some()), "{name}");
    }
}

async fn parts_stay_until_they_are_abandoned(store: &dyn BlobStore) {
    let mut parts = store.begin_parts(&secret(1)).await.unwrap();
    assert_eq!(store.parts_length(&parts).await.unwrap(), Some(0));
    store.append_part(&mut parts, 0, vec!["one".into(), "two".into()], 0).await.unwrap();
    let gap = store.append_part(&mut parts, 7, vec!["x".into()], 0).await;
    assert!(matches!(gap, Err(Error::NotFound(_))));
    store.append_part(&mut parts, 3, vec!["TWO".into()], 0).await.unwrap();
    store.append_part(&mut parts, 6, vec!["three".into()], 0).await.unwrap();
    assert_eq!(store.parts_length(&parts).await.unwrap(), Some(11));
    assert!(matches!(store.finish_parts(&parts, 12).await, Err(Error::NotFound(_))));
    drop(store.finish_parts(&parts, 11).await.unwrap());
    let kept = Parts::from_text(parts.as_str().to_owned());
    let staged = store.finish_parts(&kept, 11).await.unwrap();
    let key = key("in-parts");
    store.promote_all(vec![(staged, key.clone())]).await.unwrap();
    store.abandon_parts(&parts).await.unwrap();
    store.abandon_parts(&parts).await.unwrap();
    assert_eq!(store.parts_length(&parts).await.unwrap(), None);
    let late = store.append_part(&mut parts, 0, vec!["x".into()], 0).await;
    assert!(matches!(late, Err(Error::NotFound(_))), "what was not begun here is not gone on with");
    assert_eq!(content(store, &key).await, b"oneTWOthree");
}

async fn parts_that_are_wanted_are_not_swept(store: &dyn BlobStore) {
    let mut wanted = store.begin_parts(&secret(1)).await.unwrap();
    let mut other = store.begin_parts(&secret(1)).await.unwrap();
    for parts in [&mut wanted, &mut other] {
        store.append_part(parts, 0, vec!["part".into()], 0).await.unwrap();
    }
    assert_eq!(store.sweep_parts(std::slice::from_ref(&wanted)).await.unwrap(), 1);
    assert_eq!(store.parts_length(&wanted).await.unwrap(), Some(4));
    assert_eq!(store.parts_length(&other).await.unwrap(), None);
    assert_eq!(store.sweep_parts(&[]).await.unwrap(), 1);
}

fn secret(byte: u8) -> PartsSecret {
    PartsSecret::from_bytes(&[byte; 32])
}

fn digests(bytes: &[u8]) -> Vec<Sha256Digest> {
    bytes.iter().map(|byte| Sha256Digest::from_bytes([*byte; 32])).collect()
}

async fn what_is_recorded_of_a_block_first_stays(store: &dyn BlobStore) {
    let parts = store.begin_parts(&secret(1)).await.unwrap();
    let other = store.begin_parts(&secret(1)).await.unwrap();
    let record = async |first, bytes: &[u8]| {
        store.record_blocks(&parts, first, &digests(bytes)).await.unwrap()
    };
    assert_eq!(record(0, &[1, 2]).await, digests(&[1, 2]));
    assert_eq!(record(1, &[2, 3]).await, digests(&[2, 3]));
    assert_eq!(record(1, &[9, 9, 9]).await, digests(&[2]), "it ends with what is another one");
    assert_eq!(record(1, &[2, 9, 9]).await, digests(&[2, 3]));
    assert_eq!(record(3, &[4]).await, digests(&[4]), "and behind that nothing is recorded");
    assert_eq!(record(100, &[6]).await, digests(&[6]));
    assert_eq!(record(0, &[1, 2, 3, 4, 5]).await, digests(&[1, 2, 3, 4, 5]));
    let others = store.record_blocks(&other, 0, &digests(&[8])).await.unwrap();
    assert_eq!(others, digests(&[8]), "each has its own");
    for parts in [&parts, &other] {
        store.abandon_parts(parts).await.unwrap();
        let late = store.record_blocks(parts, 0, &digests(&[1])).await;
        assert!(matches!(late, Err(Error::NotFound(_))));
    }
}

/// Of those who come at once.
async fn record_at_once(store: &dyn BlobStore) -> (Vec<Vec<Sha256Digest>>, Vec<Vec<Sha256Digest>>) {
    let parts = store.begin_parts(&secret(1)).await.unwrap();
    let all: Vec<_> = (1..=8).map(|byte| digests(&[byte; 3])).collect();
    let at_once = all.iter().map(|digests| store.record_blocks(&parts, 200, digests));
    let seen = futures_util::future::try_join_all(at_once).await.unwrap();
    store.abandon_parts(&parts).await.unwrap();
    (all, seen)
}

async fn the_secret_of_parts_goes_with_them(store: &dyn BlobStore) {
    let [one, two, swept] = [1, 2, 3].map(secret);
    let parts = store.begin_parts(&one).await.unwrap();
    let other = store.begin_parts(&two).await.unwrap();
    assert_eq!(store.parts_secret(&parts).await.unwrap(), Some(one));
    assert_eq!(store.parts_secret(&other).await.unwrap(), Some(two.clone()));
    store.abandon_parts(&parts).await.unwrap();
    assert_eq!(store.parts_secret(&parts).await.unwrap(), None);
    let parts = store.begin_parts(&swept).await.unwrap();
    store.sweep_parts(std::slice::from_ref(&other)).await.unwrap();
    assert_eq!(store.parts_secret(&parts).await.unwrap(), None);
    assert_eq!(store.parts_secret(&other).await.unwrap(), Some(two));
    store.abandon_parts(&other).await.unwrap();
    let unknown = Parts::from_text("../../catalog.sqlite".to_owned());
    assert_eq!(store.parts_secret(&unknown).await.unwrap(), None);
}
