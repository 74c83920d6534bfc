//! `motorcade demo`: the main job end to end, with the real server on a free port of this machine.

mod rotation;
mod vehicle;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::{EXIT_FAILURE, output, signals};
use crate::api::{ImageBody, NewRecipient};
use crate::app::access::{self, NewToken};
use crate::app::setup::StateDir;
use crate::config::{BlobSettings, CatalogSettings, ServeConfig, ServeSettings};
use crate::envelope::key::RecipientPrivateKey;
use crate::model::{AccessRole, Bucket, Clock, DatabaseUrl, KeyInput, SystemClock};
use crate::server::Server;
use crate::telemetry::TraceExport;
use crate::uptane::client::VerifiedRepository;
use crate::uptane::custom::ImageCustom;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Size of the made-up firmware image, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    size: u64,
    /// Where the demo takes place, in the process that does the work
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,

    /// Where the catalog is; it has to be empty, and stays as the demo leaves it.
    #[command(flatten)]
    catalog: CatalogSettings,

    /// Where blobs are; a bucket, or the prefix in it, has to be empty, and stays as the demo leaves
    /// it.
    #[command(flatten)]
    blobs: BlobSettings,
}

/// Runs the demo in processes of their own, and removes whatever they leave, also when it is told
/// to end.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.folder {
        return play(&args, folder).await;
    }
    let end = signals::told_to_end()?;
    let folder = tempfile::Builder::new().prefix("motorcade-demo-").tempdir()?;
    let mut command = Command::new(this_program());
    command.args(["demo", "--size", &args.size.to_string(), "--folder"]).arg(folder.path());
    if let Some(url) = args.catalog.url() {
        // Not as an argument, which other users can see.
        command.env_remove("MOTORCADE_CATALOG_URL_FILE");
        command.env("MOTORCADE_CATALOG_URL", url.with(&[]).as_str());
    }
    command.envs(args.blobs.variables());
    command.process_group(0).stdin(Stdio::null());
    let mut playing = command.spawn()?;
    let group = Pid::from_child(&playing);
    let mut playing = tokio::task::spawn_blocking(move || playing.wait());
    let code = tokio::select! {
        status = &mut playing => status??.code().and_then(|code| code.try_into().ok()).unwrap_or(EXIT_FAILURE),
        code = end => {
            eprintln!("The demo was told to end; its files are removed");
            // The vehicle and curl too, so that nobody writes to the folder while it is removed.
            kill_process_group(group, Signal::KILL)?;
            playing.await??;
            code
        }
    };
    folder.close().context("failed to remove the demo's files")?;
    Ok(ExitCode::from(code))
}

async fn play(args: &Args, folder: &Path) -> anyhow::Result<ExitCode> {
    let demo = Demo::start(folder, args.catalog.url(), args.blobs.bucket()?).await?;
    let size = args.size * 1024 * 1024;
    demo.register_recipients().await?;
    demo.make_firmware(size)?;
    demo.upload(size).await?;
    demo.show_what_the_server_keeps().await?;
    demo.verify_and_open().await?;
    demo.rotate_a_recipient().await?;
    demo.show_refusals().await?;
    demo.drive_a_vehicle().await?;
    demo.stop().await?;
    say(
        "Done",
        "the demo's state directory is removed; README.md shows the same by hand, with curl",
    );
    Ok(ExitCode::SUCCESS)
}

struct Demo {
    folder: PathBuf,
    state: StateDir,
    url: String,
    engineer: String,
    uploader: String,
    enroller: String,
    officer: String,
    http: reqwest::Client,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Demo {
    async fn start(
        folder: &Path,
        database: Option<DatabaseUrl>,
        bucket: Option<Bucket>,
    ) -> anyhow::Result<Self> {
        let data_dir = folder.join("motorcade-data");
        let state =
            StateDir::new(&data_dir).with_catalog(database.clone()).with_bucket(bucket.clone());
        let started = Instant::now();
        state.init(Arc::new(SystemClock)).await?;
        say(
            "Initialized",
            format!(
                "role keys, escrow key, catalog and signed metadata in {:.1?}",
                started.elapsed()
            ),
        );
        let catalog = state.open_catalog().await?;
        let now = SystemClock.now();
        let token = async |role| {
            let made = access::create_token(&catalog, NewToken::of(role, "demo"), now).await;
            made.map(|token| token.to_string())
        };
        let engineer = token(AccessRole::Engineer).await?;
        let uploader = token(AccessRole::Uploader).await?;
        let enroller = token(AccessRole::Enroller).await?;
        let officer = token(AccessRole::Officer).await?;
        catalog.close().await;
        let config = ServeConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir,
            catalog: database,
            bucket,
            ..ServeSettings::default().resolve()?
        };
        let server = Server::bind(config, TraceExport::Off).await?;
        let url = format!("http://{}", server.address()?);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.run(async { drop(stopped.await) }));
        say("Serving", &url);
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            folder: folder.to_owned(),
            state,
            url,
            engineer,
            uploader,
            enroller,
            officer,
            http,
            stop,
            serving,
        })
    }

    async fn register_recipients(&self) -> anyhow::Result<()> {
        let keys = [
            ("P-256", RecipientPrivateKey::generate_p256()),
            ("RSA-3072", RecipientPrivateKey::generate_rsa(3072)?),
        ];
        for (kind, key) in keys {
            let file = self.folder.join(format!("ecu-{kind}.pem"));
            fs::write(file, key.to_pkcs8_pem().as_bytes())?;
            let status = self.register_recipient("gw-mk3", &key).await?;
            ensure!(status == StatusCode::CREATED, "the recipient was refused");
            say(
                "Registered",
                format!(
                    "an ECU's {kind} public key for the hardware id gw-mk3; its private half stays outside"
                ),
            );
        }
        Ok(())
    }

    async fn register_recipient(
        &self,
        hardware_id: &str,
        key: &RecipientPrivateKey,
    ) -> anyhow::Result<StatusCode> {
        let body = NewRecipient {
            hardware_ids: vec![hardware_id.to_owned()],
            public_key: KeyInput::from_text(&key.public().to_public_pem())
                .context("a key is text")?,
        };
        let url = format!("{}/api/v1/recipients", self.url);
        let request = self.http.post(url).bearer_auth(&self.engineer).json(&body);
        Ok(request.send().await?.status())
    }

    fn make_firmware(&self, size: u64) -> anyhow::Result<()> {
        let mut file = File::create(self.folder.join("firmware.bin"))?;
        let mut block = vec![0; 1024 * 1024];
        let bar = output::bytes("firmware", size);
        let mut written = 0;
        while written < size {
            getrandom::fill(&mut block)?;
            block[..MARKER.len()].copy_from_slice(MARKER);
            file.write_all(&block)?;
            written += block.len() as u64;
            bar.inc(block.len() as u64);
        }
        bar.finish_and_clear();
        say("Made up", format!("a firmware image of {}", output::size(size)));
        Ok(())
    }

    /// With curl if it is there, as CI would.
    async fn upload(&self, size: u64) -> anyhow::Result<()> {
        let url = format!(
            "{}/api/v1/images/{IMAGE}?hardware_id=gw-mk3&version=4.2.0&release_counter=42",
            self.url
        );
        let file = self.folder.join("firmware.bin");
        let started = Instant::now();
        let image = match self.upload_with_curl(&file, &url).await? {
            Some(image) => image,
            None => self.upload_without_curl(&file, &url).await?,
        };
        let took = started.elapsed();
        let rate = output::rate(size, took);
        say(
            "Uploaded",
            format!("hashed, sealed, stored, signed and published in {took:.1?} ({rate})"),
        );
        say("", format!("memory of the process that serves: at most {}", peak_memory()));
        say("", format!("plaintext SHA-256 {}", image.plaintext.sha256));
        say("", format!("sealed    SHA-256 {}", image.sealed.sha256));
        Ok(())
    }

    async fn upload_with_curl(&self, file: &Path, url: &str) -> anyhow::Result<Option<ImageBody>> {
        let (file, url) = (file.to_owned(), url.to_owned());
        let header = format!("Authorization: Bearer {}", self.uploader);
        let curl = move || {
            Command::new("curl")
                .args(["-sS", "--fail-with-body", "-H", &header, "-T"])
                .arg(file)
                .arg(url)
                .output()
        };
        let Ok(output) = tokio::task::spawn_blocking(curl).await? else { return Ok(None) };
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "curl: {}{text}", String::from_utf8_lossy(&output.stderr));
        Ok(Some(serde_json::from_str(&text)?))
    }

    async fn upload_without_curl(&self, file: &Path, url: &str) -> anyhow::Result<ImageBody> {
        let body = reqwest::Body::from(tokio::fs::File::open(file).await?);
        let response = self.http.put(url).bearer_auth(&self.uploader).body(body).send().await?;
        ensure!(
            response.status() == StatusCode::CREATED,
            "the upload was refused: {}",
            response.text().await?
        );
        Ok(response.json().await?)
    }

    /// The marker that stands in every MiB of the firmware is in no file of the state directory, and in
    /// no blob.
    async fn show_what_the_server_keeps(&self) -> anyhow::Result<()> {
        let mut folders = vec![self.folder.join("motorcade-data")];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let found = contains_marker(File::open(&path)?)?;
                    ensure!(!found, "plaintext was found in {}", path.display());
                    files += 1;
                }
            }
        }
        if self.state.bucket().is_some() {
            files += self.search_blobs().await?;
        }
        say("Searched", format!("{files} files of the server for plaintext: none"));
        Ok(())
    }

    async fn search_blobs(&self) -> anyhow::Result<usize> {
        let blobs = self.state.blobs_to_read().await?;
        let all = blobs.list().await?;
        for (name, key) in &all {
            let key = key.as_ref().with_context(|| format!("{name} is no blob"))?;
            let blob = blobs.open(key).await?;
            let found = tokio::task::spawn_blocking(move || contains_marker(blob.reader()));
            ensure!(!found.await??, "plaintext was found in {name}");
        }
        Ok(all.len())
    }

    async fn verify_and_open(&self) -> anyhow::Result<()> {
        let root = fs::read(self.state.trust_anchor())?;
        let repository = VerifiedRepository::load(&root, &format!("{}/repo", self.url)).await;
        let repository = repository
            .map_err(anyhow::Error::from_boxed)
            .context("the TUF client refused the repository")?;
        let [root, timestamp, snapshot] = repository.versions();
        say(
            "Verified",
            format!(
                "by the stock TUF client tough: root {root}, timestamp {timestamp}, snapshot {snapshot}"
            ),
        );
        for target in [IMAGE.to_owned(), format!("{IMAGE}.jwe")] {
            let file = self.folder.join(target.rsplit('/').next().unwrap_or_default());
            repository.download(&target, &file).await.map_err(anyhow::Error::from_boxed)?;
            say("Downloaded", format!("{target}, {}", output::size(fs::metadata(file)?.len())));
        }
        let signed = repository.find(IMAGE).context("the image is not listed")?.custom;
        let signed = ImageCustom::deserialize(signed).context("the image is not described")?;
        let signed = signed.sealed.plaintext.hashes.sha256.to_string();
        for kind in ["P-256", "RSA-3072"] {
            let started = Instant::now();
            let opened = self.open(kind, &["--sha256", &signed])?;
            ensure!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
            let took = started.elapsed();
            ensure!(
                same_bytes(&self.folder.join("opened.bin"), &self.folder.join("firmware.bin"))?,
                "bytes differ"
            );
            say(
                "Opened",
                format!(
                    "with the {kind} private key in {took:.1?}: the same bytes as the firmware"
                ),
            );
        }
        Ok(())
    }

    async fn show_refusals(&self) -> anyhow::Result<()> {
        let sealed = self.folder.join("gateway.bin");
        let mut file = File::options().read(true).write(true).open(&sealed)?;
        let middle = file.metadata()?.len() / 2;
        let mut byte = [0];
        file.seek(SeekFrom::Start(middle))?;
        file.read_exact(&mut byte)?;
        file.seek(SeekFrom::Start(middle))?;
        file.write_all(&[byte[0] ^ 1])?;
        fs::remove_file(self.folder.join("opened.bin"))?;
        let opened = self.open("new", &[])?;
        if opened.status.success() || self.folder.join("opened.bin").exists() {
            bail!("a changed image was opened");
        }
        say("Refused", "the sealed image with one bit flipped; no plaintext was left behind");
        let url = format!(
            "{}/api/v1/images/gw/4.2.1/gateway.bin?hardware_id=gw-mk3&version=1&release_counter=1",
            self.url
        );
        let refused = self.http.put(url).bearer_auth("motorcade_guess").body("x").send().await?;
        ensure!(refused.status() == StatusCode::UNAUTHORIZED, "a guessed token was accepted");
        say("Refused", "an upload with a guessed token");
        let url = format!(
            "{}/api/v1/images/{IMAGE}?hardware_id=gw-mk3&version=4.2.0&release_counter=42",
            self.url
        );
        let refused =
            self.http.put(url).bearer_auth(&self.uploader).body("other bytes").send().await?;
        ensure!(refused.status() == StatusCode::CONFLICT, "a published image was replaced");
        say("Refused", "other bytes under the path of a published image");
        Ok(())
    }

    /// Runs `motorcade open`, as an ECU's integrator would.
    fn open(&self, kind: &str, extra: &[&str]) -> std::io::Result<std::process::Output> {
        Command::new(this_program())
            .current_dir(&self.folder)
            .args(["open", "--envelope", "gateway.bin.jwe", "--out", "opened.bin", "--key"])
            .arg(format!("ecu-{kind}.pem"))
            .args(extra)
            .arg("gateway.bin")
            .output()
    }

    async fn stop(self) -> anyhow::Result<()> {
        let _ = self.stop.send(());
        self.serving.await??;
        Ok(())
    }
}

/// The demo runs other commands of the program that it is in.
fn this_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "motorcade".into())
}

fn say(what: &str, detail: impl std::fmt::Display) {
    println!("{what:>12}  {detail}");
}

fn contains_marker(mut file: impl Read) -> std::io::Result<bool> {
    let mut window = vec![0; 1024 * 1024 + MARKER.len()];
    let mut kept = 0;
    loop {
        let count = file.read(&mut window[kept..])?;
        if count == 0 {
            return Ok(false);
        }
        let filled = kept + count;
        if window[..filled].windows(MARKER.len()).any(|part| part == MARKER) {
            return Ok(true);
        }
        kept = filled.min(MARKER.len() - 1);
        window.copy_within(filled - kept..filled, 0);
    }
}

fn same_bytes(one: &Path, other: &Path) -> std::io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut left, mut right) = (vec![0; 1024 * 1024], vec![0; 1024 * 1024]);
    loop {
        let count = one.read(&mut left)?;
        if count == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        if other.read_exact(&mut right[..count]).is_err() || left[..count] != right[..count] {
            return Ok(false);
        }
    }
}

/// Peak resident memory of this process.
fn peak_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown");
    peak.split_whitespace().collect::<Vec<_>>().join(" ")
}

const IMAGE: &str = "gw/4.2.0/gateway.bin";
const MARKER: &[u8] =
    b"motorcade demo: this is plaintext, and it must never be found on the server";
