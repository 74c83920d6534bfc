//! `motorcade escrow show | rotate`

use std::process::ExitCode;

use reqwest::Method;

use super::api::Api;
use super::job;
use super::output::{self, List};
use crate::api::{EscrowBody, EscrowRotation, NewRotation};
use crate::config::ClientSettings;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Shows the escrow keys, and how many envelopes each opens
    Show {
        #[command(flatten)]
        client: ClientSettings,
    },
    /// Has another escrow key wrap, and every envelope wrapped again; the former key opens nothing
    /// after that
    Rotate {
        #[command(flatten)]
        client: ClientSettings,
        /// Key that comes: file:NAME in keys/, or a PKCS#11 URI (RFC 7512); by default a new one in a
        /// file
        #[arg(long, value_name = "SOURCE")]
        key: Option<String>,
        /// Only find out how many envelopes there are, and which ones it can't be done for
        #[arg(long)]
        dry_run: bool,
        /// Wait for its end, and show how far it is
        #[arg(long)]
        follow: bool,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Show { client } => show(&Api::new(client)?).await,
        Command::Rotate { client, key, dry_run, follow } => {
            let api = Api::new(client)?;
            let escrow = Some(EscrowRotation { key });
            let body = NewRotation { escrow, dry_run, ..NewRotation::default() };
            let job = api.json(api.request(Method::POST, "rotations").json(&body)).await?;
            job::begun(&api, &job, follow).await
        }
    }
}

async fn show(api: &Api) -> anyhow::Result<ExitCode> {
    let shown: EscrowBody = api.json(api.request(Method::GET, "escrow")).await?;
    let mut list = List::new([("KID", 43), ("STATE", 5), ("ENVELOPES", 9), ("SOURCE", 0)]);
    for key in &shown.keys {
        list.item(key, |key| {
            let [kid, state, source] = [&key.kid, &key.state, &key.source].map(String::clone);
            [kid, state, key.envelopes.to_string(), source]
        })?;
    }
    list.end()?;
    for fault in &shown.faults {
        output::note(format_args!("{fault}"));
    }
    Ok(ExitCode::SUCCESS)
}
