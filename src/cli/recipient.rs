//! `motorcade recipient add | list | remove | rotate | revoke`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::api::Api;
use super::job;
use super::output::{self, List, print_json, print_line};
use crate::api::{
    NewRecipient, NewRotation, RecipientList, RecipientQuery, RecipientRevocation,
    RecipientRotation, RegisteredRecipient,
};
use crate::config::ClientSettings;
use crate::envelope::key::RecipientKey;
use crate::model::{HardwareId, KeyInput};
use motorcade_host::shown::printable;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
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
    },
    /// Lists registered keys
    List {
        #[command(flatten)]
        client: ClientSettings,
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
    /// Puts another key in the place of one, on every image that is sealed for it
    Rotate {
        #[command(flatten)]
        rotation: RotationArgs,
        /// Public key that comes: PEM or JWK
        key: PathBuf,
    },
    /// Takes a key off every image; it never is a recipient again
    Revoke {
        #[command(flatten)]
        rotation: RotationArgs,
    },
}

#[derive(Debug, clap::Args)]
struct RotationArgs {
    #[command(flatten)]
    client: ClientSettings,
    /// Only find out on how many images, and on which ones it can't be done
    #[arg(long)]
    dry_run: bool,
    /// Wait for its end, and show how far it is
    #[arg(long)]
    follow: bool,
    /// Id of the key that goes
    kid: String,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add { client, hardware_id, key } => add(client, hardware_id, key).await,
        Command::List { client } => list(client).await,
        Command::Remove { client, hardware_id, kid } => remove(client, hardware_id, kid).await,
        Command::Rotate { rotation, key } => {
            let kid = rotation.kid.clone();
            let recipient = Some(RecipientRotation { kid, public_key: read_key(&key)? });
            rotate(rotation, recipient, None).await
        }
        Command::Revoke { rotation } => {
            let revocation = Some(RecipientRevocation { kid: rotation.kid.clone() });
            rotate(rotation, None, revocation).await
        }
    }
}

async fn add(
    client: ClientSettings,
    hardware_ids: Vec<HardwareId>,
    key: PathBuf,
) -> anyhow::Result<ExitCode> {
    let api = Api::new(client)?;
    let body = NewRecipient {
        hardware_ids: hardware_ids.into_iter().map(String::from).collect(),
        public_key: read_key(&key)?,
    };
    let request = api.request(Method::POST, "recipients").json(&body);
    let registered: RegisteredRecipient = api.json(request).await?;
    if output::is_json() {
        print_json(&registered)?;
    } else {
        print_line(printable(&registered.kid))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read_key(key: &Path) -> anyhow::Result<KeyInput> {
    let text =
        fs::read_to_string(key).with_context(|| format!("failed to read {}", key.display()))?;
    // Checked here too: a private key that was named by mistake must not leave this machine.
    RecipientKey::parse(&text).with_context(|| format!("failed to use {}", key.display()))?;
    KeyInput::from_text(&text).context("a JWK is a JSON object")
}

async fn list(client: ClientSettings) -> anyhow::Result<ExitCode> {
    let api = Api::new(client)?;
    let registered: RecipientList = api.json(api.request(Method::GET, "recipients")).await?;
    let mut list = List::new([("KID", 43), ("KEY", 0), ("HARDWARE", 0)]);
    for recipient in &registered.recipients {
        list.item(recipient, |recipient| {
            let kty = KeyType::deserialize(&recipient.public_key).map(|key| key.kty);
            [recipient.kid.clone(), kty.unwrap_or_default(), recipient.hardware_id.clone()]
        })?;
    }
    list.end()?;
    Ok(ExitCode::SUCCESS)
}

/// The member of a JWK that says what it is (RFC 7517, 4.1).
#[derive(Deserialize)]
struct KeyType {
    kty: String,
}

async fn remove(
    client: ClientSettings,
    hardware_id: Option<HardwareId>,
    kid: String,
) -> anyhow::Result<ExitCode> {
    let api = Api::new(client)?;
    let query = RecipientQuery { hardware_id: hardware_id.map(String::from) };
    let request = api.request(Method::DELETE, &format!("recipients/{kid}")).query(&query);
    api.send(request).await?;
    output::done(format_args!("Removed {kid}"), json!({ "removed": kid }))
}

async fn rotate(
    args: RotationArgs,
    recipient: Option<RecipientRotation>,
    revocation: Option<RecipientRevocation>,
) -> anyhow::Result<ExitCode> {
    let api = Api::new(args.client)?;
    let body =
        NewRotation { recipient, revocation, dry_run: args.dry_run, ..NewRotation::default() };
    let job = api.json(api.request(Method::POST, "rotations").json(&body)).await?;
    job::begun(&api, &job, args.follow).await
}
