//! Pages of lists.

use crate::app::Error;
use crate::http::ApiError;

/// Entries a page, from 1 to 1000.
pub(in crate::http) fn check_limit(limit: u32) -> Result<u32, ApiError> {
    if (1..=1000).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::Invalid { code: "bad_query", detail: "`limit` must be 1 to 1000".into() }.into())
}
