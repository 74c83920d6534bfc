//! `--data-dir`, and where catalog and blobs are, for the commands that work on a state directory.

use std::path::PathBuf;

use clap::Args;

use crate::app::state_dir::StateDir;
use crate::config::{BlobSettings, CatalogSettings, DEFAULT_DATA_DIR, SharedBlobSettings};

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

    /// Whether they are in a bucket.
    #[command(flatten)]
    blobs: BlobSettings,
}

impl StateArgs {
    /// The state directory, with what of it is elsewhere.
    ///
    /// # Errors
    ///
    /// If something is set that can't be used.
    pub(super) fn state(&self) -> anyhow::Result<StateDir> {
        let state = StateDir::new(&self.data_dir).with_catalog(self.catalog.url());
        let state = state.with_shared_blobs(self.shared_blobs.folder());
        Ok(state.with_bucket(self.blobs.bucket()?))
    }
}
