//! The libraries that speak to tokens: each is loaded and initialized once in a process, as
//! PKCS#11 has it (v3.1, 5.4), whoever uses it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::slot::Slot;

use super::error::answer_of;

/// A library that was loaded.
#[derive(Debug)]
pub(super) struct Module {
    /// Held to read for every call: no other may be going on when the library starts anew.
    library: RwLock<Pkcs11>,
    /// How often it has started anew: handles from before are others' now.
    generation: AtomicU64,
    restarted: Mutex<Instant>,
}

impl Module {
    /// The module in a file, loaded by whoever asks first.
    pub(super) fn load(path: &Path) -> Result<Arc<Self>, Error> {
        static LOADED: LazyLock<Mutex<BTreeMap<PathBuf, Arc<Module>>>> =
            LazyLock::new(Mutex::default);
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.get(path) {
            return Ok(Arc::clone(module));
        }
        let library = Pkcs11::new(path)?;
        initialize(&library)?;
        let module = Arc::new(Self {
            library: RwLock::new(library),
            generation: AtomicU64::new(0),
            restarted: Mutex::new(Instant::now()),
        });
        loaded.insert(path.to_owned(), Arc::clone(&module));
        Ok(module)
    }

    /// The library, for calls that end before it starts anew.
    pub(super) fn library(&self) -> RwLockReadGuard<'_, Pkcs11> {
        self.library.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the library has started anew; while it is held to read, it does not.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Finds the slot with a token.
    pub(super) fn find_slot(
        library: &Pkcs11,
        label: Option<&str>,
        serial: Option<&str>,
    ) -> Result<Option<Slot>, Error> {
        for slot in library.get_slots_with_token()? {
            let Ok(token) = library.get_token_info(slot) else { continue };
            let is_same = |wanted: Option<&str>, found: &str| {
                wanted.is_none_or(|wanted| wanted == found.trim_end())
            };
            if is_same(label, token.label()) && is_same(serial, token.serial_number()) {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Starts the library anew, which is how many of them find a token again that was away; not
    /// while anybody uses it, and not often. Says whether it did. All sessions are closed by it.
    pub(super) fn restart(&self) -> bool {
        let mut restarted = self.restarted.lock().unwrap_or_else(PoisonError::into_inner);
        if restarted.elapsed() < RESTART_INTERVAL {
            return false;
        }
        let library = match self.library.try_write() {
            Ok(library) => library,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        *restarted = Instant::now();
        self.generation.fetch_add(1, Ordering::AcqRel);
        let done = library.clone().finalize().and_then(|()| initialize(&library));
        done.inspect_err(|error| tracing::warn!(%error, "failed to start a PKCS#11 module anew"))
            .is_ok()
    }
}

fn initialize(library: &Pkcs11) -> Result<(), Error> {
    match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Err(error) if answer_of(&error) == Some(RvError::CryptokiAlreadyInitialized) => Ok(()),
        done => done,
    }
}

const RESTART_INTERVAL: Duration = Duration::from_secs(5);
