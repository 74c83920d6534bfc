//! How an object is read: by ranges, and from where it broke off.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::{Buf, Bytes};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::fault::{Fault, Kind};
use super::objects::Objects;
use crate::blob::opened::Remote;
use crate::blob::{Blob, Error};
use crate::model::Timestamp;

/// Opens an object with one request, which brings the beginning of it along, as many bytes as that: all
/// of a small one.
pub(super) async fn open(
    objects: &Arc<Objects>,
    name: &str,
    beginning: u64,
) -> Result<Blob, Error> {
    let mut tries = 0;
    loop {
        match open_once(objects, name, beginning).await {
            Err(fault) if fault.kind == Kind::Away && tries < TRIES && fault.is_cut() => {
                tries += 1;
                tokio::time::sleep(PAUSE * tries).await;
            }
            opened => return opened.map_err(|fault| fault.into_error("open", name)),
        }
    }
}

async fn open_once(objects: &Arc<Objects>, name: &str, beginning: u64) -> Result<Blob, Fault> {
    let got = objects.get(name, Some((0, beginning - 1)), None).await;
    let got = match got {
        // No range of an empty object can be had.
        Err(fault) if fault.kind == Kind::Refused => objects.get(name, None, None).await?,
        got => got?,
    };
    let length = total(&got).ok_or_else(|| {
        Fault::new(Kind::Refused, format!("{} does not say how long {name} is", objects.store))
    })?;
    let (etag, modified) = (got.e_tag().map(str::to_owned), modified(&got));
    let wanted = usize::try_from(length.min(beginning)).unwrap_or(usize::MAX);
    let beginning = collect(objects, got, wanted).await?;
    let remote =
        Object { objects: Arc::clone(objects), name: name.to_owned(), etag, length, beginning };
    Ok(Blob::from_remote(Arc::new(remote), length, modified))
}

/// Bytes of the whole object. Stores that send a part with status 200 say what it is a part of.
fn total(got: &GetObjectOutput) -> Option<u64> {
    match got.content_range() {
        Some(range) => range.rsplit_once('/')?.1.parse().ok(),
        None => got.content_length()?.try_into().ok(),
    }
}

fn modified(got: &GetObjectOutput) -> Timestamp {
    let seconds = got.last_modified().map_or(0, |modified| modified.secs());
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

async fn collect(
    objects: &Objects,
    mut got: GetObjectOutput,
    wanted: usize,
) -> Result<Bytes, Fault> {
    let mut bytes = Vec::with_capacity(wanted);
    while bytes.len() < wanted {
        match tokio::time::timeout(PATIENCE, got.body.next()).await {
            Ok(Some(Ok(piece))) => {
                bytes.extend_from_slice(&piece[..piece.len().min(wanted - bytes.len())]);
            }
            _ => return Err(Fault::cut(&objects.store)),
        }
    }
    Ok(bytes.into())
}

/// An object that was opened.
struct Object {
    objects: Arc<Objects>,
    name: String,
    /// Of which content.
    etag: Option<String>,
    length: u64,
    beginning: Bytes,
}

impl Remote for Object {
    fn read(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        if range.is_empty() {
            return stream::empty().boxed();
        }
        if range.end <= self.beginning.len() as u64 {
            let bytes = self.beginning.slice(range.start as usize..range.end as usize);
            return stream::once(async move { Ok(bytes) }).boxed();
        }
        stream::unfold(self.fetch(range), |mut pieces| async move {
            let piece = pieces.receiver.recv().await;
            pieces.count(piece).map(|piece| (piece, pieces))
        })
        .boxed()
    }

    fn reader(&self) -> Box<dyn io::Read + Send> {
        Box::new(Reader { pieces: self.fetch(0..self.length), piece: Bytes::new() })
    }
}

impl Object {
    /// Has it read where connections live on, no faster than it is taken.
    fn fetch(&self, range: Range<u64>) -> Pieces {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let fetching = Fetching {
            objects: Arc::clone(&self.objects),
            name: self.name.clone(),
            etag: self.etag.clone(),
            rest: range.start..range.end.min(self.length),
            sender,
        };
        self.objects.runtime.spawn(fetching.run());
        Pieces { receiver, left: range.end - range.start }
    }
}

/// What is read, on its way to whoever reads it.
struct Pieces {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl Pieces {
    /// That nothing more comes is an error while something is missing.
    fn count(&mut self, piece: Option<io::Result<Bytes>>) -> Option<io::Result<Bytes>> {
        match &piece {
            Some(Ok(bytes)) => self.left -= bytes.len() as u64,
            Some(Err(_)) => self.left = 0,
            None if self.left > 0 => {
                self.left = 0;
                return Some(Err(ErrorKind::UnexpectedEof.into()));
            }
            None => {}
        }
        piece
    }
}

struct Fetching {
    objects: Arc<Objects>,
    name: String,
    etag: Option<String>,
    rest: Range<u64>,
    sender: mpsc::Sender<io::Result<Bytes>>,
}

/// Nobody reads any more.
struct Gone;

impl Fetching {
    async fn run(mut self) {
        let mut tries = 0;
        while self.rest.start < self.rest.end {
            let before = self.rest.start;
            let fault = match self.fetch_some().await {
                Err(Gone) => return,
                Ok(None) => continue,
                Ok(Some(fault)) => fault,
            };
            tries = if self.rest.start > before { 0 } else { tries + 1 };
            if fault.kind != Kind::Away || tries > TRIES {
                let error = fault.into_error("read", &self.name);
                let _ = self.sender.send(Err(io::Error::other(error))).await;
                return;
            }
            tracing::debug!(
                blob = self.name,
                at = self.rest.start,
                reason = fault.reason(),
                "reading broke off, and goes on"
            );
            tokio::time::sleep(PAUSE * tries).await;
        }
    }

    /// Reads until all is there or something breaks.
    async fn fetch_some(&mut self) -> Result<Option<Fault>, Gone> {
        let range = (self.rest.start, self.rest.end - 1);
        let got = self.objects.get(&self.name, Some(range), self.etag.clone()).await;
        let mut got = match got {
            Ok(got) => got,
            Err(fault) => return Ok(Some(fault)),
        };
        if let Err(fault) = self.check(&got) {
            return Ok(Some(fault));
        }
        while self.rest.start < self.rest.end {
            let next = tokio::time::timeout(PATIENCE, got.body.next());
            let Ok(Some(Ok(mut piece))) = next.await else {
                return Ok(Some(Fault::cut(&self.objects.store)));
            };
            let left = usize::try_from(self.rest.end - self.rest.start).unwrap_or(usize::MAX);
            piece.truncate(left);
            self.rest.start += piece.len() as u64;
            self.sender.send(Ok(piece)).await.map_err(|_| Gone)?;
        }
        Ok(None)
    }

    /// Whether what is answered is what was asked for: `Content-Range` says so, whatever the status,
    /// and without it all of the object comes.
    fn check(&self, got: &GetObjectOutput) -> Result<(), Fault> {
        let first = match got.content_range() {
            Some(range) => range.strip_prefix("bytes ").and_then(|range| range.split_once('-')),
            None if self.rest.start == 0 => return Ok(()),
            None => None,
        };
        if first.and_then(|(first, _)| first.parse().ok()) == Some(self.rest.start) {
            return Ok(());
        }
        let reason = format!("{} sent another range than was asked for", self.objects.store);
        Err(Fault::new(Kind::Refused, reason))
    }
}

/// For a thread that may block.
struct Reader {
    pieces: Pieces,
    piece: Bytes,
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let piece = self.pieces.receiver.blocking_recv();
            match self.pieces.count(piece) {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let read = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}

/// Bytes that opening a target brings along: an envelope.
pub(super) const TARGET: u64 = 64 * 1024;
/// And what else there is: metadata.
pub(super) const METADATA: u64 = 1024 * 1024;
const AHEAD: usize = 2; // pieces
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(300);
/// Without getting any further.
const TRIES: u32 = 5;
