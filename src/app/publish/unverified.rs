//! What is published and would be refused is signed again.

use bytes::Bytes;

use super::round::Rounds;
use crate::app::Error;
use crate::model::RoleName;

impl Rounds {
    /// Looks at each published file as a client would, and has those signed again that it would
    /// refuse: they were signed while a wrong key was in place, or are damaged or gone. **Must not
    /// be called while the task that publishes runs.**
    pub(super) async fn sign_unverified(&self) -> Result<(), Error> {
        let states = self.catalog.list_roles().await?;
        let timestamp = self.catalog.find_role_body(&RoleName::Timestamp).await?.map(Bytes::from);
        let unverified = self.verifier.find_unverified(&states, timestamp.as_ref()).await?;
        for (role, fault) in &unverified {
            tracing::error!(
                %role,
                fault,
                "published metadata would be refused by clients; it is signed again"
            );
        }
        let roles: Vec<RoleName> = unverified.into_iter().map(|(role, _)| role).collect();
        if !roles.is_empty() {
            self.catalog.mark_changed(&roles).await?;
            let _ = self.round().await; // which has logged what went wrong, and is tried again
        }
        Ok(())
    }
}
