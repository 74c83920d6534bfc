//! Blobs that move from the state directory to a bucket: each is sent once, read back under all of
//! its names, and compared by its SHA-256; the timestamp is the last one.
//!
//! Uploads that wait for more are not moved but ended, since what is kept of them belongs to the
//! store that they were begun in (docs/FORMAT.md, 6.9): who sends one is told so, and begins again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::carry::{Carrier, Found};
use super::progress::Progress;
use crate::app::Error;
use crate::app::installation::{self, foreign};
use crate::app::moved::{Copied, Record, Thing};
use crate::app::principal::local_author;
use crate::app::recovery::ENDED_ARE_KNOWN;
use crate::app::state_dir::{StateDir, is_published};
use crate::blob::{self, BlobKey, BlobStore, LocalBlobStore};
use crate::catalog::BlobsMoved;
use crate::model::clock::later;
use crate::model::{Bucket, MAX_ROOT_BYTES, RoleName, Timestamp};

/// Blobs that were moved; no files if that was done before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MovedBlobs {
    /// How many, each with both of its names.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that waited for more, and have ended.
    pub ended_uploads: u64,
    /// Files in `repo/` that are no blobs, and stay there.
    pub strays: Vec<String>,
}

/// A move of blobs.
pub(super) struct BlobMove {
    carrier: Carrier,
    /// In the order of their names, and the timestamp last.
    keys: Vec<BlobKey>,
    strays: Vec<String>,
    record: Option<Record>,
}

impl BlobMove {
    /// Looks at both sides, and writes nothing; none if the move has ended. **Must be called by the
    /// holder of the directory's lock.**
    ///
    /// # Errors
    ///
    /// As [`super::move_store`].
    pub(super) async fn plan(state: &StateDir, bucket: &Bucket) -> Result<Option<Self>, Error> {
        let record = Record::find_to(state.path(), Thing::Blobs, &bucket.url.to_string())?;
        if record.as_ref().is_some_and(|known| known.ended_at.is_some()) {
            return Ok(None);
        }
        if !state.path().join("repo/timestamp.json").is_file() {
            let path = state.path().display();
            let detail = format!(
                "{path}/repo has no published repository: its blobs are elsewhere, or in a backup that is to be restored first"
            );
            return Err(Error::Unusable { detail });
        }
        let carrier = Carrier::open(state, bucket).await?;
        let (keys, strays) = whole_blobs(state, &carrier.from).await?;
        let moving = Self { carrier, keys, strays, record };
        match moving.record {
            None => moving.refuse_used_bucket().await?,
            Some(_) => moving.refuse_used_meanwhile().await?,
        }
        Ok(Some(moving))
    }

    /// Has nobody serve what is moved from now on, and makes the bucket this installation's.
    ///
    /// # Errors
    ///
    /// As [`super::move_store`].
    pub(super) async fn begin(&mut self, now: Timestamp) -> Result<(), Error> {
        let is_new = self.record.is_none();
        let record = match self.record.take() {
            Some(known) => known,
            None => Record::begun(self.carrier.bucket.url.to_string(), now)?,
        };
        record.write(self.carrier.state.path(), Thing::Blobs)?;
        self.record = Some(record);
        let own = installation::ensure_own_id(self.carrier.state.path(), None)?;
        let owner = self.carrier.told(self.carrier.to.claim(&own).await)?;
        if owner != own {
            let url = &self.carrier.bucket.url;
            return Err(foreign(url, "the bucket", self.carrier.state.path(), (&owner, &own)));
        }
        if is_new {
            self.remove_stale().await?;
        }
        Ok(())
    }

    /// Copies what isn't there yet. How far it is, is written down every second.
    ///
    /// # Errors
    ///
    /// As [`super::move_store`].
    pub(super) async fn copy(&mut self, progress: &impl Fn(Progress<'_>)) -> Result<(), Error> {
        let Some(mut record) = self.record.take() else { return Ok(()) };
        self.carrier.told(self.carrier.to.sweep().await)?; // what a run has left that was killed
        let last = self.keys.iter().position(|key| key.name() == record.copied.last);
        if last.is_none() {
            record.copied = Copied::default();
        }
        let left = self.keys.get(last.map_or(0, |last| last + 1)..).unwrap_or_default();
        let (timestamp, others): (Vec<_>, Vec<_>) =
            left.iter().partition(|key| **key == BlobKey::Timestamp);
        let mut written = Instant::now();
        // The timestamp goes when all is there that it names.
        for keys in [others, timestamp] {
            let mut copies =
                stream::iter(keys).map(|key| self.carrier.copy_blob(key)).buffered(AT_ONCE);
            while let Some((name, bytes)) = copies.try_next().await? {
                progress(Progress::Copied { name: &name, bytes });
                let Copied { files, bytes: before, .. } = record.copied;
                record.copied = Copied { last: name, files: files + 1, bytes: before + bytes };
                if written.elapsed() > WRITTEN_EVERY {
                    record.write(self.carrier.state.path(), Thing::Blobs)?;
                    written = Instant::now();
                }
            }
        }
        record.write(self.carrier.state.path(), Thing::Blobs)?;
        self.record = Some(record);
        Ok(())
    }

    /// Looks through the bucket once more, and makes the state directory one with a bucket.
    ///
    /// # Errors
    ///
    /// As [`super::move_store`].
    pub(super) async fn settle(&self) -> Result<(), Error> {
        self.settle_names().await?;
        self.keep_trust_anchor().await
    }

    /// Ends the move, where `state` has the catalog that is used from now on.
    ///
    /// # Errors
    ///
    /// As [`super::move_store`].
    pub(super) async fn finish(
        mut self,
        state: &StateDir,
        now: Timestamp,
    ) -> Result<MovedBlobs, Error> {
        let Some(mut record) = self.record.take() else { return Ok(MovedBlobs::default()) };
        let catalog = state.own_catalog(now).await?;
        if !is_published(&catalog).await? {
            return Err(state.not_initialized());
        }
        let Copied { files, bytes, .. } = record.copied;
        let moved = BlobsMoved { id: &record.id, to: &record.to, files, bytes };
        let author = local_author(now);
        let ended = catalog.end_moving_blobs(&moved, later(now, ENDED_ARE_KNOWN), &author);
        let ended_uploads = ended.await?;
        catalog.close().await;
        record.ended_at = Some(now);
        record.write(self.carrier.state.path(), Thing::Blobs)?;
        Ok(MovedBlobs { files, bytes, ended_uploads, strays: self.strays })
    }

    /// A bucket that a move begins with has to be empty, or what a move has left that was given up.
    async fn refuse_used_bucket(&self) -> Result<(), Error> {
        let owner = self.carrier.told(self.carrier.to.find_owner().await)?;
        let own = installation::own_id(self.carrier.state.path());
        let what = match (owner, own) {
            (Some(owner), own) if own.as_ref() != Some(&owner) => {
                Some(format!("the blobs of installation {owner}"))
            }
            (Some(_), _) => match self.carrier.to.open(&BlobKey::Timestamp).await {
                Err(blob::Error::NotFound(_)) => None,
                found => {
                    self.carrier.told(found)?;
                    Some("a published repository of this installation".into())
                }
            },
            (None, _) => {
                let there = self.carrier.told(self.carrier.to.list().await)?;
                there.first().map(|(name, _)| format!("{} objects, {name} for one", there.len()))
            }
        };
        let Some(what) = what else { return Ok(()) };
        let detail = format!(
            "{} holds {what}, and nothing of it was touched: name a bucket, or a prefix in it, that is empty",
            self.carrier.bucket.url
        );
        Err(Error::Conflict { code: "target_taken", detail })
    }

    /// A bucket that a move goes on with has nothing but what moves.
    async fn refuse_used_meanwhile(&self) -> Result<(), Error> {
        if self.carrier.look_at_timestamp().await? == Found::Other {
            return Err(self.carrier.used(&BlobKey::Timestamp.name()));
        }
        let listed = self.carrier.told(self.carrier.to.list().await)?;
        self.refuse_others_of(listed, &self.names()).await
    }

    /// What a move has left that was given up goes before another one begins: nothing was ever served
    /// from a bucket without a timestamp.
    async fn remove_stale(&self) -> Result<(), Error> {
        let names = self.names();
        for (name, key) in self.carrier.told(self.carrier.to.list().await)? {
            if let Some(stale) = key.filter(|_| !names.contains_key(&name)) {
                self.carrier.told(self.carrier.to.delete(&stale).await)?;
            }
        }
        Ok(())
    }

    /// Blobs by each of their names.
    fn names(&self) -> HashMap<String, &BlobKey> {
        let mut names = HashMap::new();
        for key in &self.keys {
            names.extend([Some(key.name()), key.alias()].into_iter().flatten().zip([key; 2]));
        }
        names
    }

    async fn refuse_others_of(
        &self,
        listed: Vec<(String, Option<BlobKey>)>,
        names: &HashMap<String, &BlobKey>,
    ) -> Result<(), Error> {
        for (name, key) in listed {
            let Some(other) = key.filter(|_| !names.contains_key(&name)) else { continue };
            // Lists of some stores lag behind what was removed.
            match self.carrier.to.open(&other).await {
                Err(blob::Error::NotFound(_)) => {}
                found => {
                    self.carrier.told(found)?;
                    return Err(self.carrier.used(&name));
                }
            }
        }
        Ok(())
    }

    /// What was read back in an earlier run has to be there still, and nobody else's has come.
    async fn settle_names(&self) -> Result<(), Error> {
        let listed = self.carrier.told(self.carrier.to.list().await)?;
        let mut missing = self.names();
        for (name, _) in &listed {
            missing.remove(name);
        }
        self.refuse_others_of(listed, &self.names()).await?;
        // Lists of some stores lag behind what is there.
        for key in missing.into_values() {
            for opened in self.carrier.open_names(key).await {
                match opened {
                    Err(blob::Error::NotFound(name)) => {
                        return Err(self.carrier.other_bytes(&name));
                    }
                    opened => drop(self.carrier.told(opened)?),
                }
            }
        }
        Ok(())
    }

    /// Where blobs are in a bucket, vehicles get their trust anchor from the state directory.
    async fn keep_trust_anchor(&self) -> Result<(), Error> {
        let key = BlobKey::Metadata { version: 1, role: RoleName::Root };
        let root = self.carrier.from.open(&key).await?;
        let root = root.read_all(MAX_ROOT_BYTES).await.map_err(Error::reading(&key.name()))?;
        let moved = self.carrier.state.clone().with_bucket(Some(self.carrier.bucket.clone()));
        fs::write(moved.trust_anchor(), &root).map_err(Error::internal("write the trust anchor"))
    }
}

/// The keys of all blobs in the order in which they move, and what else is in `repo/`.
async fn whole_blobs(
    state: &StateDir,
    from: &LocalBlobStore,
) -> Result<(Vec<BlobKey>, Vec<String>), Error> {
    let (mut keys, mut strays, mut names) = (BTreeMap::new(), Vec::new(), HashSet::new());
    for (name, key) in from.list().await? {
        match key {
            Some(key) => drop(keys.insert((key == BlobKey::Timestamp, key.name()), key)),
            None => strays.push(name.clone()),
        }
        names.insert(name);
    }
    for ((_, name), key) in &keys {
        if !names.contains(name) || key.alias().is_some_and(|alias| !names.contains(&alias)) {
            let path = state.path().display();
            let detail = format!(
                "{name} in {path}/repo has lost one of its two names: run `motorcade fsck --repair --data-dir {path}` first"
            );
            return Err(Error::Conflict { code: "blobs_incomplete", detail });
        }
    }
    strays.sort();
    Ok((keys.into_values().collect(), strays))
}

/// Blobs on their way: small ones wait for the store, and not for bytes.
const AT_ONCE: usize = 16;
const WRITTEN_EVERY: Duration = Duration::from_secs(1);
