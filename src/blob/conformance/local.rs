//! In a folder.

use std::time::Duration;

use bytes::Bytes;

use super::{digests, keeps_the_contract, key, record_at_once, secret};
use crate::blob::{BlobStore, Error, LocalBlobStore};

#[tokio::test]
async fn local_store_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalBlobStore::open(dir.path()).unwrap();
    keeps_the_contract(&store, 500).await;
}

#[tokio::test]
async fn local_store_keeps_parts_over_a_restart_and_writes_none_twice() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalBlobStore::open(dir.path()).unwrap();
    let mut parts = store.begin_parts(&secret(1)).await.unwrap();
    store.append_part(&mut parts, 0, vec!["first ".into()], 0).await.unwrap();
    let file = dir.path().join("staging/parts").join(parts.as_str());
    let written = || std::fs::metadata(&file).unwrap().modified().unwrap();
    let store = LocalBlobStore::open(dir.path()).unwrap();
    assert_eq!(store.sweep().await.unwrap(), 0);
    let before = written();
    store.append_part(&mut parts, 0, vec!["fir".into(), "st ".into()], 0).await.unwrap();
    assert_eq!(written(), before, "the same bytes are not written again");
    store.append_part(&mut parts, 6, vec!["second".into()], 0).await.unwrap();
    let staged = store.finish_parts(&parts, 12).await.unwrap();
    store.promote_all(vec![(staged, key("parts"))]).await.unwrap();
    let before = written();
    store.append_part(&mut parts, 6, vec!["second".into()], 0).await.unwrap();
    assert_eq!(written(), before, "nor if they are in the repository by now");
    assert!(matches!(
        store.append_part(&mut parts, 12, vec!["x".into()], u64::MAX).await,
        Err(Error::Full { .. })
    ));
}

#[tokio::test]
async fn local_store_keeps_the_ledgers_of_parts_that_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalBlobStore::open(dir.path()).unwrap();
    let wanted = store.begin_parts(&secret(1)).await.unwrap();
    let other = store.begin_parts(&secret(2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let kept = std::slice::from_ref(&wanted);
    assert_eq!(store.sweep_abandoned(kept, Duration::ZERO).await.unwrap(), 2);
    assert_eq!(store.parts_secret(&wanted).await.unwrap(), Some(secret(1)));
    assert_eq!(store.parts_secret(&other).await.unwrap(), None);
}

#[tokio::test]
async fn local_store_takes_up_what_a_power_cut_left_of_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalBlobStore::open(dir.path()).unwrap();
    let parts = store.begin_parts(&secret(1)).await.unwrap();
    store.record_blocks(&parts, 0, &digests(&[1])).await.unwrap();
    let ledger = dir.path().join(format!("staging/parts/{}.ledger", parts.as_str()));
    let mut bytes = std::fs::read(&ledger).unwrap();
    bytes.extend([0; 40]); // room that was made, and nothing in it
    std::fs::write(&ledger, &bytes).unwrap();
    let store = LocalBlobStore::open(dir.path()).unwrap();
    assert_eq!(store.sweep().await.unwrap(), 0);
    let recorded = store.record_blocks(&parts, 0, &digests(&[1, 2, 3])).await.unwrap();
    assert_eq!(recorded, digests(&[1, 2, 3]));
    let recorded = store.record_blocks(&parts, 1, &digests(&[2, 7])).await.unwrap();
    assert_eq!(recorded, digests(&[2, 3]));
}

#[tokio::test]
async fn local_store_serves_both_names_of_a_target_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalBlobStore::open(dir.path()).unwrap();
    let key = key("gw/4.2.0/gateway.bin");
    store.put(&key, Bytes::from_static(b"sealed")).await.unwrap();
    for name in [key.name(), key.alias().unwrap()] {
        assert_eq!(std::fs::read(store.repository_dir().join(name)).unwrap(), b"sealed");
    }
    store.delete(&key).await.unwrap();
    assert_eq!(
        std::fs::read_dir(store.repository_dir()).unwrap().count(),
        0,
        "empty folders go too"
    );
}

#[tokio::test]
async fn local_store_sweeps_what_a_crash_left() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalBlobStore::open(dir.path()).unwrap();
    std::fs::write(dir.path().join("staging/4711-0"), "half of").unwrap(); // a process that was killed drops nothing
    let running = store.begin(0).unwrap();
    assert_eq!(store.sweep().await.unwrap(), 1);
    assert_eq!(store.sweep().await.unwrap(), 0);
    assert!(running.finish().is_ok(), "what is still written to stays");
}

#[tokio::test]
async fn local_store_has_one_who_records_first_and_all_see_who() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalBlobStore::open(dir.path()).unwrap();
    let (all, seen) = record_at_once(&store).await;
    let first = all.iter().find(|digests| seen.contains(digests)).unwrap();
    let losers = seen.iter().filter(|seen| *seen != first);
    assert_eq!(losers.clone().count(), 7, "{seen:?}");
    losers.for_each(|loser| assert_eq!(loser[..], first[..1]));
}
