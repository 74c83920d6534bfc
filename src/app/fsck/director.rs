//! The Director: its root chain, and the metadata that is kept for each vehicle: good under the newest
//! root, or under one before it, until the vehicle asks again.

use super::Check;
use crate::app::trust::{self, ChainFault, Walk};
use crate::app::{Error, director};
use crate::catalog::{DirectorRoot, VehicleFilter};
use crate::uptane::verify::TrustedSet;

impl Check {
    /// Returns the newest root, if it can be trusted.
    pub(super) async fn director(&mut self) -> Result<Option<TrustedSet>, Error> {
        let roots = self.catalog.list_director_roots().await?;
        let Some(root) = self.director_roots(&roots) else { return Ok(None) };
        let mut former: Option<Vec<TrustedSet>> = None;
        let mut after = String::new();
        loop {
            let page = self.catalog.list_vehicles(&after, PAGE, VehicleFilter::default()).await?;
            for vehicle in &page.items {
                let Some(bundle) = &vehicle.status.bundle else { continue };
                let taken_under =
                    |root: &TrustedSet| director::verify_bundle(root, vehicle, bundle).is_ok();
                if let Err(fault) = director::verify_bundle(&root, vehicle, bundle) {
                    let former = former.get_or_insert_with(|| {
                        let newest_first = roots.iter().rev();
                        newest_first.filter_map(|one| trust::trusted_root(&one.body).ok()).collect()
                    });
                    if former.iter().any(taken_under) {
                        continue; // it has not polled since keys were rotated
                    }
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

    fn director_roots(&mut self, roots: &[DirectorRoot]) -> Option<TrustedSet> {
        let Walk { newest, faults } =
            trust::walk(roots.iter().map(|root| (root.version, &root.body)));
        for (version, fault) in faults {
            self.problem(match fault {
                ChainFault::Missing => format!(
                    "root {version} of the Director is missing: vehicles that trust an older one stop there"
                ),
                ChainFault::Other(found) => {
                    format!("root {version} of the Director says that it is version {found}")
                }
                ChainFault::Refused(fault) => {
                    format!("root {version} of the Director would be refused by vehicles: {fault}")
                }
            });
        }
        newest
    }
}

const PAGE: u32 = 500;
