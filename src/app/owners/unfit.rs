//! What speaks against a file that its owner has signed.

use std::collections::BTreeSet;

use super::{Owner, Owners, StagedTargets};
use crate::app::{Error, Problem};
use crate::model::Timestamp;

impl Owners {
    /// What speaks against publishing a file.
    pub(super) async fn unfit(
        &self,
        owner: &Owner,
        staged: &StagedTargets,
        now: Timestamp,
    ) -> Result<Vec<Problem>, Error> {
        let (role, mut problems) = (&owner.role, Vec::new());
        if staged.missing > 0 {
            let missing = staged.missing;
            let detail = format!("{missing} more signatures are needed by keys of {role}");
            problems.push(Problem { code: "signatures_missing", detail });
        }
        let expires = staged.listing.expires;
        if expires <= now {
            let detail = format!("the staged file of {role} expired at {expires}: stage it again");
            problems.push(Problem { code: "staging_expired", detail });
        }
        let wanted = self.parts.catalog.list_targets(role).await?;
        let wanted: BTreeSet<&str> = wanted.iter().map(|entry| entry.path.as_str()).collect();
        let gone = staged.listing.targets.keys().filter(|path| !wanted.contains(path.as_str()));
        problems.extend(gone.map(|path| Problem {
            code: "image_yanked",
            detail: format!(
                "the staged file of {role} lists {path}, which was yanked since: stage it again"
            ),
        }));
        Ok(problems)
    }
}
