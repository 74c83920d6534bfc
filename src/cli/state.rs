//! `--data-dir`, `--catalog` and `--shared-blobs`, for the commands that work on a state directory.

use std::path::PathBuf;

use clap::Args;

use crate::app::state_dir::StateDir;
use crate::config::{CatalogSettings, DEFAULT_DATA_DIR, SharedBlobSettings};

/// Where the state directory is.
#[derive(Debug, Args)]
pub(super) struct StateArgs {
    /// State directory
    #[arg(long, env = "MOTORCADE_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,

    /// Where the catalog is.
    #[command(flatten)]
    catalog: CatalogSettings,

    /// Where the blobs are.
    #[command(flatten)]
    shared_blobs: SharedBlobSettings,
}

impl StateArgs {
    pub(super) fn state(&self) -> StateDir {
        let state = StateDir::new(&self.data_dir).with_catalog(self.catalog.url());
        state.with_shared_blobs(self.shared_blobs.folder())
    }
}
