//! What the holder of an API token may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The role of an API token.
///
/// Roles don't nest but for reading: whoever may change something may also see it, and that is all
/// that a
/// [`AccessRole::Viewer`] may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessRole {
    /// A CI job: uploads images.
    Uploader,
    /// A release engineer: registers recipients, yanks images, and uploads when needed.
    Engineer,
    /// A key officer: rotates and revokes keys.
    Officer,
    /// Reads what the API shows.
    Viewer,
    /// A factory: registers vehicles that were never seen, and sees nothing.
    Enroller,
}

impl AccessRole {
    /// Every role, in the order in which messages list them.
    pub const ALL: [Self; 5] =
        [Self::Uploader, Self::Engineer, Self::Officer, Self::Viewer, Self::Enroller];
    /// The roles that may see what the API shows.
    pub const READERS: [Self; 4] = [Self::Uploader, Self::Engineer, Self::Officer, Self::Viewer];

    /// The role's name in the API, the command line and the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uploader => "uploader",
            Self::Engineer => "engineer",
            Self::Officer => "officer",
            Self::Viewer => "viewer",
            Self::Enroller => "enroller",
        }
    }
}

impl fmt::Display for AccessRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AccessRole {
    type Err = ParseAccessRoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| ParseAccessRoleError(text.chars().take(32).collect()))
    }
}

/// No such role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role {0:?}: use uploader, engineer, officer, viewer or enroller")]
pub struct ParseAccessRoleError(String);
