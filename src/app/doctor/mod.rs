//! The doctor: looks at an installation as a person would who has read every page of the
//! documentation, and says for each thing that is wrong, or will be, what to do.
//!
//! It reads no image and opens no envelope, so that it is done within seconds; that is
//! [`crate::app::fsck`]'s. Each file here looks at one thing, changes nothing, and works beside a
//! running server.

mod around;
mod blobs;
mod certificates;
mod clock;
mod disk;
mod expiry;
mod keys;
mod limits;
mod policy;
mod report;
mod roots;
mod service;
mod versions;

use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use super::state_dir::StateDir;
use super::upkeep::Upkeep;
use super::{Error, Limits};
use crate::blob::BlobStore;
use crate::catalog::{Catalog, RoleState};
use crate::keys::Keyring;
use crate::keys::policy::Policy;
use crate::model::{Clock, Timestamp};
use crate::uptane::verify::TrustedSet;
pub use around::{Around, Certificate, Certificates, Service};
pub use report::{Check, Finding, Report, Severity};

/// The doctor of a running server.
pub struct Doctor {
    state: StateDir,
    clock: Arc<dyn Clock>,
    upkeep: Arc<Upkeep>,
    reserved_space: Option<u64>,
    certificates: OnceLock<Certificates>,
    /// One looks at a time: it reads as much as there are images.
    turn: Semaphore,
}

impl Doctor {
    pub(super) fn new(
        state: StateDir,
        clock: Arc<dyn Clock>,
        upkeep: Arc<Upkeep>,
        limits: &Limits,
    ) -> Self {
        let (certificates, turn) = (OnceLock::new(), Semaphore::new(1));
        let reserved_space = limits.reserved_space;
        Self { state, clock, upkeep, reserved_space, certificates, turn }
    }

    /// Looks at these certificates, too.
    pub fn look_at_certificates(&self, certificates: Certificates) {
        let _ = self.certificates.set(certificates); // once, before anything is served
    }

    /// Looks at everything.
    ///
    /// # Errors
    ///
    /// As [`examine`].
    pub async fn examine(&self) -> Result<Report, Error> {
        let _turn = self.turn.acquire().await.map_err(Error::internal("wait for a turn"))?;
        let service = match self.upkeep.check_ready().await {
            Ok(_) => Service::Ready,
            Err(error) => Service::NotReady(error.reason()),
        };
        let around = Around {
            certificates: self.certificates.get().map(Certificates::list).unwrap_or_default(),
            reserved_space: self.reserved_space,
            service: Some(service),
        };
        examine(&self.state, self.clock.now(), around).await
    }
}

/// What the checks work on, and what they have found so far.
struct Examination {
    state: StateDir,
    catalog: Catalog,
    store: Arc<dyn BlobStore>,
    roles: Vec<RoleState>,
    now: Timestamp,
    around: Around,
    /// None if it can't be used, which has been said then.
    policy: Option<Policy>,
    keyring: Option<Keyring>,
    /// The newest roots that can be read; the Image repository's with its targets.
    image: Option<TrustedSet>,
    director: Option<TrustedSet>,
    findings: Vec<Finding>,
    checks: Vec<Check>,
}

/// Looks at a state directory and at what is around it.
///
/// # Errors
///
/// [`Error::NotFound`] if it isn't initialized, [`Error::Unusable`] or [`Error::Internal`] if the
/// catalog can't be opened. What else can't be looked at is a finding.
pub async fn examine(state: &StateDir, now: Timestamp, around: Around) -> Result<Report, Error> {
    let (catalog, store) = (state.open_catalog().await?, state.blobs_to_read().await?);
    let mut all = Examination {
        state: state.clone(),
        roles: catalog.list_roles().await?,
        catalog,
        store,
        now,
        around,
        policy: None,
        keyring: None,
        image: None,
        director: None,
        findings: Vec::new(),
        checks: Vec::new(),
    };
    let looked_at = all.clock().await;
    all.end("clock", looked_at);
    let looked_at = all.roots().await;
    all.end("root_chain", looked_at);
    let looked_at = all.policy();
    all.end("policy", looked_at);
    let looked_at = all.keys().await;
    all.end("keys", looked_at);
    let looked_at = all.expiry().await;
    all.end("expiry", looked_at);
    let looked_at = all.versions().await;
    all.end("versions", looked_at);
    let looked_at = all.blobs().await;
    all.end("blobs", looked_at);
    let looked_at = all.disk();
    all.end("disk", looked_at);
    let looked_at = all.certificates();
    all.end("certificates", looked_at);
    let looked_at = all.limits().await;
    all.end("limits", looked_at);
    if let Some(looked_at) = all.service() {
        all.end("service", Ok(looked_at));
    }
    all.catalog.close().await;
    Ok(Report { at: now, checks: all.checks })
}

impl Examination {
    /// Ends a check, which says what it has looked at, or why it could not.
    fn end(&mut self, name: &'static str, looked_at: Result<String, Error>) {
        let looked_at = looked_at.unwrap_or_else(|error| {
            let action = "mend what it says, then look again";
            self.error(format!("it can't be looked at: {}", error.reason()), action);
            "it can't be looked at".to_owned()
        });
        let findings = std::mem::take(&mut self.findings);
        self.checks.push(Check { name, looked_at, findings });
    }

    fn error(&mut self, problem: impl Into<String>, action: impl Into<String>) {
        self.find(Severity::Error, problem, action);
    }

    fn warn(&mut self, problem: impl Into<String>, action: impl Into<String>) {
        self.find(Severity::Warning, problem, action);
    }

    fn find(&mut self, severity: Severity, problem: impl Into<String>, action: impl Into<String>) {
        self.findings.push(Finding { severity, problem: problem.into(), action: action.into() });
    }
}
