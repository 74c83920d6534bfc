//! Jobs, and whose they are.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{author, seconds_later};
use crate::catalog::{
    Catalog, Holder, InsertedJob, JobEnd, JobLease, JobProgress, JobRecord, JobState,
};

pub(super) async fn insert(catalog: &Catalog, id: &str) -> JobRecord {
    ask(catalog, id, "fsck", json!({ "for": id })).await.0
}

/// Adds a job, and says whether it is new.
async fn ask(catalog: &Catalog, id: &str, kind: &str, parameters: Value) -> (JobRecord, bool) {
    match catalog.insert_job(id, kind, &parameters, None, &author()).await.unwrap() {
        InsertedJob::New(job) => (job, true),
        InsertedJob::Same(job) | InsertedJob::InTheWay(job) => (job, false),
    }
}

/// Takes a job at a time, for a minute.
async fn take(catalog: &Catalog, owner: &str, at: u64) -> Option<JobRecord> {
    let (now, lease_until) = (seconds_later(at), seconds_later(at + 60));
    catalog.take_job(Holder { owner, now, lease_until }).await.unwrap()
}

async fn save(catalog: &Catalog, job: &JobRecord, checkpoint: u64, until: u64) -> JobLease {
    let progress = JobProgress { phase: "counts".into(), done: checkpoint, total: 10 };
    let until = seconds_later(until);
    catalog.save_job(&job.id, job.run, &json!(checkpoint), &progress, until).await.unwrap()
}

async fn find(catalog: &Catalog, id: &str) -> JobRecord {
    catalog.find_job(id).await.unwrap().unwrap()
}

pub(super) async fn a_job_is_taken_by_one_of_many(catalog: &Catalog) {
    for id in ["1", "2", "3"] {
        insert(catalog, id).await;
    }
    let owners: Vec<String> = (0..12).map(|number| format!("server-{number}")).collect();
    let taken = join_all(owners.iter().map(|owner| take(catalog, owner, 0))).await;
    let mut taken: Vec<String> = taken.into_iter().flatten().map(|job| job.id).collect();
    taken.sort();
    assert_eq!(taken, ["1", "2", "3"]);
    assert_eq!(find(catalog, "1").await.state, JobState::Running);
}

pub(super) async fn a_job_is_taken_over_when_its_lease_has_ended(catalog: &Catalog) {
    insert(catalog, "1").await;
    let first = take(catalog, "a", 0).await.unwrap();
    assert_eq!((first.checkpoint.clone(), first.run), (Value::Null, 1));
    assert_eq!(save(catalog, &first, 4, 100).await, JobLease::Kept);
    assert_eq!(take(catalog, "b", 99).await, None);
    let second = take(catalog, "b", 101).await.unwrap();
    assert_eq!((second.checkpoint, second.run), (json!(4), 2));
    assert_eq!(second.progress.done, 4);
    assert_eq!(second.owner.as_deref(), Some("b"));
}

pub(super) async fn a_run_that_has_lost_its_job_changes_nothing(catalog: &Catalog) {
    insert(catalog, "1").await;
    let first = take(catalog, "a", 0).await.unwrap();
    let second = take(catalog, "a", 61).await.unwrap(); // also if it is the same server's
    assert_eq!(save(catalog, &second, 5, 200).await, JobLease::Kept);
    assert_eq!(save(catalog, &first, 1, 999).await, JobLease::Lost);
    let kept = catalog.keep_job("1", first.run, seconds_later(999)).await.unwrap();
    assert_eq!(kept, JobLease::Lost);
    let end = JobEnd::Done(json!({}));
    assert!(!catalog.end_job("1", first.run, &end, seconds_later(62)).await.unwrap());
    assert_eq!(find(catalog, "1").await.checkpoint, json!(5));
    assert!(catalog.end_job("1", second.run, &end, seconds_later(63)).await.unwrap());
    assert!(!catalog.end_job("1", second.run, &end, seconds_later(64)).await.unwrap());
    let ended = find(catalog, "1").await;
    assert_eq!((ended.state, ended.result), (JobState::Done, Some(json!({}))));
    assert_eq!(take(catalog, "a", 9999).await, None);
}

pub(super) async fn a_server_gets_its_own_jobs_back_at_once(catalog: &Catalog) {
    insert(catalog, "1").await;
    insert(catalog, "2").await;
    let [first, second] =
        [take(catalog, "a", 0).await.unwrap(), take(catalog, "b", 0).await.unwrap()];
    assert_eq!(catalog.release_jobs("a").await.unwrap(), 1);
    let again = take(catalog, "a", 1).await.unwrap();
    assert_eq!((again.id, again.run), (first.id, 2));
    assert_eq!(take(catalog, "a", 1).await, None, "the other one is another server's");
    assert_eq!(find(catalog, &second.id).await.owner.as_deref(), Some("b"));
}

pub(super) async fn a_cancelled_job_ends_at_once_if_it_waits_and_soon_if_it_runs(
    catalog: &Catalog,
) {
    insert(catalog, "1").await;
    insert(catalog, "2").await;
    let running = take(catalog, "a", 0).await.unwrap();
    for id in ["1", "2"] {
        assert!(catalog.cancel_job(id, &author()).await.unwrap());
        assert!(!catalog.cancel_job(id, &author()).await.unwrap());
    }
    assert_eq!(find(catalog, "2").await.state, JobState::Cancelled);
    assert_eq!(find(catalog, "1").await.state, JobState::Running);
    assert_eq!(take(catalog, "a", 1).await, None);
    assert_eq!(save(catalog, &running, 1, 100).await, JobLease::Cancelled);
    let now = seconds_later(2);
    assert!(catalog.end_job("1", running.run, &JobEnd::Cancelled, now).await.unwrap());
    let ended = find(catalog, "1").await;
    assert_eq!((ended.state, ended.ended_at), (JobState::Cancelled, Some(now)));
}

pub(super) async fn jobs_that_do_the_same_are_one_until_it_ends(catalog: &Catalog) {
    let ask = async |id: &str, kind: &str| {
        let (job, is_new) = ask(catalog, id, kind, json!({})).await;
        (job.id, is_new)
    };
    assert_eq!(ask("1", "fsck").await, ("1".to_owned(), true));
    assert_eq!(ask("2", "fsck").await, ("1".to_owned(), false));
    assert_eq!(ask("3", "other").await, ("3".to_owned(), true));
    let taken = take(catalog, "a", 0).await.unwrap();
    assert_eq!(ask("4", "fsck").await, ("1".to_owned(), false), "it runs");
    let failed = JobEnd::Failed("no reason".into());
    assert!(catalog.end_job("1", taken.run, &failed, seconds_later(1)).await.unwrap());
    assert_eq!(ask("5", "fsck").await, ("5".to_owned(), true));
    let listed = catalog.list_jobs("", 10).await.unwrap().items;
    assert_eq!(listed.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["5", "3", "1"]);
    assert_eq!(listed[2].error.as_deref(), Some("no reason"));
    assert_eq!(catalog.list_jobs("5", 1).await.unwrap().items[0].id, "3");
    assert_eq!(take(catalog, "a", 1).await.unwrap().id, "3");
    assert_eq!(take(catalog, "a", 1).await.unwrap().id, "5");
    assert!(catalog.cancel_job("5", &author()).await.unwrap());
    assert_eq!(
        ask("6", "fsck").await,
        ("6".to_owned(), true),
        "the one that stops does it no more"
    );
    assert_eq!(ask("7", "fsck").await, ("6".to_owned(), false));
}

pub(super) async fn a_sole_job_is_made_beside_none_of_its_kind_for_the_same(catalog: &Catalog) {
    let ask = async |id: &str, kind: &str, image: &str, to: &str| {
        let parameters = json!({ "image": image, "to": to });
        let asked = catalog.insert_job(id, kind, &parameters, Some("image"), &author()).await;
        match asked.unwrap() {
            InsertedJob::New(job) => ("new", job.id),
            InsertedJob::Same(job) => ("same", job.id),
            InsertedJob::InTheWay(job) => ("in the way", job.id),
        }
    };
    assert_eq!(ask("1", "reseal", "a", "b").await, ("new", "1".into()));
    assert_eq!(ask("2", "reseal", "a", "b").await, ("same", "1".into()));
    assert_eq!(ask("3", "reseal", "a", "c").await, ("in the way", "1".into()));
    assert_eq!(ask("4", "reseal", "other", "c").await, ("new", "4".into()));
    assert_eq!(ask("5", "another", "a", "c").await, ("new", "5".into()));
    let taken = take(catalog, "a", 0).await.unwrap();
    assert!(catalog.cancel_job("1", &author()).await.unwrap());
    assert_eq!(ask("6", "reseal", "a", "c").await, ("in the way", "1".into()), "it is stopping");
    assert!(catalog.end_job("1", taken.run, &JobEnd::Cancelled, seconds_later(1)).await.unwrap());
    assert_eq!(ask("7", "reseal", "a", "c").await, ("new", "7".into()));
}

pub(super) async fn a_job_that_gets_on_has_not_stalled(catalog: &Catalog) {
    insert(catalog, "1").await;
    for round in 1..=3 {
        let taken = take(catalog, "a", 100 * round).await.unwrap();
        assert_eq!(taken.stalled, round);
    }
    let taken = take(catalog, "a", 400).await.unwrap();
    assert_eq!(save(catalog, &taken, 1, 401).await, JobLease::Kept);
    assert_eq!(take(catalog, "a", 500).await.unwrap().stalled, 1);
}
