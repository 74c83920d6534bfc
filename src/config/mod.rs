//! Settings: flag over environment over file over default. The only place that reads the environment.

mod client;
mod connections;
mod serve;
mod vehicles;

pub use client::{ClientConfig, ClientSettings};
pub use connections::{ConnectionConfig, ConnectionSettings};
pub use serve::{DEFAULT_DATA_DIR, LogFormat, LogSettings, RepoAccess, ServeConfig, ServeSettings};
pub use vehicles::{TlsConfig, VehicleConfig, VehicleIdFrom, VehicleSettings};

/// Where systemd listens for a service that says when it is ready, if it runs this one as such.
pub fn notify_socket() -> Option<std::ffi::OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
}

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
    /// The configuration file isn't one.
    #[error("failed to understand {path}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// Where and what.
        message: String,
    },
    /// Something that is needed is set nowhere.
    #[error("{0}")]
    Missing(&'static str),
    /// A setting that can't be used, alone or with another one.
    #[error("{0}")]
    Unusable(&'static str),
}
