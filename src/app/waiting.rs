//! Which roles wait for a key that can't be used, and until when what they have signed holds.

use std::sync::Arc;

use super::Error;
use super::handover::Handovers;
use super::publish::Publisher;
use super::replicas::keys::not_here;
use super::signing::Signing;
use crate::keys::Signer;
use crate::model::{RepositorySide, RoleKind};
use crate::uptane::key::KeyId;

/// The roles whose keys are at another replica and not here, a line each.
///
/// # Errors
///
/// [`Error::Corrupt`] if the published metadata can't be read; [`Error::Internal`].
pub(super) async fn missing(
    handovers: &Handovers,
    publisher: &Publisher,
) -> Result<Vec<String>, Error> {
    let (keyring, mut lines) = (handovers.keyring(), Vec::new());
    let roles = publisher.policy().roles();
    for (side, kind, _) in roles.filter(|(_, kind, it)| *kind != RoleKind::Root && !it.offline) {
        let authority = handovers.signers(side, kind).await?;
        let here = keyring.named(&authority.key_ids);
        if (here.len() as u64) < authority.threshold {
            let is_away = |id: &&KeyId| here.iter().all(|key| key.id() != **id);
            let ids = authority.key_ids.iter().filter(is_away).map(ToString::to_string);
            lines.push(not_here(side, kind, ids));
        }
    }
    Ok(lines)
}

/// The roles that can't be signed at the moment, a line each. Root is not among them: it is signed
/// once in months, and whoever needs it then is told.
///
/// # Errors
///
/// [`Error::Corrupt`] if the published metadata can't be read; [`Error::Internal`].
pub(super) async fn list(
    signing: &Signing,
    handovers: &Handovers,
    publisher: &Publisher,
) -> Result<Vec<String>, Error> {
    let keyring = handovers.keyring();
    let failing = signing.failing(&keyring).await;
    let mut lines = Vec::new();
    if failing.is_empty() {
        return Ok(lines);
    }
    let expiries = publisher.expiries().await?;
    let roles = publisher.policy().roles().filter(|(_, kind, _)| *kind != RoleKind::Root);
    for (side, kind, policy) in roles {
        let authority = handovers.signers(side, kind).await?;
        let here = keyring.named(&authority.key_ids);
        let fault =
            |key: &&Arc<dyn Signer>| Some(format!("{}: {}", key.place(), failing.get(&key.id())?));
        let faults: Vec<String> = here.iter().filter_map(fault).collect();
        let usable = here.len() - faults.len();
        if faults.is_empty() || usable as u64 >= authority.threshold {
            continue;
        }
        let published = expiries.iter().find(|role| (role.side, role.kind) == (side, kind));
        let holds = match (side, published) {
            (RepositorySide::Director, _) => {
                let hours = policy.lifetime().as_secs() / 3600;
                format!("what a vehicle has holds for {hours} hours after it was signed")
            }
            (RepositorySide::Image, Some(role)) => {
                format!("what is signed holds until {}", role.expires_at)
            }
            (RepositorySide::Image, None) => "nothing of it is published yet".to_owned(),
        };
        let faults = faults.join(", ");
        lines.push(format!("the role {kind} of the {side} waits for its key ({faults}); {holds}"));
    }
    Ok(lines)
}
