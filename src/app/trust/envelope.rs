//! An envelope in the catalog against its image and against what is published of it. It takes no key:
//! one that was put in the place of another is seen by whoever serves it.

use sha2::{Digest, Sha256};

use crate::app::Error;
use crate::catalog::Catalog;
use crate::envelope::jwe::Envelope;
use crate::model::{ImageRecord, Sha256Digest};

/// Reads an image's envelope, and says what is wrong with it.
///
/// # Errors
///
/// [`Error::Internal`] if the catalog can't be read.
pub(in crate::app) async fn read_envelope(
    catalog: &Catalog,
    image: &ImageRecord,
) -> Result<Result<Envelope, String>, Error> {
    let path = &image.path;
    loop {
        let listed = catalog.find_target(&path.envelope_path()).await?.map(|entry| entry.sha256);
        let Some(stored) = catalog.find_envelope(path).await? else {
            return Ok(Err("there is none in the catalog".into()));
        };
        let envelope = match Envelope::parse(stored.as_bytes()) {
            Ok(envelope) => envelope,
            Err(fault) => return Ok(Err(format!("it can't be read: {fault}"))),
        };
        let Some(fault) = fault_of(&envelope, image, listed) else { return Ok(Ok(envelope)) };
        // It may have been wrapped again between the two questions.
        let again = catalog.find_target(&path.envelope_path()).await?.map(|entry| entry.sha256);
        if again == listed {
            return Ok(Err(fault));
        }
    }
}

/// What is wrong with an envelope of an image, of which the one with that digest is listed.
pub(in crate::app) fn fault_of(
    envelope: &Envelope,
    image: &ImageRecord,
    listed: Option<Sha256Digest>,
) -> Option<String> {
    if let Err(fault) = envelope.check_image(&image.sealed.sha256) {
        return Some(fault.to_string());
    }
    let public = envelope.public_json();
    let public = public.map(|json| Sha256Digest::from_bytes(Sha256::digest(json).into()));
    match (public, listed) {
        (Ok(public), Some(listed)) if public == listed => None,
        (_, None) if image.yanked_at.is_some() => None, // it is listed no more
        (_, None) => Some("the metadata of the catalog does not list it".into()),
        _ => Some("what is published of it is another one than the catalog's".into()),
    }
}
