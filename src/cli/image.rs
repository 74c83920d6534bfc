//! `motorcade image push | list | show | yank`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use reqwest::{Body, Method, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::api::Api;
use super::output::{self, print_line};
use crate::config::ClientSettings;
use crate::model::{Constraint, HardwareId, ImageName, ImagePath, ImageVersion, ReleaseCounter, SealAlgorithm};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Uploads an image; pushing the same one again changes nothing
    Push(PushArgs),
    /// Lists images
    List {
        #[command(flatten)]
        client: ClientSettings,
        /// Print JSON, a line an image
        #[arg(long)]
        json: bool,
    },
    /// Shows an image
    Show {
        #[command(flatten)]
        client: ClientSettings,
        /// Target path, such as gw/4.2.0/gateway.bin
        path: ImagePath,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Takes an image out of the published metadata
    Yank {
        #[command(flatten)]
        client: ClientSettings,
        /// Target path, such as gw/4.2.0/gateway.bin
        path: ImagePath,
    },
}

#[derive(clap::Args)]
struct PushArgs {
    #[command(flatten)]
    client: ClientSettings,
    /// The image
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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl std::fmt::Debug for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("image::Args") // it may hold a token
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Push(args) => push(args).await,
        Command::List { client, json } => list(&Api::new(client)?, json).await,
        Command::Show { client, path, json } => show(&Api::new(client)?, &path, json).await,
        Command::Yank { client, path } => yank(&Api::new(client)?, &path).await,
    }
}

async fn push(args: PushArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(args.client.clone())?;
    let (length, sha256) = hash(&args.file).await.with_context(|| format!("failed to read {}", args.file.display()))?;
    let started = Instant::now();
    let bar = output::bytes("uploading", length);
    let file = File::open(&args.file).await.with_context(|| format!("failed to open {}", args.file.display()))?;
    let pieces = ReaderStream::with_capacity(file, PIECE_SIZE).inspect_ok({
        let bar = bar.clone();
        move |piece| bar.inc(piece.len() as u64)
    });
    let request = api
        .request(Method::PUT, &format!("images/{}", args.path))
        .query(&query(&args))
        .header("Content-Length", length)
        .header("Repr-Digest", format!("sha-256=:{}:", STANDARD.encode(sha256)))
        .body(Body::wrap_stream(pieces));
    let response = api.send(request).await;
    bar.finish_and_clear();
    let response = response?;
    let was_there = response.status() == StatusCode::OK;
    let image: Value = response.json().await.context("failed to read the server's answer")?;
    if args.json {
        print_line(&image)?;
    } else if was_there {
        eprintln!("{} was there already, with the same bytes", args.path);
    } else {
        let rate = output::rate(length, started.elapsed());
        eprintln!("Sealed and published {} ({}, {rate})", args.path, output::size(length));
    }
    Ok(ExitCode::SUCCESS)
}

fn query(args: &PushArgs) -> Vec<(&'static str, String)> {
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

/// Reads the file once before it is sent: the server then notices any byte that changes on the way, and a repeated push
/// is answered without sending the image again.
async fn hash(path: &Path) -> anyhow::Result<(u64, [u8; 32])> {
    let mut file = File::open(path).await?;
    let bar = output::bytes("hashing", file.metadata().await?.len());
    let mut hasher = Sha256::new();
    let mut length = 0;
    let mut piece = vec![0; PIECE_SIZE];
    loop {
        let count = file.read(&mut piece).await?;
        if count == 0 {
            bar.finish_and_clear();
            return Ok((length, hasher.finalize().into()));
        }
        hasher.update(&piece[..count]);
        length += count as u64;
        bar.inc(count as u64);
    }
}

async fn list(api: &Api, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut cursor = String::new();
    loop {
        let request = api.request(Method::GET, "images").query(&[("limit", "1000"), ("cursor", &cursor)]);
        let page = api.json(request).await?;
        for image in page["images"].as_array().into_iter().flatten() {
            if as_json {
                print_line(image)?;
            } else {
                print_line(line(image))?;
            }
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn line(image: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hardware: Vec<String> = image["hardware_ids"].as_array().into_iter().flatten().map(text).collect();
    let size = output::size(image["plaintext"]["length"].as_u64().unwrap_or(0));
    let note = if image["yanked_at"].is_null() { "" } else { "  yanked" };
    format!("{}  {}  {}  {size}{note}", text(&image["path"]), text(&image["version"]), hardware.join(","))
}

async fn show(api: &Api, path: &ImagePath, as_json: bool) -> anyhow::Result<ExitCode> {
    let image = api.json(api.request(Method::GET, &format!("images/{path}"))).await?;
    print_line(if as_json { image.to_string() } else { serde_json::to_string_pretty(&image)? })?;
    Ok(ExitCode::SUCCESS)
}

async fn yank(api: &Api, path: &ImagePath) -> anyhow::Result<ExitCode> {
    api.send(api.request(Method::DELETE, &format!("images/{path}"))).await?;
    eprintln!("Yanked {path}");
    Ok(ExitCode::SUCCESS)
}

const PIECE_SIZE: usize = 256 * 1024; // 256 KiB
