//! The files that list the others: the snapshot, and the timestamp.

use super::{Rounds, SIGN, warn_if_large};
use crate::app::Error;
use crate::app::publish::due;
use crate::app::signing::signing_failed;
use crate::app::trust::authority;
use crate::catalog::{LastFile, ReservedVersion, RoleState};
use crate::model::{RoleName, Timestamp};
use crate::uptane::metadata::{Hashes, MetaFile, SignedFile};
use crate::uptane::verify::TrustedSet;

impl Rounds {
    /// Signs the snapshot and the timestamp, which list the others.
    pub(super) async fn sign_last(
        &self,
        reserved: &[ReservedVersion],
        states: &[RoleState],
        new: &[SignedFile],
        set: &TrustedSet,
        now: Timestamp,
    ) -> Result<Vec<SignedFile>, Error> {
        let version_of = |role: RoleName| {
            reserved.iter().find(|version| version.name == role).map(|found| found.version)
        };
        let mut files = Vec::new();
        let snapshot = match version_of(RoleName::Snapshot) {
            Some(version) => {
                let retired = self.catalog.list_retired_roles().await?;
                let retired = retired.into_iter().map(|role| (role.name.clone(), last_file(&role)));
                let listed = listed_in_snapshot(states, new).into_iter().chain(retired);
                let authority = authority(set, &RoleName::Snapshot)?;
                let signed = self.repository.sign_snapshot(version, listed, now, &authority).await;
                let file = signed.map_err(signing_failed(SIGN))?;
                warn_if_large(&file);
                let described = file.described();
                files.push(file);
                Some(described)
            }
            None => {
                states.iter().find(|state| state.name == RoleName::Snapshot).map(published_file)
            }
        };
        if let (Some(version), Some(snapshot)) = (version_of(RoleName::Timestamp), snapshot) {
            let authority = authority(set, &RoleName::Timestamp)?;
            let signed = self.repository.sign_timestamp(version, snapshot, now, &authority).await;
            files.push(signed.map_err(signing_failed(SIGN))?);
        }
        Ok(files)
    }
}

fn listed_in_snapshot(states: &[RoleState], new: &[SignedFile]) -> Vec<(RoleName, MetaFile)> {
    let file = |state: &RoleState| match new.iter().find(|file| file.role == state.name) {
        Some(file) => (file.role.clone(), file.described()),
        None => (state.name.clone(), published_file(state)),
    };
    // A supplier who has its keys itself may not have signed anything yet.
    let is_listed = |state: &&RoleState| {
        let is_there = state.version > 0 || new.iter().any(|file| file.role == state.name);
        due::is_listed(&state.name) && is_there
    };
    states.iter().filter(is_listed).map(file).collect()
}

/// The file of a role that nobody delegates to any more, as snapshots go on listing it.
fn last_file(role: &LastFile) -> MetaFile {
    let hashes = Hashes { sha256: role.sha256 };
    MetaFile { hashes, length: role.length, version: role.version }
}

fn published_file(state: &RoleState) -> MetaFile {
    let hashes = Hashes { sha256: state.sha256 };
    MetaFile { hashes, length: state.length, version: state.version }
}
