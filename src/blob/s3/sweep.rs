//! What uploads leave behind when their server is killed.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::DateTime;

use super::fault::Fault;
use super::ledger::SECRET;
use super::objects::{Depth, Objects};

/// Removes uploads and objects whose names begin like that, but those of `kept` and what is wanted
/// by `is_left`; returns how many there were, not counting what is of one blob twice.
pub(super) async fn sweep(
    objects: &Objects,
    begin: &str,
    kept: &[String],
    is_left: impl Fn(Option<DateTime>) -> bool,
) -> Result<usize, Fault> {
    let mut swept = HashSet::new();
    // A name of a blob, or that and what comes after a dot: an object of its tail.
    let is_kept = |name: &str| {
        kept.iter().any(|kept| {
            name.strip_prefix(kept).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    for begun in objects.list_multiparts(begin).await? {
        if !is_kept(&begun.multipart.name) && !is_left(begun.at) {
            objects.abort(&begun.multipart).await?;
            swept.insert(blob_of(&begun.multipart.name).to_owned());
        }
    }
    let mut listed = objects.list(begin, Depth::All).await?;
    listed.sort_by_key(|object| !object.name.ends_with(SECRET)); // before what was recorded
    for object in listed {
        if !is_kept(&object.name) && !is_left(object.modified) {
            objects.delete(&object.name).await?;
            swept.insert(blob_of(&object.name).to_owned());
        }
    }
    Ok(swept.len())
}

/// Ends uploads of blobs' own names that are older than `age`: copies that broke off.
pub(super) async fn sweep_copies(objects: &Objects, age: Duration) -> Result<usize, Fault> {
    let mut swept = 0;
    for begun in objects.list_multiparts("targets/").await? {
        if !is_young(begun.at, age) {
            objects.abort(&begun.multipart).await?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Whether something was touched within `age`, or nobody says when it was.
pub(super) fn is_young(at: Option<DateTime>, age: Duration) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let oldest = now.saturating_sub(age).as_secs();
    at.is_none_or(|at| u64::try_from(at.secs()).is_ok_and(|at| at > oldest))
}

fn blob_of(name: &str) -> &str {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let file = file.split('.').next().unwrap_or_default();
    name.get(..folder.len() + 1 + file.len()).unwrap_or(name)
}
