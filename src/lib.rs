//! Motorcade: an OTA update-artifact server with envelope encryption and Uptane/TUF metadata.
//!
//! See ARCHITECTURE.md for how the modules fit together, and docs/FORMAT.md for what is stored and
//! served.

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod blob;
#[cfg(feature = "server")]
pub mod catalog;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
pub mod envelope;
pub mod environment;
pub mod files;
#[cfg(feature = "server")]
pub mod http;
pub mod model;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod telemetry;
pub mod uptane;
pub mod vehicle;
