//! Jobs that are asked for by calls of their own: each is checked before it is made.

use serde::Serialize;
use serde_json::Value;

use super::{JobRecord, Jobs, collection, escrow, reseal, rotation};
use crate::app::Error;
use crate::app::images::collect::CollectMode;
use crate::app::images::rewrap::RewrapMode;
use crate::app::principal::Principal;
use crate::app::replicas::presence;
use crate::model::{ImagePath, JobKind};

impl Jobs {
    /// Has a public key, PEM or JWK, take the place of a recipient's: for uploads, and on every
    /// image that is there.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] for a key that can't be a recipient's, or an unknown `kid`;
    /// [`Error::Conflict`] for a key that is in use; [`Error::Full`]; [`Error::Internal`].
    pub async fn rotate_recipient(
        &self,
        kid: &str,
        public_key: &str,
        mode: RewrapMode,
        by: &Principal,
    ) -> Result<(JobRecord, bool), Error> {
        let (kid, key) = self.context.images.check_rotation(kid, public_key).await?;
        let parameters = rotation::Parameters { kid, successor: Some(key.to_jwk()), mode };
        self.create(JobKind::RecipientRotation, &written(&parameters)?, by).await
    }

    /// Has a recipient's key taken off every image; it never is a recipient again.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] for an unknown `kid`; [`Error::Full`]; [`Error::Internal`].
    pub async fn revoke_recipient(
        &self,
        kid: &str,
        mode: RewrapMode,
        by: &Principal,
    ) -> Result<(JobRecord, bool), Error> {
        let kid = self.context.images.check_known(kid).await?;
        let parameters = rotation::Parameters { kid, successor: None, mode };
        self.create(JobKind::RecipientRevocation, &written(&parameters)?, by).await
    }

    /// Has another escrow key wrap, and every envelope wrapped again; without a `source` a new key
    /// in a file, or the one of the rotation that has not ended.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] for a key that can't be an escrow key; [`Error::Conflict`] for one
    /// that is in use, while another rotation has not ended, and while other servers of the
    /// installation run; [`Error::Unavailable`] if it can't be used; [`Error::Full`]; [`Error::Internal`].
    pub async fn rotate_escrow(
        &self,
        source: Option<&str>,
        mode: RewrapMode,
        by: &Principal,
    ) -> Result<(JobRecord, bool), Error> {
        let escrows = &self.context.escrows;
        let kid = match mode {
            RewrapMode::DryRun => escrows.check(source).await?,
            RewrapMode::Record => {
                self.refuse_beside_others().await?;
                escrows.begin(source, &by.author(self.clock.now())).await?.old
            }
        };
        let parameters = escrow::Parameters { kid, mode };
        self.create(JobKind::EscrowRotation, &written(&parameters)?, by).await
    }

    /// The escrow keys of a replica are in its own files: another one would go on to seal for the
    /// key that is taken out.
    async fn refuse_beside_others(&self) -> Result<(), Error> {
        if !self.context.state.is_shared() {
            return Ok(());
        }
        let others = presence::others(&self.catalog, self.owner(), self.clock.now()).await?;
        if others.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "other servers of this installation would go on with the former escrow key ({}): stop them, have the key \
             replaced, and give them this server's keys/ before they are started again",
            others.join(", ")
        );
        Err(Error::Conflict { code: "other_replicas", detail })
    }

    /// Has an image sealed again under a new data key, at `to` or beside it; the one that is there
    /// is yanked, and its assignments move.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Conflict`] if the image was yanked, `to` is taken, or another job
    /// seals the image again elsewhere;
    /// [`Error::Unprocessable`] from a supplier's folder to outside of it or the other way round, or if
    /// there is no path to be found;
    /// [`Error::Full`]; [`Error::Internal`].
    pub async fn reseal(
        &self,
        path: &ImagePath,
        to: Option<ImagePath>,
        by: &Principal,
    ) -> Result<(JobRecord, bool), Error> {
        let to = self.context.images.plan_reseal(path, to).await?;
        let parameters = reseal::Parameters { path: path.clone(), to };
        self.create_beside(JobKind::ImageReseal, &written(&parameters)?, Some("path"), by).await
    }

    /// Has the files of images removed that were yanked `days` ago, or more.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]; [`Error::Internal`].
    pub async fn collect_images(
        &self,
        days: u32,
        mode: CollectMode,
        by: &Principal,
    ) -> Result<(JobRecord, bool), Error> {
        let grace_seconds = u64::from(days) * 24 * 60 * 60;
        let parameters = collection::Parameters { grace_seconds, mode };
        self.create(JobKind::ImageCollection, &written(&parameters)?, by).await
    }
}

fn written(parameters: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(parameters).map_err(Error::internal("write the parameters of a job"))
}
