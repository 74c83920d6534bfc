//! What people see of images.

use super::Images;
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::trust::{read_envelope, read_published};
use crate::catalog::{Page, RoleState};
use crate::model::{ImagePath, ImageRecord, RoleName};
use crate::uptane::targets_diff;

impl Images {
    /// Shows an image to a caller, yanked ones included.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], also for what isn't in the folder that the caller is bound to.
    pub async fn show_to(&self, path: &ImagePath, by: &Principal) -> Result<ImageRecord, Error> {
        match by.sees(path) {
            true => self.show(path).await,
            false => Err(no_image(path)),
        }
    }

    /// Shows an image, yanked ones included.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn show(&self, path: &ImagePath) -> Result<ImageRecord, Error> {
        self.catalog.find_image(path).await?.ok_or_else(|| no_image(path))
    }

    /// Lists the images that a caller may see in the order of their paths, from the one after
    /// `after`.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn list(
        &self,
        after: &str,
        limit: u32,
        by: &Principal,
    ) -> Result<Page<ImageRecord>, Error> {
        let folder = by.path_prefix.as_deref().unwrap_or_default();
        Ok(self.catalog.list_folder(folder, after, limit).await?)
    }

    /// The role whose owner has to sign for an image before it is published.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn awaited_role(&self, path: &ImagePath) -> Result<Option<RoleName>, Error> {
        let listing = self.catalog.find_listing(path.as_str()).await?;
        let Some((state, _)) = listing else { return Ok(None) };
        let suppliers = self.catalog.list_suppliers().await?;
        let supplier = suppliers.iter().find(|supplier| supplier.role() == state.name);
        if supplier.is_some_and(|supplier| supplier.offline) {
            return Ok((!self.is_in_file(path, &state).await?).then_some(state.name));
        }
        if !self.publisher.policy().has_offline_targets() {
            return Ok(None); // this server signs all of it
        }
        // Targets that people sign may name somebody else yet, or somebody who was removed.
        let ids = self.show(path).await?.description.hardware_ids;
        let is_found =
            state.version > 0 && self.publisher.is_asked(&state.name, path, &ids).await?;
        Ok((!is_found).then_some(RoleName::Targets))
    }

    /// Whether the published file of a role lists a target.
    async fn is_in_file(&self, path: &ImagePath, state: &RoleState) -> Result<bool, Error> {
        if state.version == 0 {
            return Ok(false);
        }
        let Ok(file) = read_published(self.blobs.as_ref(), state).await? else {
            return Ok(false);
        };
        let listed = targets_diff::parse(&file).map_err(Error::internal("read a targets file"))?;
        Ok(listed.targets.contains_key(path.as_str()))
    }

    /// An image's envelope without the escrow entry: for everyone, or flattened for one recipient.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such image that the caller may see, or `kid` is not among
    /// its recipients; [`Error::Corrupt`] if it is another image's, or not the one that is published.
    pub async fn show_envelope(
        &self,
        path: &ImagePath,
        kid: Option<&str>,
        by: &Principal,
    ) -> Result<String, Error> {
        if !by.sees(path) {
            return Err(no_image(path));
        }
        let image = self.show(path).await?;
        let envelope = read_envelope(&self.catalog, &image).await?.map_err(|fault| {
            let detail = format!(
                "the envelope of {path} is not served: {fault}; restore it from a backup; `motorcade fsck` lists all such"
            );
            Error::Corrupt { detail }
        })?;
        let Some(kid) = kid else {
            return envelope.public_json().map_err(Error::internal("write an envelope"));
        };
        let flattened =
            kid.parse().ok().and_then(|kid| envelope.for_one(&kid)).map(|json| json.to_string());
        flattened.ok_or_else(|| Error::NotFound {
            code: "recipient_not_found",
            detail: format!("{path} is not sealed for the recipient {kid:.64}"),
        })
    }

    /// Finds an image that is published, for a copy of it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Conflict`] if it was yanked.
    pub(super) async fn check_not_yanked(&self, path: &ImagePath) -> Result<ImageRecord, Error> {
        let image = self.show(path).await?;
        if image.yanked_at.is_some() {
            let detail = format!("{path} was yanked: what is published nowhere needs no reseal");
            return Err(Error::Conflict { code: "image_yanked", detail });
        }
        Ok(image)
    }
}

pub(in crate::app) fn no_image(path: &ImagePath) -> Error {
    Error::NotFound { code: "image_not_found", detail: format!("there is no image {path}") }
}
