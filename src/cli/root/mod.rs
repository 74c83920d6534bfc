//! `motorcade root status | make-key | key | stage | diff | sign | publish | cancel`

mod change;
mod make_key;
mod offline;
mod told;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::api::Api;
use super::new_file::{ensure_new, write_new};
use super::output::{self, print_json, print_line};
use super::signing::{Signing, if_match, open_key};
use crate::api::{CeremonyFile, NewSignatures, PublishRootQuery, RootBody};
use crate::config::ClientSettings;
use crate::model::RepositorySide;
use change::ChangeArgs;
pub(super) use change::public_key;
use motorcade_host::shown::printable;
use told::{tell_diff, tell_staged};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in the life of a process")]
enum Command {
    /// Shows whose keys sign, and how far a ceremony is
    Status {
        #[command(flatten)]
        at: At,
    },
    /// Makes a key for an officer, here: no server is asked
    MakeKey(make_key::Args),
    /// Stages the next root: what is to change, for people to sign
    Stage {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        change: ChangeArgs,
        /// Revision of the staging that this replaces; its signatures are dropped
        #[arg(long, value_name = "REVISION")]
        replace: Option<u64>,
    },
    /// Shows what the staged root changes, and what that means for clients
    Diff {
        #[command(flatten)]
        at: At,
        /// Write the file to be signed on a machine without a network; nothing may be there
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Signs a staged root: offline, from a file; or brings signatures to the server
    Sign(SignArgs),
    /// Prints the public half of a signing key, for `root stage --add`
    Key {
        /// The private key, as for `root sign`
        key: String,
    },
    /// Publishes what is staged, once enough keys have signed it and every client can follow
    Publish {
        #[command(flatten)]
        at: At,
        /// Only if this is what is staged
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
        /// For a lost key: vehicles that poll meanwhile fail until the role is signed again
        #[arg(long)]
        accept_failed_cycles: bool,
    },
    /// Drops what is staged
    Cancel {
        #[command(flatten)]
        at: At,
        /// Only if this is what is staged; needed for what somebody else has staged
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
    },
}

/// Of which repository, on which server.
#[derive(Debug, clap::Args)]
struct At {
    #[command(flatten)]
    client: ClientSettings,
    /// `image` or `director`
    #[arg(long, value_name = "REPOSITORY", default_value = "image", value_parser = ["image", "director"])]
    repository: String,
}

#[derive(Debug, clap::Args)]
struct SignArgs {
    #[command(flatten)]
    at: At,
    /// File of `root diff --out`; nothing but it and the key is read, and no network is used
    #[arg(required_unless_present_any = ["send", "here"], requires = "key")]
    file: Option<PathBuf>,
    /// Private key that signs: a PKCS#8 file in PEM of mode 0600, or where else a key of a role may
    /// be, such as `pkcs11:…` (RFC 7512)
    #[arg(long, value_name = "KEY", requires = "file")]
    key: Option<String>,
    /// Where the signature goes; nothing may be there
    #[arg(long, value_name = "FILE", requires = "file")]
    out: Option<PathBuf>,
    /// The signer's own copy of the published root: the one in the file must be the same. Without
    /// it nobody vouches for that one, and its digests have to be compared by hand
    #[arg(long, value_name = "FILE", requires = "file")]
    trusted: Option<PathBuf>,
    /// Sign without asking, once what is signed was shown
    #[arg(long, requires = "file")]
    yes: bool,
    /// Bring signatures that were made elsewhere to the server
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["file", "here"])]
    send: Vec<PathBuf>,
    /// Have the server sign with the root keys that it has
    #[arg(long, conflicts_with = "file")]
    here: bool,
    /// Only if this is what is staged; needed with `--here` for what somebody else has staged
    #[arg(long, value_name = "REVISION", conflicts_with = "file")]
    revision: Option<u64>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Status { at } => at.status().await,
        Command::MakeKey(args) => make_key::run(args),
        Command::Stage { at, change, replace } => at.stage(&change, replace).await,
        Command::Diff { at, out } => at.diff(out).await,
        Command::Sign(args) => sign(args).await,
        Command::Key { key } => {
            print_json(open_key(&key).await?.public().object())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Publish { at, revision, accept_failed_cycles } => {
            at.publish(revision, accept_failed_cycles).await
        }
        Command::Cancel { at, revision } => at.cancel(revision).await,
    }
}

async fn sign(args: SignArgs) -> anyhow::Result<ExitCode> {
    if let (Some(file), Some(key)) = (args.file, args.key) {
        let (trusted, out, yes) = (args.trusted, args.out, args.yes);
        return offline::run(Signing { file, key, trusted, out, yes }).await;
    }
    let (at, api) = args.at.open()?;
    if args.here {
        let request = at.request(&api, Method::POST, "/staged/sign");
        let root: RootBody = api.json(if_match(request, args.revision)).await?;
        return at.tell(&root);
    }
    let mut last = None;
    for file in args.send {
        let text = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let signed: offline::SignatureFile = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no file of `root sign`", file.display()))?;
        if signed.repository != at.repository {
            bail!(
                "{} is for the {} repository: say `--repository {}`",
                file.display(),
                printable(&signed.repository),
                printable(&signed.repository)
            );
        }
        let body = NewSignatures {
            payload_sha256: Some(signed.payload_sha256),
            signatures: signed.signatures,
        };
        let request = at.request(&api, Method::POST, "/staged/signatures").json(&body);
        let request = if_match(request, args.revision);
        last = Some(
            api.json(request)
                .await
                .with_context(|| format!("failed to bring {}", file.display()))?,
        );
    }
    at.tell(&last.context("name a file")?)
}

impl At {
    fn open(self) -> anyhow::Result<(Repository, Api)> {
        let api = Api::new(self.client)?;
        Ok((Repository { repository: self.repository }, api))
    }

    async fn status(self) -> anyhow::Result<ExitCode> {
        let (at, api) = self.open()?;
        at.tell(&at.root(&api).await?)
    }

    async fn stage(self, change: &ChangeArgs, replace: Option<u64>) -> anyhow::Result<ExitCode> {
        let body = change.body()?;
        let (at, api) = self.open()?;
        let request = at.request(&api, Method::PUT, "/staged").json(&body);
        let root: RootBody = api.json(if_match(request, replace)).await?;
        at.tell(&root)
    }

    async fn diff(self, out: Option<PathBuf>) -> anyhow::Result<ExitCode> {
        if let Some(out) = &out {
            ensure_new(out)?;
        }
        let (at, api) = self.open()?;
        let root = at.root(&api).await?;
        let Some(staged) = &root.staged else {
            bail!("nothing is staged: see `motorcade root stage`")
        };
        if let Some(out) = &out {
            let file: CeremonyFile = api.json(at.request(&api, Method::GET, "/staged")).await?;
            write_new(out, &serde_json::to_vec(&file)?)?;
        }
        if output::is_json() {
            print_json(staged)?;
        } else {
            tell_diff(&staged.changes, &staged.consequences)?;
            tell_staged(staged)?;
        }
        if let Some(out) = out {
            output::note(format_args!(
                "hint: sign it where the key is, with `motorcade root sign {} --key KEY.pem`",
                out.display()
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn publish(
        self,
        revision: Option<u64>,
        accept_failed_cycles: bool,
    ) -> anyhow::Result<ExitCode> {
        let (at, api) = self.open()?;
        let request = at
            .request(&api, Method::POST, "/staged/publish")
            .query(&PublishRootQuery { accept_failed_cycles });
        let root: RootBody = api.json(if_match(request, revision)).await?;
        at.tell(&root)
    }

    async fn cancel(self, revision: Option<u64>) -> anyhow::Result<ExitCode> {
        let (at, api) = self.open()?;
        api.send(if_match(at.request(&api, Method::DELETE, "/staged"), revision)).await?;
        output::report("Nothing is staged any more", json!({ "cancelled": at.repository }))?;
        Ok(ExitCode::SUCCESS)
    }
}

struct Repository {
    repository: String,
}

impl Repository {
    fn request(&self, api: &Api, method: Method, path: &str) -> RequestBuilder {
        api.request(method, &format!("roots/{}{path}", self.repository))
    }

    async fn root(&self, api: &Api) -> anyhow::Result<RootBody> {
        api.json(self.request(api, Method::GET, "")).await
    }

    fn tell(&self, root: &RootBody) -> anyhow::Result<ExitCode> {
        if output::is_json() {
            print_json(root)?;
            return Ok(ExitCode::SUCCESS);
        }
        print_line(format_args!(
            "root {} of the {}, good until {}",
            root.version,
            RepositorySide::ALL
                .into_iter()
                .find(|side| side.as_str() == self.repository)
                .map_or_else(String::new, |side| side.to_string()),
            printable(&root.expires_at)
        ))?;
        for role in &root.roles {
            let (keys, threshold) = (role.keys.len(), role.threshold);
            print_line(format_args!("{}: {threshold} of {keys} sign", printable(&role.name)))?;
            for key in &role.keys {
                let place = if key.is_here { "on this server" } else { "elsewhere" };
                let (id, scheme) = (printable(&key.key_id), printable(&key.scheme));
                print_line(format_args!("  {id} {scheme}, {place}"))?;
            }
        }
        match &root.staged {
            Some(staged) => tell_staged(staged)?,
            None => print_line("nothing is staged")?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
