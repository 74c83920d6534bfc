//! Files that nothing lists. Metadata that was superseded and targets of yanked images are meant to
//! be there.

use std::collections::HashSet;

use super::Check;
use crate::app::Error;
use crate::app::listing::{Files, ListedTarget};
use crate::blob::BlobKey;
use crate::model::{ENVELOPE_SUFFIX, RoleName};

impl Check {
    pub(super) async fn strays(
        &mut self,
        targets: &[ListedTarget],
        files: &Files,
    ) -> Result<(), Error> {
        let listed: HashSet<&BlobKey> = targets.iter().map(|target| &target.key).collect();
        let current = self.catalog.list_roles().await?.into_iter().map(|state| state.name);
        let retired = self.catalog.list_retired_roles().await?.into_iter().map(|role| role.name);
        let roles: HashSet<RoleName> = current.chain(retired).collect();
        for (name, key) in files {
            let problem = match key {
                None => Some(format!("{name} has no business in the repository")),
                Some(BlobKey::Timestamp) => None,
                Some(BlobKey::Metadata { role, .. }) => (!roles.contains(role))
                    .then(|| format!("{name} is of no role of this repository, and is not served")),
                Some(key) if listed.contains(key) => None,
                Some(key) => self.unlisted(name, key).await?,
            };
            self.findings.problems.extend(problem);
        }
        Ok(())
    }

    async fn unlisted(&self, name: &str, key: &BlobKey) -> Result<Option<String>, Error> {
        let BlobKey::Target { path, sha256 } = key else { return Ok(None) };
        let (image, is_envelope) = match path.strip_suffix(ENVELOPE_SUFFIX) {
            Some(image) => (image, true),
            None => (path.as_str(), false),
        };
        let known = match image.parse() {
            Ok(image) => self.catalog.find_image(&image).await?,
            Err(_) => None,
        };
        // The digest of an envelope that is not listed any more is nowhere.
        let is_known = known.is_some_and(|known| is_envelope || known.sealed.sha256 == *sha256);
        let is_pending = self.catalog.pending_blobs().await?.contains(&key.name());
        Ok((!is_known && !is_pending).then(|| format!("{name} belongs to no image")))
    }
}
