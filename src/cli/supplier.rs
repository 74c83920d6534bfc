//! `motorcade supplier add | list | rotate | keys | remove`, and for suppliers who keep their keys
//! `status | stage | diff | sign | publish | cancel`

use std::path::PathBuf;
use std::process::ExitCode;

use reqwest::{Method, RequestBuilder};

use super::api::Api;
use super::output::{self, List, print_json, print_line};
use super::root::public_key;
use super::targets;
use crate::api::{NewSupplierBody, RemovedSupplierBody, SupplierBody, SupplierKeys, SupplierList};
use crate::config::ClientSettings;
use crate::model::{Folder, HardwareId, KeyInput, RoleKind, RoleName, SupplierName};
use motorcade_host::shown::printable;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Delegates a folder to a supplier, whose keys the server makes, or who keeps them
    Add(AddArgs),
    /// Lists suppliers
    List {
        #[command(flatten)]
        client: ClientSettings,
    },
    /// Gives a supplier other keys of the server, as many as it has
    Rotate {
        #[command(flatten)]
        client: ClientSettings,
        /// Name of the supplier, as listed
        name: SupplierName,
    },
    /// Has a supplier sign with other keys, which it keeps, from its next file on
    Keys {
        #[command(flatten)]
        client: ClientSettings,
        /// Its public keys, PEM or key objects; all that it has from then on
        #[arg(long, value_name = "FILE", required = true)]
        public_key: Vec<PathBuf>,
        /// How many of them have to sign [default: as many as before]
        #[arg(long)]
        threshold: Option<u8>,
        /// Name of the supplier, as listed
        name: SupplierName,
    },
    /// Shows what is published for a supplier who keeps its keys, what waits and what is staged
    Status {
        #[command(flatten)]
        client: ClientSettings,
        /// Name of the supplier, as listed
        name: SupplierName,
    },
    /// Stages the next file of a supplier who keeps its keys: all that it is to list
    Stage {
        #[command(flatten)]
        client: ClientSettings,
        #[command(flatten)]
        args: targets::StageArgs,
        /// Name of the supplier, as listed
        name: SupplierName,
    },
    /// Shows what the staged file changes
    Diff {
        #[command(flatten)]
        client: ClientSettings,
        /// Write the file to be signed on a machine without a network; nothing may be there
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Name of the supplier, as listed
        name: SupplierName,
    },
    /// Signs a staged file: offline, from a file; or brings signatures to the server
    Sign {
        #[command(flatten)]
        client: ClientSettings,
        #[command(flatten)]
        args: targets::SignArgs,
    },
    /// Publishes what is staged, once enough keys have signed it
    Publish {
        #[command(flatten)]
        client: ClientSettings,
        /// Only if this is what is staged
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
        /// Name of the supplier, as listed
        name: SupplierName,
    },
    /// Drops what is staged
    Cancel {
        #[command(flatten)]
        client: ClientSettings,
        /// What is staged, as `status` shows it
        #[arg(long, value_name = "REVISION")]
        revision: u64,
        /// Name of the supplier, as listed
        name: SupplierName,
    },
    /// Removes a supplier, yanks its images and revokes its tokens
    Remove {
        #[command(flatten)]
        client: ClientSettings,
        /// Name of the supplier, as listed
        name: SupplierName,
    },
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    #[command(flatten)]
    client: ClientSettings,
    /// Folder whose images it speaks for [default: the folder of its name]
    #[arg(long, value_name = "FOLDER/")]
    folder: Option<Folder>,
    /// Hardware that it speaks for; repeat for more [default: any]
    #[arg(long)]
    hardware_id: Vec<HardwareId>,
    /// How many of its keys have to sign [default: as metadata/policy.toml says]
    #[arg(long)]
    threshold: Option<u8>,
    /// How many keys it has [default: as metadata/policy.toml says]
    #[arg(long)]
    keys: Option<u8>,
    /// Public key, PEM or a key object, whose private half stays with the supplier, who signs what
    /// it lists itself; repeat for more
    #[arg(long, value_name = "FILE", conflicts_with = "keys")]
    public_key: Vec<PathBuf>,
    /// Go on to the bins for what the supplier doesn't list
    #[arg(long)]
    not_terminating: bool,
    /// Lower-case letters, digits and hyphens
    name: SupplierName,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add(args) => add(args).await,
        Command::List { client } => list(client).await,
        Command::Rotate { client, name } => {
            let api = Api::new(client)?;
            report(&api, api.request(Method::POST, &format!("suppliers/{name}/rotation"))).await
        }
        Command::Keys { client, public_key, threshold, name } => {
            let body = SupplierKeys { public_keys: public_keys(&public_key)?, threshold };
            let api = Api::new(client)?;
            let request = api.request(Method::PUT, &format!("suppliers/{name}/keys"));
            report(&api, request.json(&body)).await
        }
        Command::Remove { client, name } => remove(client, &name).await,
        Command::Status { client, name } => role(client, &name)?.status().await,
        Command::Stage { client, args, name } => role(client, &name)?.stage(args).await,
        Command::Diff { client, out, name } => role(client, &name)?.diff(out).await,
        Command::Sign { client, args } => targets::sign(RoleKind::Suppliers, client, args).await,
        Command::Publish { client, revision, name } => role(client, &name)?.publish(revision).await,
        Command::Cancel { client, revision, name } => role(client, &name)?.cancel(revision).await,
    }
}

/// The role of a supplier who keeps its keys.
fn role(client: ClientSettings, name: &SupplierName) -> anyhow::Result<targets::Role> {
    targets::Role::open(client, RoleName::of_supplier(name))
}

fn public_keys(files: &[PathBuf]) -> anyhow::Result<Vec<KeyInput>> {
    files.iter().map(|file| public_key(file)).collect()
}

async fn add(args: AddArgs) -> anyhow::Result<ExitCode> {
    let public_keys = public_keys(&args.public_key)?;
    let api = Api::new(args.client)?;
    let hardware_ids: Vec<String> = args.hardware_id.into_iter().map(String::from).collect();
    let body = NewSupplierBody {
        supplier: args.name.into(),
        folder: args.folder.map(String::from),
        hardware_ids: Some(hardware_ids).filter(|ids| !ids.is_empty()),
        threshold: args.threshold,
        keys: args.keys,
        public_keys,
        terminating: !args.not_terminating,
    };
    report(&api, api.request(Method::POST, "suppliers").json(&body)).await
}

/// Prints the supplier that a request answers with.
async fn report(api: &Api, request: RequestBuilder) -> anyhow::Result<ExitCode> {
    let supplier: SupplierBody = api.json(request).await?;
    if output::is_json() {
        print_json(&supplier)?;
    } else {
        let (role, folder) = (printable(&supplier.delegated_role), printable(&supplier.folder));
        print_line(format_args!("{role} signs for {folder}, with {}", keys(&supplier)))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: ClientSettings) -> anyhow::Result<ExitCode> {
    let api = Api::new(client)?;
    let found: SupplierList = api.json(api.request(Method::GET, "suppliers")).await?;
    let mut list = List::new([("SUPPLIER", 0), ("FOLDER", 0), ("KEYS", 0), ("HARDWARE", 0)]);
    for supplier in &found.suppliers {
        list.item(supplier, |supplier| {
            let hardware = supplier.hardware_ids.as_ref().map(|ids| ids.join(","));
            let hardware = hardware.unwrap_or_else(|| "any".to_owned());
            [supplier.supplier.clone(), supplier.folder.clone(), keys(supplier), hardware]
        })?;
    }
    list.end()?;
    Ok(ExitCode::SUCCESS)
}

fn keys(supplier: &SupplierBody) -> String {
    let place = if supplier.offline { " of its own" } else { "" };
    format!("{} of {} keys{place}", supplier.threshold, supplier.keys.len())
}

async fn remove(client: ClientSettings, name: &SupplierName) -> anyhow::Result<ExitCode> {
    let api = Api::new(client)?;
    let request = api.request(Method::DELETE, &format!("suppliers/{name}"));
    let removed: RemovedSupplierBody = api.json(request).await?;
    let (images, tokens) = (removed.images, removed.tokens.len());
    let text = format!("Removed {name}; images yanked: {images}; tokens revoked: {tokens}");
    output::report(format_args!("{text}"), serde_json::to_value(&removed)?)?;
    Ok(ExitCode::SUCCESS)
}
