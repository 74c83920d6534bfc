//! `motorcade fsck`

use std::process::ExitCode;

use serde_json::json;

use super::output::{self, print_line};
use super::{EXIT_FAILURE, StateArgs};
use crate::app::fsck::{self, Damaged};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    state: StateArgs,
    /// Move damaged files to `quarantine/` in the state directory, so that they are not served
    #[arg(long)]
    quarantine: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Exits with 1 if anything is wrong.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let damaged = if args.quarantine { Damaged::Quarantine } else { Damaged::Report };
    let bar = output::bytes("checking", 0);
    let findings = fsck::check(&args.state.state(), damaged, |bytes, total| {
        bar.set_length(total);
        bar.inc(bytes);
    })
    .await;
    bar.finish_and_clear();
    let fsck::Findings { files, bytes, problems } = findings?;
    if args.json {
        print_line(json!({ "files": files, "bytes": bytes, "problems": problems }))?;
    } else {
        problems.iter().try_for_each(print_line)?;
        eprintln!("Checked {files} files ({}): {} problems", output::size(bytes), problems.len());
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
}
