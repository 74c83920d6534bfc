//! Where an export may go: a folder of its own, and never back in time.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::app::Error;
use crate::app::listing::{self, Listing};
use crate::blob::{BlobKey, BlobStore};
use crate::model::RoleName;

/// Refuses a folder that is a state directory, is within one, or has one within it, by whatever
/// name.
///
/// # Errors
///
/// [`Error::Conflict`]; [`Error::Internal`] if it can't be looked at.
pub(super) fn check_folder(state: &Path, folder: &Path) -> Result<(), Error> {
    let look = Error::internal("look at the folder to export to");
    let above = chain(folder).map_err(look)?;
    // A mounted folder has other names, so folders are compared by what they are.
    let parts =
        ["", "repo", "staging", "keys", "metadata", "quarantine"].map(|part| state.join(part));
    let ours: Vec<Identity> = parts.iter().filter_map(|part| identity(part)).collect();
    let within = above
        .iter()
        .any(|path| identity(path).is_some_and(|found| ours.contains(&found)) || is_state(path));
    let is_folder = identity(folder);
    let around = parts.iter().any(|part| {
        let part = chain(part).unwrap_or_default();
        is_folder.is_some() && part.iter().any(|path| identity(path) == is_folder)
    });
    if !within && !around {
        return Ok(());
    }
    let (folder, relation) =
        (folder.display(), if within { "is, or is within," } else { "has within it" });
    let detail = format!(
        "{folder} {relation} a state directory: an export there would replace what a server publishes; name a folder of its own"
    );
    Err(Error::Conflict { code: "export_into_state", detail })
}

/// A folder and all above it, the links on the way resolved; what is not there yet is left out.
fn chain(path: &Path) -> io::Result<Vec<PathBuf>> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find_map(|path| fs::canonicalize(path).ok()).unwrap_or_default();
    Ok(there.ancestors().map(Path::to_owned).collect())
}

type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn is_state(path: &Path) -> bool {
    path.join("catalog.sqlite").is_file() && path.join("repo").is_dir()
}

/// Refuses to take an earlier export back: clients that have seen it would refuse what is older,
/// and so would vehicles.
///
/// # Errors
///
/// [`Error::Conflict`], [`Error::Internal`].
pub(super) async fn check_earlier(
    listing: &Listing,
    folder: &Path,
    earlier: &dyn BlobStore,
) -> Result<(), Error> {
    let conflict = |code, fault: String| {
        let detail = format!("nothing was exported: {} {fault}", folder.display());
        Err(Error::Conflict { code, detail })
    };
    let Earlier { timestamp, highest, newest_root } = read_earlier(earlier).await?;
    let roots: Vec<_> = listing.metadata.iter().filter(|(key, _)| is_root(key)).collect();
    for (key, bytes) in &roots {
        if let Ok(found) = listing::read_blob(earlier, key).await
            && found != *bytes
        {
            return conflict(
                "export_of_another",
                format!("has another {key}: it is of another repository, or damaged"),
            );
        }
    }
    let ours = listing.versions;
    for (role, theirs, ours) in [
        (RoleName::Timestamp, highest.timestamp, ours.timestamp),
        (RoleName::Snapshot, highest.snapshot, ours.snapshot),
        (RoleName::Root, newest_root, roots.len() as u64),
    ] {
        if theirs > ours {
            let fault = format!(
                "has version {theirs} of the {role}, and this repository has {ours}: it was restored from an older backup, and \
                 clients of the folder would refuse it"
            );
            return conflict("export_goes_back", fault);
        }
    }
    let is_other = highest.timestamp == ours.timestamp
        && timestamp.is_some_and(|found| found != listing.timestamp);
    if is_other {
        let fault = format!(
            "has another timestamp of version {}: two histories have one number",
            ours.timestamp
        );
        return conflict("export_goes_back", fault);
    }
    Ok(())
}

/// What is in the folder.
struct Earlier {
    timestamp: Option<Bytes>,
    highest: listing::Versions,
    newest_root: u64,
}

async fn read_earlier(earlier: &dyn BlobStore) -> Result<Earlier, Error> {
    let mut highest = listing::Versions { timestamp: 0, snapshot: 0 };
    let mut newest_root = 0;
    for key in earlier.list_metadata().await? {
        match key {
            BlobKey::Metadata { version, role: RoleName::Snapshot } => {
                highest.snapshot = highest.snapshot.max(version)
            }
            BlobKey::Metadata { version, role: RoleName::Root } => {
                newest_root = newest_root.max(version)
            }
            BlobKey::Metadata { .. } | BlobKey::Timestamp | BlobKey::Target { .. } => {}
        }
    }
    let timestamp = match earlier.open(&BlobKey::Timestamp).await {
        Ok(_) => Some(listing::read_blob(earlier, &BlobKey::Timestamp).await?),
        Err(_) => None,
    };
    if let Some(found) = timestamp.as_ref().and_then(|timestamp| listing::versions_of(timestamp)) {
        highest.timestamp = found.timestamp;
        highest.snapshot = highest.snapshot.max(found.snapshot);
    }
    Ok(Earlier { timestamp, highest, newest_root })
}

fn is_root(key: &BlobKey) -> bool {
    matches!(key, BlobKey::Metadata { role: RoleName::Root, .. })
}
