//! What a round writes down of what it has published.

use crate::app::publish::signed::OwnerSigned;
use crate::catalog::{EndedStaging, PublishedRole, PublishedTimestamp, ReservedVersion, RoleState};
use crate::model::{RoleName, Timestamp};
use crate::uptane::metadata::SignedFile;

pub(super) fn published_roles(
    reserved: &[ReservedVersion],
    signed: &[OwnerSigned],
    files: &[SignedFile],
) -> Vec<PublishedRole> {
    let published = |reserved: ReservedVersion, staging: Option<EndedStaging>| {
        let file = files.iter().find(|file| file.role == reserved.name)?;
        Some(PublishedRole {
            reserved,
            length: file.bytes.len() as u64,
            sha256: file.sha256,
            expires_at: file.expires_at,
            body: (file.role == RoleName::Timestamp).then(|| file.bytes.to_vec()),
            staging,
        })
    };
    let ours = reserved.iter().map(|reserved| (reserved.clone(), None));
    let others = signed.iter().map(|signed| (signed.reserved(), Some(signed.staging())));
    ours.chain(others).filter_map(|(reserved, staging)| published(reserved, staging)).collect()
}

pub(super) fn published_timestamp(
    states: &[RoleState],
    files: &[SignedFile],
    now: Timestamp,
) -> Option<PublishedTimestamp> {
    let timestamp = files.iter().find(|file| file.role == RoleName::Timestamp)?;
    let new = files.iter().find(|file| file.role == RoleName::Snapshot).map(|file| file.version);
    let snapshot = new.or_else(|| {
        states.iter().find(|state| state.name == RoleName::Snapshot).map(|state| state.version)
    })?;
    Some(PublishedTimestamp {
        version: timestamp.version,
        snapshot,
        signed_at: now,
        expires_at: timestamp.expires_at,
    })
}
