//! What is kept beside a blob that comes in by parts: its secret, and the digest of each block that may
//! have left a process.
//!
//! Digests are in objects that are written once, each named by the blocks that it is of. Who records
//! looks whether others have recorded there, writes, and looks again: whoever finds another digest then
//! takes its own back, and has lost. So at most one of those who come at once goes on, and it may be
//! none, since nothing that all stores know writes an object only if there is none.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::fault::{Fault, Kind};
use super::objects::{Described, LARGE_ATTEMPT, Listed, Objects};
use crate::blob::PartsSecret;
use crate::model::Sha256Digest;

/// What the name of a secret ends with.
pub(super) const SECRET: &str = ".secret";

/// Where the secret of a blob is.
pub(super) fn secret_name(name: &str) -> String {
    format!("{name}{SECRET}")
}

pub(super) async fn put_secret(
    objects: &Objects,
    name: &str,
    secret: &PartsSecret,
) -> Result<(), Fault> {
    let bytes = Bytes::copy_from_slice(secret.as_bytes());
    objects.put(&secret_name(name), bytes, Described::INTERNAL).await
}

pub(super) async fn find_secret(
    objects: &Objects,
    name: &str,
) -> Result<Option<PartsSecret>, Fault> {
    let Some(bytes) = objects.read(&secret_name(name), LARGE_ATTEMPT).await? else {
        return Ok(None);
    };
    let bytes = <[u8; 32]>::try_from(bytes.as_ref()).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| Fault::new(Kind::Refused, "a secret has another length"))?;
    Ok(Some(PartsSecret::from_bytes(&bytes)))
}

/// Records digests where there are none, up to the first place with another one, and returns those
/// that are there. Fails if one that was there before is gone by then: nothing is gone by that
/// nobody has recorded.
pub(super) async fn record(
    objects: &Objects,
    name: &str,
    first: u64,
    digests: &[Sha256Digest],
) -> Result<Vec<Sha256Digest>, Fault> {
    let before = found(objects, name, first, digests, None).await?;
    let wanted = up_to_another(digests, &before);
    let known = before.iter().take_while(|found| found.is_some()).count();
    let is_lost = wanted.last().zip(digests.get(wanted.len().saturating_sub(1)));
    let is_lost = is_lost.is_some_and(|(recorded, ours)| recorded != ours);
    let new = digests.get(known..wanted.len() - usize::from(is_lost)).unwrap_or_default();
    if new.is_empty() {
        return is_begun(objects, name).await.map(|()| wanted);
    }
    let at = first + known as u64;
    let own = entry_name(name, at, new.len(), rand::random());
    let bytes: Vec<u8> = new.iter().flat_map(|digest| *digest.as_bytes()).collect();
    objects.put(&own, bytes.into(), Described::INTERNAL).await?;
    unless_abandoned(objects, name, &own).await?;
    let after = found(objects, name, first, &wanted, Some(&own)).await?;
    let recorded = up_to_another(&wanted, &after);
    let is_gap = after.iter().take(known).any(Option::is_none);
    if recorded != wanted || is_gap {
        objects.delete(&own).await?;
    }
    if is_gap {
        let reason = "somebody who records at the same time has taken back what was there";
        return Err(Fault::new(Kind::Away, reason));
    }
    Ok(recorded)
}

/// Takes back what was just written of a blob, and fails, if the blob was abandoned meanwhile. Whoever
/// abandons it removes its secret before looking for what else there is, and so finds all that was
/// written while the secret was there.
pub(super) async fn unless_abandoned(
    objects: &Objects,
    name: &str,
    written: &str,
) -> Result<(), Fault> {
    match is_begun(objects, name).await {
        Err(fault) if fault.kind == Kind::NoSuchUpload => {
            objects.delete(written).await?;
            Err(fault)
        }
        begun => begun,
    }
}

async fn is_begun(objects: &Objects, name: &str) -> Result<(), Fault> {
    match objects.head(&secret_name(name)).await? {
        Some(_) => Ok(()),
        None => Err(Fault::new(Kind::NoSuchUpload, "its secret is gone")),
    }
}

/// What is recorded where `digests` are wanted: these, up to and with the first that is another one.
fn up_to_another(digests: &[Sha256Digest], found: &[Option<Sha256Digest>]) -> Vec<Sha256Digest> {
    let mut recorded = Vec::with_capacity(digests.len());
    for (digest, found) in digests.iter().zip(found) {
        recorded.push(found.unwrap_or(*digest));
        if recorded.last() != Some(digest) {
            break;
        }
    }
    recorded
}

/// The digests of blocks that are recorded, but by `own`; where several are, one that is not the one of
/// `ours`.
async fn found(
    objects: &Objects,
    name: &str,
    first: u64,
    ours: &[Sha256Digest],
    own: Option<&str>,
) -> Result<Vec<Option<Sha256Digest>>, Fault> {
    let mut found = vec![None; ours.len()];
    let end = first + ours.len() as u64;
    // One that begins before may reach into these.
    let from = entry_prefix(name, first.saturating_sub(MOST_AT_ONCE));
    for Listed { name: entry, .. } in objects.list_from(&format!("{name}.d"), &from).await? {
        let Some((at, length)) = range_of(name, &entry) else { continue };
        if at >= end {
            break;
        }
        if at + length <= first || own == Some(entry.as_str()) {
            continue;
        }
        // One that was taken back meanwhile was never gone by.
        let Some(bytes) = objects.read(&entry, LARGE_ATTEMPT).await? else { continue };
        for (number, digest) in (at..).zip(bytes.chunks_exact(32)) {
            let place = number.checked_sub(first).and_then(|place| usize::try_from(place).ok());
            let (Some(place), Ok(digest)) = (place, <[u8; 32]>::try_from(digest)) else { continue };
            let Some(found) = found.get_mut(place) else { continue };
            if found.is_none() || found.as_ref() == ours.get(place) {
                *found = Some(Sha256Digest::from_bytes(digest));
            }
        }
    }
    Ok(found)
}

fn entry_prefix(name: &str, first: u64) -> String {
    format!("{name}.d{first:020}")
}

fn entry_name(name: &str, first: u64, count: usize, random: u64) -> String {
    format!("{}-{count}-{random:016x}", entry_prefix(name, first))
}

/// First block and number of blocks of an entry.
fn range_of(name: &str, entry: &str) -> Option<(u64, u64)> {
    let mut parts = entry.strip_prefix(name)?.strip_prefix(".d")?.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Blocks that one entry is of at most: what is appended at once, and more.
const MOST_AT_ONCE: u64 = 256;
