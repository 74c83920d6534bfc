//! Settings of `motorcade serve`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::Error;
use super::connections::{ConnectionConfig, ConnectionSettings};
use super::vehicles::{VehicleConfig, VehicleSettings};

/// What can be set, as flags, in the environment, or in a TOML file under the same names with underscores.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSettings {
    /// TOML file with any of these settings
    #[arg(long, env = "MOTORCADE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,

    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "MOTORCADE_LISTEN", value_name = "ADDRESS:PORT", value_parser = parse_listen)]
    listen: Option<SocketAddr>,

    /// State directory [default: ./motorcade-data]
    #[arg(long, env = "MOTORCADE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Largest image, in bytes of plaintext [default: 17179869184, 16 GiB]
    #[arg(long, env = "MOTORCADE_MAX_IMAGE_SIZE", value_name = "BYTES")]
    max_image_size: Option<u64>,

    /// Longest pause within an upload, in seconds; its whole time has no limit [default: 60]
    #[arg(long, env = "MOTORCADE_IDLE_TIMEOUT", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: Option<u64>,

    /// Uploads that are sealed at one time, about 8 MiB of memory each [default: 16]
    #[arg(long, env = "MOTORCADE_MAX_UPLOADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_uploads: Option<u16>,

    /// Free space that uploads leave on the disk, in bytes [default: 67108864, 64 MiB]
    #[arg(long, env = "MOTORCADE_RESERVED_SPACE", value_name = "BYTES")]
    reserved_space: Option<u64>,

    /// Who may read /repo [default: public]
    #[arg(long, env = "MOTORCADE_REPO_ACCESS", value_name = "WHO")]
    repo_access: Option<RepoAccess>,

    /// Answer requests for targets with a redirect to this base URL, which serves the blob directory
    #[arg(long, env = "MOTORCADE_TARGETS_URL", value_name = "URL")]
    targets_url: Option<String>,

    /// Answer requests for targets with X-Accel-Redirect to this internal nginx location
    #[arg(long, env = "MOTORCADE_TARGETS_ACCEL", value_name = "LOCATION")]
    targets_accel: Option<String>,

    /// How long running uploads may go on after a signal to stop, in seconds [default: 30]
    #[arg(long, env = "MOTORCADE_SHUTDOWN_TIMEOUT", value_name = "SECONDS")]
    shutdown_timeout: Option<u64>,

    /// How many connections there may be.
    #[command(flatten)]
    #[serde(flatten)]
    connections: ConnectionSettings,

    /// TLS, and how vehicles are recognized.
    #[command(flatten)]
    #[serde(flatten)]
    vehicles: VehicleSettings,

    /// Logs and traces.
    #[command(flatten)]
    #[serde(flatten)]
    pub log: LogSettings,
}

/// Logs and traces.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default)]
pub struct LogSettings {
    /// Which log lines to write, such as `info` or `motorcade=debug,warn` [default: motorcade=info,warn]
    #[arg(long, env = "MOTORCADE_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// Shape of log lines [default: text on a terminal, json otherwise]
    #[arg(long, env = "MOTORCADE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Send traces to this OTLP/HTTP collector, such as http://localhost:4318
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// Who may read `/repo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepoAccess {
    /// Everyone.
    Public,
    /// Holders of a token, of any role.
    Token,
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Settings with their defaults filled in.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// State directory.
    pub data_dir: PathBuf,
    /// Largest image, in bytes of plaintext; none for the built-in limit.
    pub max_image_size: Option<u64>,
    /// Longest pause within an upload; none for the built-in limit.
    pub idle_timeout: Option<Duration>,
    /// Uploads that are sealed at one time; none for the built-in limit.
    pub max_uploads: Option<usize>,
    /// Free space that uploads leave, in bytes; none for the built-in limit.
    pub reserved_space: Option<u64>,
    /// Whether reading `/repo` takes a token.
    pub repo_access: RepoAccess,
    /// Base URL of redirects for targets.
    pub targets_url: Option<String>,
    /// nginx location of targets.
    pub targets_accel: Option<String>,
    /// How long running uploads may go on after a signal to stop.
    pub shutdown_timeout: Duration,
    /// How many connections there may be.
    pub connections: ConnectionConfig,
    /// TLS, and how vehicles are recognized.
    pub vehicles: VehicleConfig,
    /// Logs and traces.
    pub log: LogSettings,
}

impl ServeSettings {
    /// Adds the file's settings and the defaults.
    ///
    /// # Errors
    ///
    /// [`Error`] if the file can't be used, or two settings exclude each other.
    pub fn resolve(self) -> Result<ServeConfig, Error> {
        let file = match &self.config {
            Some(path) => read_file(path)?,
            None => Self::default(),
        };
        let targets_url = self.targets_url.or(file.targets_url);
        let targets_accel = self.targets_accel.or(file.targets_accel);
        if targets_url.is_some() && targets_accel.is_some() {
            return Err(Error::Unusable("targets-url and targets-accel exclude each other: set one of them"));
        }
        Ok(ServeConfig {
            listen: self.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            data_dir: self.data_dir.or(file.data_dir).unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
            max_image_size: self.max_image_size.or(file.max_image_size),
            idle_timeout: self.idle_timeout.or(file.idle_timeout).map(Duration::from_secs),
            max_uploads: self.max_uploads.or(file.max_uploads).map(usize::from),
            reserved_space: self.reserved_space.or(file.reserved_space),
            repo_access: self.repo_access.or(file.repo_access).unwrap_or(RepoAccess::Public),
            targets_url,
            targets_accel,
            shutdown_timeout: Duration::from_secs(self.shutdown_timeout.or(file.shutdown_timeout).unwrap_or(30)),
            connections: self.connections.resolve(file.connections),
            vehicles: self.vehicles.resolve(file.vehicles)?,
            log: LogSettings {
                log: self.log.log.or(file.log.log),
                log_format: self.log.log_format.or(file.log.log_format),
                otlp_endpoint: self.log.otlp_endpoint.or(file.log.otlp_endpoint),
            },
        })
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "use an IP address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned())
}

fn read_file(path: &PathBuf) -> Result<ServeSettings, Error> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|source| Error::File { path: path.display().to_string(), source })?;
    toml::from_str(&text)
        .map_err(|error| Error::Syntax { path: path.display().to_string(), message: error.message().to_owned() })
}

/// Where the state directory is by default.
pub const DEFAULT_DATA_DIR: &str = "./motorcade-data";

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = file("listen = '0.0.0.0:1'\nmax_uploads = 3\nlog = 'debug'\n");
        let settings = ServeSettings {
            config: Some(file.path().into()),
            listen: Some("127.0.0.1:2".parse().unwrap()),
            ..Default::default()
        };
        let config = settings.resolve().unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.max_uploads, Some(3));
        assert_eq!(config.log.log.as_deref(), Some("debug"));
        assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    }

    #[test]
    fn contradictions_and_missing_files_are_errors() {
        let both = "targets_url = 'http://cdn'\ntargets_accel = '/blobs'\n";
        let settings = |path: &std::path::Path| ServeSettings { config: Some(path.into()), ..Default::default() };
        assert!(matches!(settings(file(both).path()).resolve(), Err(Error::Unusable(_))));
        assert!(matches!(settings("/nowhere/motorcade.toml".as_ref()).resolve(), Err(Error::File { .. })));
        assert!(matches!(settings(file("listen = 5").path()).resolve(), Err(Error::Syntax { .. })));
        assert!(matches!(settings(file("lisen = '127.0.0.1:1'").path()).resolve(), Err(Error::Syntax { .. })));
    }
}
