//! Who asks for something, and how it is written down.

use std::fs;

use super::Error;
use crate::catalog::{Author, Who};
use crate::model::{AccessRole, Actor, ImagePath, Timestamp};

/// Whoever sent a request, as its token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Id of the token.
    pub id: String,
    /// What its holder may do.
    pub role: AccessRole,
    /// Where its holder may upload; everywhere without it.
    pub path_prefix: Option<String>,
    /// Id of the request, for the record of what was done.
    pub request_id: Option<String>,
}

impl From<&Principal> for Actor {
    fn from(by: &Principal) -> Self {
        Self { id: by.id.clone(), request_id: by.request_id.clone() }
    }
}

impl Principal {
    /// Checks that an image may be uploaded under `path`: a supplier has a folder of its own
    /// (Uptane 2.1.0, 5.3.1).
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`].
    pub fn check_upload(&self, path: &ImagePath) -> Result<(), Error> {
        match &self.path_prefix {
            Some(prefix) if !path.as_str().starts_with(prefix) => Err(Error::Forbidden {
                detail: format!("this token may upload below {prefix} only"),
            }),
            _ => Ok(()),
        }
    }

    /// Whether an image may be seen: a supplier sees its own folder.
    pub(in crate::app) fn sees(&self, path: &ImagePath) -> bool {
        self.path_prefix.as_deref().is_none_or(|own| path.as_str().starts_with(own))
    }

    /// This caller as the author of a change.
    pub(in crate::app) fn author(&self, at: Timestamp) -> Author {
        let who = Who::Token { id: self.id.clone(), role: Some(self.role) };
        Author { who, at, request_id: self.request_id.clone() }
    }
}

/// Whoever runs this process, as the author of a change: the user who logged in, also behind
/// `sudo`, or the one that it runs as.
pub fn local_author(at: Timestamp) -> Author {
    let login = fs::read_to_string("/proc/self/loginuid").ok();
    let login = login.and_then(|text| text.trim().parse().ok()).filter(|uid| *uid != u32::MAX);
    let uid = login.unwrap_or_else(|| rustix::process::getuid().as_raw());
    Author { who: Who::Local(uid), at, request_id: None }
}
