//! The vehicle's side: a reference Primary with its Secondaries (Uptane 2.1.0, 5.4), and the same
//! verifier as a plain TUF client.
//!
//! It shares no code with the server but [`motorcade_host`], [`motorcade_model`],
//! [`motorcade_envelope`] and the formats and the verifier of [`motorcade_uptane`]. Everything is
//! synchronous; the one runtime is inside `http.rs`. Files are replaced whole or not at all, and what
//! was trusted before a failure is trusted after it (FV-23).

mod agreed;
mod ballast;
mod bundle;
mod change_key;
mod check;
pub mod cli;
mod clients;
mod config;
mod credentials;
mod cycle;
mod download;
mod ecu;
mod error;
mod files;
mod folder;
mod held;
mod http;
mod http_error;
mod install;
mod mended;
mod names;
mod pace;
mod pipeline;
mod progress;
mod provision;
mod redirect;
mod report;
mod response;
mod retry_after;
mod room;
mod roots;
mod secondary;
mod service;
mod setup;
mod sink;
mod source;
mod state;
mod stop;
mod store;
#[cfg(test)]
mod testing;
mod tries;
mod updater;
mod waiting;

pub use error::Error;
