//! A role key that could not be reached when it was to be opened, and that was found before: its
//! public half is known, and it is opened by whoever has it sign first once it is back.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use motorcade_uptane::key::PublicKey;
use tokio::sync::OnceCell;

use super::open::open;
use super::source::KeySource;
use super::{BackendError, Error, Signer};

/// A key that is waited for.
#[derive(Debug)]
pub(super) struct AwaySigner {
    source: KeySource,
    public: PublicKey,
    opened: OnceCell<Arc<dyn Signer>>,
    /// Why it could not be opened the last time.
    fault: Mutex<String>,
}

impl AwaySigner {
    /// A key that is not on this machine, with the public half that it had, and why it can't be
    /// opened now.
    pub(super) fn new(source: KeySource, public: PublicKey, fault: &Error) -> Self {
        let (opened, fault) = (OnceCell::new(), Mutex::new(told(fault)));
        Self { source, public, opened, fault }
    }

    async fn open(&self) -> Result<Arc<dyn Signer>, BackendError> {
        let opened = open(Path::new(""), &self.source).await.map_err(|error| told(&error));
        let opened = opened.and_then(|key| match key.id() == self.public.id() {
            true => Ok(key),
            false => Err(format!(
                "it is another key than the one that was found before: its id is {}, and was {}",
                key.id(),
                self.public.id()
            )),
        });
        opened.map_err(|fault| {
            self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&fault);
            fault.into()
        })
    }
}

#[async_trait]
impl Signer for AwaySigner {
    fn place(&self) -> String {
        self.source.to_string()
    }

    fn source(&self) -> KeySource {
        self.source.clone()
    }

    fn fault(&self) -> Option<String> {
        let fault = || self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.opened.initialized() { None } else { Some(fault()) }
    }

    fn public(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        self.opened.get_or_try_init(|| self.open()).await?.sign(message).await
    }
}

/// The causes of an error, which itself says no more than which key it was.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
