//! The metadata policy against the published roots.

use super::Examination;
use crate::app::{Error, trust};
use crate::keys::policy::Policy;
use crate::model::{RepositorySide, RoleName};

impl Examination {
    pub(super) fn policy(&mut self) -> Result<String, Error> {
        let policy = self.state.policy()?;
        let is_bin = |role: &&RoleName| matches!(role, RoleName::Delegated(_));
        let bin = self.roles.iter().map(|state| &state.name).find(is_bin);
        let mut differences = Vec::new();
        for (side, set, bin) in [
            (RepositorySide::Image, &self.image, bin),
            (RepositorySide::Director, &self.director, None),
        ] {
            let differ = |set| trust::compare_policy(&policy, side, set, bin);
            differences.extend(set.iter().flat_map(differ));
        }
        for difference in differences {
            let action =
                "do so, or change metadata/policy.toml back; clients go by what is published";
            self.warn(difference, action);
        }
        self.policy = Some(policy);
        Ok("metadata/policy.toml, against both roots".into())
    }

    /// The policy, or the built-in one where it can't be used.
    pub(super) fn policy_or_default(&self) -> Policy {
        self.policy.clone().unwrap_or_default()
    }
}
