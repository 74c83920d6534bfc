//! Verifies what was signed with the code that vehicles verify it with.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future, stream};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::app::Error;
use crate::blob::{self, BlobKey, BlobStore};
use crate::catalog::RoleState;
use crate::model::{RoleName, Sha256Digest, Timestamp};
use crate::uptane::metadata::SignedFile;
use crate::uptane::verify::{Rules, TrustedSet, VerifyError};

/// A root to verify with, at a time when nothing has expired: how long files live is not the
/// question here. Roots of both repositories are read alike.
pub(in crate::app) fn trusted_root(root: &[u8]) -> Result<TrustedSet, VerifyError> {
    TrustedSet::new(root, Rules::Image, Timestamp::UNIX_EPOCH)
}

/// Verifies files of the Image repository with the keys that its published root and targets name.
pub(in crate::app) struct Verifier {
    blobs: Arc<dyn BlobStore>,
    known: Mutex<Option<Known>>,
}

/// A root and targets that were read, by their versions.
struct Known {
    root: u64,
    targets: u64,
    set: Arc<TrustedSet>,
}

impl Verifier {
    pub(in crate::app) fn new(blobs: Arc<dyn BlobStore>) -> Self {
        Self { blobs, known: Mutex::new(None) }
    }

    /// Checks what is about to be recorded.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a client would not take one of the files. None of them **must** then
    /// be stored or shown.
    pub(in crate::app) async fn check(
        &self,
        states: &[RoleState],
        files: &[SignedFile],
    ) -> Result<(), Error> {
        let mut set = self.current(states).await?;
        let file_of = |role: RoleName| files.iter().find(|file| file.role == role);
        if let Some(root) = file_of(RoleName::Root) {
            Arc::make_mut(&mut set).update_root(&root.bytes).map_err(unverified)?;
        }
        if let Some(targets) = file_of(RoleName::Targets) {
            Arc::make_mut(&mut set).adopt_targets(&targets.bytes).map_err(unverified)?;
        }
        let is_left = |file: &&SignedFile| match file.role {
            RoleName::Root | RoleName::Targets => false, // taken above
            RoleName::Snapshot | RoleName::Timestamp | RoleName::Delegated(_) => true,
        };
        let checks = files.iter().filter(is_left).map(|file| check_file(&set, file));
        let checks = stream::iter(checks.collect::<Vec<_>>()).buffered(AT_ONCE);
        checks.try_for_each(|()| future::ready(Ok(()))).await
    }

    /// The roles whose published file is missing, is not what was recorded, or would be refused by
    /// clients, with the reason. `timestamp` is the recorded one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the root is one of these; [`Error::Internal`].
    pub(in crate::app) async fn find_unverified(
        &self,
        states: &[RoleState],
        timestamp: Option<&Bytes>,
    ) -> Result<Vec<(RoleName, String)>, Error> {
        let mut unverified = Vec::new();
        let set = self.current(states).await?;
        for state in states.iter().filter(|state| state.name != RoleName::Root && state.version > 0)
        {
            let bytes = match (&state.name, timestamp) {
                (RoleName::Timestamp, Some(recorded)) => Ok(recorded.clone()),
                _ => read_published(self.blobs.as_ref(), state).await?,
            };
            let fault = match bytes {
                Ok(bytes) => {
                    let checked = set.check_signatures(&state.name, &bytes);
                    checked.err().map(|error| error.to_string())
                }
                Err(fault) => Some(fault),
            };
            unverified.extend(fault.map(|fault| (state.name.clone(), fault)));
        }
        Ok(unverified)
    }

    /// The published root, and the targets if they can be used.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`]; [`Error::Unavailable`] if the store of blobs is away.
    pub(in crate::app) async fn current(
        &self,
        states: &[RoleState],
    ) -> Result<Arc<TrustedSet>, Error> {
        let state_of = |role: RoleName| states.iter().find(|state| state.name == role);
        let version_of = |role: RoleName| state_of(role).map_or(0, |state| state.version);
        let (root, targets) = (version_of(RoleName::Root), version_of(RoleName::Targets));
        let mut known = self.known.lock().await;
        if let Some(known) =
            known.as_ref().filter(|known| known.root == root && known.targets == targets)
        {
            return Ok(Arc::clone(&known.set));
        }
        let corrupt = |fault: String| Error::Corrupt {
            detail: format!(
                "{root}.root.json in repo/, which everything is verified with, {fault}: restore it from a backup"
            ),
        };
        let state =
            state_of(RoleName::Root).ok_or_else(|| corrupt("is not in the catalog".into()))?;
        let bytes = read_published(self.blobs.as_ref(), state).await?.map_err(&corrupt)?;
        let mut set =
            trusted_root(&bytes).map_err(|fault| corrupt(format!("is refused: {fault}")))?;
        if let Some(state) = state_of(RoleName::Targets).filter(|state| state.version > 0)
            && let Ok(bytes) = read_published(self.blobs.as_ref(), state).await?
        {
            let _ = set.adopt_targets(&bytes); // without them no bin verifies, and all is signed again
        }
        let set = Arc::new(set);
        *known = Some(Known { root, targets, set: Arc::clone(&set) });
        Ok(set)
    }
}

/// The published file of a role; or what is wrong with it.
///
/// # Errors
///
/// [`Error::Unavailable`] if the store of blobs is away: that says nothing of the file.
pub(in crate::app) async fn read_published(
    blobs: &dyn BlobStore,
    state: &RoleState,
) -> Result<Result<Bytes, String>, Error> {
    let key = BlobKey::Metadata { version: state.version, role: state.name.clone() };
    read_recorded(blobs, &key, (state.length, state.sha256)).await
}

/// A file of which length and digest are recorded; or what is wrong with it.
///
/// # Errors
///
/// As of [`read_published`].
pub(in crate::app) async fn read_recorded(
    blobs: &dyn BlobStore,
    key: &BlobKey,
    (length, sha256): (u64, Sha256Digest),
) -> Result<Result<Bytes, String>, Error> {
    let read = match blobs.open(key).await {
        Ok(blob) => {
            let read = blob.read_all(length).await;
            read.map_err(|error| blob::Error::reading(key.name(), error))
        }
        Err(error) => Err(error),
    };
    Ok(match read {
        Ok(bytes) if Sha256::digest(&bytes)[..] == sha256.as_bytes()[..] => Ok(bytes),
        Ok(_) => Err("is damaged".into()),
        Err(blob::Error::NotFound(_)) => Err("is missing".into()),
        Err(away @ blob::Error::Unavailable { .. }) => return Err(away.into()),
        Err(blob::Error::Backend { verb: "read", .. }) => Err("is damaged".into()),
        Err(error) => Err(format!("can't be read ({error})")),
    })
}

/// Bins are long, so where it holds no executor up.
async fn check_file(set: &Arc<TrustedSet>, file: &SignedFile) -> Result<(), Error> {
    let (set, file) = (Arc::clone(set), file.clone());
    let check = move || set.check_signatures(&file.role, &file.bytes);
    let checked = tokio::task::spawn_blocking(check).await.map_err(Error::internal(VERIFY))?;
    checked.map_err(unverified)
}

fn unverified(error: VerifyError) -> Error {
    Error::internal(VERIFY)(error)
}

/// Files that are checked at one time.
const AT_ONCE: usize = 4;
const VERIFY: &str = "verify what was signed, which is not published";
