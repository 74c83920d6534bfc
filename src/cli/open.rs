//! `motorcade open`
//!
//! Reads and opens on one thread, hashes and writes on another; see [`run`] for what is left on
//! disk when.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::output::{self, print_line};
use super::signals;
use crate::envelope::jwe::Envelope;
use crate::envelope::key::{DataKey, RecipientPrivateKey};
use crate::envelope::stream::SegmentReader;
use crate::model::{SealAlgorithm, Sha256Digest};
use motorcade_host::new_file::folder_of;
use motorcade_host::unnamed::UnnamedFile;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Envelope: the image's `.jwe` file, or one flattened for this recipient
    #[arg(long, value_name = "FILE")]
    envelope: PathBuf,
    /// Private key of a recipient: PEM or JWK
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the image goes. `-` is standard output, which gets each part as soon as it is
    /// authentic: believe the image once the exit code is 0, and not before
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// SHA-256 that the image must have, from signed metadata (`custom.sealed.plaintext`)
    #[arg(long, value_name = "HEX")]
    sha256: Option<Sha256Digest>,
    /// Sealed image; `-` is standard input
    sealed: PathBuf,
}

/// Opens an image into a file without a name, which gets that of `--out` once its last segment is
/// authentic and its digest is the expected one. Whatever fails or ends the process before leaves
/// no plaintext behind. A pipe can't be taken back: standard output has what was authentic until
/// then, and the exit code says that it is not the image.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let out = Out::choose(&args.out)?;
    let (data_key, algorithm) = unwrap(&args)?;
    let sealed: File = match args.sealed.as_os_str() == "-" {
        true => io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .context("failed to open standard input")?
            .into(),
        false => File::open(&args.sealed)
            .with_context(|| format!("failed to open {}", args.sealed.display()))?,
    };
    let started = Instant::now();
    let (opened, plaintext) = match out {
        Out::Stdout => (open_into(sealed, io::stdout(), &data_key, algorithm), None),
        Out::File(mut file) => (open_into(sealed, &mut file, &data_key, algorithm), Some(file)),
    };
    let what_is_left = match plaintext {
        Some(_) => "no plaintext was kept",
        None => "what was written to standard output is not the whole image: do not use it",
    };
    let Opened { length, sha256 } = opened
        .with_context(|| format!("failed to open {}; {what_is_left}", args.sealed.display()))?;
    if let Some(expected) = args.sha256.filter(|expected| *expected != sha256) {
        let what_is_left = plaintext
            .map_or("do not use what was written to standard output", |_| "nothing was kept");
        bail!(
            "the image's SHA-256 is {sha256}, not {expected}: it is not the one that was signed; {what_is_left}"
        );
    }
    let has_stdout = plaintext.is_some();
    if let Some(plaintext) = plaintext {
        plaintext
            .persist(&args.out)
            .with_context(|| format!("failed to write {}", args.out.display()))?;
    }
    let json = json!({ "length": length, "sha256": sha256, "alg": algorithm });
    match (output::is_json(), has_stdout) {
        (true, true) => print_line(json)?,
        (true, false) => eprintln!("{json}"),
        (false, has_stdout) => {
            let name =
                if has_stdout { args.out.display().to_string() } else { "the image".to_owned() };
            eprintln!(
                "Opened {name} ({}, {})",
                output::size(length),
                output::rate(length, started.elapsed())
            );
            if has_stdout { print_line(sha256)? } else { eprintln!("{sha256}") }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the image goes.
enum Out {
    Stdout,
    File(UnnamedFile),
}

impl Out {
    fn choose(path: &Path) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            ensure!(
                !io::stdout().is_terminal(),
                "standard output is a terminal: send the image to a file or a pipe"
            );
            return Ok(Self::Stdout);
        }
        let is_taken = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        ensure!(
            !is_taken,
            "{} is not a plain file, and won't be replaced; for a pipe use `--out -`",
            path.display()
        );
        let folder = folder_of(path);
        let file = UnnamedFile::create_in(folder).and_then(|file| {
            file.temporary_path().map(Path::to_owned).map_or(Ok(()), signals::remove_at_end)?;
            Ok(file)
        });
        Ok(Self::File(file.with_context(|| format!("failed to write in {}", folder.display()))?))
    }
}

fn unwrap(args: &Args) -> anyhow::Result<(DataKey, SealAlgorithm)> {
    let key = fs::read_to_string(&args.key)
        .with_context(|| format!("failed to read {}", args.key.display()))?;
    let key = RecipientPrivateKey::parse(&zeroize::Zeroizing::new(key))
        .with_context(|| format!("failed to use {}", args.key.display()))?;
    let envelope = fs::read(&args.envelope)
        .with_context(|| format!("failed to read {}", args.envelope.display()))?;
    let opened = Envelope::parse(&envelope).and_then(|envelope| envelope.open(&key));
    opened.with_context(|| format!("failed to open the envelope {}", args.envelope.display()))
}

struct Opened {
    length: u64,
    sha256: Sha256Digest,
}

fn open_into(
    sealed: File,
    plaintext: impl Write + Send,
    data_key: &DataKey,
    algorithm: SealAlgorithm,
) -> anyhow::Result<Opened> {
    let bar = output::bytes("opening", sealed.metadata()?.len()); // of a pipe there is no telling
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
    mut plaintext: impl Write,
    opened: mpsc::Receiver<Vec<u8>>,
    give_back: mpsc::Sender<Vec<u8>>,
) -> io::Result<Opened> {
    let mut hasher = Sha256::new();
    let mut length = 0;
    for mut block in opened {
        plaintext.write_all(&block)?;
        hasher.update(&block);
        length += block.len() as u64;
        block.clear();
        let _ = give_back.send(block); // the reader may be done
    }
    plaintext.flush()?;
    Ok(Opened { length, sha256: Sha256Digest::from_bytes(hasher.finalize().into()) })
}

const BLOCK_SIZE: usize = 1024 * 1024; // 1 MiB
