//! Motorcade: an OTA update-artifact server with envelope encryption and Uptane/TUF metadata.
//!
//! See ARCHITECTURE.md for how the modules fit together, and docs/FORMAT.md for what is stored and
//! served.

pub mod api;
pub mod app;
pub mod blob;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod http;
pub mod keys;
pub mod model;
pub mod server;
pub mod telemetry;
pub mod uptane;

pub use motorcade_envelope as envelope;
pub use motorcade_host::{environment, files};
pub use motorcade_vehicle as vehicle;
