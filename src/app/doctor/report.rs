//! What the doctor says.

use crate::model::Timestamp;

/// What was found at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When.
    pub at: Timestamp,
    /// Everything that was looked at, in order.
    pub checks: Vec<Check>,
}

/// One of the things that are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its stable name.
    pub name: &'static str,
    /// What was looked at.
    pub looked_at: String,
    /// What there is to say.
    pub findings: Vec<Finding>,
}

/// Something that is wrong, or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong with what.
    pub problem: String,
    /// What to do about it.
    pub action: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know; nothing has to be done.
    Note,
    /// Somebody has to do something in time.
    Warning,
    /// Vehicles or uploads are refused, or will be very soon.
    Error,
}

impl Severity {
    /// Its stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Report {
    /// The worst that was found.
    pub fn worst(&self) -> Option<Severity> {
        self.checks.iter().filter_map(Check::worst).max()
    }
}

impl Check {
    /// The worst that was found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}
