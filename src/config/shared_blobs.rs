//! Settings of a folder of blobs that several servers have in common.

use std::path::PathBuf;

use clap::Args;

/// Where the blobs are, if in a folder that is not the state directory's.
#[derive(Debug, Clone, Default, Args)]
pub struct SharedBlobSettings {
    /// Folder of blobs that other servers on the same catalog use too (docs/REPLICAS.md) [default:
    /// the blobs are in the state directory]
    #[arg(long, env = "MOTORCADE_SHARED_BLOBS", value_name = "DIR")]
    shared_blobs: Option<PathBuf>,
}

impl SharedBlobSettings {
    /// The folder, if there is one.
    pub fn folder(&self) -> Option<PathBuf> {
        self.shared_blobs.clone()
    }
}
