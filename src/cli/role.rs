//! `motorcade role list | rotate`

use std::process::ExitCode;

use reqwest::Method;

use super::api::Api;
use super::output::{self, List, print_json, print_line};
use crate::api::{NewRoleRotation, RoleBody, RoleKeyBody, RoleList, RoleRotationBody};
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
    /// Gives a role that the server signs by itself other keys
    ///
    /// Clients take what is published before, meanwhile and after.
    /// Root, and roles whose root is signed elsewhere, are changed by `motorcade root`.
    Rotate {
        #[command(flatten)]
        client: ClientSettings,
        /// Whose role
        #[arg(long, value_enum, default_value_t = Repository::Image)]
        repository: Repository,
        /// A key that it is to have: `file:NAME` in keys/, or a source of metadata/policy.toml; repeat
        /// for more. Without one, those of the policy, or new ones
        #[arg(long, value_name = "SOURCE")]
        key: Vec<String>,
        /// Says what would be done, and does nothing
        #[arg(long)]
        dry_run: bool,
        /// For lost keys: vehicles that poll meanwhile fail until the role is signed again
        #[arg(long)]
        accept_failed_cycles: bool,
        /// The role
        #[arg(value_enum)]
        role: Role,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Repository {
    Image,
    Director,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Role {
    Root,
    Targets,
    Bins,
    Snapshot,
    Timestamp,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List { client } => list(client).await,
        Command::Rotate { client, repository, key, dry_run, accept_failed_cycles, role } => {
            let body = NewRoleRotation { keys: key, dry_run, accept_failed_cycles };
            rotate(client, repository, role, body).await
        }
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

async fn rotate(
    client: ClientSettings,
    repository: Repository,
    role: Role,
    body: NewRoleRotation,
) -> anyhow::Result<ExitCode> {
    let api = Api::new(client)?;
    let path = format!("roles/{}/{}/rotate", name(repository), name(role));
    let rotated: RoleRotationBody = api.json(api.request(Method::POST, &path).json(&body)).await?;
    if output::is_json() {
        print_json(&rotated)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in told(&rotated) {
        print_line(printable(&line))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn name(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn told(rotated: &RoleRotationBody) -> Vec<String> {
    let RoleRotationBody {
        repository, role, threshold, keys, made, leaving, grace_seconds, ..
    } = rotated;
    let head = match (rotated.dry_run, &rotated.awaits_signature_of) {
        (true, _) => "Nothing was changed. It would be:",
        (false, None) => "Done:",
        (false, Some(_)) => {
            "Once people have signed the targets (`motorcade targets stage`), it is:"
        }
    };
    let mut lines = vec![head.to_owned()];
    let new = usize::from(*made);
    let total = if rotated.dry_run { keys.len() + new } else { keys.len() };
    lines.push(format!("{repository} {role}: {threshold} of {total} keys have to sign"));
    if new > 0 {
        lines.push(format!("  made: {}", output::count(new, "new key", "new keys")));
    }
    lines.extend(keys.iter().map(|key| format!("  signs: {key}")));
    lines.extend(
        leaving.iter().map(|key| format!("  leaves, and signs on for {grace_seconds} s: {key}")),
    );
    match rotated.root_version {
        Some(version) => {
            lines.push(format!("  root {version} says so; clients follow it from every older one"))
        }
        None => lines.push("  the targets say so; root stays as it is".to_owned()),
    }
    match rotated.files {
        0 => lines.push("  each vehicle's metadata is signed again when it asks".to_owned()),
        files => lines.push(format!("  {files} published files are signed again")),
    }
    lines.extend(
        rotated
            .readers
            .iter()
            .map(|readers| format!("  not every client can read that root: {readers}")),
    );
    lines
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
