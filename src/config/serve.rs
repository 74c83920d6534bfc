//! Settings of `motorcade serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::address::parse_address;
use super::blobs::BlobSettings;
use super::catalog::CatalogSettings;
use super::connections::{ConnectionConfig, ConnectionSettings};
use super::shared_blobs::SharedBlobSettings;
use super::vehicles::{VehicleConfig, VehicleSettings};
use super::{Bytes, Error, Span, file};
use crate::model::{BaseUrl, Bucket, DatabaseUrl, ParseBaseUrlError};

/// What can be set, as flags, in the environment, or in a TOML file under the same names with
/// underscores.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeSettings {
    /// TOML file with any of these settings
    #[arg(long, env = "MOTORCADE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "MOTORCADE_LISTEN", value_name = "HOST:PORT", value_parser = parse_address)]
    listen: Option<SocketAddr>,

    /// State directory [default: ./motorcade-data]
    #[arg(long, env = "MOTORCADE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Where the catalog is.
    #[command(flatten)]
    catalog: CatalogSettings,

    /// Where the blobs are.
    #[command(flatten)]
    shared_blobs: SharedBlobSettings,
    /// Where blobs are.
    #[command(flatten)]
    blobs: BlobSettings,

    /// Largest image, of plaintext [default: 16GiB]
    #[arg(long, env = "MOTORCADE_MAX_IMAGE_SIZE", value_name = "SIZE")]
    max_image_size: Option<Bytes<1, { 1 << 52 }>>,

    /// Longest pause within an upload; its whole time has no limit [default: 60s]
    #[arg(long, env = "MOTORCADE_IDLE_TIMEOUT", value_name = "TIME")]
    idle_timeout: Option<Span<1, 1, 86_400>>,

    /// Uploads that are sealed at one time, about 8 MiB of memory each [default: 16]
    #[arg(long, env = "MOTORCADE_MAX_UPLOADS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    max_uploads: Option<u64>,

    /// How long an upload that can be resumed waits for more [default: 24h]
    #[arg(long, env = "MOTORCADE_UPLOAD_EXPIRY", value_name = "TIME")]
    upload_expiry: Option<Span<3600, 1, { 365 * 86_400 }>>,

    /// Free space that uploads leave on the disk [default: what signing takes, at least 64MiB]
    #[arg(long, env = "MOTORCADE_RESERVED_SPACE", value_name = "SIZE")]
    reserved_space: Option<Bytes<0, { 1 << 50 }>>,

    /// Who may read /repo [default: public]
    #[arg(long, env = "MOTORCADE_REPO_ACCESS", value_name = "WHO")]
    repo_access: Option<RepoAccess>,

    /// Answer requests for targets with a redirect to this base URL, which serves the blob
    /// directory
    #[arg(long, env = "MOTORCADE_TARGETS_URL", value_name = "URL")]
    targets_url: Option<BaseUrl>,

    /// Answer requests for targets with a redirect to the object store that blobs are in, by a URL
    /// that is good for so long
    #[arg(long, env = "MOTORCADE_TARGETS_PRESIGNED", value_name = "TIME")]
    targets_presigned: Option<Span<1, 60, { 7 * 86_400 }>>,

    /// Answer requests for targets with X-Accel-Redirect to this internal nginx location
    #[arg(long, env = "MOTORCADE_TARGETS_ACCEL", value_name = "LOCATION")]
    targets_accel: Option<String>,

    /// How long running uploads may go on after a signal to stop [default: 30s]
    #[arg(long, env = "MOTORCADE_SHUTDOWN_TIMEOUT", value_name = "TIME")]
    shutdown_timeout: Option<Span<1, 0, 86_400>>,

    /// How many connections there may be.
    #[command(flatten)]
    connections: ConnectionSettings,

    /// TLS, and how vehicles are recognized.
    #[command(flatten)]
    vehicles: VehicleSettings,

    /// Logs and traces.
    #[command(flatten)]
    pub log: LogSettings,
}

/// Logs and traces.
#[derive(Debug, Clone, Default, Args)]
pub struct LogSettings {
    /// Which log lines to write, such as `info` or `motorcade=debug,warn` [default:
    /// motorcade=info,warn]
    #[arg(long, env = "MOTORCADE_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// Shape of log lines [default: text on a terminal, json otherwise]
    #[arg(long, env = "MOTORCADE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Send traces to this OTLP/HTTP collector, such as http://localhost:4318
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = parse_collector)]
    pub otlp_endpoint: Option<String>,
}

/// Who may read `/repo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RepoAccess {
    /// Everyone.
    Public,
    /// Holders of a token, of any role.
    Token,
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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
    /// The database that the catalog is in; none for a file in the state directory.
    pub catalog: Option<DatabaseUrl>,
    /// The folder that the blobs are in; none for the state directory.
    pub shared_blobs: Option<PathBuf>,
    /// The bucket that blobs are in; none for a folder of the state directory.
    pub bucket: Option<Bucket>,
    /// Largest image, in bytes of plaintext; none for the built-in limit.
    pub max_image_size: Option<u64>,
    /// Longest pause within an upload; none for the built-in limit.
    pub idle_timeout: Option<Duration>,
    /// Uploads that are sealed at one time; none for the built-in limit.
    pub max_uploads: Option<usize>,
    /// How long an upload that can be resumed waits for more; none for the built-in limit.
    pub upload_expiry: Option<Duration>,
    /// Free space that uploads leave, in bytes; none for what signing takes.
    pub reserved_space: Option<u64>,
    /// Whether reading `/repo` takes a token.
    pub repo_access: RepoAccess,
    /// Base URL of redirects for targets.
    pub targets_url: Option<String>,
    /// How long URLs of the object store are good that targets are redirected to.
    pub targets_presigned: Option<Duration>,
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
            Some(path) => file::read(path)?,
            None => Self::default(),
        };
        let targets_url = self.targets_url.or(file.targets_url);
        let targets_accel = self.targets_accel.or(file.targets_accel);
        let targets_presigned = self.targets_presigned.or(file.targets_presigned);
        let carriers =
            [targets_url.is_some(), targets_accel.is_some(), targets_presigned.is_some()];
        if carriers.into_iter().filter(|is_set| *is_set).count() > 1 {
            return Err(Error::Unusable(
                "targets-url, targets-presigned and targets-accel exclude each other: set one of them",
            ));
        }
        let bucket = self.blobs.or(file.blobs).bucket()?;
        if bucket.is_none() && targets_presigned.is_some() {
            return Err(Error::Unusable(
                "targets-presigned is for blobs in an object store: set `--blobs s3://BUCKET` too",
            ));
        }
        Ok(ServeConfig {
            listen: self.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            data_dir: self.data_dir.or(file.data_dir).unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
            catalog: self.catalog.url().or_else(|| file.catalog.url()),
            shared_blobs: self.shared_blobs.folder().or_else(|| file.shared_blobs.folder()),
            bucket,
            max_image_size: self.max_image_size.or(file.max_image_size).map(Bytes::get),
            idle_timeout: self.idle_timeout.or(file.idle_timeout).map(Span::duration),
            max_uploads: self.max_uploads.or(file.max_uploads).map(|uploads| uploads as usize), // at most 4096
            upload_expiry: self.upload_expiry.or(file.upload_expiry).map(Span::duration),
            reserved_space: self.reserved_space.or(file.reserved_space).map(Bytes::get),
            repo_access: self.repo_access.or(file.repo_access).unwrap_or(RepoAccess::Public),
            targets_url: targets_url.map(|url| url.to_string()),
            targets_presigned: targets_presigned.map(Span::duration),
            targets_accel,
            connections: self.connections.resolve(file.connections),
            shutdown_timeout: self
                .shutdown_timeout
                .or(file.shutdown_timeout)
                .map_or(SHUTDOWN_TIMEOUT, Span::duration),
            vehicles: self.vehicles.resolve(file.vehicles)?,
            log: LogSettings {
                log: self.log.log.or(file.log.log),
                log_format: self.log.log_format.or(file.log.log_format),
                otlp_endpoint: self.log.otlp_endpoint.or(file.log.otlp_endpoint),
            },
        })
    }
}

fn parse_collector(text: &str) -> Result<String, ParseBaseUrlError> {
    text.parse().map(|url: BaseUrl| url.to_string())
}

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

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
        let settings = |path: &std::path::Path| ServeSettings {
            config: Some(path.into()),
            ..Default::default()
        };
        assert!(matches!(settings(file(both).path()).resolve(), Err(Error::Unusable(_))));
        assert!(matches!(
            settings("/nowhere/motorcade.toml".as_ref()).resolve(),
            Err(Error::File { .. })
        ));
        assert!(matches!(
            settings(file("listen = 5").path()).resolve(),
            Err(Error::Setting { .. })
        ));
        assert!(matches!(
            settings(file("lisen = '127.0.0.1:1'").path()).resolve(),
            Err(Error::Setting { .. })
        ));
    }

    fn read(text: &str) -> Result<ServeConfig, String> {
        let file = file(text);
        let settings = ServeSettings { config: Some(file.path().into()), ..Default::default() };
        settings
            .resolve()
            .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    #[test]
    fn a_file_s_values_obey_the_rules_of_flags() {
        for (text, fault) in [
            ("max_uploads = 0", "max_uploads: 0 is not in 1..=4096"),
            ("max_uploads = 70000", "max_uploads: 70000 is not in 1..=4096"),
            ("idle_timeout = 0", "idle_timeout: it must be from 1s to 1d"),
            (
                "idle_timeout = -1",
                "idle_timeout: write a number with one of the units s, m, h and d",
            ),
            (
                "max_image_size = '16 gigs'",
                "max_image_size: write a number with one of the units B, KiB",
            ),
            ("silent_after = 0", "silent_after: it must be from 1h to 3650d"),
            (
                "vehicles_in_memory = 9223372036854775807",
                "vehicles_in_memory: it must be from 1 to 10000000",
            ),
            ("listen = 'nowhere'", "listen: use a host or an IP address, and a port"),
            ("listen = ['127.0.0.1:1', '127.0.0.1:2']", "listen: the argument"),
            ("repo_access = 'nobody'", "repo_access: invalid value 'nobody'"),
            ("log = true", "log: write a text, a number, or a list of them"),
            ("config = 'other.toml'", "config: there is no such setting"),
            ("lisen = 'x'", "lisen: there is no such setting"),
            ("[listen]\nport = 1", "listen: write a text"),
        ] {
            let error = read(&format!("# settings\n\n{text}\n")).unwrap_err();
            assert!(error.starts_with(&format!("FILE, line 3: {fault}")), "{text}: {error}");
        }
        let error = read("log = 'info'\nlisten = \n").unwrap_err();
        assert!(error.starts_with("FILE, line 2: "), "{error}");
    }

    #[test]
    fn sizes_times_and_addresses_are_what_people_write() {
        let config = read(
            "listen = 'localhost:8080'\nmax_image_size = '2GiB'\nreserved_space = 1_000\nidle_timeout = '2m'\n\
             shutdown_timeout = 0\nsilent_after = '2d'\nvehicles_in_memory = 5\ntrusted_proxy = ['127.0.0.1', '::1']\n\
             vehicle_header = 'x-vehicle'\n",
        )
        .unwrap();
        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
        assert_eq!((config.max_image_size, config.reserved_space), (Some(2 << 30), Some(1000)));
        assert_eq!(
            (config.idle_timeout, config.shutdown_timeout),
            (Some(Duration::from_secs(120)), Duration::ZERO)
        );
        assert_eq!(config.vehicles.silent_after, Some(Duration::from_secs(2 * 86_400)));
        assert_eq!(config.vehicles.proxy.unwrap().1.len(), 2);
        assert_eq!(
            read("silent_after = 168").unwrap().vehicles.silent_after,
            Some(Duration::from_secs(168 * 3600))
        );
        for text in [
            "nowhere.invalid:80",
            "127.0.0.1",
            ":8080",
            "::1:8080",
            "localhost:99999",
            "http://localhost:80",
        ] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
