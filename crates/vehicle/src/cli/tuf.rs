//! `motorcade-vehicle tuf`: a plain TUF client with the command line that TUF's conformance suite
//! drives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use clap::error::ErrorKind;
use motorcade_host::unnamed::TEMPORARY;
use motorcade_model::{BaseUrl, Clock, SystemClock};
use motorcade_uptane::verify::{Rules, TrustedSet};

use crate::Error;
use crate::clients::Tls;
use crate::download::{self, Wanted};
use crate::files::{folder_of, sync_folder};
use crate::http::Http;
use crate::names::{quote, target_path};
use crate::source::HttpSource;
use crate::store::Store;
use crate::updater::Updater;
use crate::waiting::Patience;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of trusted metadata
    #[arg(long, global = true, value_name = "DIR")]
    metadata_dir: Option<PathBuf>,
    /// Where the repository's metadata is
    #[arg(long, global = true, value_name = "URL")]
    metadata_url: Option<BaseUrl>,
    /// Target to download; can be given more than once
    #[arg(long, global = true, value_name = "PATH")]
    target_name: Vec<String>,
    /// Where the repository's targets are
    #[arg(long, global = true, value_name = "URL")]
    target_base_url: Option<BaseUrl>,
    /// Folder for downloaded targets
    #[arg(long, global = true, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts to trust a root
    Init {
        /// Root metadata
        root: PathBuf,
    },
    /// Brings trusted metadata up to date
    Refresh,
    /// Brings trusted metadata up to date and downloads targets
    Download,
}

/// Runs the client; `usage` is the command line, for who has left something out.
pub(super) fn run(args: Args, mut usage: clap::Command) -> anyhow::Result<ExitCode> {
    let usage = &mut usage;
    let store = Store::plain(&required(&args.metadata_dir, "--metadata-dir", usage));
    match &args.command {
        Command::Init { root } => {
            let bytes =
                fs::read(root).with_context(|| format!("failed to read {}", root.display()))?;
            let is_root = TrustedSet::new(&bytes, Rules::Tuf, SystemClock.now());
            is_root
                .with_context(|| format!("{} is no root that can be trusted", root.display()))?;
            store.init(&bytes)?;
        }
        Command::Refresh => with_updater(&args, &store, usage, |_, _| Ok(()))?,
        Command::Download => {
            let base = required(&args.target_base_url, "--target-base-url", usage);
            let folder = required(&args.target_dir, "--target-dir", usage);
            if args.target_name.is_empty() {
                missing("--target-name", usage);
            }
            with_updater(&args, &store, usage, |http, updater| {
                args.target_name
                    .iter()
                    .try_for_each(|name| fetch(http, updater, name, base.as_str(), &folder))
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn required<T: Clone>(value: &Option<T>, option: &str, usage: &mut clap::Command) -> T {
    value.clone().unwrap_or_else(|| missing(option, usage))
}

fn missing(option: &str, usage: &mut clap::Command) -> ! {
    usage.error(ErrorKind::MissingRequiredArgument, format!("{option} is needed here")).exit()
}

fn with_updater(
    args: &Args,
    store: &Store,
    usage: &mut clap::Command,
    then: impl FnOnce(&Http, &mut Updater<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let url = required(&args.metadata_url, "--metadata-url", usage);
    let http = Http::new(Tls::default(), Patience::default())?;
    let source = HttpSource::new(&http, url.as_str(), None);
    let mut updater = Updater::start(store, &source, Rules::Tuf, SystemClock.now())?;
    updater.refresh()?;
    then(&http, &mut updater)
}

fn fetch(
    http: &Http,
    updater: &mut Updater<'_>,
    name: &str,
    base: &str,
    folder: &Path,
) -> anyhow::Result<()> {
    let Some(target) = updater.find_target(name, &[])? else {
        bail!("the repository has no target {name}")
    };
    let path = folder.join(quote(name));
    if download::is_whole(&path, &target) {
        return Ok(());
    }
    let hash =
        target.hashes.name().with_context(|| format!("{name} has no SHA-256 or SHA-512 digest"))?;
    // A download that is cut off is resumed by the next one, and not left beside it.
    let partial = folder.join(format!("{TEMPORARY}{hash}"));
    let hash = updater.set().has_consistent_snapshot().then_some(hash);
    let below =
        target_path(name, hash).ok_or_else(|| Error::TargetName { name: name.to_owned() })?;
    let url = format!("{base}/{below}");
    let wanted =
        Wanted { name, url: &url, token: None, length: target.length, hashes: &target.hashes };
    download::fetch(http, &wanted, &partial)?;
    fs::rename(&partial, &path)
        .and_then(|()| sync_folder(folder_of(&path)))
        .map_err(Error::file("write", &path))?;
    download::remove(&partial);
    Ok(())
}
