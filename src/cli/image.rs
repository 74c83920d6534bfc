//! `motorcade image push | list | show | yank`

mod push;
mod source;

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use self::push::{PushArgs, push};
use super::api::Api;
use super::output::{self, List, print_line, text};
use crate::config::ClientSettings;
use crate::model::ImagePath;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in the life of a process")]
enum Command {
    /// Uploads an image; pushing the same one again changes nothing
    Push(PushArgs),
    /// Lists images
    List {
        #[command(flatten)]
        client: ClientSettings,
    },
    /// Shows an image
    Show {
        #[command(flatten)]
        client: ClientSettings,
        /// Target path, such as gw/4.2.0/gateway.bin
        path: ImagePath,
    },
    /// Takes an image out of the published metadata; says which vehicles were to install it
    Yank {
        #[command(flatten)]
        client: ClientSettings,
        /// Target path, such as gw/4.2.0/gateway.bin
        path: ImagePath,
    },
}

impl std::fmt::Debug for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("image::Args") // it may hold a token
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Push(args) => push(args).await,
        Command::List { client } => list(&Api::new(client)?).await,
        Command::Show { client, path } => show(&Api::new(client)?, &path).await,
        Command::Yank { client, path } => yank(&Api::new(client)?, &path).await,
    }
}

async fn list(api: &Api) -> anyhow::Result<ExitCode> {
    let mut list =
        List::new([("PATH", 32), ("VERSION", 10), ("HARDWARE", 12), ("SIZE", 10), ("STATE", 0)]);
    let mut cursor = String::new();
    loop {
        let request =
            api.request(Method::GET, "images").query(&[("limit", "1000"), ("cursor", &cursor)]);
        let page = api.json(request).await?;
        for image in page["images"].as_array().into_iter().flatten() {
            list.item(image, cells)?;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => {
                list.end()?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn cells(image: &Value) -> [String; 5] {
    let hardware = image["hardware_ids"].as_array().into_iter().flatten();
    let hardware: Vec<&str> = hardware.filter_map(Value::as_str).collect();
    let size = output::size(image["plaintext"]["length"].as_u64().unwrap_or(0));
    let state = if image["yanked_at"].is_null() { "published" } else { "yanked" };
    [
        text(image, "path"),
        text(image, "version"),
        hardware.join(","),
        size.to_string(),
        state.to_owned(),
    ]
}

async fn show(api: &Api, path: &ImagePath) -> anyhow::Result<ExitCode> {
    let image = api.json(api.request(Method::GET, &format!("images/{path}"))).await?;
    print_line(if output::is_json() {
        image.to_string()
    } else {
        serde_json::to_string_pretty(&image)?
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn yank(api: &Api, path: &ImagePath) -> anyhow::Result<ExitCode> {
    // Asked before: a vehicle's assignment is withdrawn at its next poll.
    let query = [("assigned", path.as_str()), ("limit", "1000")];
    let concerned = api.json(api.request(Method::GET, "vehicles").query(&query)).await?;
    let vins: Vec<&str> = concerned["vehicles"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|vehicle| vehicle["vin"].as_str())
        .collect();
    api.send(api.request(Method::DELETE, &format!("images/{path}"))).await?;
    let more = !concerned["next_cursor"].is_null();
    output::report(
        format_args!("Yanked {path}{}", consequence(&vins, more)),
        json!({ "yanked": path, "vehicles_assigned": vins, "more_vehicles": more }),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// What a yank means for the vehicles that were to install the image.
fn consequence(vins: &[&str], more: bool) -> String {
    if vins.is_empty() {
        return "; it was assigned to no vehicle".to_owned();
    }
    let names = vins[..vins.len().min(NAMED_VEHICLES)].join(", ");
    let others = if vins.len() > NAMED_VEHICLES { ", …" } else { "" };
    let number = match more {
        true => format!("{} vehicles or more", vins.len()),
        false => output::count(vins.len(), "vehicle", "vehicles"),
    };
    format!(
        "\nIt was assigned in {number}, and won't be installed there: {names}{others}\nhint: assign another image"
    )
}

const NAMED_VEHICLES: usize = 10;
