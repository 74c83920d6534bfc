//! What goes wrong with a token.

use cryptoki::error::RvError;

/// Why a key in a token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Nobody said which library speaks to the token.
    #[error(
        "no PKCS#11 module is named: set MOTORCADE_PKCS11_MODULE, or module-path in the key's URI"
    )]
    NoModule,
    /// Nobody said the PIN.
    #[error(
        "no PIN is there: set MOTORCADE_PKCS11_PIN_FILE or MOTORCADE_PKCS11_PIN, or pin-source in the key's URI"
    )]
    NoPin,
    /// The file with the PIN can't be read.
    #[error("failed to read the PIN from {path}")]
    PinFile {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The token refused the PIN.
    #[error(
        "the token {token} refuses the PIN; it is not tried again until it is another one: correct it before the token locks"
    )]
    PinRefused {
        /// The token.
        token: String,
    },
    /// The token failed while the PIN was tried, which may have counted.
    #[error(
        "the token {token} failed while this server logged in, and may have counted that as a wrong PIN: the same PIN is tried once more \
         after five minutes, and then not before the server is started again"
    )]
    PinUnclear {
        /// The token.
        token: String,
    },
    /// Somebody has tried a wrong PIN before, perhaps this server's last process.
    #[error(
        "the token {token} has seen a wrong PIN, and this server's is not tried before somebody has logged in with the right one: check it, \
         then log in once by other means (`pkcs11-tool --login --list-objects`)"
    )]
    PinDoubtful {
        /// The token.
        token: String,
    },
    /// The token lets nobody in.
    #[error("the token {token} is locked: its security officer has to set a new PIN")]
    Locked {
        /// The token.
        token: String,
    },
    /// No such token.
    #[error("the token {token} is not there")]
    NoToken {
        /// The token.
        token: String,
    },
    /// No such key.
    #[error("the token has no key {key} that can do this")]
    NoKey {
        /// The key.
        key: String,
    },
    /// More than one key fits.
    #[error("the token has several keys {key}: name one by its id")]
    SeveralKeys {
        /// The key.
        key: String,
    },
    /// A key that is not what is needed.
    #[error("the key {key} can't be used: {fault}")]
    Unusable {
        /// The key.
        key: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// It did not answer in time, and others wait.
    #[error("the token {token} did not answer for {seconds} seconds")]
    TimedOut {
        /// The token.
        token: String,
        /// How long.
        seconds: u64,
    },
    /// The module or the token failed.
    #[error("the token {token} failed")]
    Failed {
        /// The token.
        token: String,
        /// What it said.
        #[source]
        source: cryptoki::error::Error,
    },
    /// The work was cut off.
    #[error("the work in a token was cut off")]
    CutOff(#[from] tokio::task::JoinError),
}

/// What the module answered, if it answered.
pub(super) fn answer_of(error: &cryptoki::error::Error) -> Option<RvError> {
    match error {
        cryptoki::error::Error::Pkcs11(answer, _) => Some(*answer),
        _ => None,
    }
}
