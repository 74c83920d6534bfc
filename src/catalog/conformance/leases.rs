//! What one server at a time does.

use futures_util::future::join_all;

use super::seconds_later;
use crate::catalog::{Catalog, Holder};

async fn take(catalog: &Catalog, owner: &str, at: u64) -> Option<u64> {
    let holder = Holder { owner, now: seconds_later(at), lease_until: seconds_later(at + 10) };
    catalog.take_lease("publish", holder).await.unwrap()
}

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
