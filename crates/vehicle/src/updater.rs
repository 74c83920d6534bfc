//! Drives the verifier over one repository: what to fetch next, and what to store when (TUF 1.0.34,
//! section 5).

use super::Error;
use super::names::metadata_file;
use super::source::Source;
use super::store::Store;
use motorcade_model::{HardwareId, RoleName, Timestamp};
use motorcade_uptane::verify::{
    Freshness, Limits, Rules, Search, TargetFile, TrustedSet, VerifyError,
};

/// One update of one repository's metadata.
pub(super) struct Updater<'a> {
    set: TrustedSet,
    store: &'a Store,
    source: &'a dyn Source,
}

impl<'a> Updater<'a> {
    /// Starts from the stored root and follows the chain of roots to its end, or for as far as one
    /// update goes (TUF 1.0.34, 5.2 and 5.3; FV-1 to FV-5). Each root is stored as soon as it is
    /// trusted.
    pub(super) fn start(
        store: &'a Store,
        source: &'a dyn Source,
        rules: Rules,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let mut set = store.root(|root| TrustedSet::new(root, rules.clone(), now))?;
        for _ in 0..Limits::ROOT_ROTATIONS {
            let version = set.root_version() + 1;
            let name = metadata_file(&RoleName::Root, Some(version));
            let Some(root) = source.fetch(&name, Limits::ROOT)? else { break };
            set.update_root(&root)?;
            store.put(&RoleName::Root, version, &root)?;
        }
        Ok(Self { set, store, source })
    }

    /// What is trusted.
    pub(super) fn set(&self) -> &TrustedSet {
        &self.set
    }

    /// The same, for when nothing more is to be fetched.
    pub(super) fn into_set(self) -> TrustedSet {
        self.set
    }

    /// Fetches timestamp, snapshot and top-level targets (TUF 1.0.34, 5.4 to 5.6). What is stored
    /// and still current is not fetched again (FV-9, FV-17).
    pub(super) fn refresh(&mut self) -> Result<(), Error> {
        self.set.finish_root()?;
        self.refresh_timestamp()?;
        self.refresh_snapshot()?;
        self.refresh_targets()
    }

    fn refresh_timestamp(&mut self) -> Result<(), Error> {
        if let Some(stored) = self.store.find(&RoleName::Timestamp) {
            let _ = self.set.load_stored_timestamp(&stored); // FV-7: what does not verify any more is as good as none
        }
        let name = metadata_file(&RoleName::Timestamp, None);
        let fetched =
            self.source.fetch(&name, Limits::TIMESTAMP)?.ok_or(Error::NotFound { name })?;
        match self.set.update_timestamp(&fetched)? {
            Freshness::New => self.store.put(&RoleName::Timestamp, 0, &fetched),
            Freshness::Same => Ok(()),
        }
    }

    fn refresh_snapshot(&mut self) -> Result<(), Error> {
        let stored = self.store.find(&RoleName::Snapshot);
        if stored.is_some_and(|stored| self.set.load_stored_snapshot(&stored).unwrap_or(false)) {
            return Ok(());
        }
        let (version, limit) = self.set.expected_snapshot()?;
        let fetched = self.fetch_listed(&RoleName::Snapshot, version, limit)?;
        self.set.update_snapshot(&fetched)?;
        self.store.put(&RoleName::Snapshot, version, &fetched)
    }

    fn refresh_targets(&mut self) -> Result<(), Error> {
        self.take(&RoleName::Targets, |set, bytes| set.update_targets(bytes))
    }

    /// Takes a targets role as it is stored, or else as it is fetched.
    fn take(
        &mut self,
        role: &RoleName,
        update: impl Fn(&mut TrustedSet, &[u8]) -> Result<(), VerifyError>,
    ) -> Result<(), Error> {
        let stored = self.store.find(role);
        if stored.is_some_and(|stored| update(&mut self.set, &stored).is_ok()) {
            return Ok(());
        }
        let (version, limit) = self.set.expected_targets(role)?;
        let fetched = self.fetch_listed(role, version, limit)?;
        update(&mut self.set, &fetched)?;
        self.store.put(role, version, &fetched)
    }

    fn fetch_listed(&self, role: &RoleName, version: u64, limit: u64) -> Result<Vec<u8>, Error> {
        let name = metadata_file(role, self.set.has_consistent_snapshot().then_some(version));
        // A byte order mark or other line ends make a file longer than it is listed, and are no
        // endless data: what is too long is refused by the set.
        let fetched = self
            .source
            .fetch(&name, limit.saturating_mul(2).saturating_add(REWRITTEN).min(Limits::TARGETS))?;
        Ok(fetched.ok_or_else(|| VerifyError::Withheld { role: role.clone() })?)
    }

    /// Finds a target, loading the roles on the way to it (TUF 1.0.34, 5.6.7; FV-18).
    pub(super) fn find_target(
        &mut self,
        path: &str,
        hardware_ids: &[HardwareId],
    ) -> Result<Option<TargetFile>, Error> {
        loop {
            let (role, delegator) = match self.set.search(path, hardware_ids)? {
                Search::Found(target) => return Ok(Some(target.clone())),
                Search::Missing => return Ok(None),
                Search::Needs { role, delegator } => (role, delegator),
            };
            self.load(&role, &delegator)?;
        }
    }

    fn load(&mut self, role: &RoleName, delegator: &RoleName) -> Result<(), Error> {
        self.take(role, |set, bytes| set.update_delegated(role, delegator, bytes))
    }
}

/// Bytes that a file may be longer than listed on its way, so that it can be said why it is
/// refused.
const REWRITTEN: u64 = 64;
