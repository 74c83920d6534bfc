//! The Director: its root chain, and the metadata that is kept for each vehicle.

use super::Check;
use crate::app::{Error, director, trust};
use crate::catalog::VehicleFilter;
use crate::uptane::verify::TrustedSet;

impl Check {
    /// Returns the newest root, if it can be trusted.
    pub(super) async fn director(&mut self) -> Result<Option<TrustedSet>, Error> {
        let Some(root) = self.director_roots().await? else { return Ok(None) };
        let mut after = String::new();
        loop {
            let page = self.catalog.list_vehicles(&after, PAGE, VehicleFilter::default()).await?;
            for vehicle in &page.items {
                let Some(bundle) = &vehicle.status.bundle else { continue };
                if let Err(fault) = director::verify_bundle(&root, vehicle, bundle) {
                    let vin = &vehicle.vin;
                    self.problem(format!(
                        "vehicle {vin}: its metadata in the catalog would be refused: {fault}; it is signed again when it asks"
                    ));
                }
            }
            let Some(next) = page.next else { return Ok(Some(root)) };
            after = next;
        }
    }

    async fn director_roots(&mut self) -> Result<Option<TrustedSet>, Error> {
        let mut trusted: Option<TrustedSet> = None;
        let mut expected = 1;
        for root in self.catalog.list_director_roots().await? {
            for missing in expected..root.version {
                self.problem(format!(
                    "root {missing} of the Director is missing: vehicles that trust an older one stop there"
                ));
            }
            let taken = match trusted.take() {
                Some(mut set) if root.version == expected => {
                    set.update_root(&root.body).map(|()| set)
                }
                _ => trust::trusted_root(&root.body),
            };
            let version = root.version;
            match taken {
                Ok(set) if set.root_version() == version => trusted = Some(set),
                Ok(set) => {
                    let found = set.root_version();
                    self.problem(format!(
                        "root {version} of the Director says that it is version {found}"
                    ));
                }
                Err(fault) => {
                    self.problem(format!(
                        "root {version} of the Director would be refused by vehicles: {fault}"
                    ));
                    trusted = trust::trusted_root(&root.body).ok(); // what follows is judged by itself
                }
            }
            expected = version + 1;
        }
        Ok(trusted)
    }
}

const PAGE: u32 = 500;
