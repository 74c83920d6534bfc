//! `motorcade migrate-store`

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::output::{self, note};
use super::signals;
use crate::app::moving::{Moved, Progress, move_catalog};
use crate::app::state_dir::StateDir;
use crate::config::{CatalogTarget, DEFAULT_DATA_DIR};
use crate::model::SystemClock;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// State directory whose catalog is a file in it
    #[arg(long, env = "MOTORCADE_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    #[command(flatten)]
    target: CatalogTarget,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(url) = args.target.url() else { anyhow::bail!("--to-catalog is missing") };
    let state = StateDir::new(&args.data_dir);
    let bar = output::rows("moving");
    let moving = move_catalog(&state, url, &SystemClock, |progress| {
        let (label, Progress::Moved { table, rows } | Progress::Compared { table, rows }) = (
            if matches!(progress, Progress::Moved { .. }) { "moving" } else { "comparing" },
            progress,
        );
        bar.set_prefix(label);
        bar.set_message(table.to_owned());
        bar.inc(rows);
    });
    let end = signals::told_to_end()?;
    let moved = tokio::select! {
        moved = moving => moved?,
        code = end => {
            note("It was told to end; run it again, and it goes on from here");
            return Ok(ExitCode::from(code));
        }
    };
    bar.finish_and_clear();
    tell(&args, &url.to_string(), &moved)
}

fn tell(args: &Args, url: &str, moved: &Moved) -> anyhow::Result<ExitCode> {
    let tables = moved.tables.iter();
    let tables: Vec<_> = tables
        .map(|(name, digest)| json!({ "table": name, "rows": digest.rows, "sum": digest.sum() }))
        .collect();
    let (directory, rows) = (args.data_dir.display(), moved.rows());
    let done = match moved.tables.len() {
        0 => format!("The catalog of {directory} was moved to {url} before; nothing was done"),
        tables => format!(
            "Moved the catalog of {directory} to {url}: {rows} rows of {tables} tables, each compared"
        ),
    };
    output::report(done, json!({ "to": url, "rows": rows, "tables": tables }))?;
    note(
        "hint: set MOTORCADE_CATALOG_URL to that database for `serve` and all commands, start the server, and run `motorcade fsck`",
    );
    note(format_args!(
        "hint: {directory}/catalog.sqlite is not used any more; keep it until you have a backup of the database"
    ));
    Ok(ExitCode::SUCCESS)
}
