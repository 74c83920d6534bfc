//! Versions, publications and roots, and what is recorded once.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::{author, digest, now, seconds_later};
use crate::catalog::{
    AuditFilter, AuditKind, Catalog, DirectorRoot, Error, Moments, PublishedRole,
    PublishedTimestamp, ReservedVersion, SignedUpon, SkippedTo, StatusWriter,
};
use crate::model::RoleName;

fn names(names: &[&str]) -> Vec<RoleName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

async fn reserve(catalog: &Catalog, name: &str) -> ReservedVersion {
    catalog.reserve_versions(&names(&[name])).await.unwrap().remove(0)
}

fn published(reserved: ReservedVersion) -> PublishedRole {
    PublishedRole {
        reserved,
        length: 7,
        sha256: digest(7),
        expires_at: seconds_later(60),
        body: None,
        staging: None,
    }
}

async fn publish(catalog: &Catalog, roles: &[PublishedRole]) -> Result<(), Error> {
    catalog.record_publication(roles, None, &Moments::default()).await
}

async fn version(catalog: &Catalog, name: &str) -> u64 {
    catalog.find_role(&name.parse().unwrap()).await.unwrap().unwrap().version
}

pub(super) async fn no_version_is_handed_out_twice(catalog: &Catalog) {
    catalog.ensure_roles(&names(&["snapshot"])).await.unwrap();
    let reserved = join_all((0..20).map(|_| reserve(catalog, "snapshot"))).await;
    let versions: BTreeSet<u64> = reserved.iter().map(|reserved| reserved.version).collect();
    assert_eq!(versions, (1..=20).collect());
}

pub(super) async fn a_publication_that_was_overtaken_changes_nothing(catalog: &Catalog) {
    catalog.ensure_roles(&names(&["bin-0", "snapshot"])).await.unwrap();
    let bin = published(reserve(catalog, "bin-0").await);
    let first = published(reserve(catalog, "snapshot").await);
    let second = published(reserve(catalog, "snapshot").await);
    let overtaken = publish(catalog, &[bin.clone(), first]).await;
    assert!(matches!(overtaken, Err(Error::Overtaken)), "{overtaken:?}");
    assert_eq!((version(catalog, "bin-0").await, version(catalog, "snapshot").await), (0, 0));
    publish(catalog, &[bin, second]).await.unwrap();
    assert_eq!((version(catalog, "bin-0").await, version(catalog, "snapshot").await), (1, 2));
}

pub(super) async fn what_was_signed_upon_something_older_is_not_published(catalog: &Catalog) {
    catalog.ensure_roles(&names(&["bin-0", "snapshot", "timestamp"])).await.unwrap();
    catalog.insert_first_root(7, digest(1), seconds_later(60), &author()).await.unwrap();
    let read = async || SignedUpon::of(&catalog.list_roles().await.unwrap());
    let publish = async |roles: &[&str], upon| {
        let mut files = Vec::new();
        for role in roles {
            files.push(published(reserve(catalog, role).await));
        }
        let timestamp = PublishedTimestamp {
            version: 1,
            snapshot: 1,
            signed_at: now(),
            expires_at: seconds_later(60),
        };
        let moments = Moments::default();
        catalog.record_publication(&files, Some((&timestamp, upon)), &moments).await
    };
    // One that hangs has read what is published, and reserves its numbers after the other is done:
    // its snapshot would list bin-0 as it was.
    let slow = read().await;
    publish(&["bin-0", "snapshot", "timestamp"], slow).await.unwrap();
    let late = publish(&["snapshot", "timestamp"], slow).await;
    assert!(matches!(late, Err(Error::Overtaken)), "{late:?}");
    let before_the_root = read().await;
    catalog.record_root(None, 2, 8, digest(2), seconds_later(61), &author()).await.unwrap();
    let late = publish(&["snapshot", "timestamp"], before_the_root).await;
    assert!(matches!(late, Err(Error::Overtaken)), "{late:?}");
    publish(&["snapshot", "timestamp"], read().await).await.unwrap();
}

pub(super) async fn changes_after_a_reservation_still_wait(catalog: &Catalog) {
    catalog.ensure_roles(&names(&["bin-0"])).await.unwrap();
    catalog.mark_changed(&names(&["bin-0"])).await.unwrap();
    let reserved = published(reserve(catalog, "bin-0").await);
    catalog.mark_changed(&names(&["bin-0"])).await.unwrap();
    publish(catalog, &[reserved]).await.unwrap();
    assert!(catalog.find_role(&names(&["bin-0"])[0]).await.unwrap().unwrap().is_changed);
    let again = published(reserve(catalog, "bin-0").await);
    publish(catalog, &[again]).await.unwrap();
    assert!(!catalog.find_role(&names(&["bin-0"])[0]).await.unwrap().unwrap().is_changed);
}

pub(super) async fn roots_follow_each_other_without_a_gap(catalog: &Catalog) {
    catalog.insert_first_root(7, digest(1), seconds_later(60), &author()).await.unwrap();
    catalog.insert_first_root(9, digest(9), seconds_later(99), &author()).await.unwrap();
    let first = catalog.find_role(&RoleName::Root).await.unwrap().unwrap();
    assert_eq!((first.version, first.length), (1, 7), "the first one stands");
    let record = async |version| {
        catalog.record_root(None, version, 8, digest(2), seconds_later(61), &author()).await
    };
    for wrong in [1, 3] {
        assert!(matches!(record(wrong).await, Err(Error::Overtaken)), "{wrong}");
    }
    record(2).await.unwrap();
    assert!(matches!(record(2).await, Err(Error::Overtaken)));
    assert_eq!(version(catalog, "root").await, 2);
}

pub(super) async fn skipped_versions_are_above_all_that_were_seen(catalog: &Catalog) {
    catalog.ensure_roles(&names(&["snapshot", "bin-0"])).await.unwrap();
    let seen = BTreeMap::from([(RoleName::Snapshot, 50)]);
    let skipped = catalog.skip_versions(&seen, 10, 100, &author()).await.unwrap();
    assert_eq!(skipped, SkippedTo { image: 150, director: 110 });
    assert_eq!(reserve(catalog, "snapshot").await.version, 151);
    assert_eq!(reserve(catalog, "bin-0").await.version, 111);
}

pub(super) async fn the_first_value_of_an_installation_stays(catalog: &Catalog) {
    assert_eq!(catalog.find_installed("proof").await.unwrap(), None);
    catalog.insert_installed("proof", "one").await.unwrap();
    catalog.insert_installed("proof", "two").await.unwrap();
    assert_eq!(catalog.find_installed("proof").await.unwrap().as_deref(), Some("one"));
}

pub(super) async fn a_director_root_is_recorded_once(catalog: &Catalog) {
    let root = |version, body: &str| DirectorRoot {
        version,
        body: body.into(),
        expires_at: seconds_later(60),
    };
    assert_eq!(catalog.find_director_root(None).await.unwrap(), None);
    for (version, body, is_new) in [(1, "one", true), (1, "other", false), (2, "two", true)] {
        let inserted = catalog.insert_director_root(&root(version, body), &author()).await;
        assert_eq!(inserted.unwrap(), is_new);
    }
    assert_eq!(catalog.find_director_root(None).await.unwrap(), Some(root(2, "two")));
    assert_eq!(catalog.find_director_root(Some(1)).await.unwrap(), Some(root(1, "one")));
    let moments = Moments { signed: Some(now()), leap: None };
    catalog.replace_moments(&moments, &author()).await.unwrap();
    assert_eq!(catalog.find_moments().await.unwrap(), moments);
}

pub(super) async fn lost_keys_are_written_down_by_role_and_in_the_audit_log(catalog: &Catalog) {
    assert_eq!(catalog.list_lost_keys().await.unwrap(), [].into());
    let note = async |role: &str, keys: &[u8]| {
        let ids = keys.iter().map(|key| digest(*key)).collect();
        catalog.note_lost_keys(role, &ids, &author()).await.unwrap();
    };
    note("timestamp", &[1, 2]).await;
    note("director-targets", &[3]).await;
    assert_eq!(catalog.list_lost_keys().await.unwrap(), [digest(1), digest(2), digest(3)].into());
    note("timestamp", &[4]).await;
    assert_eq!(catalog.list_lost_keys().await.unwrap(), [digest(3), digest(4)].into());
    let filter = AuditFilter { kind: Some(AuditKind::RoleKeysLost), ..AuditFilter::default() };
    let log = catalog.list_audit(&filter, i64::MAX, 10).await.unwrap().items;
    let subjects: Vec<&str> = log.iter().map(|entry| entry.subject.as_str()).collect();
    assert_eq!(subjects, ["timestamp", "director-targets", "timestamp"]);
}

/// As of a database that has gone back to an older state.
pub(super) async fn numbers_that_were_handed_out_before_are_refused(catalog: &Catalog) {
    catalog.ensure_roles(&names(&["snapshot"])).await.unwrap();
    let first = reserve(catalog, "snapshot").await;
    assert_eq!(reserve(catalog, "snapshot").await.version, first.version + 1);
    let back = "UPDATE roles SET reserved = reserved - 1 WHERE name = 'snapshot'";
    sqlx::query(back).execute(&catalog.pool).await.unwrap();
    for _ in 0..2 {
        let refused = catalog.reserve_versions(&names(&["snapshot"])).await;
        assert!(matches!(refused, Err(Error::Older)), "{refused:?}");
    }
    let mut writer = StatusWriter::new(catalog.clone());
    let (_, first) = writer.apply(&[], 5).await.unwrap();
    let back = "UPDATE sequences SET value = value - 1 WHERE name = 'director'";
    sqlx::query(back).execute(&catalog.pool).await.unwrap();
    for _ in 0..2 {
        let refused = writer.apply(&[], 1).await;
        assert!(matches!(refused, Err(Error::Older)), "{refused:?}");
    }
    let mut writer = StatusWriter::new(catalog.clone()).leaving_out(1);
    assert_eq!(writer.apply(&[], 1).await.unwrap().1, first + 5);
}

pub(super) async fn numbers_are_left_out_before_the_first_alone_and_not_past_what_clients_count_to(
    catalog: &Catalog,
) {
    let writer = || StatusWriter::new(catalog.clone()).leaving_out(10_000);
    let mut plain = StatusWriter::new(catalog.clone());
    let before = plain.apply(&[], 1).await.unwrap().1;
    for _ in 0..3 {
        drop(writer()); // a start after which nothing is signed
    }
    assert_eq!(plain.apply(&[], 1).await.unwrap().1, before + 1);
    let mut writing = writer();
    assert_eq!(writing.apply(&[], 2).await.unwrap().1, before + 10_002);
    assert_eq!(writing.apply(&[], 1).await.unwrap().1, before + 10_004, "once");
    let highest = (1_i64 << 31) - 100_000_000;
    for (used, next) in [(highest - 5, highest + 1), (highest + 7, highest + 8)] {
        let use_up = sqlx::query("UPDATE sequences SET value = $1 WHERE name = 'director'");
        use_up.bind(used).execute(&catalog.pool).await.unwrap();
        assert_eq!(writer().apply(&[], 1).await.unwrap().1, u64::try_from(next).unwrap());
    }
}
