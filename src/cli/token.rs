//! `motorcade token create | list | revoke`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};
use serde_json::json;

use super::StateArgs;
use super::output::print_line;
use crate::app::access::{self, NewToken};
use crate::model::{AccessRole, Clock, ImagePath, SystemClock};

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
        /// Days after which it stops working [default: never]
        #[arg(long, value_name = "DAYS")]
        expires_in: Option<u32>,
        /// An uploader may upload below this folder only, such as supplier-a/
        #[arg(long, value_name = "FOLDER/")]
        path_prefix: Option<String>,
    },
    /// Lists tokens, without their secrets
    List {
        #[command(flatten)]
        state: StateArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revokes a token at once
    Revoke {
        #[command(flatten)]
        state: StateArgs,
        /// Id of the token, as listed
        id: String,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create { state, role, label, expires_in, path_prefix } => {
            let prefix = path_prefix.map(|prefix| check_prefix(role, prefix)).transpose()?;
            create(&state, role, &label, expires_in, prefix.as_deref()).await
        }
        Command::List { state, json } => list(&state, json).await,
        Command::Revoke { state, id } => revoke(&state, &id).await,
    }
}

fn check_prefix(role: AccessRole, prefix: String) -> anyhow::Result<String> {
    ensure!(role == AccessRole::Uploader, "--path-prefix is for uploaders; an {role}'s token works everywhere");
    let is_folder = prefix.strip_suffix('/').is_some_and(|folder| folder.parse::<ImagePath>().is_ok());
    ensure!(is_folder, "--path-prefix takes a folder with a slash at its end, such as supplier-a/");
    Ok(prefix)
}

async fn create(
    state: &StateArgs,
    role: AccessRole,
    label: &str,
    expires_in: Option<u32>,
    path_prefix: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let catalog = state.state().open_catalog().await?;
    let now = SystemClock.now();
    let expires_at = expires_in.map(|days| now + Duration::from_secs(u64::from(days) * 24 * 60 * 60));
    let token = access::create_token(&catalog, NewToken { role, label, expires_at, path_prefix }, now).await?;
    print_line(&*token)?;
    Ok(ExitCode::SUCCESS)
}

async fn list(state: &StateArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let tokens = state.state().open_catalog().await?.list_tokens().await?;
    for token in tokens {
        let is_revoked = token.revoked_at.is_some();
        if as_json {
            let row = json!({
                "id": token.id, "role": token.role, "label": token.label, "path_prefix": token.path_prefix,
                "created_at": token.created_at.to_string(),
                "expires_at": token.expires_at.map(|time| time.to_string()), "revoked": is_revoked,
            });
            print_line(row)?;
        } else {
            let validity = match token.expires_at {
                _ if is_revoked => "revoked".to_owned(),
                Some(time) => format!("expires {time}"),
                None => "no expiry".to_owned(),
            };
            let (role, created_at) = (token.role.as_str(), token.created_at);
            print_line(format_args!("{}  {role:8}  {created_at}  {validity}  {:?}", token.id, token.label))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke(state: &StateArgs, id: &str) -> anyhow::Result<ExitCode> {
    if !state.state().open_catalog().await?.revoke_token(id, SystemClock.now()).await? {
        bail!("there is no token {id} that is still valid: see `motorcade token list`");
    }
    eprintln!("Revoked {id}");
    Ok(ExitCode::SUCCESS)
}
