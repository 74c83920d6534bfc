//! Who signs for which role.

use super::Roles;
use crate::app::Error;
use crate::catalog::Handover;
use crate::keys::{Keyring, Signer};
use crate::model::{RepositorySide, RoleKind, Timestamp};
use crate::uptane::key::KeyId;
use crate::uptane::metadata::Authority;

/// A role, and who signs for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRecord {
    /// Of which repository.
    pub side: RepositorySide,
    /// Which role; the bins are one.
    pub kind: RoleKind,
    /// How many keys have to sign, as the published metadata says.
    pub threshold: u64,
    /// How many keys the policy asks for, and how many of them to sign.
    pub wanted: (u8, u8),
    /// Its keys.
    pub keys: Vec<RoleKey>,
}

/// A key of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKey {
    /// Its id.
    pub id: KeyId,
    /// How it signs, if it is here.
    pub scheme: Option<&'static str>,
    /// Where it is, if this server can reach it.
    pub place: Option<String>,
    /// What it does.
    pub state: RoleKeyState,
}

/// What a key of a role does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKeyState {
    /// The published metadata names it.
    Signs,
    /// It signs already, and the published metadata is to name it.
    Joins,
    /// It signs until then, and the published metadata names it no more, or soon.
    Leaves(Option<Timestamp>),
    /// It is here, and nothing names it.
    Spare,
}

impl RoleKeyState {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signs => "signs",
            Self::Joins => "joins",
            Self::Leaves(_) => "leaves",
            Self::Spare => "spare",
        }
    }
}

impl RoleRecord {
    /// Whether the policy asks for something else than what is published.
    pub fn differs(&self) -> bool {
        let named = |key: &&RoleKey| key.state == RoleKeyState::Signs;
        let published = (self.keys.iter().filter(named).count(), self.threshold);
        published != (self.wanted.0.into(), self.wanted.1.into())
            && !self.keys.iter().any(|key| matches!(key.state, RoleKeyState::Leaves(None)))
    }
}

impl Roles {
    /// Lists the roles of both repositories.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the published metadata can't be read; [`Error::Internal`].
    pub async fn list(&self) -> Result<Vec<RoleRecord>, Error> {
        let policy = self.parts.state.policy()?;
        let keyring = self.parts.handovers.keyring();
        let handovers = self.parts.catalog.list_handovers().await?;
        let mut roles = Vec::new();
        for (side, kind, wanted) in policy.roles() {
            let authority = self.parts.handovers.signers(side, kind).await?;
            let handover = handovers.iter().find(|other| (other.side, other.kind) == (side, kind));
            roles.push(RoleRecord {
                side,
                kind,
                threshold: authority.threshold,
                wanted: (wanted.keys(), wanted.threshold),
                keys: keys(&keyring, (side, kind), &authority, handover),
            });
        }
        Ok(roles)
    }
}

/// Those that are named, and then those that are here besides.
fn keys(
    keyring: &Keyring,
    (side, kind): (RepositorySide, RoleKind),
    authority: &Authority,
    handover: Option<&Handover>,
) -> Vec<RoleKey> {
    let here = |id: KeyId| keyring.all().find(|key| key.id() == id);
    let key = |id: KeyId| {
        let found = here(id);
        RoleKey {
            id,
            scheme: found.map(|key| key.public().scheme().as_str()),
            place: found.map(|key| key.place()),
            state: state(id, authority, handover),
        }
    };
    let leaving = handover.into_iter().flat_map(|handover| handover.leaving.iter().copied());
    let declared =
        keyring.keys(side, kind).iter().map(|signer: &std::sync::Arc<dyn Signer>| signer.id());
    let mut ids: Vec<KeyId> = authority.key_ids.iter().copied().collect();
    for id in leaving.chain(declared) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids.into_iter().map(key).collect()
}

fn state(id: KeyId, authority: &Authority, handover: Option<&Handover>) -> RoleKeyState {
    match handover {
        Some(handover) if handover.leaving.contains(&id) => RoleKeyState::Leaves(handover.ends_at),
        Some(handover) if handover.keys.contains(&id) && !authority.key_ids.contains(&id) => {
            RoleKeyState::Joins
        }
        _ if authority.key_ids.contains(&id) => RoleKeyState::Signs,
        _ => RoleKeyState::Spare,
    }
}
