//! What people see of images.

use super::Images;
use crate::app::Error;
use crate::catalog::Page;
use crate::envelope::jwe::Envelope;
use crate::model::{ImagePath, ImageRecord};

impl Images {
    /// Shows an image, yanked ones included.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn show(&self, path: &ImagePath) -> Result<ImageRecord, Error> {
        self.catalog.find_image(path).await?.ok_or_else(|| no_image(path))
    }

    /// Lists images in the order of their paths, from the one after `after`.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn list(&self, after: &str, limit: u32) -> Result<Page<ImageRecord>, Error> {
        Ok(self.catalog.list_images(after, limit).await?)
    }

    /// An image's envelope without the escrow entry: for everyone, or flattened for one recipient.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such image, or `kid` is not among its recipients.
    pub async fn show_envelope(
        &self,
        path: &ImagePath,
        kid: Option<&str>,
    ) -> Result<String, Error> {
        let stored = self.catalog.find_envelope(path).await?.ok_or_else(|| no_image(path))?;
        let envelope = Envelope::parse(stored.as_bytes())
            .map_err(Error::internal("read a stored envelope"))?;
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
}

pub(in crate::app) fn no_image(path: &ImagePath) -> Error {
    Error::NotFound { code: "image_not_found", detail: format!("there is no image {path}") }
}
