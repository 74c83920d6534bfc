//! Both root chains, walked from their first versions, and their newest against what was recorded.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Examination;
use crate::app::trust::{self, ChainFault, Walk, read_published};
use crate::app::{Error, listing};
use crate::blob::BlobKey;
use crate::model::{RepositorySide, RoleName};
use crate::uptane::verify::TrustedSet;

impl Examination {
    pub(super) async fn roots(&mut self) -> Result<String, Error> {
        let roots = self.image_roots().await?;
        let newest = roots.last().cloned();
        self.image = self.walk(RepositorySide::Image, roots);
        self.newest_image_root(newest);
        self.adopt_targets().await;
        let roots = self.catalog.list_director_roots().await?;
        let roots = roots.into_iter().map(|root| (root.version, root.body.into())).collect();
        self.director = self.walk(RepositorySide::Director, roots);
        let version = |set: &Option<_>| match set {
            Some(set) => TrustedSet::root_version(set).to_string(),
            None => "none".into(),
        };
        let (image, director) = (version(&self.image), version(&self.director));
        Ok(format!("roots 1 to {image} of the Image repository, 1 to {director} of the Director"))
    }

    async fn image_roots(&mut self) -> Result<Vec<(u64, Bytes)>, Error> {
        let mut versions: Vec<u64> = self
            .store
            .list_metadata()
            .await?
            .into_iter()
            .filter_map(|key| match key {
                BlobKey::Metadata { version, role: RoleName::Root } => Some(version),
                _ => None,
            })
            .collect();
        versions.sort_unstable();
        let mut roots = Vec::new();
        for version in versions {
            let key = BlobKey::Metadata { version, role: RoleName::Root };
            roots.push((version, listing::read_blob(self.store.as_ref(), &key).await?));
        }
        Ok(roots)
    }

    fn walk(&mut self, side: RepositorySide, roots: Vec<(u64, Bytes)>) -> Option<TrustedSet> {
        let Walk { newest, faults } = trust::walk(roots);
        for (version, fault) in faults {
            let problem = match fault {
                ChainFault::Missing => {
                    format!(
                        "root {version} of the {side} is missing: who trusts an older one stops there"
                    )
                }
                ChainFault::Other(found) => {
                    format!("root {version} of the {side} says that it is version {found}")
                }
                ChainFault::Refused(fault) => {
                    format!("root {version} of the {side} is refused by clients: {fault}")
                }
            };
            self.error(problem, "put the right file back from a backup, an export or a mirror");
        }
        if newest.is_none() {
            let problem = format!("the {side} has no root that can be read");
            self.error(problem, "restore a backup");
        }
        newest
    }

    /// The newest that is stored has to be the one that was recorded.
    fn newest_image_root(&mut self, stored: Option<(u64, Bytes)>) {
        let recorded = self.roles.iter().find(|state| state.name == RoleName::Root).cloned();
        let (Some((version, bytes)), Some(recorded)) = (stored, recorded) else { return };
        if version > recorded.version {
            self.warn(
                format!(
                    "root {version} is in repo/, and the catalog knows {} as the newest",
                    recorded.version
                ),
                "start the server, which takes it over if it follows",
            );
        } else if version < recorded.version {
            self.error(
                format!(
                    "root {} was published, and {version} is the newest in repo/",
                    recorded.version
                ),
                "put it back from a backup, an export or a mirror",
            );
        } else if Sha256::digest(&bytes)[..] != recorded.sha256.as_bytes()[..] {
            self.error(
                format!("root {version} in repo/ is not the one that was published"),
                "put the right one back from a backup, an export or a mirror",
            );
        }
    }

    /// The targets say who signs for the bins.
    async fn adopt_targets(&mut self) {
        let targets = self.roles.iter().find(|state| state.name == RoleName::Targets).cloned();
        let (Some(set), Some(targets)) = (self.image.as_mut(), targets) else { return };
        let adopted = match read_published(self.store.as_ref(), &targets).await {
            Ok(Ok(bytes)) => set.adopt_targets(&bytes).map_err(|fault| fault.to_string()),
            Ok(Err(fault)) => Err(fault),
            Err(away) => Err(away.to_string()),
        };
        if let Err(fault) = adopted {
            let problem = format!("the targets of the Image repository can't be used: {fault}");
            self.error(problem, "restart the server, which signs them again");
        }
    }
}
