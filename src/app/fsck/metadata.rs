//! The Image repository's metadata, as a client takes it: the root chain from its first version,
//! and everything below it.

use sha2::{Digest, Sha256};

use super::Check;
use crate::app::Error;
use crate::app::listing::{Files, Listing};
use crate::app::trust::{self, ChainFault, Walk};
use crate::blob::BlobKey;
use crate::model::RoleName;
use crate::uptane::verify::{TrustedSet, VerifyError};

impl Check {
    /// Returns the newest root, with the targets, if they can be trusted.
    pub(super) async fn metadata(
        &mut self,
        listing: &Listing,
        files: &Files,
    ) -> Result<Option<TrustedSet>, Error> {
        let Some(mut set) = self.roots(listing) else { return Ok(None) };
        self.newest_root(&set, listing, files).await?;
        self.served(listing).await?;
        let taken =
            self.taken("timestamp.json", set.update_timestamp(&listing.timestamp).map(drop));
        // From the top down: what a file above does not vouch for can't be judged.
        if taken
            && self.take(listing, &RoleName::Snapshot, |bytes| set.update_snapshot(bytes))
            && self.take(listing, &RoleName::Targets, |bytes| set.update_targets(bytes))
        {
            let retired = self.catalog.list_retired_roles().await?;
            let is_retired = |role: &RoleName| retired.iter().any(|retired| retired.name == *role);
            for (key, bytes) in &listing.metadata {
                let BlobKey::Metadata { role: role @ RoleName::Delegated(_), .. } = key else {
                    continue;
                };
                if is_retired(role) {
                    continue; // listed, and nobody delegates to it any more
                }
                let taken = set.update_delegated(role, &RoleName::Targets, bytes);
                self.taken(&key.name(), taken);
            }
        }
        Ok(Some(set))
    }

    /// A server gives out the files of roles that the catalog knows: of all that a client is told to
    /// fetch there has to be one.
    async fn served(&mut self, listing: &Listing) -> Result<(), Error> {
        for (key, _) in &listing.metadata {
            let BlobKey::Metadata { role, .. } = key else { continue };
            if self.catalog.find_last_file(role).await?.is_none() {
                self.problem(format!(
                    "{key} is published, and the catalog knows nothing of the role {role}: clients that ask for it get nothing"
                ));
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        listing: &Listing,
        wanted: &RoleName,
        take: impl FnOnce(&[u8]) -> Result<(), VerifyError>,
    ) -> bool {
        let is_wanted =
            |key: &BlobKey| matches!(key, BlobKey::Metadata { role, .. } if role == wanted);
        // One that is missing or damaged has been reported.
        let Some((key, bytes)) = listing.metadata.iter().find(|(key, _)| is_wanted(key)) else {
            return false;
        };
        let taken = take(bytes);
        self.taken(&key.name(), taken)
    }

    fn taken(&mut self, name: &str, taken: Result<(), VerifyError>) -> bool {
        if let Err(fault) = &taken {
            self.problem(format!("{name} would be refused by clients: {fault}"));
        }
        taken.is_ok()
    }

    /// Goes along the chain. What is missing of it has been said with the listing.
    fn roots(&mut self, listing: &Listing) -> Option<TrustedSet> {
        let roots = listing.metadata.iter().filter_map(|(key, bytes)| match key {
            BlobKey::Metadata { version, role: RoleName::Root } => Some((*version, bytes)),
            _ => None,
        });
        let Walk { newest, faults } = trust::walk(roots);
        for (version, fault) in faults {
            let key = BlobKey::Metadata { version, role: RoleName::Root };
            match fault {
                ChainFault::Missing => {}
                ChainFault::Other(found) => {
                    self.problem(format!("{key} says that it is version {found}"));
                }
                ChainFault::Refused(fault) => {
                    self.problem(format!("{key} would be refused by clients: {fault}"));
                }
            }
        }
        newest
    }

    /// The newest root that is there has to be the one that was recorded.
    async fn newest_root(
        &mut self,
        set: &TrustedSet,
        listing: &Listing,
        files: &Files,
    ) -> Result<(), Error> {
        let shown = set.root_version();
        let Some(recorded) = self.catalog.find_role(&RoleName::Root).await? else {
            self.problem("the catalog knows no root of the Image repository");
            return Ok(());
        };
        let newest = recorded.version;
        let key = BlobKey::Metadata { version: shown, role: RoleName::Root };
        let was_there = files.iter().any(|(_, found)| found.as_ref() == Some(&key)); // and not published meanwhile
        let bytes =
            listing.metadata.iter().find(|(found, _)| *found == key).map(|(_, bytes)| bytes);
        let is_other =
            bytes.is_some_and(|bytes| Sha256::digest(bytes)[..] != recorded.sha256.as_bytes()[..]);
        if shown > newest && was_there {
            self.problem(format!(
                "{key} is in the repository, and the catalog knows no later root than {newest}: clients may have taken it"
            ));
        } else if shown < newest {
            self.problem(format!("{newest}.root.json, the newest that was published, is missing"));
        } else if shown == newest && is_other {
            self.problem(format!("{key} is not the root that was published under this version"));
        }
        Ok(())
    }
}
