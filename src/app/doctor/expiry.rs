//! What expires, and who has to sign it before that.

use super::{Examination, Severity};
use crate::app::Error;
use crate::app::expiry::{self, Expiry, SignedBy, Stage};

impl Examination {
    pub(super) async fn expiry(&mut self) -> Result<String, Error> {
        let Some(keyring) = &self.keyring else {
            return Ok("not looked at: without the role keys nobody knows who signs".into());
        };
        let policy = self.policy_or_default();
        let (store, image) = ((&self.catalog, self.store.as_ref()), self.image.as_ref());
        let known = expiry::Known::default();
        let roles = expiry::list(store, &policy, keyring, image, &known, self.now).await?;
        let first = roles.iter().min_by_key(|role| role.expires_at);
        let first = first.map(|first| format!("; {} first", first.describe()));
        let looked_at = format!("{} roles{}", roles.len(), first.unwrap_or_default());
        for role in roles {
            if let Some(severity) = severity(&role) {
                self.find(severity, role.describe(), role.action());
            }
        }
        Ok(looked_at)
    }
}

/// A server that runs has long signed again what is in its last quarter.
fn severity(role: &Expiry) -> Option<Severity> {
    match (role.stage, role.signer) {
        (Stage::Fresh, _) | (Stage::Due, SignedBy::Server) => None,
        (Stage::Due, SignedBy::Person | SignedBy::Nobody) => Some(Severity::Note),
        (Stage::Soon, _) | (Stage::Urgent, SignedBy::Server) => Some(Severity::Warning),
        (Stage::Urgent, SignedBy::Person | SignedBy::Nobody) | (Stage::Expired, _) => {
            Some(Severity::Error)
        }
    }
}
