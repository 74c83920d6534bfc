//! The Director: its root chain, and the metadata that is kept for each vehicle.

use super::Check;
use crate::app::trust::{self, ChainFault, Walk};
use crate::app::{Error, director};
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
        let roots = self.catalog.list_director_roots().await?;
        let Walk { newest, faults } =
            trust::walk(roots.into_iter().map(|root| (root.version, root.body)));
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
        Ok(newest)
    }
}

const PAGE: u32 = 500;
