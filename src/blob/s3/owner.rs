//! Whose bucket it is: an object says which installation it belongs to, and no other one touches it.
//!
//! No request that all stores know writes an object only if there is none. Of two who claim a bucket
//! at the same moment, the one that is overwritten finds out when it looks again: at once, and at
//! each check from then on.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::fault::{Fault, Kind};
use super::objects::{Described, Objects};

/// What is in the object.
#[derive(Serialize, Deserialize)]
struct Owner {
    installation: String,
}

impl Objects {
    pub(super) async fn find_owner(&self) -> Result<Option<String>, Fault> {
        let Some(bytes) = self.read(NAME, TIME).await? else { return Ok(None) };
        let owner: Owner = serde_json::from_slice(&bytes).map_err(|error| {
            let reason = format!("{}{NAME} does not say whose bucket it is: {error}", self.url);
            Fault::new(Kind::Refused, reason)
        })?;
        Ok(Some(owner.installation))
    }

    pub(super) async fn claim(&self, installation: &str) -> Result<String, Fault> {
        if let Some(owner) = self.find_owner().await? {
            return Ok(owner);
        }
        let owner = Owner { installation: installation.to_owned() };
        let text = serde_json::to_vec(&owner)
            .map_err(|error| Fault::new(Kind::Refused, error.to_string()))?;
        let described = Described { content_type: "application/json", ..Described::INTERNAL };
        self.put(NAME, Bytes::from(text), described).await?;
        tokio::time::sleep(PAUSE).await; // for whoever had looked before this was there
        let owner = self.find_owner().await?;
        owner.ok_or_else(|| {
            Fault::new(Kind::Refused, format!("{} has lost {}{NAME}", self.store, self.url))
        })
    }
}

const NAME: &str = ".motorcade/installation.json";
/// An answer that comes later comes too late for whoever asks whether the server is ready.
const TIME: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(300);
