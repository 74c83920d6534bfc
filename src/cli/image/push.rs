//! `motorcade image push`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use indicatif::ProgressBar;
use reqwest::{Body, Method, Response, StatusCode};
use url::form_urlencoded;

use super::resumable::{Pushed, Resumable, metadata};
use super::retry::pause_before_retry;
use super::source::Source;
use crate::api::{FileBody, ImageBody};
use crate::cli::api::{Api, Failure};
use crate::cli::output;
use crate::cli::signing::command;
use crate::config::{ClientSettings, Span};
use crate::model::{
    Constraint, HardwareId, ImageName, ImagePath, ImageVersion, ReleaseCounter, SealAlgorithm,
    Sha256Digest,
};
use motorcade_host::shown::printable;

#[derive(Debug, clap::Args)]
pub(super) struct PushArgs {
    #[command(flatten)]
    client: ClientSettings,
    /// The image; a pipe works too, and `-` is standard input
    file: PathBuf,
    /// Target path, such as gw/4.2.0/gateway.bin
    #[arg(long)]
    path: ImagePath,
    /// Hardware that may run it; repeat for more
    #[arg(long, required = true)]
    hardware_id: Vec<HardwareId>,
    /// Version of the software
    #[arg(long)]
    version: ImageVersion,
    /// Raised with each release
    #[arg(long)]
    release_counter: ReleaseCounter,
    /// Name of the software [default: the path's file name without its extension]
    #[arg(long)]
    name: Option<ImageName>,
    /// What has to be in the same vehicle, as in `gateway>=42`; repeat for more
    #[arg(long, value_name = "CONSTRAINT")]
    requires: Vec<Constraint>,
    /// What must not be in the same vehicle, as in `brake-*<7`; repeat for more
    #[arg(long, value_name = "CONSTRAINT")]
    conflicts: Vec<Constraint>,
    /// Sealing algorithm; AES256_GCM_HKDF_4KB is for ECUs with little memory
    #[arg(long, default_value_t)]
    algorithm: SealAlgorithm,
    /// Seal for this recipient only, by kid; repeat for more [default: all of the hardware ids']
    #[arg(long)]
    recipient: Vec<String>,
    /// SHA-256 that the image must have; of use with a pipe, whose writer may fail without a word
    #[arg(long, value_name = "HEX")]
    sha256: Option<Sha256Digest>,
    /// How long to try again while the server is busy or the connection breaks; 0 for one try
    #[arg(long, value_name = "TIME", default_value = "10m")]
    retry_for: Span<1, 0, 604_800>,
}

pub(super) async fn push(args: PushArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(args.client.clone())?;
    let source = Source::open(&args.file).await?;
    if let (Some(expected), Some(sha256)) = (args.sha256, source.sha256()) {
        ensure!(
            expected == sha256,
            "the SHA-256 of {} is {sha256}, not {expected}",
            args.file.display()
        );
    }
    let started = Instant::now();
    let (image, was_there) = match push_resumably(&api, &args, &source).await? {
        Some(image) => (image, false),
        None => {
            let response = send_until_taken(&api, &args, &source).await?;
            let was_there = response.status() == StatusCode::OK;
            (response.json().await.context("failed to read the server's answer")?, was_there)
        }
    };
    let length = image.plaintext.length;
    check_stored(&args, &source, &image.plaintext).await?;
    let rate = output::rate(length, started.elapsed());
    let line = match was_there {
        true => format!("{} was there already, with the same bytes", args.path),
        false if image.awaits_signature_of.is_some() => {
            format!(
                "Sealed {}, which is not published yet ({}, {rate})",
                args.path,
                output::size(length)
            )
        }
        false => format!("Sealed and published {} ({}, {rate})", args.path, output::size(length)),
    };
    let awaited = image.awaits_signature_of.clone();
    output::report(line, image)?;
    if let Some(role) = awaited {
        let (command, role) = (command(&role), printable(&role));
        output::note(format_args!(
            "it is published once {role} is signed: see `motorcade {command} stage`"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends a large file so that it can be resumed; none if it is small, a pipe, or there already, which
/// takes one request, or if the server is too old.
async fn push_resumably(
    api: &Api,
    args: &PushArgs,
    source: &Source,
) -> anyhow::Result<Option<ImageBody>> {
    let (Some(length), Some(sha256)) = (source.length(), source.sha256()) else { return Ok(None) };
    let path = format!("images/{}", args.path);
    if length < RESUMABLE_FROM || api.send(api.request(Method::GET, &path)).await.is_ok() {
        return Ok(None);
    }
    let said = [("path", args.path.to_string()), ("sha256", sha256.to_string())];
    let metadata = metadata(said.into_iter().chain(listed(args)));
    let patience = args.retry_for.duration();
    let push = Resumable { api, source, length, metadata, patience };
    match push.push().await? {
        Pushed::Taken => Ok(Some(api.json(api.request(Method::GET, &path)).await?)),
        Pushed::Unknown => Ok(None),
    }
}

/// What is said of the image, each key once: members of a list have spaces between them.
fn listed(args: &PushArgs) -> Vec<(&'static str, String)> {
    let mut listed: Vec<(&'static str, String)> = Vec::new();
    for (key, value) in described(args) {
        match listed.iter_mut().find(|(name, _)| *name == key) {
            Some((_, values)) => *values = format!("{values} {value}"),
            None => listed.push((key, value)),
        }
    }
    listed
}

/// A digest that was announced was checked by the server. Of a pipe nothing was, and its end is
/// known now.
async fn check_stored(args: &PushArgs, source: &Source, stored: &FileBody) -> anyhow::Result<()> {
    if source.sha256().or(args.sha256).is_some() {
        return Ok(());
    }
    let (length, sha256) = source.sent().await;
    let is_the_same = stored.sha256 == sha256.to_string() && stored.length == length;
    ensure!(
        is_the_same,
        "the server has stored another image than was sent ({length} bytes, SHA-256 {sha256}): see `motorcade image show {}`",
        args.path
    );
    Ok(())
}

/// A repeated upload changes nothing, so that whatever may pass is tried again, for as long as the
/// image can be sent again.
async fn send_until_taken(api: &Api, args: &PushArgs, source: &Source) -> anyhow::Result<Response> {
    let patience = args.retry_for.duration();
    let started = Instant::now();
    for attempt in 1.. {
        let error = match send(api, args, source).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        if let Some(fault) = source.fault().await {
            bail!(fault);
        }
        let pause = pause_before_retry(&error, attempt)
            .filter(|pause| started.elapsed() + *pause <= patience);
        let Some(pause) = pause else { return Err(error.into()) };
        if !source.can_be_sent_again().await {
            return Err(anyhow::Error::from(error)
                .context("a part of the image was sent, and a pipe can't be read again"));
        }
        output::note(format_args!("{error}; trying again in {} s", pause.as_secs()));
        tokio::time::sleep(pause).await;
    }
    bail!("tried too often")
}

async fn send(api: &Api, args: &PushArgs, source: &Source) -> Result<Response, Failure> {
    let bar = match source.length() {
        Some(length) => output::bytes("uploading", length),
        None => output::unknown_bytes("uploading"),
    };
    let pieces = source.body().inspect_ok({
        let bar: ProgressBar = bar.clone();
        move |piece| bar.inc(piece.len() as u64)
    });
    let mut request = api.request(Method::PUT, &format!("images/{}?{}", args.path, query(args)));
    request = request.header("Content-Type", "application/octet-stream");
    if let Some(length) = source.length() {
        request = request.header("Content-Length", length);
    }
    if let Some(sha256) = source.sha256().or(args.sha256) {
        request = request
            .header("Repr-Digest", format!("sha-256=:{}:", STANDARD.encode(sha256.as_bytes())));
    }
    let response = api.send(request.body(Body::wrap_stream(pieces))).await;
    bar.finish_and_clear();
    response
}

fn query(args: &PushArgs) -> String {
    let query = described(args);
    // A form writes a space as `+`, and the server takes neither for the other.
    form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish().replace('+', "%20")
}

/// What is said of the image.
fn described(args: &PushArgs) -> Vec<(&'static str, String)> {
    let mut query = vec![
        ("version", args.version.to_string()),
        ("release_counter", args.release_counter.to_string()),
        ("algorithm", args.algorithm.to_string()),
    ];
    query.extend(args.hardware_id.iter().map(|id| ("hardware_id", id.to_string())));
    query.extend(args.name.iter().map(|name| ("name", name.to_string())));
    query.extend(args.requires.iter().map(|constraint| ("requires", constraint.to_string())));
    query.extend(args.conflicts.iter().map(|constraint| ("conflicts", constraint.to_string())));
    query.extend(args.recipient.iter().map(|kid| ("recipient", kid.clone())));
    query
}

/// From here on a file is sent so that it can be resumed: sending less again costs little.
const RESUMABLE_FROM: u64 = 16 * 1024 * 1024; // 16 MiB
