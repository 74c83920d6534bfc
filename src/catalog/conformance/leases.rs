//! What one server at a time does.

use futures_util::future::join_all;

use super::{now, seconds_later};
use crate::catalog::{Catalog, Holder};

async fn take(catalog: &Catalog, owner: &str, at: u64) -> Option<u64> {
    let holder = Holder { owner, now: seconds_later(at), lease_until: seconds_later(at + 10) };
    catalog.take_lease("publish", holder).await.unwrap()
}

/// A lease of a server that lives, by a clock that had jumped or not.
fn until(owner: &str, lease_until: u64) -> Holder<'_> {
    Holder { owner, now: now(), lease_until: seconds_later(lease_until) }
}

/// For a moment, and for one that its clock took for that.
const LEASES: [(&str, u64); 2] = [("held", 50), ("jumped", 30 * 24 * 3600)];

async fn holder(catalog: &Catalog, at: u64) -> Option<String> {
    catalog.find_lease_holder("publish", seconds_later(at)).await.unwrap()
}

pub(super) async fn a_lease_is_one_server_s_until_it_lets_go_or_time_is_over(catalog: &Catalog) {
    assert_eq!(holder(catalog, 0).await, None);
    let owners: Vec<String> = (0..8).map(|number| format!("server-{number}")).collect();
    let runs = join_all(owners.iter().map(|owner| take(catalog, owner, 0))).await;
    assert_eq!(runs.iter().flatten().collect::<Vec<_>>(), [&1], "{runs:?}");
    let first = holder(catalog, 9).await.unwrap();
    assert_eq!(take(catalog, "b", 9).await, None);
    assert!(catalog.keep_lease("publish", 1, seconds_later(19)).await.unwrap());
    assert_eq!(take(catalog, "b", 12).await, None, "{first} has kept it");
    assert_eq!(take(catalog, "b", 19).await, Some(2));
    assert!(!catalog.keep_lease("publish", 1, seconds_later(60)).await.unwrap());
    catalog.end_lease("publish", 1).await.unwrap();
    assert_eq!(holder(catalog, 20).await.as_deref(), Some("b"), "what is lost is nobody's to end");
    assert_eq!(take(catalog, "b", 20).await, Some(3), "who could not let go need not wait");
    catalog.end_lease("publish", 3).await.unwrap();
    assert_eq!(take(catalog, "a", 20).await, Some(4));
}

pub(super) async fn a_server_that_starts_again_lets_go_of_what_it_had(catalog: &Catalog) {
    take(catalog, "a", 0).await.unwrap();
    for owner in ["a", "b"] {
        let (now, lease_until) = (seconds_later(0), seconds_later(30));
        let there = Holder { owner, now, lease_until };
        catalog.take_lease(&format!("server/{owner}"), there).await.unwrap().unwrap();
    }
    let there = async || catalog.list_lease_holders("server/", seconds_later(1)).await.unwrap();
    assert_eq!(there().await, ["a", "b"]);
    catalog.release_leases("a").await.unwrap();
    assert_eq!((holder(catalog, 1).await, there().await), (None, vec!["b".to_owned()]));
}

pub(super) async fn a_lease_by_a_clock_that_had_jumped_is_over(catalog: &Catalog) {
    let month = 30 * 24 * 3600;
    let run = take(catalog, "a", 0).await.unwrap();
    assert!(catalog.keep_lease("publish", run, seconds_later(month + 10)).await.unwrap());
    assert_eq!(holder(catalog, 3).await, None, "it was killed, and no lease is that long");
    assert_eq!(take(catalog, "b", 3).await, Some(run + 1));
    assert_eq!(holder(catalog, 4).await.as_deref(), Some("b"));
    assert_eq!(take(catalog, "a", 4).await, None);
    assert!(!catalog.keep_lease("publish", run, seconds_later(month)).await.unwrap());
}

pub(super) async fn jobs_and_uploads_of_a_clock_that_had_jumped_are_free(catalog: &Catalog) {
    for (id, lease_until) in LEASES {
        super::jobs::insert(catalog, id).await;
        let job = catalog.take_job(until("a", 60)).await.unwrap().unwrap();
        assert_eq!(job.id, id);
        catalog.keep_job(id, job.run, seconds_later(lease_until)).await.unwrap();
        assert!(catalog.insert_upload(&super::uploads::new(id), "escrow", 9).await.unwrap());
        catalog.take_upload(id, until("a", lease_until)).await.unwrap().unwrap();
        let taken = catalog.find_upload(id).await.unwrap().unwrap().is_taken(seconds_later(3));
        assert_eq!(taken, id == "held");
    }
    let b = Holder { owner: "b", now: seconds_later(3), lease_until: seconds_later(63) };
    assert_eq!(catalog.take_job(b).await.unwrap().unwrap().id, "jumped");
    assert_eq!(catalog.take_job(b).await.unwrap(), None);
    assert_eq!(catalog.take_upload("held", b).await.unwrap(), None);
    let run = catalog.take_upload("jumped", b).await.unwrap().unwrap().run;
    assert_eq!(run, 2, "who had it has lost it");

    let (ahead, expired) = (seconds_later(LEASES[1].1), seconds_later(1000));
    assert!(catalog.keep_upload(("jumped", run), ahead, expired).await.unwrap());
    let parts = ["parts-held", "parts-jumped"];
    let mut found = catalog.expired_upload_parts(expired, 9).await.unwrap();
    found.sort();
    assert_eq!(found, parts, "neither lease holds");
    let mut ended = catalog.end_expired_uploads(expired, seconds_later(2000), 9).await.unwrap();
    ended.sort();
    assert_eq!(ended, parts);
    assert_eq!(catalog.expired_upload_parts(expired, 9).await.unwrap(), [""; 0]);
}

pub(super) async fn blobs_that_a_clock_that_had_jumped_announced_are_abandoned(catalog: &Catalog) {
    let announce = async || {
        for (name, lease_until) in LEASES {
            catalog.announce_blobs(&[name.to_owned()], until("a", lease_until)).await.unwrap();
        }
    };
    let b = Holder { owner: "b", now: seconds_later(3), lease_until: seconds_later(63) };
    announce().await;
    assert_eq!(catalog.take_expired_blobs(b).await.unwrap(), ["jumped"]);
    announce().await;
    assert_eq!(catalog.take_abandoned_blobs(b).await.unwrap(), ["jumped"]);
}
