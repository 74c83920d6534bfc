//! `motorcade image push | list | show | yank | reseal | retain | collect`

mod push;
mod resumable;
mod retention;
mod retry;
mod source;

use std::process::ExitCode;

use reqwest::Method;
use serde_json::json;

use self::push::{PushArgs, push};
use self::retention::{CollectArgs, RetainArgs, collect, retain};
use super::api::Api;
use super::job;
use super::output::{self, List, print_json, print_line};
use crate::api::{ImageBody, ImageList, ImageQuery, NewReseal, VehicleList, VehicleQuery};
use crate::config::ClientSettings;
use crate::model::ImagePath;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
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
    /// Says until when an image's files are kept in any case, yanked or not
    Retain(RetainArgs),
    /// Removes the files of images that were yanked long ago and that nothing leads to any more
    Collect(CollectArgs),
    /// Opens an image and seals it again under a new data key; the old one is yanked, its
    /// assignments move
    Reseal {
        #[command(flatten)]
        client: ClientSettings,
        /// Wait for its end
        #[arg(long)]
        follow: bool,
        /// Target path of the new image; default: in a folder beside the old one
        #[arg(long)]
        to: Option<ImagePath>,
        /// Target path of the image
        path: ImagePath,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Push(args) => push(args).await,
        Command::List { client } => list(&Api::new(client)?).await,
        Command::Show { client, path } => show(&Api::new(client)?, &path).await,
        Command::Retain(args) => retain(args).await,
        Command::Collect(args) => collect(args).await,
        Command::Yank { client, path } => yank(&Api::new(client)?, &path).await,
        Command::Reseal { client, follow, to, path } => {
            let api = Api::new(client)?;
            let body = NewReseal { to: to.map(String::from) };
            let request = api.request(Method::POST, &format!("images/{path}/reseal")).json(&body);
            job::begun(&api, &api.json(request).await?, follow).await
        }
    }
}

async fn list(api: &Api) -> anyhow::Result<ExitCode> {
    let mut list =
        List::new([("PATH", 32), ("VERSION", 10), ("HARDWARE", 12), ("SIZE", 10), ("STATE", 0)]);
    let mut query = ImageQuery { cursor: String::new(), limit: 1000 };
    loop {
        let request = api.request(Method::GET, "images").query(&query);
        let page: ImageList = api.json(request).await?;
        for image in &page.images {
            list.item(image, cells)?;
        }
        match page.next_cursor {
            Some(next) => query.cursor = next,
            None => {
                list.end()?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn cells(image: &ImageBody) -> [String; 5] {
    let size = output::size(image.plaintext.length).to_string();
    let state = if image.yanked_at.is_none() { "published" } else { "yanked" };
    let (path, version) = (image.path.clone(), image.version.clone());
    [path, version, image.hardware_ids.join(","), size, state.to_owned()]
}

async fn show(api: &Api, path: &ImagePath) -> anyhow::Result<ExitCode> {
    let request = api.request(Method::GET, &format!("images/{path}"));
    let image: ImageBody = api.json(request).await?;
    if output::is_json() {
        print_json(&image)?;
    } else {
        print_line(serde_json::to_string_pretty(&serde_json::to_value(image)?)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn yank(api: &Api, path: &ImagePath) -> anyhow::Result<ExitCode> {
    // Asked before: a vehicle's assignment is withdrawn at its next poll.
    let query =
        VehicleQuery { assigned: Some(path.to_string()), limit: 1000, ..VehicleQuery::default() };
    let request = api.request(Method::GET, "vehicles").query(&query);
    let concerned: VehicleList = api.json(request).await?;
    let vins: Vec<&str> = concerned.vehicles.iter().map(|vehicle| vehicle.vin.as_str()).collect();
    api.send(api.request(Method::DELETE, &format!("images/{path}"))).await?;
    let more = concerned.next_cursor.is_some();
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
