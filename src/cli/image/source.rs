//! Where the bytes of a pushed image come from.
//!
//! A plain file is hashed before it is sent, and looked at again before its last piece goes: a file
//! that changed meanwhile ends the request without its end, so that nothing of it is kept. A pipe
//! can be read once only. It is hashed as it is sent, and what the server says it has stored is
//! compared with that.

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, mpsc};

use crate::cli::output;
use crate::model::Sha256Digest;

/// An image that can be sent.
pub(super) enum Source {
    /// Can be sent again.
    File(Arc<PlainFile>),
    /// Can be sent again as long as little of it is gone.
    Pipe(Arc<Pipe>),
}

/// A file, and what was found out about it before it is sent.
pub(super) struct PlainFile {
    file: File,
    start: u64,
    stamp: Stamp,
    length: u64,
    sha256: Sha256Digest,
    fault: StdMutex<Option<String>>,
}

/// What changes when somebody writes to a file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// Something that is read once, by a thread of its own: one that waits for its next byte holds
/// nobody up.
pub(super) struct Pipe {
    pieces: Mutex<Pieces>,
}

struct Pieces {
    incoming: mpsc::Receiver<io::Result<Bytes>>,
    /// All pieces so far, while they are few.
    kept: Option<Vec<Bytes>>,
    taken: usize,
    length: u64,
    hasher: Sha256,
    is_at_end: bool,
    fault: Option<String>,
}

impl Source {
    /// Opens `path`, or standard input if it is `-`, and makes sure that there is something in it.
    pub(super) async fn open(path: &Path) -> anyhow::Result<Self> {
        let is_stdin = path.as_os_str() == "-";
        let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
        ensure!(
            !is_stdin || !io::stdin().is_terminal(),
            "standard input is a terminal: pipe the image into it"
        );
        let open = || -> io::Result<(File, Metadata)> {
            let file = if is_stdin {
                io::stdin().as_fd().try_clone_to_owned()?.into()
            } else {
                File::open(path)?
            };
            let metadata = file.metadata()?;
            Ok((file, metadata))
        };
        let (file, metadata) = open().with_context(|| format!("failed to open {name}"))?;
        let kind = metadata.file_type();
        ensure!(!kind.is_dir(), "{name} is a folder, not an image");
        ensure!(
            !kind.is_block_device(),
            "{name} is a device: pipe what is to be sent, as in `dd if={name} … | … push -`"
        );
        if kind.is_file() {
            return PlainFile::read(file, &metadata, &name)
                .await
                .map(|file| Self::File(Arc::new(file)));
        }
        Pipe::start(file, &name).await.map(|pipe| Self::Pipe(Arc::new(pipe)))
    }

    /// Length, if it is known before the end.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::File(file) => Some(file.length),
            Self::Pipe(_) => None,
        }
    }

    /// Digest, if it is known before the end.
    pub(super) fn sha256(&self) -> Option<Sha256Digest> {
        match self {
            Self::File(file) => Some(file.sha256),
            Self::Pipe(_) => None,
        }
    }

    /// The image from its start. One at a time.
    pub(super) fn body(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        self.body_from(0)
    }

    /// The same from a byte on, for what can be read again. A pipe comes from its start.
    pub(super) fn body_from(
        &self,
        at: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let start = match self {
            Self::File(file) => Position::File(Arc::clone(file), at),
            Self::Pipe(pipe) => Position::Pipe(Arc::clone(pipe), 0),
        };
        stream::try_unfold(start, async |position| match position {
            Position::File(file, at) => {
                let (file, piece) = tokio::task::spawn_blocking(move || {
                    let piece = file.piece(at);
                    (file, piece)
                })
                .await
                .map_err(io::Error::other)?;
                Ok(piece?.map(|piece| {
                    let next = at + piece.len() as u64;
                    (piece, Position::File(file, next))
                }))
            }
            Position::Pipe(pipe, number) => {
                let piece = pipe.pieces.lock().await.piece(number).await?;
                Ok(piece.map(|piece| (piece, Position::Pipe(pipe, number + 1))))
            }
        })
    }

    /// Whether [`Self::body`] can be had once more.
    pub(super) async fn can_be_sent_again(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Pipe(pipe) => pipe.pieces.lock().await.kept.is_some(),
        }
    }

    /// Why the image can't be sent, if it is the image's fault.
    pub(super) async fn fault(&self) -> Option<String> {
        match self {
            Self::File(file) => file.fault.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Self::Pipe(pipe) => pipe.pieces.lock().await.fault.clone(),
        }
    }

    /// Length and digest of what was sent.
    pub(super) async fn sent(&self) -> (u64, Sha256Digest) {
        match self {
            Self::File(file) => (file.length, file.sha256),
            Self::Pipe(pipe) => {
                let pieces = pipe.pieces.lock().await;
                (pieces.length, Sha256Digest::from_bytes(pieces.hasher.clone().finalize().into()))
            }
        }
    }
}

enum Position {
    File(Arc<PlainFile>, u64),
    Pipe(Arc<Pipe>, usize),
}

impl PlainFile {
    async fn read(mut file: File, metadata: &Metadata, name: &str) -> anyhow::Result<Self> {
        let start = file.stream_position().with_context(|| format!("failed to read {name}"))?;
        let stamp = Stamp::of(metadata);
        let bar = output::bytes("hashing", stamp.length.saturating_sub(start));
        let hashing = tokio::task::spawn_blocking(move || {
            let mut hasher = Sha256::new();
            let mut piece = vec![0; PIECE_SIZE];
            let mut at = start;
            loop {
                let count = file.read_at(&mut piece, at)?;
                if count == 0 {
                    bar.finish_and_clear();
                    return io::Result::Ok((file, at - start, hasher));
                }
                hasher.update(&piece[..count]);
                at += count as u64;
                bar.inc(count as u64);
            }
        });
        let (file, length, hasher) =
            hashing.await?.with_context(|| format!("failed to read {name}"))?;
        if start + length != stamp.length {
            bail!(
                "{name} has changed while it was read: wait until it is complete; nothing was sent"
            );
        }
        ensure!(length > 0, "{name} is empty");
        let sha256 = Sha256Digest::from_bytes(hasher.finalize().into());
        Ok(Self { file, start, stamp, length, sha256, fault: StdMutex::new(None) })
    }

    /// The next piece; the last one only if the file is still the one that was hashed.
    fn piece(&self, at: u64) -> io::Result<Option<Bytes>> {
        let left = self.length - at;
        if left == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; PIECE_SIZE.min(usize::try_from(left).unwrap_or(PIECE_SIZE))];
        self.file
            .read_exact_at(&mut piece, self.start + at)
            .or_else(|error| self.refuse(&error.to_string()))?;
        if piece.len() as u64 == left && Stamp::of(&self.file.metadata()?) != self.stamp {
            self.refuse("somebody wrote to it")?;
        }
        Ok(Some(piece.into()))
    }

    fn refuse(&self, reason: &str) -> io::Result<()> {
        let fault = format!(
            "the image has changed while it was sent ({reason}): wait until it is complete; the server has kept nothing of it"
        );
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        Err(io::Error::other("the image has changed"))
    }
}

impl Pipe {
    /// Waits for the first piece: a server should not have to.
    async fn start(mut input: File, name: &str) -> anyhow::Result<Self> {
        let (sender, incoming) = mpsc::channel(2);
        std::thread::spawn(move || {
            loop {
                let mut piece = vec![0; PIECE_SIZE];
                let read = match input.read(&mut piece) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Ok(0) => return,
                    read => read,
                };
                let has_failed = read.is_err();
                let piece = read.map(|count| Bytes::from(piece).slice(..count));
                if sender.blocking_send(piece).is_err() || has_failed {
                    return;
                }
            }
        });
        let hasher = Sha256::new();
        let kept = Some(Vec::new());
        let mut pieces =
            Pieces { incoming, kept, taken: 0, length: 0, hasher, is_at_end: false, fault: None };
        let first = pieces.piece(0).await.with_context(|| format!("failed to read {name}"))?;
        ensure!(first.is_some(), "{name} is empty: what should write to it may have failed");
        Ok(Self { pieces: Mutex::new(pieces) })
    }
}

impl Pieces {
    /// The piece with this number: a kept one, or the next.
    async fn piece(&mut self, number: usize) -> io::Result<Option<Bytes>> {
        if number < self.taken {
            let kept = self.kept.as_ref().and_then(|kept| kept.get(number).cloned());
            return kept
                .map(Some)
                .ok_or_else(|| io::Error::other("what was read from a pipe can't be read again"));
        }
        if self.is_at_end {
            return Ok(None);
        }
        let Some(piece) = self.incoming.recv().await else {
            self.is_at_end = true;
            return Ok(None);
        };
        let piece = piece
            .inspect_err(|error| self.fault = Some(format!("failed to read the image: {error}")))?;
        self.taken += 1;
        self.length += piece.len() as u64;
        self.hasher.update(&piece);
        if let Some(kept) = &mut self.kept {
            kept.push(piece.clone());
        }
        if self.length > KEPT_OF_A_PIPE {
            self.kept = None;
        }
        Ok(Some(piece))
    }
}

const PIECE_SIZE: usize = 256 * 1024; // 256 KiB
/// More than a system buffers of a body that the server does not read: a server that is busy can be
/// asked again.
const KEPT_OF_A_PIPE: u64 = 32 * 1024 * 1024; // 32 MiB
