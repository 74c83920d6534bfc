//! Logging in: whose PIN was tried at which token, and when it may be tried again. A token locks
//! after a few wrong ones, so that what is not sure to be right is not tried again and again.
//!
//! What is known is known of a token, however keys name it, by its label or its serial number.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::error::RvError;
use cryptoki::slot::TokenInfo;

/// What this process knows of the PIN of a token. It is held while one is tried, so that no two are
/// at the same time.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Every PIN that was refused, or of which nobody knows whether it was.
    known: BTreeMap<Mark, Known>,
}

/// By what a PIN is known again.
type Mark = [u8; 32];

/// What is known of one PIN.
#[derive(Debug, Clone, Copy)]
enum Known {
    Refused,
    Unclear { at: Instant, times: u32 },
}

/// Why a PIN is not tried now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotTried {
    /// It was refused.
    Refused,
    /// It may have been, not long ago or too often.
    Unclear,
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    /// The token has let this process in.
    LetIn,
    /// The PIN is wrong.
    Refused,
    /// The token lets nobody in.
    Locked,
    /// The token failed, perhaps after it had counted a try.
    Unclear,
    /// It never got as far as the PIN.
    NotTried,
}

impl Tries {
    /// What is known of a token.
    pub(super) fn at(token: &TokenInfo) -> Arc<Mutex<Self>> {
        type Tokens = BTreeMap<[String; 4], Arc<Mutex<Tries>>>;
        static TOKENS: LazyLock<Mutex<Tokens>> = LazyLock::new(Mutex::default);
        let said = [token.manufacturer_id(), token.model(), token.serial_number(), token.label()];
        let name = said.map(|text| text.trim_end().to_owned());
        let mut tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tokens.entry(name).or_default())
    }

    /// Whether a PIN may be tried.
    pub(super) fn check(&self, mark: Mark, now: Instant) -> Result<(), NotTried> {
        match self.known.get(&mark) {
            Some(Known::Refused) => Err(NotTried::Refused),
            Some(Known::Unclear { at, times }) if *times >= MOST_UNCLEAR || now < *at + PAUSE => {
                Err(NotTried::Unclear)
            }
            Some(Known::Unclear { .. }) | None => Ok(()),
        }
    }

    /// Whether this process has tried a wrong PIN.
    pub(super) fn have_failed(&self) -> bool {
        self.known.values().any(|known| matches!(known, Known::Refused))
    }

    pub(super) fn note(&mut self, mark: Mark, outcome: Try, now: Instant) {
        match outcome {
            Try::LetIn => *self = Self::default(),
            Try::Refused => drop(self.known.insert(mark, Known::Refused)),
            Try::Unclear => {
                let times = match self.known.get(&mark) {
                    Some(Known::Refused) => return,
                    Some(Known::Unclear { times, .. }) => times + 1,
                    None => 1,
                };
                self.known.insert(mark, Known::Unclear { at: now, times });
            }
            Try::Locked | Try::NotTried => {}
        }
    }
}

impl Try {
    /// What a token's answer to a login means; none if it was no answer of the token's.
    pub(super) fn of(answer: Option<RvError>) -> Self {
        use RvError as E;
        match answer {
            Some(E::UserAlreadyLoggedIn) => Self::LetIn,
            Some(E::PinIncorrect | E::PinInvalid | E::PinLenRange) => Self::Refused,
            Some(E::PinLocked | E::PinExpired) => Self::Locked,
            // Each is about the session, the slot or the call, and said before a PIN is looked at.
            Some(
                E::SessionHandleInvalid
                | E::SessionClosed
                | E::SessionReadOnlyExists
                | E::CryptokiNotInitialized
                | E::DeviceRemoved
                | E::TokenNotPresent
                | E::TokenNotRecognized
                | E::SlotIdInvalid
                | E::ArgumentsBad
                | E::HostMemory
                | E::UserAnotherAlreadyLoggedIn
                | E::UserPinNotInitialized
                | E::UserTooManyTypes
                | E::UserTypeInvalid
                | E::FunctionNotSupported,
            ) => Self::NotTried,
            _ => Self::Unclear,
        }
    }
}

/// How long a PIN is not tried again after a token has failed at it.
const PAUSE: Duration = Duration::from_secs(300);
/// How often a token may fail at a PIN: some lock after three wrong ones.
const MOST_UNCLEAR: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Mark = [1; 32];
    const OTHER: Mark = [2; 32];

    #[test]
    fn a_pin_that_was_refused_is_not_tried_again_and_another_one_is() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        assert_eq!(tries.check(ONE, now), Ok(()));
        tries.note(ONE, Try::Refused, now);
        assert!(tries.have_failed());
        assert_eq!(tries.check(ONE, now + 100 * PAUSE), Err(NotTried::Refused));
        assert_eq!(tries.check(OTHER, now), Ok(()));
        tries.note(OTHER, Try::LetIn, now);
        assert!(!tries.have_failed());
        assert_eq!(tries.check(ONE, now), Ok(()));
    }

    #[test]
    fn a_pin_at_which_a_token_fails_is_tried_twice_and_not_at_once() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        tries.note(ONE, Try::Unclear, now);
        assert_eq!(tries.check(ONE, now), Err(NotTried::Unclear));
        assert_eq!(tries.check(OTHER, now), Ok(()));
        assert_eq!(tries.check(ONE, now + PAUSE), Ok(()));
        tries.note(ONE, Try::Unclear, now + PAUSE);
        assert_eq!(tries.check(ONE, now + 100 * PAUSE), Err(NotTried::Unclear));
        tries.note(OTHER, Try::LetIn, now);
        assert_eq!(tries.check(ONE, now), Ok(()));
    }

    #[test]
    fn no_two_pins_are_tried_in_turn_without_end() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        tries.note(ONE, Try::Refused, now);
        tries.note(OTHER, Try::Refused, now);
        for mark in [ONE, OTHER] {
            assert_eq!(tries.check(mark, now + 100 * PAUSE), Err(NotTried::Refused));
        }
        let mut tries = Tries::default();
        for at in [now, now + PAUSE] {
            for mark in [ONE, OTHER] {
                assert_eq!(tries.check(mark, at), Ok(()));
                tries.note(mark, Try::Unclear, at);
            }
        }
        for mark in [ONE, OTHER] {
            assert_eq!(tries.check(mark, now + 100 * PAUSE), Err(NotTried::Unclear));
        }
        tries.note(ONE, Try::Refused, now);
        assert!(tries.have_failed());
        assert_eq!(tries.check(OTHER, now + 100 * PAUSE), Err(NotTried::Unclear));
    }

    #[test]
    fn what_says_nothing_of_the_pin_may_have_counted_as_a_try() {
        for answer in [RvError::GeneralError, RvError::FunctionFailed, RvError::DeviceError] {
            assert_eq!(Try::of(Some(answer)), Try::Unclear, "{answer:?}");
        }
        assert_eq!(Try::of(None), Try::Unclear);
        assert_eq!(Try::of(Some(RvError::SessionHandleInvalid)), Try::NotTried);
        assert_eq!(Try::of(Some(RvError::PinIncorrect)), Try::Refused);
    }
}
