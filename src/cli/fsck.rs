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
    /// Link the two names of a file again, where a copy has made two files of them, and replace a
    /// damaged one by a good one
    #[arg(long, conflicts_with = "quarantine")]
    repair: bool,
}

/// Exits with 1 if anything is wrong.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let damaged = match (args.quarantine, args.repair) {
        (true, _) => Damaged::Quarantine,
        (_, true) => Damaged::Repair,
        _ => Damaged::Report,
    };
    let bar = output::bytes("checking", 0);
    let findings = fsck::check(&args.state.state()?, damaged, |bytes, total| {
        bar.set_length(total);
        bar.inc(bytes);
    })
    .await;
    bar.finish_and_clear();
    let fsck::Findings { files, bytes, problems, repaired, skipped } = findings?;
    if output::is_json() {
        print_line(json!({
            "files": files, "bytes": bytes, "problems": problems, "repaired": repaired, "skipped": skipped,
        }))?;
    } else {
        problems.iter().try_for_each(print_line)?;
        repaired.iter().for_each(|line| eprintln!("repaired: {line}"));
        skipped.iter().for_each(|line| eprintln!("skipped: {line}"));
        let problems = output::count(problems.len(), "problem", "problems");
        eprintln!("Checked {files} files ({}): {problems}", output::size(bytes));
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
}
