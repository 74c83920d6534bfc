//! A token: its sessions, and who is logged in.
//!
//! All keys of a token share its sessions, at most [`SESSIONS`], each used by one thread at a time
//! and off the executor. A token that was away is found again by whoever asks next.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::context::Pkcs11;
use cryptoki::error::RvError;
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::{TokenError, answer_of};
use super::login::{NotTried, Tries, Try};
use super::module::Module;
use super::pin::PinSource;
use super::uri::Pkcs11Uri;
use crate::environment::Pkcs11Variables;

/// A token that this process uses.
pub(super) struct Token {
    module_path: PathBuf,
    label: Option<String>,
    serial: Option<String>,
    pin: PinSource,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// With the epoch that each was opened in. None is closed when it is dropped: by then its
    /// handle may be another session's.
    idle: Vec<(Epoch, Session)>,
    /// How often all sessions were given up.
    forgotten: u64,
}

/// From when handles are: how often the library has started anew, and how often the token's sessions
/// were given up. Those of another epoch say nothing.
pub(super) type Epoch = (u64, u64);

impl Token {
    /// The token of a key; the same for all keys of it.
    pub(super) fn of(uri: &Pkcs11Uri) -> Result<Arc<Self>, TokenError> {
        type Name = (PathBuf, Option<String>, Option<String>);
        static KNOWN: LazyLock<Mutex<BTreeMap<Name, Arc<Token>>>> = LazyLock::new(Mutex::default);
        let variables = Pkcs11Variables::read();
        let module_path = uri.module_path.clone().or(variables.module.clone());
        let module_path = module_path.ok_or(TokenError::NoModule)?;
        let name = (module_path.clone(), uri.token.clone(), uri.serial.clone());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let token = known.entry(name).or_insert_with(|| {
            Arc::new(Self {
                module_path,
                label: uri.token.clone(),
                serial: uri.serial.clone(),
                pin: PinSource::new(uri.pin_source.clone(), variables),
                slots: Arc::new(Semaphore::new(SESSIONS)),
                state: Mutex::default(),
            })
        });
        Ok(Arc::clone(token))
    }

    /// Does something in a session, where it holds no executor up; once more in a new one if the
    /// session is found to be gone. `work` is told the epoch.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub(super) async fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T, TokenError>
    where
        T: Send + 'static,
        W: Fn(&Session, Epoch) -> Result<T, WorkFault> + Send + 'static,
    {
        let late = |_| TokenError::TimedOut { token: self.name(), seconds: PATIENCE.as_secs() };
        let slot = timeout(PATIENCE, Arc::clone(&self.slots).acquire_owned()).await;
        // A semaphore that nobody closes: its permit goes with the work, which may hang for longer
        // than anybody waits.
        let slot = slot.map_err(late)?;
        let token = Arc::clone(self);
        let work = spawn_blocking(move || {
            let _slot = slot;
            token.run_here(&work)
        });
        timeout(PATIENCE, work).await.map_err(late)??
    }

    fn run_here<T>(
        &self,
        work: &impl Fn(&Session, Epoch) -> Result<T, WorkFault>,
    ) -> Result<T, TokenError> {
        let module = Module::load(&self.module_path).map_err(|source| self.failed(source))?;
        let mut tries = 0;
        loop {
            let fault = {
                let library = module.library();
                let taken = self.take_session(&library, module.generation());
                match taken.and_then(|(epoch, session)| self.work_in(epoch, session, work)) {
                    Ok(done) => return Ok(done),
                    Err(fault) => fault,
                }
            };
            if !is_gone(&fault) || tries == 2 {
                return Err(fault);
            }
            self.state().forgotten += 1;
            // New sessions first; if they don't help, the library starts anew.
            if tries == 1 && !module.restart() {
                return Err(fault);
            }
            tries += 1;
        }
    }

    fn work_in<T>(
        &self,
        epoch: Epoch,
        session: Session,
        work: &impl Fn(&Session, Epoch) -> Result<T, WorkFault>,
    ) -> Result<T, TokenError> {
        match work(&session, epoch) {
            Ok(done) => {
                self.state().idle.push((epoch, session));
                Ok(done)
            }
            Err(fault) => {
                // Something may be half done in it. A session that is gone can't be closed.
                let _ = session.close();
                Err(match fault {
                    WorkFault::Key(error) => error,
                    WorkFault::Token(source) => self.failed(source),
                })
            }
        }
    }

    fn take_session(
        &self,
        library: &Pkcs11,
        generation: u64,
    ) -> Result<(Epoch, Session), TokenError> {
        let mut state = self.state();
        let epoch = (generation, state.forgotten);
        while let Some((of, session)) = state.idle.pop() {
            if of == epoch {
                return Ok((epoch, session));
            }
            if of.0 == generation {
                let _ = session.close(); // it may be gone, which is why it was given up
            }
        }
        // In one thread at a time, so that a wrong PIN is tried once.
        let slot = Module::find_slot(library, self.label.as_deref(), self.serial.as_deref());
        let slot = slot.map_err(|source| self.failed(source))?;
        let slot = slot.ok_or_else(|| TokenError::NoToken { token: self.name() })?;
        let session = library.open_ro_session_no_drop(slot);
        let session = session.map_err(|source| self.failed(source))?;
        match self.log_in(library, slot, &session) {
            Ok(()) => Ok((epoch, session)),
            Err(fault) => {
                let _ = session.close(); // it has served its purpose
                Err(fault)
            }
        }
    }

    /// Logs in, for all sessions of the token, unless somebody has.
    fn log_in(&self, library: &Pkcs11, slot: Slot, session: &Session) -> Result<(), TokenError> {
        let info = library.get_token_info(slot).map_err(|source| self.failed(source))?;
        let tries = Tries::at(&info);
        let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
        let state = session.get_session_info().map_err(|source| self.failed(source))?;
        if matches!(state.session_state(), SessionState::RoUser | SessionState::RwUser) {
            return Ok(());
        }
        let pin = self.pin.read()?;
        tries.check(pin.mark, Instant::now()).map_err(|why| match why {
            NotTried::Refused => TokenError::PinRefused { token: self.name() },
            NotTried::Unclear => TokenError::PinUnclear { token: self.name() },
        })?;
        if info.user_pin_locked() {
            return Err(TokenError::Locked { token: self.name() });
        }
        // What the token remembers outlives this process, and a supervisor starts it again and
        // again. A PIN that was corrected since this process tried the wrong one is tried.
        let is_doubtful = info.user_pin_count_low() || info.user_pin_final_try();
        if is_doubtful && (!tries.have_failed() || info.user_pin_final_try()) {
            return Err(TokenError::PinDoubtful { token: self.name() });
        }
        let Err(error) = session.login(UserType::User, Some(&pin.pin)) else {
            tries.note(pin.mark, Try::LetIn, Instant::now());
            return Ok(());
        };
        let outcome = Try::of(answer_of(&error));
        tries.note(pin.mark, outcome, Instant::now());
        let token = self.name();
        match outcome {
            Try::LetIn => Ok(()),
            Try::Refused => Err(TokenError::PinRefused { token }),
            Try::Locked => Err(TokenError::Locked { token }),
            Try::Unclear => {
                tracing::warn!(token, %error, "a token failed while this server logged in");
                Err(TokenError::PinUnclear { token })
            }
            Try::NotTried => Err(self.failed(error)),
        }
    }

    fn failed(&self, source: cryptoki::error::Error) -> TokenError {
        TokenError::Failed { token: self.name(), source }
    }

    fn name(&self) -> String {
        let serial = || self.serial.as_ref().map(|serial| format!("with the serial {serial}"));
        self.label.clone().or_else(serial).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.name())
    }
}

/// Why work in a session failed.
pub(super) enum WorkFault {
    /// With the key that it was about.
    Key(TokenError),
    /// With what the token answered.
    Token(cryptoki::error::Error),
}

impl From<cryptoki::error::Error> for WorkFault {
    fn from(error: cryptoki::error::Error) -> Self {
        Self::Token(error)
    }
}

/// Whether another session may do what this one did not: tokens are taken out, HSMs restart, and
/// their handles are others after that.
fn is_gone(fault: &TokenError) -> bool {
    let answer = match fault {
        TokenError::Failed { source, .. } => answer_of(source),
        TokenError::NoToken { .. } => return true,
        _ => return false,
    };
    matches!(
        answer,
        Some(
            RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::DeviceError
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent
                | RvError::TokenNotRecognized
                | RvError::SlotIdInvalid
                | RvError::UserNotLoggedIn
                | RvError::ObjectHandleInvalid
                | RvError::KeyHandleInvalid
                | RvError::WrappingKeyHandleInvalid
                | RvError::UnwrappingKeyHandleInvalid
                | RvError::CryptokiNotInitialized
                | RvError::GeneralError
                | RvError::FunctionFailed
        )
    )
}

/// Sessions of one token; more wait. Small HSMs have a few dozen, for all who use them.
const SESSIONS: usize = 16;
/// How long anybody waits, for a session and for the token's answer, each.
const PATIENCE: Duration = Duration::from_secs(10);
