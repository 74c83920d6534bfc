//! Which superseded metadata is kept: what leads on from a timestamp that somebody may still go by.
//!
//! A timestamp has no version in its name, so whoever reads it reads the newest, and asks for what
//! it names at once. Two kinds of reader still ask for older files. One is in the midst of a
//! refresh, over a slow line: for it, everything is kept for [`REFRESH`] after the timestamp was
//! replaced. The other got the timestamp from something that keeps files, such as a mirror or a
//! cache, and goes by it for as long as it is in force: so what it names is kept until it has
//! expired, whatever the policy has become since. Of timestamps that follow each other closely,
//! hardly anything keeps each: of more than the last [`LAST`], only those are kept that were
//! current for some part of their life ([`PARTS`]). So what is superseded is bounded, however many
//! images come in: it takes what is published within minutes, and some hundred publications.
//!
//! Snapshots go on listing the last file of a supplier that was removed, so that it stays. Nobody is
//! led to what it lists once the targets beside it don't name its role.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;

use crate::app::Error;
use crate::blob::{self, BlobKey, BlobStore};
use crate::catalog::{Catalog, PublishedTimestamp};
use crate::model::clock::later;
use crate::model::{RoleName, Timestamp};
use crate::uptane::metadata::{MetaFile, MetaName, Signed, Snapshot, Targets};

/// Removes superseded metadata. Root versions stay forever (TUF 1.0.34, 6.2.1).
pub(super) struct Retention {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    /// For how long files are kept of which nobody knows what named them: a server before this one
    /// didn't record it.
    unknown_for: Duration,
}

impl Retention {
    pub(super) fn new(
        catalog: Catalog,
        blobs: Arc<dyn BlobStore>,
        timestamp_lifetime: Duration,
    ) -> Self {
        Self {
            catalog,
            blobs,
            unknown_for: timestamp_lifetime.max(Duration::from_secs(24 * 60 * 60)),
        }
    }

    /// Removes what nobody asks for any more, and returns how many files that were.
    pub(super) async fn sweep(&self, now: Timestamp) -> Result<usize, Error> {
        // In this order: what is published meanwhile is in none of the first two, and stays.
        let published = self.catalog.list_published_timestamps().await?;
        let current = self.last_versions().await?;
        if let Some(since) = self.catalog.timestamps_watched_since().await?
            && now < later(since, self.unknown_for)
        {
            return Ok(0);
        }
        let is_superseded = |key: &BlobKey| {
            let BlobKey::Metadata { version, role } = key else { return false };
            *role != RoleName::Root && current.get(role).is_some_and(|current| version < current)
        };
        let superseded: Vec<BlobKey> =
            self.blobs.list_metadata().await?.into_iter().filter(is_superseded).collect();
        if superseded.is_empty() || published.is_empty() {
            return Ok(0);
        }
        let (needed, forgotten): (Vec<_>, Vec<_>) =
            published.iter().enumerate().partition(|(index, _)| is_needed(&published, *index, now));
        let kept = self
            .named_by(needed.into_iter().map(|(_, timestamp)| timestamp.snapshot).collect())
            .await?;
        let mut removed = 0;
        for key in superseded.iter().filter(|key| !kept.contains(key)) {
            self.blobs.delete(key).await?;
            removed += 1;
        }
        let forgotten: Vec<u64> =
            forgotten.into_iter().map(|(_, timestamp)| timestamp.version).collect();
        if !forgotten.is_empty() {
            self.catalog.forget_published_timestamps(&forgotten).await?;
        }
        Ok(removed)
    }

    /// The last version of each role, also of those of removed suppliers. One that is removed
    /// meanwhile is in both lists, and the second one is right.
    async fn last_versions(&self) -> Result<BTreeMap<RoleName, u64>, Error> {
        let states = self.catalog.list_roles().await?;
        let mut versions: BTreeMap<_, _> =
            states.into_iter().map(|state| (state.name, state.version)).collect();
        let retired = self.catalog.list_retired_roles().await?;
        versions.extend(retired.into_iter().map(|last| (last.name, last.version)));
        Ok(versions)
    }

    /// All metadata that somebody may still be led to by a timestamp, the current one included: of
    /// delegated roles, what the targets of the same snapshot name.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] while it isn't known which timestamps those are.
    pub(super) async fn led_to(&self, now: Timestamp) -> Result<HashSet<BlobKey>, Error> {
        let published = self.catalog.list_published_timestamps().await?;
        let since = self.catalog.timestamps_watched_since().await?;
        if published.is_empty() || since.is_some_and(|since| now < later(since, self.unknown_for)) {
            let detail = "a server before this one has not recorded which timestamps are in force; \
                          that is known once they have expired";
            return Err(Error::Unavailable { code: "timestamps_unknown", detail: detail.into() });
        }
        let needed = published.iter().enumerate();
        let needed = needed.filter(|(index, _)| is_needed(&published, *index, now));
        let snapshots: BTreeSet<u64> = needed.map(|(_, timestamp)| timestamp.snapshot).collect();
        let (mut led_to, mut delegations) = (HashSet::new(), BTreeMap::new());
        for version in snapshots {
            let files = self.named_by(BTreeSet::from([version])).await?;
            let targets = files.iter().find_map(|key| match key {
                BlobKey::Metadata { version, role: RoleName::Targets } => Some(*version),
                _ => None,
            });
            if let Some(targets) = targets.filter(|targets| !delegations.contains_key(targets)) {
                delegations.insert(targets, self.delegated_by(targets).await?);
            }
            let named = targets.and_then(|targets| delegations.get(&targets)?.as_ref());
            let is_asked_for = |key: &BlobKey| match (key, named) {
                (BlobKey::Metadata { role: role @ RoleName::Delegated(_), .. }, Some(named)) => {
                    named.contains(role)
                }
                _ => true, // also where it can't be told
            };
            led_to.extend(files.into_iter().filter(is_asked_for));
        }
        Ok(led_to)
    }

    /// The roles that some targets delegate to; none if the file is gone.
    async fn delegated_by(&self, version: u64) -> Result<Option<BTreeSet<RoleName>>, Error> {
        let key = BlobKey::Metadata { version, role: RoleName::Targets };
        let blob = match self.blobs.open(&key).await {
            Err(blob::Error::NotFound(_)) => return Ok(None),
            opened => opened?,
        };
        let bytes = blob.read_all(blob.length).await.map_err(Error::reading(&key.name()))?;
        let targets: Signed<Targets<IgnoredAny>> =
            serde_json::from_slice(&bytes).map_err(Error::internal("read published targets"))?;
        let roles = targets.signed.delegations.into_iter().flat_map(|to| to.roles);
        Ok(Some(roles.map(|delegation| delegation.name).collect()))
    }

    /// Snapshots, and all files that they name.
    async fn named_by(&self, snapshots: BTreeSet<u64>) -> Result<HashSet<BlobKey>, Error> {
        let mut named = HashSet::new();
        for version in snapshots {
            let key = BlobKey::Metadata { version, role: RoleName::Snapshot };
            let blob = match self.blobs.open(&key).await {
                Err(blob::Error::NotFound(_)) => continue, // then nobody gets on from it
                opened => opened?,
            };
            let bytes =
                blob.read_all(MAX_SNAPSHOT_SIZE).await.map_err(Error::reading(&key.name()))?;
            let snapshot: Signed<Snapshot> =
                serde_json::from_slice(&bytes).map_err(Error::internal("read a snapshot"))?;
            let files = snapshot.signed.meta.into_iter();
            named.extend(files.map(|(MetaName(role), MetaFile { version, .. })| {
                BlobKey::Metadata { version, role }
            }));
            named.insert(key);
        }
        Ok(named)
    }
}

/// Whether somebody may still go by a timestamp of `published`, all of them in order.
fn is_needed(published: &[PublishedTimestamp], index: usize, now: Timestamp) -> bool {
    let timestamp = &published[index];
    let Some(next) = published.get(index + 1) else { return true }; // the current one
    if now < later(next.signed_at, REFRESH) {
        return true;
    }
    let lifetime = timestamp.expires_at.duration_since(timestamp.signed_at);
    let was_current_for = next.signed_at.duration_since(timestamp.signed_at);
    let is_among_last = index + 1 + LAST >= published.len();
    now < timestamp.expires_at && (is_among_last || was_current_for >= lifetime / PARTS)
}

/// A refresh over a slow line; longer than that, and it starts again.
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// Timestamps that are kept until they expire, however soon they were replaced.
const LAST: usize = 64;
/// A timestamp that was current for this part of its life is kept until it expires: there are at
/// most so many.
const PARTS: i32 = 48;
const MAX_SNAPSHOT_SIZE: u64 = 4 * 1024 * 1024; // what vehicles take

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    fn published(
        signed_at: impl IntoIterator<Item = i64>,
        lifetime: i64,
    ) -> Vec<PublishedTimestamp> {
        let one = |(index, seconds)| PublishedTimestamp {
            version: index as u64 + 1,
            snapshot: index as u64 + 1,
            signed_at: at(seconds),
            expires_at: at(seconds + lifetime),
        };
        signed_at.into_iter().enumerate().map(one).collect()
    }

    fn needed(published: &[PublishedTimestamp], now: i64) -> Vec<u64> {
        let needed = (0..published.len()).filter(|index| is_needed(published, *index, at(now)));
        needed.map(|index| published[index].version).collect()
    }

    const DAY: i64 = 24 * 3600;

    #[test]
    fn a_timestamp_in_force_keeps_its_files_whatever_the_policy_has_become() {
        let mut both = published([0, 3600], 30 * DAY);
        both[1].expires_at = at(3600 + DAY);
        assert_eq!(needed(&both, 2 * DAY), [1, 2]);
        assert_eq!(needed(&both, 30 * DAY - 1), [1, 2]);
        assert_eq!(needed(&both, 30 * DAY), [2], "it has expired");
    }

    #[test]
    fn what_was_just_replaced_is_kept_for_a_refresh_though_it_has_expired() {
        let both = published([0, 3 * DAY], DAY);
        assert_eq!(needed(&both, 3 * DAY + 599), [1, 2]);
        assert_eq!(needed(&both, 3 * DAY + 600), [2]);
    }

    #[test]
    fn a_day_of_many_publications_keeps_a_bounded_number() {
        let many = published((0..DAY).step_by(2), DAY);
        let kept = needed(&many, DAY);
        assert_eq!(kept.len(), 300, "{kept:?}"); // ten minutes of them
        let later = needed(&many, DAY + 3600);
        assert_eq!(later.len(), LAST + 1, "an hour later");
        // Now and then one stays for an hour.
        let slow = published((0..DAY).filter(|second| second % 3600 < 600).chain([DAY]), DAY);
        assert_eq!(needed(&slow, DAY + 601).len(), LAST + 1 + 22);
    }
}
