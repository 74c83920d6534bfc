//! `motorcade init`

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::StateArgs;
use super::output::{self, print_line};
use crate::model::SystemClock;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    state: StateArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let state = args.state.state();
    state.init(Arc::new(SystemClock)).await?;
    let path = state.path().display();
    if output::is_json() {
        print_line(
            json!({ "data_dir": path.to_string(), "root": format!("{path}/repo/1.root.json") }),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("Initialized {path}: keys, metadata policy, catalog and an empty, signed repository");
    eprintln!("The trust anchor for vehicles is {path}/repo/1.root.json");
    eprintln!(
        "hint: start it with `motorcade serve --data-dir {path}`, and keep {path}/keys/root.pem somewhere safer"
    );
    Ok(ExitCode::SUCCESS)
}
