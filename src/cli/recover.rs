//! `motorcade recover`

use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;

use super::StateArgs;
use super::output::{note, report};
use crate::app::lost_escrow::LostEscrow;
use crate::app::lost_keys::LostKeys;
use crate::app::recovery::SkippedVersions;
use crate::model::{Clock, RepositorySide, RoleKind, SystemClock};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// After a backup was restored: takes all version numbers past those that vehicles may have
    /// seen, and ends uploads that wait
    Versions {
        #[command(flatten)]
        state: StateArgs,
        /// A version that vehicles are known to have seen, of any role; repo/ and the catalog are
        /// looked at anyway
        #[arg(long, value_name = "VERSION", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=MAX_VERSION))]
        at_least: u64,
    },
    /// After keys of a role that the server signs by itself were lost: makes others, and lets the
    /// server start without the lost ones
    Keys {
        #[command(flatten)]
        state: StateArgs,
        /// Whose role
        #[arg(long, value_name = "REPOSITORY", default_value = "image", value_parser = ["image", "director"])]
        repository: String,
        /// The role
        #[arg(value_enum)]
        role: LostRole,
    },
    /// After the escrow key that wraps was lost while a rotation to it went on: has the one in keys/
    /// wrap again
    Escrow {
        #[command(flatten)]
        state: StateArgs,
    },
    /// After the clock was ahead while something was signed: says that it is right now
    Clock {
        #[command(flatten)]
        state: StateArgs,
    },
}

/// A role that a server signs by itself.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LostRole {
    Targets,
    Bins,
    Suppliers,
    Snapshot,
    Timestamp,
}

impl LostRole {
    fn kind(self) -> RoleKind {
        match self {
            Self::Targets => RoleKind::Targets,
            Self::Bins => RoleKind::Bins,
            Self::Suppliers => RoleKind::Suppliers,
            Self::Snapshot => RoleKind::Snapshot,
            Self::Timestamp => RoleKind::Timestamp,
        }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Versions { state, at_least } => {
            let SkippedVersions { seen, image, director, ended_uploads } =
                state.state()?.recover_versions(at_least, SystemClock.now()).await?;
            report(
                format_args!(
                    "The highest version in repo/ is {seen}; versions go on after {image}, the Director's after {director}"
                ),
                json!({ "seen": seen, "image": image, "director": director, "ended_uploads": ended_uploads }),
            )?;
            if ended_uploads > 0 {
                note(format!(
                    "{ended_uploads} uploads that waited for more have ended: whoever makes them begins again"
                ));
            }
            note(
                "hint: everything is published anew with them when the server starts; then run `motorcade fsck`",
            );
        }
        Action::Keys { state, repository, role } => {
            let side = match repository.as_str() {
                "director" => RepositorySide::Director,
                _ => RepositorySide::Image,
            };
            recover_keys(&state, side, role.kind()).await?;
        }
        Action::Escrow { state } => {
            let LostEscrow { lost, wraps } =
                state.state()?.recover_escrow(SystemClock.now()).await?;
            report(
                format_args!("Taken for lost: {lost}; {wraps} wraps again"),
                json!({ "lost": lost, "wraps": wraps }),
            )?;
            note(
                "hint: start the server, then run `motorcade fsck`: what only the lost key opened has to be uploaded again",
            );
        }
        Action::Clock { state } => {
            let now = state.state()?.recover_clock(Arc::new(SystemClock)).await?;
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

async fn recover_keys(
    state: &StateArgs,
    side: RepositorySide,
    kind: RoleKind,
) -> anyhow::Result<()> {
    let LostKeys { lost, made } =
        state.state()?.recover_keys(side, kind, SystemClock.now()).await?;
    let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
    let made: Vec<String> = made.iter().map(|path| path.display().to_string()).collect();
    let beside = if made.is_empty() {
        "no key was made".into()
    } else {
        format!("made {}", made.join(", "))
    };
    report(
        format_args!("Taken for lost: {}; {beside}", lost.join(", ")),
        json!({ "lost": lost, "made": made }),
    )?;
    note(match kind {
        RoleKind::Suppliers => {
            "hint: start the server, then give each supplier other keys with `motorcade supplier rotate NAME`; where people sign the \
             targets, have it make keys of its own (`motorcade supplier keys NAME --public-key FILE`)"
                .to_owned()
        }
        _ => format!(
            "hint: start the server, then run `motorcade role rotate {kind} --repository {} --accept-failed-cycles`",
            side.as_str()
        ),
    });
    Ok(())
}

/// What the narrowest clients can count to, less what is left out beyond it.
const MAX_VERSION: u64 = 2_000_000_000;
