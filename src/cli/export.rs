//! `motorcade export`

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::StateArgs;
use super::output::{self, print_line};
use super::signals;
use crate::app::export;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    state: StateArgs,
    /// Folder to write to; may hold an earlier export
    folder: PathBuf,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let bar = output::bytes("exporting", 0);
    let state = args.state.state()?;
    let exporting = export::export(&state, &args.folder, |bytes, total| {
        bar.set_length(total);
        bar.inc(bytes);
    });
    let end = signals::told_to_end()?;
    // A half-copied target is removed as it is dropped.
    let exported = tokio::select! {
        exported = exporting => exported,
        code = end => {
            output::note("The export was told to end; a later one goes on from here");
            return Ok(ExitCode::from(code));
        }
    };
    bar.finish_and_clear();
    let export::Exported { metadata_files, copied, kept, bytes } = exported?;
    if output::is_json() {
        print_line(
            json!({ "metadata_files": metadata_files, "copied": copied, "kept": kept, "bytes": bytes }),
        )?;
    } else {
        let (folder, size) = (args.folder.display(), output::size(bytes));
        eprintln!(
            "Exported {metadata_files} metadata files and {copied} targets ({size}, {kept} were there) to {folder}"
        );
    }
    Ok(ExitCode::SUCCESS)
}
