//! What the published metadata lists, read from the files themselves as a client would.
//!
//! The timestamp is the one that the catalog has recorded: that is the moment of publication, and
//! `repo/timestamp.json`, which anybody may have put back from somewhere, only shows it. No
//! signature is checked here: what is checked is that each file has the digest that the file above
//! it names.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::Error;
use crate::blob::{BlobKey, BlobStore};
use crate::catalog::Catalog;
use crate::model::{RoleName, Sha256Digest};
use crate::uptane::metadata::{
    Delegations, MetaFile, MetaName, Signed, Snapshot, Target, Targets, TimestampRole,
};

/// A published repository, from its timestamp down.
pub(super) struct Listing {
    /// The metadata files in the order in which they have to be published, but for the timestamp.
    pub(super) metadata: Vec<(BlobKey, Bytes)>,
    /// The timestamp that was published last.
    pub(super) timestamp: Bytes,
    /// What it says.
    pub(super) versions: Versions,
    /// What `timestamp.json` is, compared with it.
    pub(super) shown: Shown,
    /// All targets.
    pub(super) targets: Vec<ListedTarget>,
    /// What is wrong with the metadata, a line each.
    pub(super) problems: Vec<String>,
}

/// A target as metadata lists it.
pub(super) struct ListedTarget {
    pub(super) key: BlobKey,
    pub(super) length: u64,
    pub(super) sha256: Sha256Digest,
}

/// Versions that a timestamp has and names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) timestamp: u64,
    pub(super) snapshot: u64,
}

/// What `timestamp.json` in the repository is, compared with the recorded one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// The same.
    Recorded,
    /// One of another publication.
    Other { shown: Versions, recorded: Versions },
    /// Missing, or nothing that can be read.
    Unreadable,
}

impl Shown {
    /// Whether it is of a publication that the catalog doesn't know of.
    pub(super) fn is_newer(&self) -> bool {
        matches!(self, Self::Other { shown, recorded }
            if shown.timestamp >= recorded.timestamp || shown.snapshot > recorded.snapshot)
    }

    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Recorded => None,
            Self::Unreadable => Some(
                "timestamp.json is missing or damaged; the next start of the server mends it"
                    .into(),
            ),
            Self::Other { shown, recorded } if self.is_newer() => Some(format!(
                "timestamp.json has version {}, and the catalog knows no later publication than {}: the catalog is older than \
                 what clients have seen; restore the one that belongs to it",
                shown.timestamp, recorded.timestamp
            )),
            Self::Other { shown, recorded } => Some(format!(
                "timestamp.json has version {}, where {} was published last; the next start of the server mends it",
                shown.timestamp, recorded.timestamp
            )),
        }
    }
}

/// Every file of a store, by name, and what it is.
pub(super) type Files = Vec<(String, Option<BlobKey>)>;

/// Reads what is published now.
///
/// # Errors
///
/// [`Error::NotFound`] if nothing is published, [`Error::Internal`].
pub(super) async fn read(store: &dyn BlobStore, catalog: &Catalog) -> Result<Listing, Error> {
    let (timestamp, shown) = read_timestamps(store, catalog).await?;
    let content: Signed<TimestampRole> = parse(&timestamp)?;
    let snapshot = content.signed.snapshot();
    let versions = Versions {
        timestamp: content.signed.version.get(),
        snapshot: snapshot.map_or(0, |listed| listed.version),
    };
    let mut listing = Listing {
        metadata: Vec::new(),
        timestamp,
        versions,
        shown,
        targets: Vec::new(),
        problems: Vec::new(),
    };
    listing.read_roots(store).await?;
    let Some(described) = snapshot else {
        listing.problems.push("timestamp.json names no snapshot".into());
        return Ok(listing);
    };
    let Some((key, snapshot)) = listing.read_file(store, RoleName::Snapshot, described).await?
    else {
        return Ok(listing);
    };
    let content: Signed<Snapshot> = parse(&snapshot)?;
    let (mut files, mut delegations) = (Vec::new(), None);
    for (MetaName(role), described) in &content.signed.meta {
        if let Some((key, bytes)) = listing.read_file(store, role.clone(), described).await? {
            let content: Signed<Targets<PlainTarget>> = parse(&bytes)?;
            if *role == RoleName::Targets {
                delegations = content.signed.delegations;
            }
            files.push((role, content.signed.targets));
            listing.metadata.push((key, bytes));
        }
    }
    for (_, targets) in files.into_iter().filter(|(role, _)| is_asked(role, delegations.as_ref())) {
        listing.targets.extend(targets.into_iter().map(ListedTarget::from));
    }
    listing.metadata.push((key, snapshot));
    Ok(listing)
}

/// Whether the targets lead to what a role lists: snapshots go on listing the last file of a supplier
/// that was removed.
fn is_asked(role: &RoleName, delegations: Option<&Delegations>) -> bool {
    match (role, delegations) {
        (RoleName::Delegated(_), Some(delegations)) => {
            delegations.roles.iter().any(|delegation| delegation.name == *role)
        }
        _ => true, // also where the targets can't be read
    }
}

/// The recorded timestamp, and what is shown. A server that runs records first and shows then, so
/// what is shown has to be what was recorded before or after it was read.
async fn read_timestamps(
    store: &dyn BlobStore,
    catalog: &Catalog,
) -> Result<(Bytes, Shown), Error> {
    let mut recorded = recorded_timestamp(catalog).await?;
    let mut tries = 0;
    loop {
        let shown = match read_blob(store, &BlobKey::Timestamp).await {
            Err(Error::NotFound { .. }) => None,
            read => Some(read?),
        };
        let before = std::mem::replace(&mut recorded, recorded_timestamp(catalog).await?);
        if shown.as_ref().is_some_and(|shown| *shown == before || *shown == recorded) {
            return Ok((recorded, Shown::Recorded));
        }
        tries += 1;
        if tries == TRIES {
            let shown = shown.and_then(|shown| versions_of(&shown));
            let recorded_versions = versions_of(&recorded);
            let shown = match (shown, recorded_versions) {
                (Some(shown), Some(recorded)) => Shown::Other { shown, recorded },
                _ => Shown::Unreadable,
            };
            return Ok((recorded, shown));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn recorded_timestamp(catalog: &Catalog) -> Result<Bytes, Error> {
    let recorded = catalog.find_role_body(&RoleName::Timestamp).await?;
    let missing = || Error::NotFound {
        code: "not_published",
        detail: "nothing has been published yet".into(),
    };
    recorded.map(Bytes::from).ok_or_else(missing)
}

/// What a timestamp says, if it is one.
pub(super) fn versions_of(timestamp: &[u8]) -> Option<Versions> {
    let content: Signed<TimestampRole> = serde_json::from_slice(timestamp).ok()?;
    let snapshot = content.signed.snapshot()?.version;
    Some(Versions { timestamp: content.signed.version.get(), snapshot })
}

impl Listing {
    /// The whole root chain: a client may start from any version (TUF 1.0.34, 5.3). It ends where
    /// the repository has no later root, and not at the first gap.
    async fn read_roots(&mut self, store: &dyn BlobStore) -> Result<(), Error> {
        let versions = store.list_metadata().await?.into_iter().filter_map(|key| match key {
            BlobKey::Metadata { version, role: RoleName::Root } => Some(version),
            _ => None,
        });
        for version in 1..=versions.max().unwrap_or(1) {
            let key = BlobKey::Metadata { version, role: RoleName::Root };
            match read_blob(store, &key).await {
                Ok(bytes) => self.metadata.push((key, bytes)),
                Err(Error::NotFound { .. }) => {
                    self.problems.push(format!(
                        "{key} is missing: clients that trust an older root stop there"
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn read_file(
        &mut self,
        store: &dyn BlobStore,
        role: RoleName,
        described: &MetaFile,
    ) -> Result<Option<(BlobKey, Bytes)>, Error> {
        let key = BlobKey::Metadata { version: described.version, role };
        match read_blob(store, &key).await {
            Ok(bytes) if Sha256::digest(&bytes)[..] == described.hashes.sha256.as_bytes()[..] => {
                Ok(Some((key, bytes)))
            }
            Ok(_) => {
                self.problems.push(format!("{key} is damaged"));
                Ok(None)
            }
            Err(Error::NotFound { .. }) => {
                self.problems.push(format!("{key} is missing"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

pub(super) async fn read_blob(store: &dyn BlobStore, key: &BlobKey) -> Result<Bytes, Error> {
    let read = store.open(key).await?.read_all(MAX_METADATA_SIZE).await;
    read.map_err(Error::reading(&key.name()))
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<Signed<T>, Error> {
    serde_json::from_slice(bytes).map_err(Error::internal("read a published metadata file"))
}

/// A target of which only the file matters.
type PlainTarget = Target<IgnoredAny>;

impl From<(String, PlainTarget)> for ListedTarget {
    fn from((path, target): (String, PlainTarget)) -> Self {
        let sha256 = target.hashes.sha256;
        Self { key: BlobKey::target(path, sha256), length: target.length, sha256 }
    }
}

const MAX_METADATA_SIZE: u64 = 16 * 1024 * 1024; // 16 MiB, far above what is ever written
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
