//! An escrow key that is lost while a rotation to it goes on: a person says so, and the one that is
//! here wraps again.

use std::sync::Arc;

use serde_json::json;

use super::Error;
use super::principal::local_author;
use super::state_dir::StateDir;
use super::trust::{self, Remembered};
use crate::model::{AuditKind, Timestamp};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostEscrow {
    /// Id of the key that is lost.
    pub lost: String,
    /// Id of the one that wraps from now on.
    pub wraps: String,
}

impl StateDir {
    /// Takes the escrow key that all servers wrap to for lost, and has the one that wraps by the files
    /// in `keys/` take its place. The server **must not** run. What was wrapped to the lost key alone
    /// opens for the recipients that it has, and for nobody else.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the key is here, the one that is here is none that the installation goes
    /// by, or a server runs; [`Error::NotFound`] if the directory isn't initialized; [`Error::Full`];
    /// [`Error::Internal`].
    pub async fn recover_escrow(&self, now: Timestamp) -> Result<LostEscrow, Error> {
        let (_lock, catalog) = self.own(now).await?;
        let escrow = self.escrow()?;
        if let Remembered::Another(problem) = trust::check_proof(&catalog, &escrow).await? {
            trust::refuse(&[problem])?;
        }
        let Some(lost) = trust::find_other_wrapping(&catalog, &escrow).await? else {
            let detail = "the escrow key that wraps is in keys/; nothing was changed";
            return Err(Error::Conflict { code: "escrow_key_is_here", detail: detail.into() });
        };
        let key = Arc::clone(&escrow.keys().wrapping);
        let wraps = key.kid().to_string();
        if catalog.is_escrow_retired(&wraps).await? {
            let problem =
                format!("{} holds the escrow key {wraps}, which was retired", key.place());
            trust::refuse(&[problem])?;
        }
        let detail = json!({ "source": key.place(), "in_place_of": lost });
        let entry = local_author(now).entry(AuditKind::EscrowKeyAdded, &wraps, detail);
        catalog.replace_escrow_kid(&wraps, &lost, &[entry]).await?;
        catalog.close().await;
        Ok(LostEscrow { lost, wraps })
    }
}
