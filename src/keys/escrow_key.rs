//! What an escrow key does, wherever it is.

use std::fmt;

use async_trait::async_trait;

use super::BackendError;
use crate::envelope::key::{Cek, Kid};
use crate::envelope::wrap::WrappedKey;

/// The key that opens every envelope for the server itself, wherever it is.
#[async_trait]
pub trait Escrow: fmt::Debug + Send + Sync {
    /// Where it is, for messages: its file, say.
    fn place(&self) -> String;

    /// Its id.
    fn kid(&self) -> &Kid;

    /// Wraps a content encryption key. **Must not** hold the executor up.
    ///
    /// # Errors
    ///
    /// Whatever the backend says.
    async fn wrap_key(&self, cek: &Cek) -> Result<WrappedKey, BackendError>;

    /// Unwraps a content encryption key; gives nothing if it was wrapped by another key. **Must
    /// not** hold the executor up.
    ///
    /// # Errors
    ///
    /// Whatever the backend says.
    async fn unwrap_key(&self, escrowed: &WrappedKey) -> Result<Option<Cek>, BackendError>;
}
