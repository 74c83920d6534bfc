//! Envelopes: each has to open under the escrow key, to fit its image's record, and to be what is
//! published of it.

use super::Check;
use crate::app::{Error, trust};
use crate::envelope::jwe::Envelope;
use crate::keys::EscrowRing;
use crate::model::ImageRecord;

impl Check {
    /// Looks at the envelopes of some images after `after`; returns after which to go on, if
    /// there are more.
    pub(super) async fn envelopes(&mut self, after: &str) -> Result<Option<String>, Error> {
        // Whether it is the right one, and why it can't be read, has been said with the other keys.
        let escrow = self.state.escrow().ok();
        let page = self.catalog.list_images(after, PAGE).await?;
        for image in &page.items {
            if let Some(fault) = self.fault_of(image, escrow.as_deref()).await? {
                self.problem(format!("envelope of {}: {fault}", image.path));
            }
        }
        Ok(page.next)
    }

    async fn fault_of(
        &self,
        image: &ImageRecord,
        escrow: Option<&EscrowRing>,
    ) -> Result<Option<String>, Error> {
        let Some(stored) = self.catalog.find_envelope(&image.path).await? else {
            return Ok(Some("there is none in the catalog".into()));
        };
        let envelope = match escrow {
            Some(escrow) => {
                match trust::check_envelope(&stored, escrow, &image.sealed.sha256).await {
                    Ok((_, algorithm)) if algorithm != image.sealed.algorithm => {
                        let recorded = image.sealed.algorithm;
                        return Ok(Some(format!(
                            "it has a key for {algorithm}, and the image is sealed with {recorded}"
                        )));
                    }
                    Ok((envelope, _)) => envelope,
                    Err(fault) => {
                        return Ok(Some(format!(
                            "{fault}: vehicles that registered after the upload can't get it"
                        )));
                    }
                }
            }
            None => match Envelope::parse(stored.as_bytes()) {
                Ok(envelope) => envelope,
                Err(fault) => return Ok(Some(format!("it can't be read: {fault}"))),
            },
        };
        let listed = self.catalog.find_target(&image.path.envelope_path()).await?;
        Ok(trust::fault_of(&envelope, image, listed.map(|entry| entry.sha256)))
    }
}

const PAGE: u32 = 100; // each may take milliseconds to open
