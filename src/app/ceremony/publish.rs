//! From what is staged and signed to what clients fetch: all checks first, then one write.

use std::sync::Arc;

use super::{Ceremony, CeremonyState, StagedRoot, walk};
use crate::app::access::Principal;
use crate::app::handover;
use crate::app::images::precondition::Precondition;
use crate::app::trust::Verifier;
use crate::app::{Error, Problem};
use crate::model::{RepositorySide, RoleKind, RoleName, Timestamp};
use crate::telemetry::Chain;
use crate::uptane::metadata::SignedFile;
use crate::uptane::root::check_successor;

/// What becomes of a root under which clients would refuse what is published beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// It is not published.
    Refused,
    /// It is, and what is published is signed again right after it: for keys that are lost, so that
    /// nobody can sign with the old and the new ones.
    Accepted,
}

impl Ceremony {
    /// Publishes what is staged, once enough keys have signed it and every client can follow.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] names what speaks against it: signatures or keys that are missing, a client
    /// that would refuse it; [`Error::Conflict`] if it is outdated; [`Error::NotFound`],
    /// [`Error::Unexpected`]; [`Error::Unavailable`] while the time isn't known; [`Error::Full`].
    pub async fn publish(
        &self,
        side: RepositorySide,
        gap: Gap,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<CeremonyState, Error> {
        let now = self.publisher.signing_time()?;
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (state, staged) = self.staged(side, expected).await?;
        staged.refuse_outdated(&state)?;
        staged.refuse_unsigned()?;
        self.handovers.reload().await?; // keys that were put there for it
        self.refuse_missing_keys(&state, &staged, gap)?;
        let file = staged.file()?;
        check_successor(&state.published.bytes, file.bytes.clone(), now)
            .map_err(Error::internal("verify what was signed, which is not published"))?;
        // What clients fetch meanwhile is signed by the keys that come and by those that leave.
        let author = by.author(self.clock.now());
        let changes = handover::changes(&state.published.root, &staged.root);
        let begun = match self.handovers.begin(side, &changes, &author).await {
            Err(error) if gap == Gap::Accepted => {
                tracing::warn!(error = %Chain(&error), "what is published can't be signed by the keys that leave");
                Ok(())
            }
            begun => begun,
        };
        let checked = match begun {
            Ok(()) => self.check_clients(&state, &file, gap, now).await,
            failed => failed,
        };
        let added = match checked {
            Ok(()) => self.add(side, file, staged.revision(), author, turn).await,
            refused => refused,
        };
        if added.is_err() {
            let kinds: Vec<RoleKind> = changes.iter().map(|change| change.kind).collect();
            self.handovers.abandon(side, &kinds).await;
        }
        added?;
        self.handovers.note_published().await?;
        if side == RepositorySide::Image {
            self.sign_again().await;
        }
        self.state(side).await
    }

    /// Has strict clients walk to the new root from every one before it, and on to what is published.
    async fn check_clients(
        &self,
        state: &CeremonyState,
        file: &SignedFile,
        gap: Gap,
        now: Timestamp,
    ) -> Result<(), Error> {
        let roots = self.all_roots(state.side, state.published.version).await?;
        if let Some(refusal) = walk::walk(&roots, file, now).await? {
            return Err(refused("clients_would_refuse", refusal));
        }
        if gap == Gap::Accepted || !walk::has_published_metadata(state.side) {
            return Ok(());
        }
        let current = &state.published.bytes;
        match walk::check_published(current, file, &self.blobs, now).await? {
            None => Ok(()),
            Some(refusal) => Err(refused(
                "clients_would_fail",
                format!(
                    "{refusal}: vehicles that poll meanwhile would fail until it is signed again; add the new key beside the \
                     old one first, or publish with `--accept-failed-cycles` if the old key is lost"
                ),
            )),
        }
    }

    /// The roles that this server signs by itself need their keys here; but for those that stay as
    /// they are, of which several may be lost at once.
    fn refuse_missing_keys(
        &self,
        state: &CeremonyState,
        staged: &StagedRoot,
        gap: Gap,
    ) -> Result<(), Error> {
        let mut problems = Vec::new();
        let (side, policy) = (staged.staging.staged.side, self.director.repository.policy());
        for role in [RoleName::Targets, RoleName::Snapshot, RoleName::Timestamp] {
            if policy.role(side, role.kind()).offline {
                continue;
            }
            let Some(keys) = staged.root.roles.get(&role) else { continue };
            let before = state.published.root.roles.get(&role);
            let stays = before.is_some_and(|before| {
                (&before.keyids, before.threshold) == (&keys.keyids, keys.threshold)
            });
            if stays && gap == Gap::Accepted {
                continue;
            }
            let named = keys.keyids.iter().copied().collect();
            let here = self.keyring().named(&named).len() as u64;
            if here < keys.threshold.get() {
                let detail = format!(
                    "of the keys that the staged root names for {role}, {here} are on this server, and {} have to sign: put \
                     them there first",
                    keys.threshold
                );
                problems.push(Problem { code: "keys_missing", detail });
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Refused { problems }) }
    }

    /// Has everything signed again that clients refuse under the root that they fetch now. What
    /// goes wrong is logged, and tried again when the server starts.
    async fn sign_again(&self) {
        let again = async {
            let states = self.catalog.list_roles().await?;
            let timestamp = self.publisher.current_timestamp().await?.map(|current| current.bytes);
            let verifier = Verifier::new(Arc::clone(&self.blobs));
            let unverified = verifier.find_unverified(&states, timestamp.as_ref()).await?;
            let roles: Vec<RoleName> = unverified.into_iter().map(|(role, _)| role).collect();
            if roles.is_empty() {
                return Ok(());
            }
            self.catalog.mark_changed(&roles).await?;
            self.publisher.publish().await
        };
        if let Err(error) = again.await {
            let reason = Error::reason(&error);
            tracing::error!(reason, "metadata that the new root asks for could not be signed");
        }
    }
}

impl StagedRoot {
    fn refuse_unsigned(&self) -> Result<(), Error> {
        let (before, after) = self.missing();
        let mut problems = Vec::new();
        for (missing, whose) in [(before, "the published root"), (after, "the staged root")] {
            if missing > 0 {
                let detail =
                    format!("{missing} more signatures are needed by root keys of {whose}");
                problems.push(Problem { code: "signatures_missing", detail });
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Refused { problems }) }
    }
}

fn refused(code: &'static str, detail: String) -> Error {
    Error::Refused { problems: vec![Problem { code, detail }] }
}
