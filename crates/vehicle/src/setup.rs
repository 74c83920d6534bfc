//! A vehicle as it is put together from its state directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::Error;
use super::ballast;
use super::clients::Tls;
use super::config::{Config, EcuConfig, TlsConfig};
use super::credentials::{self, Seen};
use super::ecu::KeyFiles;
use super::files::{copy_of, make_folder};
use super::folder::{Folder, Use, mark_enrolled};
use super::http::{Http, Token};
use super::sink::command::CommandPatience;
use super::state::{Memory, State};
use motorcade_host::key_exchange::{PostQuantum, offer_post_quantum};
use motorcade_model::{Clock, RoleName, SystemClock, Timestamp};
use motorcade_uptane::verify::{Fault, Finding, Rules};

/// A vehicle that is ready to update.
pub(super) struct Vehicle {
    pub(super) folder: Folder,
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) http: Http,
    /// How often the Director wants a report at least, as far as that is known.
    pub(super) report_every: Option<Duration>,
    token: Option<Token>,
    /// Of which files the token and the client are made.
    credentials: Seen,
    /// Held for as long as this lives.
    _lock: File,
}

impl Vehicle {
    /// Reads a state directory.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let folder = Folder::new(path);
        let config = Config::load(&folder.config())?;
        let lock = folder.lock()?;
        folder.sweep(&config);
        make_folder(&folder.downloads())?;
        ballast::keep(&folder.state());
        if !folder.enrolled().exists() && Use::of(&folder) == Use::Already {
            let _ = mark_enrolled(&folder); // the other signs are there
        }
        let state = remember(&folder, &config)?;
        let credentials = credentials::see(&folder, &config);
        let http = client(&folder, &config.tls, &config)?;
        let token = credentials::token(&folder)?;
        let report_every = None;
        Ok(Self { folder, config, state, http, report_every, token, credentials, _lock: lock })
    }

    /// Whether token or certificates are others than those in use.
    pub(super) fn has_new_credentials(&self) -> bool {
        credentials::see(&self.folder, &self.config) != self.credentials
    }

    /// Reads token and certificates again if they are others.
    ///
    /// # Errors
    ///
    /// What is wrong with them. Those from before stay in use, and the next call tries again: they
    /// may be half written.
    pub(super) fn renew_credentials(&mut self) -> Result<(), Error> {
        let seen = credentials::see(&self.folder, &self.config);
        if seen == self.credentials {
            return Ok(());
        }
        let token = credentials::token(&self.folder)?;
        self.http.take_clients_of(client(&self.folder, &self.config.tls, &self.config)?);
        (self.token, self.credentials) = (token, seen);
        Ok(())
    }

    /// The token that goes with a request to a URL: the Director's server knows it, and nobody else
    /// is to.
    pub(super) fn token_for(&self, url: &str) -> Option<&Token> {
        let origin = |url: &str| url::Url::parse(url).ok().map(|url| url.origin());
        let is_ours =
            origin(url).is_some_and(|origin_of| Some(origin_of) == origin(&self.config.director()));
        self.token.as_ref().filter(|_| is_ours)
    }

    /// What the Director's metadata has to be for this vehicle.
    pub(super) fn director_rules(&self) -> Rules {
        let ecus = self.config.ecus.iter();
        let ecus = ecus.map(|ecu| (ecu.serial.clone(), ecu.hardware_id.clone())).collect();
        Rules::Director { vin: self.config.vin.clone(), ecus: Some(ecus) }
    }

    /// The keys of an ECU.
    pub(super) fn keys_of(&self, ecu: &EcuConfig) -> KeyFiles {
        KeyFiles::new(self.folder.path(), ecu)
    }

    /// What ends the program that installs an image.
    pub(super) fn install_patience(&self) -> CommandPatience {
        CommandPatience { longest: self.config.install_timeout(), stop: self.http.stop().clone() }
    }

    /// The time as the source tells it, in whole seconds as metadata has it.
    pub(super) fn now(&self) -> Result<Timestamp, Error> {
        let Some(file) = &self.config.time_file else { return Ok(whole(SystemClock.now())) };
        read_time(self.folder.path().join(file))
    }
}

fn read_time(path: PathBuf) -> Result<Timestamp, Error> {
    let text = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    text.trim().parse().map(whole).map_err(|_| Error::TimeSource { path })
}

/// What the vehicle remembers. It reports what it has lost: a vehicle that is silent helps nobody.
fn remember(folder: &Folder, config: &Config) -> Result<State, Error> {
    let path = folder.state();
    let (mut state, mut memory) = State::load(&path)?;
    // Metadata that was verified once, and nothing remembered of it: the file is gone.
    if memory == Memory::Whole
        && !path.exists()
        && folder.director_store().find(&RoleName::Timestamp).is_some()
    {
        memory = Memory::Lost;
    }
    if memory == Memory::Lost {
        state.count_from(
            latest_second(folder, config),
            config.ecus.iter().map(|ecu| ecu.serial.clone()),
        );
    }
    if memory != Memory::Whole {
        folder.mended().note(&path);
        state.ecu(&config.primary().serial).note(Finding::Fault(Fault::Storage));
        state.save()?;
    }
    Ok(state)
}

/// The latest of all times that are to be had, in seconds since 1970. A clock alone may be behind
/// the one of an earlier loss, and a counter that goes back is refused for ever.
fn latest_second(folder: &Folder, config: &Config) -> u64 {
    let told = config.time_file.as_ref().and_then(|file| read_time(folder.path().join(file)).ok());
    let clocks = [Some(SystemClock.now()), told].into_iter().flatten();
    let clocks = clocks.filter_map(|time| u64::try_from(time.as_second()).ok());
    let trusted =
        std::fs::read_dir(folder.path().join("trust/director")).into_iter().flatten().flatten();
    let trusted = trusted
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"));
    let files = trusted.chain([folder.state(), copy_of(&folder.state())]);
    let written = files
        .filter_map(|path| path.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    clocks.chain(written.map(|since| since.as_secs())).max().unwrap_or_default()
}

/// The HTTP client that the settings ask for.
pub(super) fn client(folder: &Folder, tls: &TlsConfig, config: &Config) -> Result<Http, Error> {
    let below = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.path().join(path));
    let (ca_file, client_cert, client_key) =
        (below(&tls.ca_file), below(&tls.client_cert), below(&tls.client_key));
    let (ca_file, client_cert, client_key) =
        (ca_file.as_deref(), client_cert.as_deref(), client_key.as_deref());
    let place = if tls.post_quantum { PostQuantum::First } else { PostQuantum::Last };
    offer_post_quantum(place);
    let tls = Tls { proxy: config.proxy.as_deref(), ca_file, client_cert, client_key };
    Http::new(tls, config.patience())
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
