//! `vehicle.toml`: what a vehicle is, and where its repositories are.
//!
//! `director_url` and `image_url` are the repository mapping of Uptane 2.1.0, 5.2.6 in its base
//! case (MAP-3): every image needs both. It is never fetched from a repository (MAP-5).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Error;
use super::files::find;
use super::waiting::Patience;
use motorcade_model::{BaseUrl, EcuRole, EcuSerial, HardwareId, VehicleId};

/// The settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) vin: VehicleId,
    /// Both repositories, below `director/` and `repo/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<String>,
    /// The Director, if it is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) director_url: Option<String>,
    /// The Image repository, if it is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_url: Option<String>,
    /// A file in which a secure source keeps the time (TIM-1). Without one the system's clock
    /// counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) time_file: Option<PathBuf>,
    /// Bytes a second below which a server is too slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_speed: Option<u64>,
    /// Over how long that is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    speed_window_seconds: Option<u64>,
    /// How long an answer, or the next byte of one, may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stall_timeout_seconds: Option<u64>,
    /// A proxy for all requests, instead of the environment's; `none` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proxy: Option<String>,
    /// How long a command may take to install an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    install_timeout_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "TlsConfig::is_empty")]
    pub(super) tls: TlsConfig,
    pub(super) ecus: Vec<EcuConfig>,
}

/// How TLS is spoken; files are PEM, relative to the state directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client_cert: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client_key: Option<PathBuf>,
    /// Offers X25519MLKEM768 first, which takes 2.3 KB more of each connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) post_quantum: bool,
}

impl TlsConfig {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One ECU.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EcuConfig {
    pub(super) serial: EcuSerial,
    pub(super) hardware_id: HardwareId,
    pub(super) role: EcuRole,
    /// How a Secondary verifies. A Primary verifies fully, always.
    #[serde(default)]
    pub(super) verification: Verification,
    /// Its private encryption key, if that is not `keys/<serial>.encryption.pem`, such as one that
    /// all ECUs of a hardware id share (Uptane 2.1.0, 5.4.1 step 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) encryption_key: Option<PathBuf>,
    pub(super) install: InstallTarget,
}

/// How an ECU verifies (Uptane 2.1.0, 5.4.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verification {
    /// Both repositories.
    #[default]
    Full,
    /// The Director's Targets alone.
    Partial,
}

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum InstallTarget {
    /// A file, replaced whole.
    File(PathBuf),
    /// A block device, or a file that is there and is written from its start.
    Device(PathBuf),
    /// A program that reads the image from its standard input and ends with 0 once it runs.
    /// `MOTORCADE_ECU_SERIAL` says for which ECU, `MOTORCADE_IMAGE_LENGTH` how many bytes come:
    /// fewer are what a power cut of this side leaves.
    Command(Vec<String>),
}

impl Config {
    /// Settings that `provision` writes.
    pub(super) fn new(vin: VehicleId, server: &str, tls: TlsConfig, ecus: Vec<EcuConfig>) -> Self {
        let server = Some(server.trim_end_matches('/').to_owned());
        let (director_url, image_url, time_file) = (None, None, None);
        let (min_speed, speed_window_seconds, stall_timeout_seconds) = (None, None, None);
        Self {
            vin,
            server,
            director_url,
            image_url,
            time_file,
            min_speed,
            speed_window_seconds,
            stall_timeout_seconds,
            proxy: None,
            install_timeout_seconds: None,
            tls,
            ecus,
        }
    }

    /// Reads and checks the file.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let unusable = |fault: String| Error::Setting { path: path.to_owned(), fault };
        let bytes = find(path, MAX_SIZE)?
            .ok_or_else(|| unusable("it is not there; run `provision` first".into()))?;
        let text = String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8".into()))?;
        let config: Self = toml::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        config.check().map_err(|fault| unusable(fault.into()))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), &'static str> {
        let serials: std::collections::BTreeSet<_> =
            self.ecus.iter().map(|ecu| &ecu.serial).collect();
        if serials.len() < self.ecus.len() {
            return Err("two ECUs have one serial");
        }
        if self.ecus.iter().filter(|ecu| ecu.role == EcuRole::Primary).count() != 1 {
            return Err("exactly one ECU must be the primary");
        }
        let empty = |ecu: &EcuConfig| matches!(&ecu.install, InstallTarget::Command(command) if command.is_empty());
        if self.ecus.iter().any(empty) {
            return Err("a command needs a program");
        }
        let times =
            [self.speed_window_seconds, self.stall_timeout_seconds, self.install_timeout_seconds];
        if !times.into_iter().flatten().all(|seconds| (1..=LONGEST_TIME).contains(&seconds)) {
            return Err(
                "`speed_window_seconds`, `stall_timeout_seconds` and `install_timeout_seconds` must be from 1 to 86400",
            );
        }
        let urls = [&self.server, &self.director_url, &self.image_url];
        if urls.into_iter().flatten().any(|url| url.parse::<BaseUrl>().is_err()) {
            return Err(
                "a URL must be one such as https://motorcade.example:8443, without user name, password, `?` and `#`",
            );
        }
        if self.server.is_none() && (self.director_url.is_none() || self.image_url.is_none()) {
            return Err("`server` is missing, or both `director_url` and `image_url`");
        }
        let is_proxy = |proxy: &str| {
            proxy == "none"
                || url::Url::parse(proxy).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        };
        if self.proxy.as_deref().is_some_and(|proxy| !is_proxy(proxy)) {
            return Err("`proxy` is neither a URL with http or https nor `none`");
        }
        Ok(())
    }

    /// How long an installation may take.
    pub(super) fn install_timeout(&self) -> Duration {
        self.install_timeout_seconds
            .map_or(INSTALL_TIMEOUT, |seconds| Duration::from_secs(seconds.max(1)))
    }

    /// The Primary.
    pub(super) fn primary(&self) -> &EcuConfig {
        self.ecus
            .iter()
            .find(|ecu| ecu.role == EcuRole::Primary)
            .expect("a checked configuration has one")
    }

    /// Where the Director is.
    pub(super) fn director(&self) -> String {
        self.url(&self.director_url, "director")
    }

    /// Where the Image repository is.
    pub(super) fn image(&self) -> String {
        self.url(&self.image_url, "repo")
    }

    fn url(&self, own: &Option<String>, below: &str) -> String {
        let own = own.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        let server = self.server.as_deref().unwrap_or_default().trim_end_matches('/');
        own.unwrap_or_else(|| format!("{server}/{below}"))
    }

    /// How long to wait for servers.
    pub(super) fn patience(&self) -> Patience {
        let mut patience = Patience::default();
        if let Some(seconds) = self.stall_timeout_seconds {
            patience.stall = Duration::from_secs(seconds.max(1));
            patience.answer = patience.stall;
        }
        if let Some(seconds) = self.speed_window_seconds {
            patience.window = Duration::from_secs(seconds.max(1));
        }
        patience.min_speed = self.min_speed.unwrap_or(patience.min_speed);
        patience
    }
}

const MAX_SIZE: u64 = 1024 * 1024; // 1 MiB
const LONGEST_TIME: u64 = 24 * 60 * 60; // a day, in seconds
/// Long enough for a slow bus, and not for ever.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(3600); // 1 h

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vehicle.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    const ECU: &str = "[[ecus]]\nserial = \"p-1\"\nhardware_id = \"gw\"\nrole = \"primary\"\ninstall = { file = \"x\" }\n";

    #[test]
    fn urls_are_below_the_server_or_elsewhere() {
        let config = load(&format!(
            "vin = \"V\"\nserver = \"https://s/\"\nimage_url = \"https://cdn/x/\"\n{ECU}"
        ))
        .unwrap();
        assert_eq!(
            (config.director().as_str(), config.image().as_str()),
            ("https://s/director", "https://cdn/x")
        );
    }

    #[test]
    fn what_is_missing_or_unknown_is_said() {
        for (text, expected) in [
            (format!("vin = \"V\"\n{ECU}"), "`server` is missing"),
            ("vin = \"V\"\nserver = \"s\"\necus = []\n".into(), "exactly one ECU"),
            (format!("vin = \"V\"\nserver = \"s\"\n{ECU}{ECU}"), "one serial"),
            (format!("vin = \"V\"\nservr = \"s\"\n{ECU}"), "unknown field"),
            (
                format!("vin = \"V\"\nserver = \"https://s\"\nproxy = \"proxy:3128\"\n{ECU}"),
                "`proxy` is neither",
            ),
            (
                format!("vin = \"V\"\nserver = \"https://me:secret@s\"\n{ECU}"),
                "a URL must be one such as",
            ),
            (
                format!("vin = \"V\"\nserver = \"https://s\"\nimage_url = \"https://s?x\"\n{ECU}"),
                "a URL must be",
            ),
            (
                format!("vin = \"V\"\nserver = \"https://s\"\nstall_timeout_seconds = 0\n{ECU}"),
                "from 1 to 86400",
            ),
            (
                format!(
                    "vin = \"V\"\nserver = \"https://s\"\ninstall_timeout_seconds = 100000\n{ECU}"
                ),
                "from 1 to",
            ),
            (format!("vin = \"V/\"\nserver = \"s\"\n{ECU}"), "must not contain"),
        ] {
            let error = load(&text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
    }
}
