//! A batch of envelopes: found, opened through the escrow key, changed; then stored, recorded and
//! published at once.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};

use super::change::Change;
use super::cores::on_all_cores;
use crate::app::Error;
use crate::app::images::Images;
use crate::app::images::announced::overtaken;
use crate::app::keys::escrow_failed;
use crate::blob::{self, BlobKey};
use crate::catalog::{Author, ConcernedEnvelope, EnvelopePosition, Rewrapped, Who};
use crate::envelope::jwe::{Envelope, EnvelopeError};
use crate::envelope::key::Cek;
use crate::envelope::wrap::WrappedKey;
use crate::keys::EscrowKeys;
use crate::keys::escrow::{self, EscrowError};
use crate::model::{AuditKind, Sha256Digest, TargetEntry};

/// Envelopes that are changed and not stored yet.
pub(super) struct Batch {
    pub(super) changed: Vec<Changed>,
    /// What speaks against the others, a line each.
    pub(super) problems: Vec<String>,
    /// Where to go on.
    pub(super) next: EnvelopePosition,
}

/// A changed envelope.
pub(super) struct Changed {
    concerned: ConcernedEnvelope,
    with_escrow: String,
    public: Bytes,
    sha256: Sha256Digest,
    /// Whether what is published of it changes too.
    is_published_anew: bool,
}

/// An envelope with its content encryption key, and that wrapped by the escrow key that comes, if
/// one does; or why there is none.
type Opened = Result<(Envelope, Cek, Option<WrappedKey>), EnvelopeError>;

/// Changes the next envelopes after `from`. Nothing of it is kept yet.
///
/// # Errors
///
/// [`Error::Unavailable`] if the escrow key can't be asked, or is another server's;
/// [`Error::Internal`].
pub(super) async fn prepare(
    images: Arc<Images>,
    change: Arc<Change>,
    from: EnvelopePosition,
) -> Result<Batch, Error> {
    images.escrow.check_current().await?; // or what another server has wrapped opens nowhere here
    // Before the envelopes are read: a rotation of the escrow key keeps these until they are let go.
    let keys = images.escrow.keys();
    let found = images.catalog.list_envelopes_for(change.old().as_str(), &from, IMAGES, BYTES);
    let (concerned, next) = found.await?;
    let parse = |concerned: ConcernedEnvelope| {
        let parsed = Envelope::parse(concerned.envelope.as_bytes());
        (concerned, parsed)
    };
    let parsed = on_all_cores(concerned, parse).await?;
    let opened = parsed.into_iter().map(|(concerned, parsed)| {
        let (keys, change) = (&keys, &change);
        async move {
            let opened = open(keys, change, parsed, &concerned.sealed_sha256).await?;
            Ok((concerned, opened))
        }
    });
    let opened: Vec<Result<_, Error>> =
        stream::iter(opened.collect::<Vec<_>>()).buffered(KEYS_AT_ONCE).collect().await;
    let opened = opened.into_iter().collect::<Result<Vec<_>, Error>>()?;
    let change = Arc::clone(&change);
    let apply = move |(concerned, opened)| apply(&change, concerned, opened);
    let mut batch = Batch { changed: Vec::new(), problems: Vec::new(), next };
    for outcome in on_all_cores(opened, apply).await? {
        match outcome {
            Ok(changed) => batch.changed.extend(changed),
            Err(problem) => batch.problems.push(problem),
        }
    }
    Ok(batch)
}

async fn open(
    keys: &EscrowKeys,
    change: &Change,
    parsed: Result<Envelope, EnvelopeError>,
    image: &Sha256Digest,
) -> Result<Opened, Error> {
    let envelope = match parsed {
        Ok(envelope) => envelope,
        Err(fault) => return Ok(Err(fault)),
    };
    match escrow::recover(keys, &envelope, image).await {
        Ok(cek) => {
            let escrowed = change.wrap(&cek).await.map_err(EscrowError::Backend);
            Ok(Ok((envelope, cek, escrowed.map_err(escrow_failed("ask the escrow key"))?)))
        }
        Err(EscrowError::Envelope(fault)) => Ok(Err(fault)),
        // Not this envelope's fault: the job ends here, and goes on once it is begun again.
        Err(error @ (EscrowError::Backend(_) | EscrowError::CutOff(_))) => {
            Err(escrow_failed("ask the escrow key")(error))
        }
    }
}

/// Nothing for an envelope that isn't concerned after all.
fn apply(
    change: &Change,
    concerned: ConcernedEnvelope,
    opened: Opened,
) -> Result<Option<Changed>, String> {
    let path = concerned.path.clone();
    let changed = opened.and_then(|(mut envelope, cek, escrowed)| {
        if !change.apply(&mut envelope, &cek, escrowed)? {
            return Ok(None);
        }
        // One from before envelopes were bound.
        let is_bound_now = envelope.bind(&cek, concerned.sealed_sha256)?;
        let is_published_anew = concerned.is_listed && (change.is_public() || is_bound_now);
        let public = Bytes::from(envelope.public_json()?);
        let sha256 = Sha256Digest::from_bytes(Sha256::digest(&public).into());
        let with_escrow = envelope.to_json_with_escrow();
        Ok(Some(Changed { concerned, with_escrow, public, sha256, is_published_anew }))
    });
    changed.map_err(|fault| match fault {
        EnvelopeError::NoRecipients => format!(
            "{path}: nobody else could open it: rotate the key to a new one, reseal the image, or yank it"
        ),
        fault => format!("{path}: its envelope can't be wrapped again: {fault}; see `motorcade fsck`"),
    })
}

/// Stores a batch, records and publishes it; returns how many envelopes that were. Those that
/// somebody else has changed meanwhile are left as they are.
///
/// # Errors
///
/// [`Error::Full`]; [`Error::Unavailable`] or [`Error::Internal`].
pub(super) async fn record(
    images: Arc<Images>,
    change: Arc<Change>,
    who: Who,
    changed: Vec<Changed>,
) -> Result<usize, Error> {
    let author = Author { who, at: images.clock.now(), request_id: None };
    let listed = changed.iter().filter(|changed| changed.is_published_anew);
    let blobs: Vec<(BlobKey, Bytes)> =
        listed.map(|changed| (changed.key(), changed.public.clone())).collect();
    let rewrapped: Vec<Rewrapped> =
        changed.into_iter().map(|changed| describe(changed, &change, &author)).collect();
    let announced: Vec<String> = blobs.iter().map(|(key, _)| key.name()).collect();
    // From here on a failure leaves names by which the next start finds what was stored.
    let told = images.catalog.announce_blobs(&announced, images.upload_holder()).await;
    told.map_err(overtaken)?;
    store(&images, &blobs).await?;
    let recorded = images.catalog.record_rewraps(&rewrapped, &images.server_id, author.at).await;
    let recorded = recorded.map_err(overtaken)?;
    // Those whose image was yanked or changed meanwhile.
    let keys = blobs.into_iter().map(|(key, _)| key);
    let unused: Vec<_> = keys.filter(|key| recorded.unused.contains(&key.name())).collect();
    images.discard_announced(&unused).await;
    images.publisher.publish().await?;
    Ok(recorded.count)
}

impl Changed {
    fn key(&self) -> BlobKey {
        BlobKey::target(self.concerned.path.envelope_path(), self.sha256)
    }
}

fn describe(changed: Changed, change: &Change, author: &Author) -> Rewrapped {
    let key = changed.key();
    let Changed { concerned, with_escrow, public, sha256, is_published_anew } = changed;
    let ConcernedEnvelope { path, envelope: before, .. } = concerned;
    let audit = author.entry(AuditKind::EnvelopeRewrapped, path.as_str(), change.detail());
    let target = TargetEntry {
        path: path.envelope_path(),
        length: public.len() as u64,
        sha256,
        custom: None,
    };
    let blob = is_published_anew.then(|| key.name());
    let escrow_kid = change.escrow().map(ToString::to_string);
    Rewrapped { path, before, after: with_escrow, target, escrow_kid, blob, audit }
}

async fn store(images: &Images, blobs: &[(BlobKey, Bytes)]) -> Result<(), Error> {
    let bytes = blobs.iter().map(|(_, bytes)| bytes.clone()).collect();
    let staged = images.blobs.stage_all(bytes).await?;
    let keys = blobs.iter().map(|(key, _)| key.clone());
    match images.blobs.promote_all(staged.into_iter().zip(keys).collect()).await {
        // An entry that is taken out leads to the same bytes each time, and a step that was cut off
        // has stored some.
        Err(blob::Error::AlreadyExists(_)) => {
            for (key, bytes) in blobs {
                images.blobs.put(key, bytes.clone()).await?;
            }
            Ok(())
        }
        stored => Ok(stored?),
    }
}

/// Images of a batch: hardly more than a publication costs, and some megabytes with their files.
const IMAGES: usize = 1024;
/// Of envelopes, which have 8 MiB at most.
const BYTES: usize = 4 * 1024 * 1024;
/// An escrow key that is elsewhere takes milliseconds for each.
const KEYS_AT_ONCE: usize = 16;
