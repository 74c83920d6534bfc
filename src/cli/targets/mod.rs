//! Targets files that their owners sign, step by step: `motorcade targets status | stage | diff |
//! sign | publish | cancel`, and the same of `motorcade supplier`.

mod offline;
mod told;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::api::Api;
use super::new_file::{ensure_new, write_new};
use super::output::{self, print_json};
use super::signing::{Signing, command, if_match};
use crate::api::{NewSignatures, NewTargets, TargetsBody, TargetsFile};
use crate::config::ClientSettings;
use crate::model::{RoleKind, RoleName};
use motorcade_host::shown::printable;
use told::{tell, tell_changes};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Shows what is published of the top-level targets, what waits and what is staged
    Status {
        #[command(flatten)]
        client: ClientSettings,
    },
    /// Stages the next targets: to whom they are to delegate
    Stage {
        #[command(flatten)]
        client: ClientSettings,
        #[command(flatten)]
        args: StageArgs,
    },
    /// Shows what the staged targets change
    Diff {
        #[command(flatten)]
        client: ClientSettings,
        /// Write the file to be signed on a machine without a network; nothing may be there
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Signs staged targets: offline, from a file; or brings signatures to the server
    Sign {
        #[command(flatten)]
        client: ClientSettings,
        #[command(flatten)]
        args: SignArgs,
    },
    /// Publishes what is staged, once enough keys have signed it
    Publish {
        #[command(flatten)]
        client: ClientSettings,
        /// Only if this is what is staged
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
    },
    /// Drops what is staged
    Cancel {
        #[command(flatten)]
        client: ClientSettings,
        /// What is staged, as `status` shows it
        #[arg(long, value_name = "REVISION")]
        revision: u64,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let role = |client| Role::open(client, RoleName::Targets);
    match args.command {
        Command::Status { client } => role(client)?.status().await,
        Command::Stage { client, args } => role(client)?.stage(args).await,
        Command::Diff { client, out } => role(client)?.diff(out).await,
        Command::Sign { client, args } => sign(RoleKind::Targets, client, args).await,
        Command::Publish { client, revision } => role(client)?.publish(revision).await,
        Command::Cancel { client, revision } => role(client)?.cancel(revision).await,
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct StageArgs {
    /// Days for which the file is good; as the policy says without it
    #[arg(long, value_name = "DAYS")]
    expires_days: Option<u16>,
    /// Revision of the staging that this replaces; its signatures are dropped
    #[arg(long, value_name = "REVISION")]
    replace: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(super) struct SignArgs {
    /// File of `diff --out`; nothing but it and the key is read, and no network is used
    #[arg(required_unless_present = "send", requires = "key")]
    file: Option<PathBuf>,
    /// Private key that signs: a PKCS#8 file in PEM of mode 0600, or where else a key of a role may
    /// be, such as `pkcs11:…` (RFC 7512)
    #[arg(long, value_name = "KEY", requires = "file")]
    key: Option<String>,
    /// Where the signature goes; nothing may be there
    #[arg(long, value_name = "FILE", requires = "file")]
    out: Option<PathBuf>,
    /// The signer's own copy of the file that was published last: what changes is counted from it.
    /// Without it, everything that the new one says is shown
    #[arg(long, value_name = "FILE", requires = "file")]
    trusted: Option<PathBuf>,
    /// Sign without asking, once what is signed was shown
    #[arg(long, requires = "file")]
    yes: bool,
    /// Bring signatures that were made elsewhere to the server
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "file")]
    send: Vec<PathBuf>,
}

/// A role of a server.
pub(super) struct Role {
    api: Api,
    role: RoleName,
}

impl Role {
    pub(super) fn open(client: ClientSettings, role: RoleName) -> anyhow::Result<Self> {
        Ok(Self { api: Api::new(client)?, role })
    }

    pub(super) async fn status(&self) -> anyhow::Result<ExitCode> {
        tell(&self.shown().await?)
    }

    pub(super) async fn stage(&self, args: StageArgs) -> anyhow::Result<ExitCode> {
        let body = NewTargets { expires_days: args.expires_days };
        let request = self.request(Method::PUT, "/staged").json(&body);
        tell(&self.api.json(if_match(request, args.replace)).await?)
    }

    pub(super) async fn diff(&self, out: Option<PathBuf>) -> anyhow::Result<ExitCode> {
        if let Some(out) = &out {
            ensure_new(out)?;
        }
        let state = self.shown().await?;
        let Some(staged) = &state.staged else {
            bail!("nothing is staged: see `motorcade {} stage`", command(self.role.as_str()))
        };
        if let Some(out) = &out {
            let file: TargetsFile = self.api.json(self.request(Method::GET, "/staged")).await?;
            ensure!(file.revision == staged.revision, "somebody has staged another one: try again");
            write_new(out, &serde_json::to_vec(&file)?)?;
        }
        match output::is_json() {
            true => print_json(staged)?,
            false => tell_changes(&staged.changes)?,
        }
        if let Some(out) = out {
            output::note(format_args!(
                "hint: sign it where the key is, with `motorcade {} sign {} --key KEY.pem`",
                command(self.role.as_str()),
                out.display()
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    pub(super) async fn publish(&self, revision: Option<u64>) -> anyhow::Result<ExitCode> {
        let request = self.request(Method::POST, "/staged/publish");
        tell(&self.api.json(if_match(request, revision)).await?)
    }

    pub(super) async fn cancel(&self, revision: u64) -> anyhow::Result<ExitCode> {
        let request = self.request(Method::DELETE, "/staged");
        self.api.send(if_match(request, Some(revision))).await?;
        output::report("Nothing is staged any more", json!({ "cancelled": revision }))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Brings one file of `sign`.
    async fn bring(&self, signed: offline::SignatureFile) -> anyhow::Result<TargetsBody> {
        let body = NewSignatures {
            payload_sha256: Some(signed.payload_sha256),
            signatures: signed.signatures,
        };
        let request = self.request(Method::POST, "/staged/signatures").json(&body);
        self.api.json(request).await
    }

    async fn shown(&self) -> anyhow::Result<TargetsBody> {
        self.api.json(self.request(Method::GET, "")).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.api.request(method, &format!("targets/{}{path}", self.role))
    }
}

/// Signs a file of such a role where the key is, or brings what was signed there to the server.
pub(super) async fn sign(
    kind: RoleKind,
    client: ClientSettings,
    args: SignArgs,
) -> anyhow::Result<ExitCode> {
    if let (Some(file), Some(key)) = (args.file, args.key) {
        let (trusted, out, yes) = (args.trusted, args.out, args.yes);
        return offline::run(Signing { file, key, trusted, out, yes }, kind).await;
    }
    let mut files = Vec::new();
    for file in args.send {
        let text = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let signed: offline::SignatureFile = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no file of `sign`", file.display()))?;
        files.push((file, signed));
    }
    let first = files.first().context("name a file")?;
    let name = first.1.targets_role.clone();
    for (file, signed) in &files {
        let (file, role) = (file.display(), printable(&signed.targets_role));
        ensure!(signed.targets_role == name, "{file} is for {role}: bring it by itself");
    }
    let role = Role::open(client, name.parse().context("the file names no role")?)?;
    let mut last = None;
    for (file, signed) in files {
        let brought = role.bring(signed).await;
        last = Some(brought.with_context(|| format!("failed to bring {}", file.display()))?);
    }
    tell(&last.context("name a file")?)
}
