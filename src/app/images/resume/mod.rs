//! Uploads that can be resumed, over broken connections and crashes.
//!
//! ```text
//! create   decide from the head, as of any upload; wrap a data key; note the upload
//! append   take the upload, open its key, seal what comes in block by block, let go of it
//! commit   once all is there, as of any upload (see `ingest`)
//! ```
//!
//! An image must never be sealed from two plaintexts under one nonce, and who resumes may send other
//! bytes than before. So no ciphertext leaves the process before its digest is recorded beside the
//! sealed bytes, and none does that has another one: docs/FORMAT.md, 6.9, has the argument. Half of
//! the data key is in the catalog, wrapped, and half of it beside those digests: whoever has the key
//! has them, whatever is done to the catalog. It is in memory for as long as a request brings bytes
//! in.

mod checksum;
mod collect;
mod intake;
mod key;
mod request;
mod rules;
mod session;
mod small;
mod writer;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tracing::Instrument;

use super::Images;
use super::ingest::{Body, UploadRequest, seal_error};
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::error::ESCROW_KEY_DIFFERS;
use crate::app::random::random_hex;
use crate::blob::Parts;
use crate::catalog::{self, Holder, NewUpload, UploadRecord, UploadState};
use crate::envelope::resume::{BLOCK_SIZE, ResumableSealer, UploadBinding};
use crate::keys::EscrowKeys;
use crate::model::clock::later;
use crate::model::{ImagePath, Timestamp};
pub use checksum::{Checksum, ChecksumAlgorithm};
use key::NewKey;
use request::StoredRequest;
use rules::{LEASE, MOST_OPEN, beyond_length, check_offset};
use session::Session;
pub(super) use small::SmallParts;

/// An upload, as whoever makes it sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadShown {
    /// Its id.
    pub id: String,
    /// Where the image goes.
    pub path: ImagePath,
    /// Length of the image in bytes.
    pub length: u64,
    /// Bytes that are kept, whatever happens; all of them once the image is published.
    pub received: u64,
    /// When it ends if nothing more comes.
    pub expires_at: Timestamp,
    /// What its maker has said of it, in the maker's own words.
    pub metadata: String,
}

/// What a request brings of an upload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Where it goes on, in bytes.
    pub at: u64,
    /// How many bytes it is, if that was said.
    pub length: Option<u64>,
    /// What it has to hash to, if that was said.
    pub checksum: Option<Checksum>,
}

/// Whether an upload that was begun before, in the same words, is gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// If there is one, and the digest of the image was announced: then it is of the same bytes.
    Resumed,
    /// Not.
    LeftAlone,
}

impl Images {
    /// Begins an upload, of which nothing has come yet.
    ///
    /// # Errors
    ///
    /// As of [`Self::plan_upload`]; [`Error::LengthRequired`]; [`Error::Conflict`] if the token has
    /// too many uploads that wait; [`Error::Unavailable`] if the escrow key can't be used.
    #[tracing::instrument(skip_all, fields(image.path = %request.path))]
    pub async fn create_upload(
        &self,
        request: UploadRequest,
        metadata: String,
        earlier: Earlier,
    ) -> Result<UploadShown, Error> {
        let length = request.content_length.ok_or_else(|| Error::LengthRequired {
            detail: "say how long the image is, in Upload-Length".into(),
        })?;
        self.plan_upload(&request).await?;
        let stored = StoredRequest::of(&request, metadata).to_json()?;
        if earlier == Earlier::Resumed && request.expected_sha256.is_some() {
            let like = (&request.path, length);
            let now = self.clock.now();
            if let Some(found) =
                self.catalog.find_open_upload(&request.by.id, like, &stored, now).await?
            {
                return self.show_upload(&found.upload.id, &request.by).await;
            }
        }
        let mut inserted = self.insert_upload(&request, &stored, length).await;
        if let Err(Error::Unavailable { code: ESCROW_KEY_DIFFERS, .. }) = &inserted {
            self.escrow.check_current().await?; // a rotation has just begun
            inserted = self.insert_upload(&request, &stored, length).await;
        }
        let Some(id) = inserted? else {
            let detail = format!(
                "this token has {MOST_OPEN} uploads that wait for more: end some with DELETE, or let them expire"
            );
            return Err(Error::Conflict { code: "too_many_uploads", detail });
        };
        tracing::info!(upload.id = %id, size_bytes = length, "upload begun");
        self.find_own(&id, &request.by).await.and_then(|record| shown(&record))
    }

    /// Adds a new upload and returns its id; none if its token has as many as it may have.
    async fn insert_upload(
        &self,
        request: &UploadRequest,
        stored: &serde_json::Value,
        length: u64,
    ) -> Result<Option<String>, Error> {
        // Held until the upload is where a rotation of the escrow key finds it.
        let keys = self.escrow.keys();
        let new = self.new_upload(&keys, request, stored.clone(), length).await?;
        let kid = keys.wrapping.kid().as_str();
        let inserted = self.catalog.insert_upload(&new, kid, MOST_OPEN).await;
        if matches!(inserted, Ok(false) | Err(catalog::Error::OtherEscrowKey { .. })) {
            self.abandon(&Parts::from_text(new.parts)).await;
        }
        Ok(inserted?.then_some(new.id))
    }

    async fn new_upload(
        &self,
        keys: &EscrowKeys,
        request: &UploadRequest,
        stored: serde_json::Value,
        length: u64,
    ) -> Result<NewUpload, Error> {
        let id = random_hex::<12>()?;
        let NewKey { data_key, wrapped_half, kept_half } = NewKey::generate()?;
        let binding = UploadBinding { id: &id, length, algorithm: request.algorithm };
        let sealer = ResumableSealer::begin(&data_key, binding).map_err(seal_error)?;
        let checkpoint = sealer.checkpoint(&[]);
        let now = self.clock.now();
        let mut new = NewUpload {
            id,
            path: request.path.clone(),
            request: stored,
            length,
            parts: String::new(),
            wrapped_key: String::new(),
            checkpoint,
            created_at: now,
            created_by: request.by.id.clone(),
            expires_at: later(now, self.limits.upload_expiry),
        };
        let half = (wrapped_half, request.algorithm);
        new.wrapped_key = self.wrap_upload_key(keys, &new, half).await?;
        new.parts = self.blobs.begin_parts(&kept_half).await?.as_str().to_owned();
        Ok(new)
    }

    /// Shows an upload to who makes it, once nobody brings bytes in, or after a moment.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], also for another token's; [`Error::Gone`] if it has ended.
    pub async fn show_upload(&self, id: &str, by: &Principal) -> Result<UploadShown, Error> {
        let mut record = self.find_own(id, by).await?;
        for _ in 0..LOOKS {
            if !record.is_taken(self.clock.now()) {
                break;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await; // a connection that broke off is noticed soon
            record = self.find_own(id, by).await?;
        }
        shown(&record)
    }

    /// Takes a part of an upload in: all of it, or as much as comes.
    ///
    /// # Errors
    ///
    /// As of [`Self::show_upload`]; [`Error::WrongOffset`]; [`Error::Locked`] while another request
    /// brings bytes in; [`Error::WrongChecksum`], and nothing is kept;
    /// [`Error::Unprocessable`] for other bytes than were sealed before; and as of an upload of the
    /// whole image.
    #[tracing::instrument(skip_all, fields(upload.id = id))]
    pub async fn append<S>(
        self: &Arc<Self>,
        id: &str,
        part: Part,
        body: S,
        by: &Principal,
    ) -> Result<UploadShown, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let Part { at, length, checksum } = part;
        let record = self.find_own(id, by).await?;
        check_offset(&record, at)?;
        if length.is_some_and(|length| length > record.upload.length - at) {
            return Err(beyond_length());
        }
        by.check_upload(&record.upload.path)?;
        if record.state == UploadState::Complete {
            return shown(&record);
        }
        self.check_room(BLOCK_SIZE as u64)?; // also for what is too small to be sealed yet
        let _slot = self.upload_slot(&by.id).await?;
        let body = Body::new(body, &self.limits, &self.upload_slots);
        match checksum {
            None => self.receive(&record, at, body, by).await?,
            Some(checksum) => {
                let pieces = checksum.verified(body).await?;
                let body = stream::iter(pieces.into_iter().map(io::Result::Ok));
                let body = Body::new(body, &self.limits, &self.upload_slots);
                self.receive(&record, at, body, by).await?;
            }
        }
        self.find_own(id, by).await.and_then(|record| shown(&record))
    }

    /// Gives what comes to a session that outlives this request: what has come is kept, however it
    /// ends.
    async fn receive<S>(
        self: &Arc<Self>,
        record: &UploadRecord,
        at: u64,
        body: Body<'_, S>,
        by: &Principal,
    ) -> Result<(), Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let taken = self.take(&record.upload.id, by).await?;
        let session = match Session::open(self, taken, at, by).await {
            Ok(session) => session,
            Err((taken, error)) => {
                self.let_go(&taken).await;
                return Err(error);
            }
        };
        let room = record.upload.length - at;
        let (pieces, incoming) = mpsc::channel(PIECES);
        let running = session.run(incoming).in_current_span();
        let running = self.tasks.spawn_on(running, &self.runtime);
        let sent = send(body, room, pieces).await;
        running.await.map_err(Error::internal("take an upload in"))??;
        sent
    }

    /// Takes an upload for this request alone.
    async fn take(&self, id: &str, by: &Principal) -> Result<UploadRecord, Error> {
        for look in 0.. {
            let now = self.clock.now();
            let holder = Holder { owner: &self.server_id, now, lease_until: later(now, LEASE) };
            if let Some(taken) = self.catalog.take_upload(id, holder).await? {
                return Ok(taken);
            }
            let record = self.find_own(id, by).await?;
            if record.state == UploadState::Complete {
                return Err(Error::WrongOffset { offset: record.upload.length });
            }
            if look == LOOKS {
                break;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let detail = "another request brings bytes of this upload in: wait until it has ended, and ask for the offset then";
        Err(Error::Locked { detail: detail.into() })
    }

    /// Lets others take an upload of which nothing has changed.
    async fn let_go(&self, taken: &UploadRecord) {
        let (run, now) = ((taken.upload.id.as_str(), taken.run), self.clock.now());
        if let Err(error) = self.catalog.keep_upload(run, now, taken.upload.expires_at).await {
            tracing::warn!(upload.id = %taken.upload.id, %error, "an upload stays taken for a while");
        }
    }

    async fn find_own(&self, id: &str, by: &Principal) -> Result<UploadRecord, Error> {
        let found = self.catalog.find_upload(id).await?;
        let record = found.filter(|record| record.upload.created_by == by.id).ok_or_else(|| {
            let detail = "this token has no such upload: begin one with POST /api/v1/uploads";
            Error::NotFound { code: "upload_not_found", detail: detail.into() }
        })?;
        let is_over = record.state == UploadState::Open
            && record.upload.expires_at <= self.clock.now()
            && !record.is_taken(self.clock.now());
        if record.state == UploadState::Ended || is_over {
            let detail = "this upload was ended or has expired: begin another one";
            return Err(Error::Gone { code: "upload_ended", detail: detail.into() });
        }
        Ok(record)
    }
}

/// Sends what comes on, and no more than `room` bytes of it.
///
/// The piece that makes the image whole has it published, so it is held back until the body has
/// ended as it should.
async fn send<S>(
    mut body: Body<'_, S>,
    mut room: u64,
    pieces: mpsc::Sender<Bytes>,
) -> Result<(), Error>
where
    S: Stream<Item = io::Result<Bytes>> + Unpin,
{
    let mut last = (room == 0).then(Bytes::new);
    while let Some(piece) = body.next().await? {
        room = room.checked_sub(piece.len() as u64).ok_or_else(beyond_length)?;
        if room == 0 {
            last.get_or_insert(piece);
        } else if pieces.send(piece).await.is_err() {
            return Ok(()); // the session has ended, and says why
        }
    }
    if let Some(last) = last {
        let _ = pieces.send(last).await; // as above
    }
    Ok(())
}

fn shown(record: &UploadRecord) -> Result<UploadShown, Error> {
    let upload = &record.upload;
    Ok(UploadShown {
        id: upload.id.clone(),
        path: upload.path.clone(),
        length: upload.length,
        received: record.received,
        expires_at: upload.expires_at,
        metadata: StoredRequest::from_json(&upload.request)?.metadata,
    })
}

/// How often, and after which pause, it is looked whether an upload that is taken is free again.
const LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// Pieces of a body on their way to a session.
const PIECES: usize = 4;
