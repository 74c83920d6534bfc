//! `motorcade recipient add | list | remove`

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use reqwest::Method;
use serde_json::json;

use super::api::Api;
use super::output::print_line;
use crate::config::ClientSettings;
use crate::envelope::key::RecipientKey;
use crate::model::HardwareId;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Registers a public key for hardware ids
    Add {
        #[command(flatten)]
        client: ClientSettings,
        /// Hardware that has the private half; repeat for more
        #[arg(long, required = true)]
        hardware_id: Vec<HardwareId>,
        /// Public key: PEM or JWK
        key: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Lists registered keys
    List {
        #[command(flatten)]
        client: ClientSettings,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Removes a key; images that are sealed for it stay so
    Remove {
        #[command(flatten)]
        client: ClientSettings,
        /// Only from this hardware id
        #[arg(long)]
        hardware_id: Option<HardwareId>,
        /// Id of the key, as listed
        kid: String,
    },
}

impl std::fmt::Debug for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("recipient::Args") // it may hold a token
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add { client, hardware_id, key, json } => add(client, hardware_id, key, json).await,
        Command::List { client, json } => list(client, json).await,
        Command::Remove { client, hardware_id, kid } => remove(client, hardware_id, kid).await,
    }
}

async fn add(
    client: ClientSettings,
    hardware_ids: Vec<HardwareId>,
    key: PathBuf,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let api = Api::new(client)?;
    let text = fs::read_to_string(&key).with_context(|| format!("failed to read {}", key.display()))?;
    // Checked here too: a private key that was named by mistake must not leave this machine.
    RecipientKey::parse(&text).with_context(|| format!("failed to use {}", key.display()))?;
    let body = json!({ "hardware_ids": hardware_ids, "public_key": text });
    let registered = api.json(api.request(Method::POST, "recipients").json(&body)).await?;
    if as_json {
        print_line(&registered)?;
    } else {
        print_line(registered["kid"].as_str().unwrap_or_default())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: ClientSettings, as_json: bool) -> anyhow::Result<ExitCode> {
    let api = Api::new(client)?;
    let list = api.json(api.request(Method::GET, "recipients")).await?;
    if as_json {
        print_line(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    for recipient in list["recipients"].as_array().into_iter().flatten() {
        let field = |name: &str| recipient[name].as_str().unwrap_or_default();
        let kind = recipient["public_key"]["kty"].as_str().unwrap_or_default();
        print_line(format_args!("{}  {kind:3}  {}", field("kid"), field("hardware_id")))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(client: ClientSettings, hardware_id: Option<HardwareId>, kid: String) -> anyhow::Result<ExitCode> {
    let api = Api::new(client)?;
    let mut request = api.request(Method::DELETE, &format!("recipients/{kid}"));
    if let Some(hardware_id) = hardware_id {
        request = request.query(&[("hardware_id", hardware_id.as_str())]);
    }
    api.send(request).await?;
    eprintln!("Removed {kid}");
    Ok(ExitCode::SUCCESS)
}
