//! `motorcade role list`

use std::process::ExitCode;

use reqwest::Method;

use super::api::Api;
use super::output::{self, List, print_json, print_line};
use crate::api::{RoleBody, RoleKeyBody, RoleList};
use crate::config::ClientSettings;
use motorcade_host::shown::printable;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists all roles with the keys that sign for them
    List {
        #[command(flatten)]
        client: ClientSettings,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List { client } => list(client).await,
    }
}

async fn list(client: ClientSettings) -> anyhow::Result<ExitCode> {
    let api = Api::new(client)?;
    let listed: RoleList = api.json(api.request(Method::GET, "roles")).await?;
    if output::is_json() {
        print_json(&listed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut list =
        List::new([("REPOSITORY", 10), ("ROLE", 9), ("KEY", 16), ("STATE", 6), ("WHERE", 0)]);
    for role in &listed.roles {
        for key in &role.keys {
            list.item(key, |key| {
                let start = key.id.get(..16).unwrap_or(&key.id).to_owned();
                [role.repository.clone(), role.role.clone(), start, key.state.clone(), place(key)]
            })?;
        }
    }
    list.end()?;
    for role in listed.roles.iter().filter(|role| role.differs) {
        print_line(printable(&difference(role)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn place(key: &RoleKeyBody) -> String {
    let place = key.place.as_deref().unwrap_or("elsewhere");
    match &key.until {
        Some(until) => format!("{place}, until {until}"),
        None => place.to_owned(),
    }
}

fn difference(role: &RoleBody) -> String {
    let RoleBody { repository, role: name, threshold, policy_threshold, policy_keys, .. } = role;
    let signing = role.keys.iter().filter(|key| key.state == "signs").count();
    format!(
        "{repository} {name}: {threshold} of {signing} keys have to sign, and metadata/policy.toml asks for \
         {policy_threshold} of {policy_keys}"
    )
}
