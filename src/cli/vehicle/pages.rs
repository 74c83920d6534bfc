//! The list of vehicles, page by page.

use reqwest::Method;
use serde_json::Value;

use crate::cli::api::Api;

/// Pages of vehicles that a filter leaves.
pub(super) struct Pages<'a> {
    api: &'a Api,
    filter: &'a [(&'static str, String)],
    /// Where the next page starts; none after the last one.
    cursor: Option<String>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(api: &'a Api, filter: &'a [(&'static str, String)]) -> Self {
        Self { api, filter, cursor: Some(String::new()) }
    }

    /// The next page, if there is one.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<Value>>> {
        let Some(cursor) = self.cursor.take() else { return Ok(None) };
        let request = self
            .api
            .request(Method::GET, "vehicles")
            .query(&[("limit", "1000"), ("cursor", &cursor)]);
        let mut page = self.api.json(request.query(self.filter)).await?;
        self.cursor = page["next_cursor"].as_str().map(str::to_owned);
        let Value::Array(vehicles) = page["vehicles"].take() else { return Ok(None) };
        Ok(Some(vehicles))
    }
}
