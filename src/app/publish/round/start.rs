//! What a start mends before the first round: what a crash, a copy of the catalog or a wrong key has
//! left.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Rounds;
use crate::app::Error;
use crate::app::publish::{CurrentTimestamp, due, seen, signed};
use crate::app::trust::signed_here;
use crate::blob::BlobKey;
use crate::catalog::{Author, RoleState};
use crate::model::{RoleName, Sha256Digest, Timestamp};
use crate::uptane::metadata::{Signed, TimestampRole};

impl Rounds {
    /// Compares what is stored with what the catalog knows, and takes up the time of the last
    /// signing.
    pub(in crate::app::publish) async fn prepare(&self) -> Result<(), Error> {
        let reserved = seen::reserved(&self.catalog.list_roles().await?);
        let mut seen = seen::highest_seen(self.blobs.as_ref(), &self.repository, &reserved).await?;
        if !seen.is_empty() {
            // What another replica has stored meanwhile has numbers that were handed out before.
            let reserved = seen::reserved(&self.catalog.list_roles().await?);
            seen.retain(|role, version| reserved.get(role).is_none_or(|known| *version > *known));
        }
        if !seen.is_empty() {
            return Err(seen::refusal(&seen, &reserved));
        }
        self.time.resume(self.catalog.find_moments().await?);
        Ok(())
    }

    /// Refuses to sign with a catalog that has lost what was published with it, as that of a database
    /// can under a server that runs.
    pub(super) async fn refuse_lost(&self) -> Result<(), Error> {
        match self.catalog.is_on_server() {
            true => seen::refuse_lost(self.blobs.as_ref(), &self.repository, &self.catalog).await,
            false => Ok(()),
        }
    }

    /// Lets a start that has nothing to publish be ready at once. Whatever keeps that from being
    /// found out is the first round's to tell.
    pub(in crate::app::publish) async fn note_if_idle(&self) {
        if self.is_anything_due().await.is_ok_and(|is_due| !is_due) {
            self.set_failing(None);
        }
    }

    async fn is_anything_due(&self) -> Result<bool, Error> {
        if self.is_overtaken.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let states = self.catalog.list_roles().await?;
        let (suppliers, policy) = (self.catalog.list_suppliers().await?, self.repository.policy());
        let set = self.verifier.current(&states).await?;
        let ours = signed::named(signed_here(&states, &suppliers, policy), &set);
        Ok(!due::due_roles(policy, &ours, self.clock.now()).is_empty())
    }

    /// A state directory in which nothing was signed for longer than a running server lets pass is
    /// that of a server that was off, or a backup of one that went on: then vehicles have seen
    /// numbers that nothing here knows of.
    pub(in crate::app::publish) async fn skip_what_may_be_used(&self) -> Result<(), Error> {
        let Some(silent) = self.time.silent() else { return Ok(()) };
        let wanted = silent.as_secs().saturating_mul(NUMBERS_A_SECOND).min(MOST_SKIPPED);
        // A start that failed before it signed anything has left out numbers already: only what is
        // missing comes to them.
        let states = self.catalog.list_roles().await?;
        let margin = wanted.saturating_sub(left_out(&states));
        if margin == 0 {
            return Ok(());
        }
        let author = Author::server(self.clock.now());
        self.catalog.skip_versions(&BTreeMap::new(), 0, margin, &author).await?;
        tracing::warn!(
            hours = silent.as_secs() / 3600,
            numbers = margin,
            "nothing was signed for long: left out version numbers that may have been used since, if this is a backup"
        );
        Ok(())
    }

    /// Makes the visible timestamp the recorded one, unless the visible one is newer.
    pub(in crate::app::publish) async fn recover(&self) -> Result<(), Error> {
        // In this order: a timestamp is recorded before it is shown.
        let visible = match self.blobs.open(&BlobKey::Timestamp).await {
            Ok(blob) => {
                blob.read_all(MAX_TIMESTAMP_SIZE).await.map_err(Error::reading("timestamp.json"))
            }
            Err(error) => Err(error.into()),
        };
        let visible = match visible {
            Ok(visible) => Some(visible),
            // Whether there is a newer one is not known, and that is not taken back.
            Err(away) if away.is_unreachable() => return Err(away),
            Err(_) => None,
        };
        let Some(recorded) = self.catalog.find_role_body(&RoleName::Timestamp).await? else {
            self.is_shown.store(true, Ordering::Relaxed); // nothing has been published yet
            return Ok(());
        };
        let recorded = Bytes::from(recorded);
        let states = self.catalog.list_roles().await?;
        let version = states
            .iter()
            .find(|state| state.name == RoleName::Timestamp)
            .map_or(0, |state| state.version);
        let visible_version = visible
            .as_ref()
            .and_then(|visible| self.repository.version_if_ours(&RoleName::Timestamp, visible))
            .unwrap_or(0);
        let current = match visible {
            Some(visible) if visible != recorded && visible_version >= version => {
                // It was published after the catalog was copied. Clients have it, and are not taken
                // back.
                tracing::warn!(
                    "timestamp.json is newer than the catalog; everything is published again, after it"
                );
                self.is_overtaken.store(true, Ordering::Relaxed);
                visible
            }
            Some(visible) if visible == recorded => {
                self.is_overtaken.store(false, Ordering::Relaxed);
                recorded
            }
            _ => {
                tracing::warn!("timestamp.json was not the one that was published last; it is now");
                self.blobs.replace(&BlobKey::Timestamp, recorded.clone()).await?;
                recorded
            }
        };
        self.is_shown.store(true, Ordering::Relaxed);
        let sha256 = Sha256Digest::from_bytes(Sha256::digest(&current).into());
        let published_at = self.published_at().await?;
        let (version, expires_at) = content_of(&current).unwrap_or((version, Timestamp::MIN));
        let bytes = current;
        self.set_current(CurrentTimestamp { version, bytes, sha256, published_at, expires_at });
        self.show_no_older().await?;
        self.set_size(states.iter().map(|state| state.length));
        self.report(states.iter().map(|state| (&state.name, state.version, state.expires_at)));
        Ok(())
    }

    pub(super) async fn published_at(&self) -> Result<Timestamp, Error> {
        let recorded = self.catalog.list_published_timestamps().await?;
        Ok(recorded.last().map_or_else(|| self.clock.now(), |timestamp| timestamp.signed_at))
    }

    /// Looks at each published file as a client would, and has those signed again that it would
    /// refuse: they were signed while a wrong key was in place, or are damaged or gone. **Must not
    /// be called while the task that publishes runs.**
    pub(in crate::app::publish) async fn sign_unverified(&self) -> Result<(), Error> {
        let states = self.catalog.list_roles().await?;
        let timestamp = self.catalog.find_role_body(&RoleName::Timestamp).await?.map(Bytes::from);
        let unverified = self.verifier.find_unverified(&states, timestamp.as_ref()).await?;
        let ours =
            signed_here(&states, &self.catalog.list_suppliers().await?, self.repository.policy());
        let mut roles = Vec::new();
        for (role, fault) in unverified {
            if !ours.iter().any(|state| state.name == role) {
                tracing::error!(
                    %role,
                    fault,
                    "published metadata would be refused by clients; its owner has to sign it again"
                );
                continue;
            }
            tracing::error!(
                %role,
                fault,
                "published metadata would be refused by clients; it is signed again"
            );
            roles.push(role);
        }
        if !roles.is_empty() {
            self.catalog.mark_changed(&roles).await?;
            let _ = self.round(&[]).await; // which has logged what went wrong, and is tried again
        }
        Ok(())
    }
}

/// The version of a timestamp, and when it expires, if it is one.
pub(super) fn content_of(timestamp: &[u8]) -> Option<(u64, Timestamp)> {
    let content: Signed<TimestampRole> = serde_json::from_slice(timestamp).ok()?;
    Some((content.signed.version.get(), content.signed.expires))
}

/// How many numbers each role but root has past its last file, at least: the roles' numbers and the
/// Director's are left out together.
fn left_out(states: &[RoleState]) -> u64 {
    let roles = states.iter().filter(|state| state.name != RoleName::Root);
    roles.map(|state| state.reserved.saturating_sub(state.version)).min().unwrap_or(0)
}

/// More than a server signs in the long run.
const NUMBERS_A_SECOND: u64 = 10;
/// Little beside the 2^31 that the narrowest client counts to.
const MOST_SKIPPED: u64 = 20_000_000;
const MAX_TIMESTAMP_SIZE: u64 = 16 * 1024; // 16 KiB: what vehicles take
