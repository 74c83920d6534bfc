//! Yanks: an image leaves the published metadata.

use super::Images;
use super::precondition::Precondition;
use crate::app::Error;
use crate::app::access::Principal;
use crate::model::ImagePath;

impl Images {
    /// Takes an image out of the published metadata. Its sealed bytes stay for vehicles that are
    /// fetching them, and its path is never used again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none; [`Error::Unexpected`]; [`Error::Full`] or
    /// [`Error::Internal`] if the metadata could not be published yet; it will be.
    pub async fn yank(
        &self,
        path: &ImagePath,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<(), Error> {
        if *expected != Precondition::default() {
            expected.check(self.catalog.find_image(path).await?.as_ref())?;
        }
        if self.catalog.yank_image(path, &by.author(self.clock.now())).await? {
            self.count_published(-1);
            tracing::info!(image.path = %path, "image yanked");
        } else {
            self.show(path).await?; // yanked before, or never there
        }
        self.publisher.publish().await
    }
}
