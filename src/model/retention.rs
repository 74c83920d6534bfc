//! How long files are kept.

use super::Timestamp;

/// What was said of how long an image's files are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageRetention {
    /// Until when they are kept in any case.
    pub retain_until: Option<Timestamp>,
    /// When it was decided to remove them, if it was.
    pub collected_at: Option<Timestamp>,
}
