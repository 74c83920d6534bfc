//! The set of trusted metadata of one repository, and the order in which it grows (TUF 1.0.34, 5.2
//! to 5.6).
//!
//! What was stored earlier is offered first: it is the reference for rollback checks even when it
//! has expired. A stored file that no longer verifies under the current keys is passed over, which
//! is what recovers from a fast-forward attack after keys were rotated, also if the rotation was
//! cut off half-way (FV-7).
//!
//! TUF 1.0.34, 5.3.11: "If the timestamp and / or snapshot keys have been rotated, then delete the
//! trusted timestamp and snapshot metadata files. This is done in order to recover from
//! fast-forward attacks after the repository has been compromised and recovered."

use std::collections::BTreeMap;
use std::time::Duration;

use motorcade_model::{RoleName, Timestamp};

use super::VerifyError;
use super::checks::{check_file, check_rollback, check_version, missing};
use super::director::check_targets;
use super::limits::{Limits, check_length, limit};
use super::roles::{MetaFile, Root, Snapshot, TargetFile, Targets, TimestampRole};
use super::rules::Rules;
use super::signed::{Metadata, Role};

/// Whether a timestamp is another one than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It is newer, and is to be stored.
    New,
    /// It has the version that is trusted already. What is stored stays (AT-14).
    Same,
}

/// The trusted metadata of one repository, at one point in time.
#[derive(Debug, Clone)]
pub struct TrustedSet {
    pub(super) rules: Rules,
    pub(super) now: Timestamp,
    pub(super) root: Metadata<Root>,
    timestamp: Option<Metadata<TimestampRole>>,
    snapshot: Option<Metadata<Snapshot>>,
    snapshot_is_current: bool,
    pub(super) targets: Option<Metadata<Targets>>,
    delegated: BTreeMap<RoleName, Metadata<Targets>>,
}

impl TrustedSet {
    /// Starts from a trusted root (FV-1), at a time that is fixed for the whole update (TIM-10).
    ///
    /// TUF 1.0.34, 5.1: "Record the time at which the update began as the fixed update start time."
    /// 5.2: "Note that the expiration of the trusted root metadata file does not matter, because we
    /// will attempt to update it in the next step."
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if it is no root or was not signed by its own keys.
    pub fn new(root: &[u8], rules: Rules, now: Timestamp) -> Result<Self, VerifyError> {
        let root = Metadata::<Root>::parse(&RoleName::Root, root, rules.key_ids())?;
        // Off-spec: "a good, trusted copy of this file" is assumed (TUF 1.0.34, 5.2). One that is
        // not signed by its own keys is none.
        root.content.verify(&RoleName::Root, &root)?;
        let delegated = BTreeMap::new();
        let (timestamp, snapshot, targets) = (None, None, None);
        Ok(Self {
            rules,
            now,
            root,
            timestamp,
            snapshot,
            snapshot_is_current: false,
            targets,
            delegated,
        })
    }

    /// Version of the trusted root.
    pub fn root_version(&self) -> u64 {
        self.root.version
    }

    /// Whether files have their version or hash in their name.
    ///
    /// TUF 1.0.34, 5.3.12: "Set whether consistent snapshots are used as per the trusted root
    /// metadata file".
    pub fn has_consistent_snapshot(&self) -> bool {
        self.root.content.consistent_snapshot
    }

    /// Takes the next root: signed by enough keys of the trusted one and of its own, and one
    /// version on (FV-3, FV-4).
    ///
    /// TUF 1.0.34, 5.3.6: "Note that the expiration of the new (intermediate) root metadata file
    /// does not matter yet".
    ///
    /// # Errors
    ///
    /// [`VerifyError`]; the trusted root stays.
    pub fn update_root(&mut self, bytes: &[u8]) -> Result<(), VerifyError> {
        check_length(&RoleName::Root, bytes, Limits::ROOT)?;
        let next = Metadata::<Root>::parse(&RoleName::Root, bytes, self.rules.key_ids())?;
        // TUF 1.0.34, 5.3.4: "Version N+1 of the root metadata file MUST have been signed by: (1) a
        // THRESHOLD of keys specified in the trusted root metadata file (version N), and (2) a
        // THRESHOLD of keys specified in the new root metadata file being validated (version N+1)."
        self.root.content.verify(&RoleName::Root, &next)?;
        next.content.verify(&RoleName::Root, &next)?;
        // TUF 1.0.34, 5.3.5: "The version number of the new root metadata (version N+1) MUST be
        // exactly the version in the trusted root metadata (version N) incremented by one, that is
        // precisely N+1."
        let (trusted, found) = (self.root.version, next.version);
        if found <= trusted {
            return Err(VerifyError::Rollback { role: RoleName::Root, trusted, found });
        }
        if found != trusted + 1 {
            return Err(VerifyError::RootSkipped { trusted, found });
        }
        self.root = next;
        Ok(())
    }

    /// Checks that the last root has not expired (FV-6).
    ///
    /// TUF 1.0.34, 5.3.10: "The expiration timestamp in the trusted root metadata file MUST be
    /// higher than the fixed update start time."
    ///
    /// # Errors
    ///
    /// [`VerifyError::Expired`].
    pub fn finish_root(&self) -> Result<(), VerifyError> {
        self.root.check_expiry(&RoleName::Root, self.now)
    }

    /// Takes the timestamp that was stored earlier as the reference for rollback checks, expired or
    /// not.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if it does not verify under the current root: it is then to be passed over
    /// (FV-7).
    pub fn load_stored_timestamp(&mut self, bytes: &[u8]) -> Result<(), VerifyError> {
        self.timestamp = Some(self.read_timestamp(bytes)?);
        Ok(())
    }

    pub(super) fn read_timestamp(
        &self,
        bytes: &[u8],
    ) -> Result<Metadata<TimestampRole>, VerifyError> {
        check_length(&RoleName::Timestamp, bytes, Limits::TIMESTAMP)?;
        let timestamp = self.read::<TimestampRole>(&RoleName::Timestamp, bytes)?;
        // TUF 1.0.34, 5.4.2: "The new timestamp metadata file MUST have been signed by a THRESHOLD
        // of keys specified in the trusted root metadata file."
        self.root.content.verify(&RoleName::Timestamp, &timestamp)?;
        self.rules.check_vehicle(&RoleName::Timestamp, &timestamp)?;
        Ok(timestamp)
    }

    pub(super) fn read<T: Role>(
        &self,
        role: &RoleName,
        bytes: &[u8],
    ) -> Result<Metadata<T>, VerifyError> {
        Metadata::parse(role, bytes, self.rules.key_ids())
    }

    /// Takes a timestamp (FV-8). One of the same version changes nothing, but what is trusted must
    /// not have expired meanwhile (AMB-3).
    ///
    /// # Errors
    ///
    /// [`VerifyError`]; the trusted timestamp stays.
    pub fn update_timestamp(&mut self, bytes: &[u8]) -> Result<Freshness, VerifyError> {
        self.finish_root()?;
        let next = self.read_timestamp(bytes)?;
        if let Some(trusted) = &self.timestamp {
            // TUF 1.0.34, 5.4.3.1: "If the new timestamp metadata version is less than the trusted
            // timestamp metadata version, discard it, abort the update cycle, and report the
            // potential rollback attack. In case they are equal, discard the new timestamp metadata
            // and abort the update cycle. This is normal and it shouldn't raise any error."
            check_rollback(&RoleName::Timestamp, trusted.version, next.version)?;
            if next.version == trusted.version {
                trusted.check_expiry(&RoleName::Timestamp, self.now)?;
                return Ok(Freshness::Same);
            }
            // TUF 1.0.34, 5.4.3.2: "The version number of the snapshot metadata file in the trusted
            // timestamp metadata file, if any, MUST be less than or equal to its version number in
            // the new timestamp metadata file."
            check_rollback(
                &RoleName::Snapshot,
                trusted.content.snapshot.version,
                next.content.snapshot.version,
            )?;
        }
        // TUF 1.0.34, 5.4.4: "The expiration timestamp in the new timestamp metadata file MUST be
        // higher than the fixed update start time."
        next.check_expiry(&RoleName::Timestamp, self.now)?;
        self.timestamp = Some(next);
        Ok(Freshness::New)
    }

    /// The snapshot's version, and how many bytes of it are to be fetched at most.
    ///
    /// # Errors
    ///
    /// [`VerifyError::TooLarge`] if more is listed than such a file may have.
    pub fn expected_snapshot(&self) -> Result<(u64, u64), VerifyError> {
        let listed = self.listed_snapshot()?;
        Ok((listed.version, limit(&RoleName::Snapshot, listed, Limits::SNAPSHOT)?))
    }

    fn listed_snapshot(&self) -> Result<&MetaFile, VerifyError> {
        let timestamp = self.timestamp.as_ref().ok_or_else(|| missing(&RoleName::Timestamp))?;
        Ok(&timestamp.content.snapshot)
    }

    /// Takes the snapshot that was stored earlier as the reference for rollback checks, expired or
    /// not. Returns whether it is the current one, so that none has to be fetched (FV-9, FV-17).
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if it does not verify under the current root: it is then to be passed over
    /// (FV-7).
    pub fn load_stored_snapshot(&mut self, bytes: &[u8]) -> Result<bool, VerifyError> {
        let stored = self.read_snapshot(bytes)?;
        let listed = self.listed_snapshot()?;
        // Uptane 2.1.0, 5.4.4.2 steps 4 and 8: "Check the previously downloaded Snapshot metadata
        // file … If the hashes and version number of that file match the hashes and version number
        // listed in the new Timestamp metadata". Off-spec: and if it has not expired.
        let is_current =
            stored.version == listed.version && listed.matches(bytes) && stored.expires > self.now;
        self.snapshot = Some(stored);
        self.snapshot_is_current = is_current;
        Ok(is_current)
    }

    pub(super) fn read_snapshot(&self, bytes: &[u8]) -> Result<Metadata<Snapshot>, VerifyError> {
        let snapshot = self.read::<Snapshot>(&RoleName::Snapshot, bytes)?;
        // TUF 1.0.34, 5.5.3: "The new snapshot metadata file MUST have been signed by a THRESHOLD
        // of keys specified in the trusted root metadata file."
        self.root.content.verify(&RoleName::Snapshot, &snapshot)?;
        self.rules.check_vehicle(&RoleName::Snapshot, &snapshot)?;
        Ok(snapshot)
    }

    /// Takes the snapshot that the timestamp lists (FV-10).
    ///
    /// # Errors
    ///
    /// [`VerifyError`]; the trusted snapshot stays.
    pub fn update_snapshot(&mut self, bytes: &[u8]) -> Result<(), VerifyError> {
        let listed = self.listed_snapshot()?;
        check_file(&RoleName::Snapshot, bytes, listed, Limits::SNAPSHOT)?;
        let next = self.read_snapshot(bytes)?;
        check_version(&RoleName::Snapshot, listed.version, next.version)?;
        if let Some(trusted) = &self.snapshot {
            // Uptane 2.1.0, 5.4.4.5 step 4: "Check that the version number of the previous Snapshot
            // metadata file, if any, is less than or equal to the version number of this Snapshot
            // metadata file."
            check_rollback(&RoleName::Snapshot, trusted.version, next.version)?;
            // TUF 1.0.34, 5.5.5: "The version number of the targets metadata file, and all
            // delegated targets metadata files, if any, in the trusted snapshot metadata file, if
            // any, MUST be less than or equal to its version number in the new snapshot metadata
            // file. Furthermore, any targets metadata filename that was listed in the trusted
            // snapshot metadata file, if any, MUST continue to be listed in the new snapshot
            // metadata file."
            for (file, before) in &trusted.content.meta {
                let role = RoleName::from_file_name(file).or_else(|| file.parse().ok());
                let Some(role) = role else { continue }; // no role has no name
                let now = next.content.meta.get(file);
                let now =
                    now.ok_or_else(|| VerifyError::DroppedFromSnapshot { role: role.clone() })?;
                check_rollback(&role, before.version, now.version)?;
            }
        }
        // TUF 1.0.34, 5.5.6: "The expiration timestamp in the new snapshot metadata file MUST be
        // higher than the fixed update start time."
        next.check_expiry(&RoleName::Snapshot, self.now)?;
        self.snapshot = Some(next);
        self.snapshot_is_current = true;
        Ok(())
    }

    /// The version of a targets role, and how many bytes of it are to be fetched at most.
    ///
    /// # Errors
    ///
    /// [`VerifyError::MissingFromSnapshot`], [`VerifyError::TooLarge`].
    pub fn expected_targets(&self, role: &RoleName) -> Result<(u64, u64), VerifyError> {
        let listed = self.listed_targets(role)?;
        Ok((listed.version, limit(role, listed, Limits::TARGETS)?))
    }

    fn listed_targets(&self, role: &RoleName) -> Result<&MetaFile, VerifyError> {
        let snapshot = self
            .snapshot
            .as_ref()
            .filter(|_| self.snapshot_is_current)
            .ok_or_else(|| missing(&RoleName::Snapshot))?;
        snapshot.content.meta.get(&role.file_name()).ok_or_else(|| missing(role))
    }

    /// Reads top-level targets that enough keys have signed.
    pub(super) fn read_targets(&self, bytes: &[u8]) -> Result<Metadata<Targets>, VerifyError> {
        let targets = self.read::<Targets>(&RoleName::Targets, bytes)?;
        // TUF 1.0.34, 5.6.3: "The new targets metadata file MUST have been signed by a THRESHOLD of
        // keys specified in the trusted root metadata file."
        self.root.content.verify(&RoleName::Targets, &targets)?;
        Ok(targets)
    }

    /// Takes the top-level targets, stored or fetched (FV-11), and the Director's only if they may
    /// be the Director's (FV-12 to FV-15).
    ///
    /// # Errors
    ///
    /// [`VerifyError`]; nothing changes.
    pub fn update_targets(&mut self, bytes: &[u8]) -> Result<(), VerifyError> {
        let listed = self.listed_targets(&RoleName::Targets)?;
        check_file(&RoleName::Targets, bytes, listed, Limits::TARGETS)?;
        let targets = self.read_targets(bytes)?;
        self.rules.check_vehicle(&RoleName::Targets, &targets)?;
        check_version(&RoleName::Targets, listed.version, targets.version)?;
        // TUF 1.0.34, 5.6.5: "The expiration timestamp in the new targets metadata file MUST be
        // higher than the fixed update start time."
        targets.check_expiry(&RoleName::Targets, self.now)?;
        if let Rules::Director { ecus, .. } = &self.rules {
            check_targets(&targets.content, ecus.as_ref())?;
        }
        self.targets = Some(targets);
        Ok(())
    }

    /// Takes a role that `delegator` delegates to, stored or fetched (FV-18).
    ///
    /// Uptane 2.1.0, 5.4.4.7 step 1: "Download and check the current metadata file, following the
    /// procedure in" 5.4.4.6. "If the file cannot be loaded, or if any verification step fails,
    /// abort the delegation resolution".
    ///
    /// # Errors
    ///
    /// [`VerifyError`]; nothing changes.
    pub fn update_delegated(
        &mut self,
        role: &RoleName,
        delegator: &RoleName,
        bytes: &[u8],
    ) -> Result<(), VerifyError> {
        let listed = self.listed_targets(role)?;
        check_file(role, bytes, listed, Limits::TARGETS)?;
        let targets = self.read::<Targets>(role, bytes)?;
        self.verify_delegated(role, delegator, &targets)?;
        check_version(role, listed.version, targets.version)?;
        targets.check_expiry(role, self.now)?;
        self.delegated.insert(role.clone(), targets);
        Ok(())
    }

    /// Checks a role's signatures with the keys of one that delegates to it. Two that delegate to
    /// one role may do so with different keys, so each is asked.
    ///
    /// Uptane 2.1.0, 5.4.4.6 step 3: "If checking delegated Targets metadata, the threshold of keys
    /// is specified in the Targets metadata file that delegated authority to this role."
    pub(super) fn verify_delegated(
        &self,
        role: &RoleName,
        delegator: &RoleName,
        targets: &Metadata<Targets>,
    ) -> Result<(), VerifyError> {
        let delegations =
            self.find_role(delegator).and_then(|targets| targets.content.delegations.as_ref());
        let keys = delegations.and_then(|delegations| delegations.find_keys(role));
        let (Some(delegations), Some(keys)) = (delegations, keys) else {
            return Err(missing(role));
        };
        keys.verify(&delegations.keys, role, targets)
    }

    /// Targets metadata that has been taken.
    pub(super) fn find_role(&self, role: &RoleName) -> Option<&Metadata<Targets>> {
        match role {
            RoleName::Targets => self.targets.as_ref(),
            RoleName::Root | RoleName::Snapshot | RoleName::Timestamp | RoleName::Delegated(_) => {
                self.delegated.get(role)
            }
        }
    }

    /// Version of the top-level targets, if they have been taken.
    pub fn targets_version(&self) -> Option<u64> {
        self.targets.as_ref().map(|targets| targets.version)
    }

    /// How often the Director wants a report at least, if it says so in the targets that have been
    /// taken (docs/POUF.md, 2.2).
    pub fn report_every(&self) -> Option<Duration> {
        self.targets.as_ref()?.content.report_every.map(Duration::from_secs)
    }

    /// Target metadata of the top-level targets, if they have been taken.
    pub fn targets(&self) -> Option<&BTreeMap<String, TargetFile>> {
        self.targets.as_ref().map(|targets| &targets.content.targets)
    }
}

#[cfg(test)]
#[path = "trusted_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "hybrid_tests.rs"]
mod hybrid_tests;
