//! `motorcade token create | list | revoke`

use std::process::ExitCode;

use anyhow::{bail, ensure};
use serde::Serialize;
use serde_json::json;

use super::StateArgs;
use super::output::{self, List, print_line};
use crate::app::access::local_author;
use crate::app::access::{self, NewToken};
use crate::config::Span;
use crate::model::{AccessRole, Clock, ImagePath, SystemClock, Timestamp};
use motorcade_host::shown::printable;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a token and prints it, and nothing else; it can't be shown again
    Create {
        #[command(flatten)]
        state: StateArgs,
        /// What its holder may do: uploader, engineer, officer, viewer or enroller
        #[arg(long)]
        role: AccessRole,
        /// Who holds it, for the list
        #[arg(long, default_value = "")]
        label: String,
        /// Time after which it stops working; days, or with a unit [default: never]
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Lifetime>,
        /// An uploader may upload below this folder only, such as supplier-a/
        #[arg(long, value_name = "FOLDER/")]
        path_prefix: Option<String>,
    },
    /// Lists tokens, without their secrets
    List {
        #[command(flatten)]
        state: StateArgs,
    },
    /// Revokes a token at once
    Revoke {
        #[command(flatten)]
        state: StateArgs,
        /// Id of the token, as listed
        id: String,
    },
}

/// From a minute to a hundred years.
type Lifetime = Span<86_400, 60, { 36_500 * 86_400 }>;

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create { state, role, label, expires_in, path_prefix } => {
            let prefix = path_prefix.map(|prefix| check_prefix(role, prefix)).transpose()?;
            create(&state, role, &label, expires_in, prefix.as_deref()).await
        }
        Command::List { state } => list(&state).await,
        Command::Revoke { state, id } => revoke(&state, &id).await,
    }
}

fn check_prefix(role: AccessRole, prefix: String) -> anyhow::Result<String> {
    ensure!(
        role == AccessRole::Uploader,
        "--path-prefix is for uploaders; an {role}'s token works everywhere"
    );
    let is_folder =
        prefix.strip_suffix('/').is_some_and(|folder| folder.parse::<ImagePath>().is_ok());
    ensure!(is_folder, "--path-prefix takes a folder with a slash at its end, such as supplier-a/");
    Ok(prefix)
}

async fn create(
    state: &StateArgs,
    role: AccessRole,
    label: &str,
    expires_in: Option<Lifetime>,
    path_prefix: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let catalog = state.state()?.open_catalog().await?;
    let now = SystemClock.now();
    let expires_at = expires_in.map(|lifetime| now + lifetime.duration());
    let token =
        access::create_token(&catalog, NewToken { role, label, expires_at, path_prefix }, now)
            .await?;
    if output::is_json() {
        print_line(
            json!({ "token": *token, "role": role, "expires_at": expires_at.map(|time| time.to_string()) }),
        )?;
    } else {
        print_line(&*token)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(state: &StateArgs) -> anyhow::Result<ExitCode> {
    let mut list = List::new([
        ("ID", 0),
        ("ROLE", 8),
        ("CREATED", 0),
        ("STATE", 10),
        ("FOLDER", 0),
        ("LABEL", 0),
    ]);
    for token in state.state()?.open_catalog().await?.list_tokens().await? {
        let row = Row {
            id: token.id,
            role: token.role,
            label: token.label,
            path_prefix: token.path_prefix,
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked: token.revoked_at.is_some(),
        };
        list.item(&row, Row::cells)?;
    }
    list.end()?;
    Ok(ExitCode::SUCCESS)
}

/// A token in the list.
#[derive(Serialize)]
struct Row {
    id: String,
    role: AccessRole,
    label: String,
    path_prefix: Option<String>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked: bool,
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let state = match (self.revoked, self.expires_at) {
            (true, _) => "revoked".to_owned(),
            (false, Some(time)) => format!("until {time}"),
            (false, None) => "no expiry".to_owned(),
        };
        let folder = self.path_prefix.as_deref().unwrap_or("-").to_owned();
        let label = format!("{:?}", printable(&self.label));
        let (id, role) = (self.id.clone(), self.role.to_string());
        [id, role, self.created_at.to_string(), state, folder, label]
    }
}

async fn revoke(state: &StateArgs, id: &str) -> anyhow::Result<ExitCode> {
    let author = local_author(SystemClock.now());
    if !state.state()?.open_catalog().await?.revoke_token(id, &author).await? {
        bail!("there is no token {id} that is still valid: see `motorcade token list`");
    }
    output::done(format_args!("Revoked {id}"), json!({ "revoked": id }))
}
