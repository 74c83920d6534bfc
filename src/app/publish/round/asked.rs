//! Whether clients find what a role lists: what the catalog wants listed, and what the published
//! targets have clients ask for, differ for as long as people have not signed the next targets.

use std::slice;

use super::Rounds;
use crate::app::Error;
use crate::model::{HardwareId, ImagePath, RoleName};

impl Rounds {
    /// Whether every client asks a role for an image, as the published targets say: those that
    /// search for one of its hardware ids, and those that know of none.
    pub(in crate::app::publish) async fn is_asked(
        &self,
        role: &RoleName,
        path: &ImagePath,
        hardware_ids: &[HardwareId],
    ) -> Result<bool, Error> {
        let set = self.verifier.current(&self.catalog.list_roles().await?).await?;
        let is_asked = |ids: &[HardwareId]| set.asked(path.as_str(), ids).contains(role);
        Ok(is_asked(&[]) && hardware_ids.iter().map(slice::from_ref).all(is_asked))
    }
}
