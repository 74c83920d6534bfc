//! `motorcade init`

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::StateArgs;
use super::output::{self, print_line};
use crate::app::Error;
use crate::keys::hybrid;
use crate::model::SystemClock;
use crate::uptane::metadata::root;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    state: StateArgs,
    /// Change nothing and succeed if it is initialized already, for what runs before each start
    #[arg(long)]
    if_needed: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let state = args.state.state()?;
    match state.init(Arc::new(SystemClock)).await {
        Err(Error::Conflict { code: "already_initialized", .. }) if args.if_needed => {
            let path = state.path().display();
            return output::done(
                format_args!("{path} is initialized already"),
                json!({ "data_dir": path.to_string() }),
            );
        }
        made => made?,
    }
    let root = state.trust_anchor();
    warn_of_readers(&root);
    let path = state.path().display();
    if output::is_json() {
        let root = root.display().to_string();
        print_line(json!({ "data_dir": path.to_string(), "root": root }))?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("Initialized {path}: keys, metadata policy, catalog and an empty, signed repository");
    eprintln!("The trust anchor for vehicles is {}", root.display());
    let bucket = state.bucket().map_or_else(String::new, |bucket| {
        format!(" --blobs {}", bucket.url.to_string().trim_end_matches('/'))
    });
    let catalog = if state.has_database() { " and the same catalog" } else { "" };
    eprintln!(
        "hint: start it with `motorcade serve --data-dir {path}{bucket}`{catalog}, and keep {path}/keys/root.pem somewhere safer"
    );
    Ok(ExitCode::SUCCESS)
}

/// Says who can't read the root that was just made, if it is hybrid: now it can still be made anew.
fn warn_of_readers(root: &Path) {
    let root = std::fs::read(root).ok();
    let root = root.and_then(|file| root::parse(&file).ok());
    if let Some(readers) = root.as_ref().and_then(hybrid::readers) {
        eprintln!("warning: the root can't be read by every client: {readers}");
    }
}
