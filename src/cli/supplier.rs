//! `motorcade supplier add | list | rotate | remove`

use std::process::ExitCode;

use reqwest::{Method, RequestBuilder};

use super::api::Api;
use super::output::{self, List, print_json, print_line};
use crate::api::{NewSupplierBody, RemovedSupplierBody, SupplierBody, SupplierList};
use crate::config::ClientSettings;
use crate::model::{Folder, HardwareId, SupplierName};
use motorcade_host::shown::printable;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Delegates a folder to a supplier, whose keys the server makes
    Add(AddArgs),
    /// Lists suppliers
    List {
        #[command(flatten)]
        client: ClientSettings,
    },
    /// Gives a supplier other keys, as many as it has
    Rotate {
        #[command(flatten)]
        client: ClientSettings,
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
        Command::Remove { client, name } => remove(client, &name).await,
    }
}

async fn add(args: AddArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(args.client)?;
    let hardware_ids: Vec<String> = args.hardware_id.into_iter().map(String::from).collect();
    let body = NewSupplierBody {
        supplier: args.name.into(),
        folder: args.folder.map(String::from),
        hardware_ids: Some(hardware_ids).filter(|ids| !ids.is_empty()),
        threshold: args.threshold,
        keys: args.keys,
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
    format!("{} of {} keys", supplier.threshold, supplier.keys.len())
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
