//! The list of vehicles, page by page.

use reqwest::Method;

use crate::api::{VehicleBody, VehicleList, VehicleQuery};
use crate::cli::api::Api;

/// Pages of vehicles that a filter leaves.
pub(super) struct Pages<'a> {
    api: &'a Api,
    /// Which page is next; none after the last one.
    next: Option<VehicleQuery>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(api: &'a Api, filter: VehicleQuery) -> Self {
        Self { api, next: Some(VehicleQuery { limit: 1000, ..filter }) }
    }

    /// The next page, if there is one.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<VehicleBody>>> {
        let Some(query) = self.next.take() else { return Ok(None) };
        let request = self.api.request(Method::GET, "vehicles").query(&query);
        let page: VehicleList = self.api.json(request).await?;
        self.next = page.next_cursor.map(|cursor| VehicleQuery { cursor, ..query });
        Ok(Some(page.vehicles))
    }
}
