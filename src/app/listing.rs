//! What the published metadata lists, read from the files themselves as a client would.
//!
//! No signature is checked here: the files are the server's own. What is checked is that each file has the digest that
//! the file above it names.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Error;
use crate::blob::{self, BlobKey, BlobStore};
use crate::model::Sha256Digest;

/// A published repository, from its timestamp down.
pub(super) struct Listing {
    /// The metadata files in the order in which they have to be published, but for the timestamp.
    pub(super) metadata: Vec<(BlobKey, Bytes)>,
    /// The timestamp.
    pub(super) timestamp: Bytes,
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

/// Reads what is published now.
///
/// # Errors
///
/// [`Error::NotFound`] if nothing is published, [`Error::Internal`].
pub(super) async fn read(store: &dyn BlobStore) -> Result<Listing, Error> {
    let timestamp = read_blob(store, &BlobKey::Timestamp).await?;
    let mut listing = Listing { metadata: Vec::new(), timestamp, targets: Vec::new(), problems: Vec::new() };
    listing.read_roots(store).await?;
    let content: Signed<Listed> = parse(&listing.timestamp)?;
    let Some(described) = content.signed.meta.get("snapshot.json") else {
        listing.problems.push("timestamp.json names no snapshot".into());
        return Ok(listing);
    };
    let Some((key, snapshot)) = listing.read_file(store, "snapshot", described).await? else { return Ok(listing) };
    let content: Signed<Listed> = parse(&snapshot)?;
    for (name, described) in &content.signed.meta {
        let role = name.trim_end_matches(".json");
        if let Some((key, bytes)) = listing.read_file(store, role, described).await? {
            let content: Signed<Targets> = parse(&bytes)?;
            listing.targets.extend(content.signed.targets.into_iter().map(ListedTarget::from));
            listing.metadata.push((key, bytes));
        }
    }
    listing.metadata.push((key, snapshot));
    Ok(listing)
}

impl Listing {
    /// The whole root chain: a client may start from any version (TUF 1.0.34, 5.3).
    async fn read_roots(&mut self, store: &dyn BlobStore) -> Result<(), Error> {
        for version in 1.. {
            let key = BlobKey::Metadata { version, role: "root".into() };
            match read_blob(store, &key).await {
                Ok(bytes) => self.metadata.push((key, bytes)),
                Err(Error::NotFound { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        if self.metadata.is_empty() {
            self.problems.push("1.root.json is missing".into());
        }
        Ok(())
    }

    async fn read_file(
        &mut self,
        store: &dyn BlobStore,
        role: &str,
        described: &Described,
    ) -> Result<Option<(BlobKey, Bytes)>, Error> {
        let key = BlobKey::Metadata { version: described.version, role: role.to_owned() };
        match read_blob(store, &key).await {
            Ok(bytes) if Sha256::digest(&bytes)[..] == described.hashes.sha256.as_bytes()[..] => Ok(Some((key, bytes))),
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

async fn read_blob(store: &dyn BlobStore, key: &BlobKey) -> Result<Bytes, Error> {
    let read = store.open(key).await?.read_all(MAX_METADATA_SIZE).await;
    read.map_err(|source| Error::from(blob::Error::Backend { verb: "read", name: key.name(), source }))
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<Signed<T>, Error> {
    serde_json::from_slice(bytes).map_err(Error::internal("read a published metadata file"))
}

#[derive(Deserialize)]
struct Signed<T> {
    signed: T,
}

#[derive(Deserialize)]
struct Listed {
    meta: BTreeMap<String, Described>,
}

#[derive(Deserialize)]
struct Described {
    version: u64,
    hashes: Hashes,
}

#[derive(Deserialize)]
struct Hashes {
    sha256: Sha256Digest,
}

#[derive(Deserialize)]
struct Targets {
    targets: BTreeMap<String, Target>,
}

#[derive(Deserialize)]
struct Target {
    length: u64,
    hashes: Hashes,
}

impl From<(String, Target)> for ListedTarget {
    fn from((path, target): (String, Target)) -> Self {
        let sha256 = target.hashes.sha256;
        Self { key: BlobKey::target(path, sha256), length: target.length, sha256 }
    }
}

const MAX_METADATA_SIZE: u64 = 16 * 1024 * 1024; // 16 MiB, far above what is ever written
