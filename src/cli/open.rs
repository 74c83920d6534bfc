//! `motorcade open`
//!
//! Reads and opens on one thread, hashes and writes on another; see [`run`] for what is left on disk when.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::output::{self, print_line};
use crate::envelope::jwe::Envelope;
use crate::envelope::key::{DataKey, RecipientPrivateKey};
use crate::envelope::stream::SegmentReader;
use crate::model::{SealAlgorithm, Sha256Digest};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Envelope: the image's `.jwe` file, or one flattened for this recipient
    #[arg(long, value_name = "FILE")]
    envelope: PathBuf,
    /// Private key of a recipient: PEM or JWK
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the image goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// SHA-256 that the image must have, from signed metadata (`custom.sealed.plaintext`)
    #[arg(long, value_name = "HEX")]
    sha256: Option<Sha256Digest>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Sealed image
    sealed: PathBuf,
}

/// Opens an image into a temporary file beside `--out`, and gives it its name once its last segment is authentic and its
/// digest is the expected one. Whatever fails before leaves no plaintext behind.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (data_key, algorithm) = unwrap(&args)?;
    let sealed = File::open(&args.sealed).with_context(|| format!("failed to open {}", args.sealed.display()))?;
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let plaintext = tempfile::Builder::new().prefix(".motorcade-open-").tempfile_in(folder);
    let plaintext = plaintext.with_context(|| format!("failed to write in {}", folder.display()))?;
    let started = Instant::now();
    let opened = open_into(sealed, plaintext, &data_key, algorithm);
    let Opened { plaintext, length, sha256 } =
        opened.with_context(|| format!("failed to open {}; no plaintext was kept", args.sealed.display()))?;
    if let Some(expected) = args.sha256.filter(|expected| *expected != sha256) {
        bail!("the image's SHA-256 is {sha256}, not {expected}: it is not the one that was signed; nothing was kept");
    }
    plaintext.persist(&args.out).with_context(|| format!("failed to write {}", args.out.display()))?;
    if args.json {
        print_line(json!({ "length": length, "sha256": sha256, "alg": algorithm }))?;
    } else {
        eprintln!(
            "Opened {} ({}, {})",
            args.out.display(),
            output::size(length),
            output::rate(length, started.elapsed())
        );
        print_line(sha256)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn unwrap(args: &Args) -> anyhow::Result<(DataKey, SealAlgorithm)> {
    let key = fs::read_to_string(&args.key).with_context(|| format!("failed to read {}", args.key.display()))?;
    let key = RecipientPrivateKey::parse(&zeroize::Zeroizing::new(key))
        .with_context(|| format!("failed to use {}", args.key.display()))?;
    let envelope = fs::read(&args.envelope).with_context(|| format!("failed to read {}", args.envelope.display()))?;
    let opened = Envelope::parse(&envelope).and_then(|envelope| envelope.open(&key));
    opened.with_context(|| format!("failed to open the envelope {}", args.envelope.display()))
}

struct Opened {
    plaintext: NamedTempFile,
    length: u64,
    sha256: Sha256Digest,
}

fn open_into(
    sealed: File,
    plaintext: NamedTempFile,
    data_key: &DataKey,
    algorithm: SealAlgorithm,
) -> anyhow::Result<Opened> {
    let bar = output::bytes("opening", sealed.metadata()?.len());
    let (to_write, opened) = mpsc::sync_channel::<Vec<u8>>(2);
    let (give_back, empty) = mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || write(plaintext, opened, give_back));
        let reading = read(sealed, data_key, algorithm, to_write, empty, &bar);
        let written = writing.join().map_err(|_| anyhow::anyhow!("the writing thread panicked"))?;
        bar.finish_and_clear();
        reading?;
        Ok(written?)
    })
}

/// Opens segments in order. Small ones are passed on together, so that handing over costs little.
fn read(
    sealed: impl Read,
    data_key: &DataKey,
    algorithm: SealAlgorithm,
    to_write: mpsc::SyncSender<Vec<u8>>,
    empty: mpsc::Receiver<Vec<u8>>,
    bar: &indicatif::ProgressBar,
) -> anyhow::Result<()> {
    let sealed = io::BufReader::with_capacity(BLOCK_SIZE, sealed);
    let mut reader = SegmentReader::new(sealed, data_key, algorithm)?;
    let mut segment = Vec::with_capacity(algorithm.segment_size());
    let mut block = Vec::with_capacity(BLOCK_SIZE);
    while reader.next_segment(&mut segment)?.is_some() {
        bar.inc(segment.len() as u64);
        if block.is_empty() {
            std::mem::swap(&mut block, &mut segment);
        } else {
            block.extend_from_slice(&segment);
        }
        if block.len() + algorithm.segment_size() > BLOCK_SIZE {
            // A writer that has stopped says why itself.
            if to_write.send(std::mem::take(&mut block)).is_err() {
                return Ok(());
            }
            block = empty.try_recv().unwrap_or_default();
            block.reserve(BLOCK_SIZE);
        }
    }
    let _ = to_write.send(block);
    Ok(())
}

fn write(
    mut plaintext: NamedTempFile,
    opened: mpsc::Receiver<Vec<u8>>,
    give_back: mpsc::Sender<Vec<u8>>,
) -> io::Result<Opened> {
    let mut hasher = Sha256::new();
    let mut length = 0;
    for mut block in opened {
        plaintext.as_file_mut().write_all(&block)?;
        hasher.update(&block);
        length += block.len() as u64;
        block.clear();
        let _ = give_back.send(block); // the reader may be done
    }
    Ok(Opened { plaintext, length, sha256: Sha256Digest::from_bytes(hasher.finalize().into()) })
}

const BLOCK_SIZE: usize = 1024 * 1024; // 1 MiB
