//! What the state directory does not tell.

use std::fmt;

use crate::model::Timestamp;

/// What the state directory does not tell.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// Certificates and lists of TLS; none if it is not served.
    pub certificates: Vec<Certificate>,
    /// Free space that uploads leave, in bytes, if it is configured.
    pub reserved_space: Option<u64>,
    /// What the running server says of itself, if one is asked.
    pub service: Option<Service>,
}

/// What a running server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// It can answer.
    Ready,
    /// It can't, and why.
    NotReady(String),
}

/// A file of TLS, and until when it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What it is and where, for people.
    pub what: String,
    /// When the first certificate or list in it expires; or why it can't be used.
    pub expires: Result<Timestamp, String>,
    /// What it means that it has expired.
    pub consequence: &'static str,
}

/// Lists the files of TLS that are in force.
pub struct Certificates(Box<dyn Fn() -> Vec<Certificate> + Send + Sync>);

impl Certificates {
    /// Asks `list` whenever somebody looks.
    pub fn new(list: impl Fn() -> Vec<Certificate> + Send + Sync + 'static) -> Self {
        Self(Box::new(list))
    }

    pub(super) fn list(&self) -> Vec<Certificate> {
        (self.0)()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}
