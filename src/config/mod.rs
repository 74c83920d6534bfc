//! Settings: flag over environment over file over default. Only [`crate::environment`] reads
//! variables, and `file` makes flags of a file's keys, so that a value obeys the same rules
//! wherever it comes from.

mod address;
mod blob_target;
mod blobs;
mod catalog;
mod client;
mod connections;
mod file;
mod serve;
mod shared_blobs;
mod units;
mod vehicles;

pub use blob_target::BlobTarget;
pub use blobs::{AddressingStyle, BlobSettings};
pub use catalog::{CatalogSettings, CatalogTarget};
pub use client::{ClientConfig, ClientSettings};
pub use connections::{ConnectionConfig, ConnectionSettings};
pub use serve::{DEFAULT_DATA_DIR, LogFormat, LogSettings, RepoAccess, ServeConfig, ServeSettings};
pub use shared_blobs::SharedBlobSettings;
pub use units::{Bytes, Span};
pub use vehicles::{TlsConfig, VehicleConfig, VehicleIdFrom, VehicleSettings};

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("failed to read {path}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something in the configuration file can't be used.
    #[error("{path}, line {line}: {fault}")]
    Setting {
        /// The file.
        path: String,
        /// Where in it.
        line: usize,
        /// Which setting, and what is wrong with it.
        fault: String,
    },
    /// What should be an API token is none.
    #[error("{from} is empty, or has a character that no API token has")]
    Token {
        /// Where it comes from.
        from: String,
    },
    /// Something that is needed is set nowhere.
    #[error("{0}")]
    Missing(&'static str),
    /// A setting that can't be used, alone or with another one.
    #[error("{0}")]
    Unusable(&'static str),
}
