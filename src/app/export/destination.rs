//! Where an export may go: a folder of its own, and never back in time.

use std::path::Path;

use bytes::Bytes;

use crate::app::listing::{self, Listing};
use crate::app::{Error, apart};
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
    let Some(overlap) = apart::overlap(state, folder).map_err(look)? else { return Ok(()) };
    let folder = folder.display();
    let detail = format!(
        "{folder} {overlap} a state directory: an export there would replace what a server publishes; name a folder of its own"
    );
    Err(Error::Conflict { code: "export_into_state", detail })
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
