//! `--data-dir` and `--catalog`, for the commands that work on a state directory.

use std::path::PathBuf;

use clap::Args;

use crate::app::state_dir::StateDir;
use crate::config::{CatalogSettings, DEFAULT_DATA_DIR};

/// Where the state directory is.
#[derive(Debug, Args)]
pub(super) struct StateArgs {
    /// State directory
    #[arg(long, env = "MOTORCADE_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,

    /// Where the catalog is.
    #[command(flatten)]
    catalog: CatalogSettings,
}

impl StateArgs {
    pub(super) fn state(&self) -> StateDir {
        StateDir::new(&self.data_dir).with_catalog(self.catalog.url())
    }
}
