//! Parameters of queries that several calls take.

use crate::app::Error;
use crate::model::Timestamp;

/// Entries a page, from 1 to 1000.
pub(in crate::http) fn check_limit(limit: u32) -> Result<u32, Error> {
    if (1..=1000).contains(&limit) {
        return Ok(limit);
    }
    Err(bad_query("`limit` must be 1 to 1000"))
}

/// A time, if one is given.
pub(super) fn time(name: &str, text: Option<String>) -> Result<Option<Timestamp>, Error> {
    let parsed = text.map(|text| text.parse()).transpose();
    parsed.map_err(|_| bad_query(format!("`{name}` must be a time such as 2026-11-24T10:00:00Z")))
}

/// 400 for a parameter that breaks a rule.
pub(super) fn bad_query(detail: impl ToString) -> Error {
    Error::Invalid { code: "bad_query", detail: detail.to_string() }
}
