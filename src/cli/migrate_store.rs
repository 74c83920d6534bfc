//! `motorcade migrate-store`

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::{self, note};
use super::signals;
use crate::app::moving::{Destination, Moved, MovedBlobs, Progress, move_store};
use crate::app::state_dir::StateDir;
use crate::config::{BlobTarget, CatalogSettings, CatalogTarget, DEFAULT_DATA_DIR};
use crate::model::SystemClock;

#[derive(Debug, clap::Args)]
#[group(id = "to", required = true, multiple = true, args = ["to_catalog", "to_catalog_url_file", "to_blobs"])]
pub(super) struct Args {
    /// State directory that the blobs, the catalog or both move out of
    #[arg(long, env = "MOTORCADE_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,

    /// Where the catalog is, if the blobs alone move and it is in a database already.
    #[command(flatten)]
    catalog: CatalogSettings,

    /// Where the catalog goes.
    #[command(flatten)]
    to_catalog: CatalogTarget,

    /// Where the blobs go.
    #[command(flatten)]
    to_blobs: BlobTarget,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let to =
        Destination { catalog: args.to_catalog.url().cloned(), bucket: args.to_blobs.bucket()? };
    let state = StateDir::new(&args.data_dir);
    // What moves is the file, wherever the environment says that the catalog is afterwards.
    let state = if to.catalog.is_some() { state } else { state.with_catalog(args.catalog.url()) };
    let (rows, files) = (output::rows("moving"), output::unknown_bytes("moving"));
    let moving = move_store(&state, &to, &SystemClock, |progress| match progress {
        Progress::Copied { bytes, .. } => files.inc(bytes),
        Progress::Moved { table, rows: more } | Progress::Compared { table, rows: more } => {
            let is_moved = matches!(progress, Progress::Moved { .. });
            rows.set_prefix(if is_moved { "moving" } else { "comparing" });
            rows.set_message(table.to_owned());
            rows.inc(more);
        }
    });
    let end = signals::told_to_end()?;
    let moved = tokio::select! {
        moved = moving => moved?,
        code = end => {
            note("It was told to end; run it again, and it goes on from here");
            return Ok(ExitCode::from(code));
        }
    };
    rows.finish_and_clear();
    files.finish_and_clear();
    tell(&args, &to, &moved)
}

fn tell(args: &Args, to: &Destination, moved: &Moved) -> anyhow::Result<ExitCode> {
    let directory = args.data_dir.display().to_string();
    let (mut done, mut json) = (Vec::new(), serde_json::Map::new());
    if let (Some(url), Some(tables)) = (&to.catalog, &moved.tables) {
        let rows: u64 = tables.iter().map(|(_, digest)| digest.rows).sum();
        done.push(match tables.len() {
            0 => format!("The catalog of {directory} was moved to {url} before; nothing was done"),
            tables => format!(
                "Moved the catalog of {directory} to {url}: {rows} rows of {tables} tables, each compared"
            ),
        });
        let tables = tables.iter().map(
            |(name, digest)| json!({ "table": name, "rows": digest.rows, "sum": digest.sum() }),
        );
        json.insert("to".into(), json!(url.to_string()));
        json.insert("rows".into(), json!(rows));
        json.insert("tables".into(), tables.collect());
    }
    if let (Some(bucket), Some(blobs)) = (&to.bucket, &moved.blobs) {
        let url = bucket.url.to_string();
        done.push(blobs_line(&directory, &url, blobs));
        json.insert("blobs".into(), blobs_json(&url, blobs));
    }
    output::report(done.join("\n"), Value::Object(json))?;
    hint(&directory, to, moved);
    Ok(ExitCode::SUCCESS)
}

fn blobs_line(directory: &str, url: &str, blobs: &MovedBlobs) -> String {
    if blobs.files == 0 {
        return format!("The blobs of {directory} were moved to {url} before; nothing was done");
    }
    let size = output::size(blobs.bytes);
    format!(
        "Moved the blobs of {directory} to {url}: {} files, {size}, each read back and compared",
        blobs.files
    )
}

fn blobs_json(url: &str, blobs: &MovedBlobs) -> Value {
    json!({
        "to": url, "files": blobs.files, "bytes": blobs.bytes, "ended_uploads": blobs.ended_uploads,
        "left": blobs.strays,
    })
}

/// What is to be done now.
fn hint(directory: &str, to: &Destination, moved: &Moved) {
    if let Some(blobs) = &moved.blobs {
        if blobs.ended_uploads > 0 {
            let uploads = blobs.ended_uploads;
            note(format_args!(
                "note: uploads that waited for more have ended ({uploads}): their clients get 410 and begin again"
            ));
        }
        for stray in &blobs.strays {
            note(format_args!("note: {directory}/repo/{stray} is no blob, and stayed there"));
        }
    }
    let variables = [
        to.catalog.as_ref().map(|_| "MOTORCADE_CATALOG_URL"),
        to.bucket.as_ref().map(|_| "MOTORCADE_BLOBS"),
    ];
    let variables: Vec<_> = variables.into_iter().flatten().collect();
    note(format_args!(
        "hint: set {} to that for `serve` and all commands, run `motorcade fsck`, and start the server",
        variables.join(" and ")
    ));
    if to.catalog.is_some() {
        note(format_args!(
            "hint: {directory}/catalog.sqlite is not used any more; keep it until you have a backup of the database"
        ));
    }
    if to.bucket.is_some() {
        note(format_args!(
            "hint: {directory}/repo and {directory}/staging are not used any more; keep them until you have a backup of the \
             bucket"
        ));
    }
}
