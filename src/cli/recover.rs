//! `motorcade recover`

use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;

use super::StateArgs;
use super::output::{note, report};
use crate::app::recovery::SkippedVersions;
use crate::model::{Clock, SystemClock};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// After a backup was restored: takes all version numbers past those that vehicles may have
    /// seen
    Versions {
        #[command(flatten)]
        state: StateArgs,
        /// A version that vehicles are known to have seen, of any role; repo/ and the catalog are
        /// looked at anyway
        #[arg(long, value_name = "VERSION", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=MAX_VERSION))]
        at_least: u64,
    },
    /// After the clock was ahead while something was signed: says that it is right now
    Clock {
        #[command(flatten)]
        state: StateArgs,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Versions { state, at_least } => {
            let SkippedVersions { seen, image, director } =
                state.state().recover_versions(at_least, SystemClock.now()).await?;
            report(
                format_args!(
                    "The highest version in repo/ is {seen}; versions go on after {image}, the Director's after {director}"
                ),
                json!({ "seen": seen, "image": image, "director": director }),
            )?;
            note(
                "hint: everything is published anew with them when the server starts; then run `motorcade fsck`",
            );
        }
        Action::Clock { state } => {
            let now = state.state().recover_clock(Arc::new(SystemClock)).await?;
            report(
                format_args!(
                    "It is taken to be {now} now; what expires later than it should is signed again when the server starts"
                ),
                json!({ "now": now }),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the narrowest clients can count to, less what is left out beyond it.
const MAX_VERSION: u64 = 2_000_000_000;
