//! `/api/v1/retentions` and `/api/v1/collections`

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How long an image's files are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionBody {
    /// Target path.
    pub path: String,
    /// RFC 3339: they are kept until then in any case; null if nobody has said so.
    pub retain_until: Option<String>,
    /// RFC 3339: when it was decided to remove them; null while they are there.
    pub collected_at: Option<String>,
}

/// Until when an image's files are to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRetention {
    /// RFC 3339; null takes back what was said before.
    pub retain_until: Option<String>,
}

/// Which yanked images are to be collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCollection {
    /// Those that were yanked so many days ago, or more.
    pub yanked_for_days: u32,
    /// Only find out which ones those are.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub dry_run: bool,
}
