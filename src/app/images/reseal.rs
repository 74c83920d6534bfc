//! Reseal: an image is opened and sealed again under a new data key, in one stream, as an image at
//! another path. Nobody opens it with what was known before (docs/FORMAT.md, 6.7).

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Images;
use super::ingest::{Accepted, EmptyImage, Original, UploadRequest};
use super::precondition::Precondition;
use super::show::no_image;
use crate::app::Error;
use crate::app::keys::escrow_failed;
use crate::app::principal::Principal;
use crate::blob::BlobKey;
use crate::envelope::jwe::Envelope;
use crate::envelope::key::{DataKey, Kid};
use crate::envelope::stream::SegmentReader;
use crate::keys::escrow;
use crate::model::{ImagePath, ImageRecord, ParseImagePathError, SealAlgorithm, SupplierRecord};

impl Images {
    /// Chooses where an image is sealed again: at `wanted`, or at the first path of its own folder
    /// that is free.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Conflict`] if the image was yanked, or the path is taken by
    /// another image; [`Error::Unprocessable`] if there is no such path, or it leads into a supplier's
    /// folder or out of one.
    pub(in crate::app) async fn plan_reseal(
        &self,
        path: &ImagePath,
        wanted: Option<ImagePath>,
    ) -> Result<ImagePath, Error> {
        let image = self.check_not_yanked(path).await?;
        let to = match wanted {
            Some(wanted) => {
                self.check_free(&image, &wanted).await?;
                wanted
            }
            None => self.free_path(path).await?,
        };
        self.check_same_folder(&image, &to).await?;
        Ok(to)
    }

    /// Refuses a path that is taken; but for a copy of the image which had to wait until the supplier
    /// in whose folder both are had signed for it, so that the rest can be done now.
    async fn check_free(&self, image: &ImageRecord, wanted: &ImagePath) -> Result<(), Error> {
        let Some(found) = self.catalog.find_image(wanted).await? else { return Ok(()) };
        let supplier = self.find_supplier_of(&image.path, &image.description.hardware_ids).await?;
        let is_there = supplier
            .is_some_and(|supplier| supplier.offline && supplier.folder.has(wanted.as_str()));
        let is_copy = found.path != image.path
            && found.yanked_at.is_none()
            && found.description == image.description
            && found.sealed.plaintext_sha256 == image.sealed.plaintext_sha256;
        if is_there && is_copy {
            return Ok(());
        }
        let detail = format!("{wanted} is taken, and a path is used once: name another");
        Err(Error::Conflict { code: "image_exists", detail })
    }

    async fn free_path(&self, path: &ImagePath) -> Result<ImagePath, Error> {
        for number in 1..MOST_RESEALS {
            let candidate = numbered(path, number)?;
            if self.catalog.find_image(&candidate).await?.is_none() {
                return Ok(candidate);
            }
        }
        let detail = format!("{path} was sealed again {MOST_RESEALS} times: name another path");
        Err(Error::Unprocessable { code: "bad_path", detail })
    }

    /// Opens the image at `from` and seals it again at `to`, for those of its recipients that are
    /// still registered; where none is, for all of its hardware ids. A second time changes nothing.
    /// Once `wanted` is cancelled, nothing is taken in any more, and [`Self::find_copy`] finds what was.
    ///
    /// # Errors
    ///
    /// As of an upload; [`Error::Conflict`] if the image was yanked, also while it was read;
    /// [`Error::Corrupt`] if it does not open, or is not what was uploaded.
    pub(in crate::app) async fn reseal(
        self: &Arc<Self>,
        from: &ImagePath,
        to: &ImagePath,
        by: &Principal,
        wanted: CancellationToken,
    ) -> Result<ImageRecord, Error> {
        let image = self.check_not_yanked(from).await?;
        self.check_same_folder(&image, to).await?; // delegations may have changed
        let stored = self.catalog.find_envelope(from).await?.ok_or_else(|| no_image(from))?;
        let envelope = Envelope::parse(stored.as_bytes()).map_err(Error::internal(READ))?;
        self.escrow.check_current().await?;
        let opened = escrow::open(&self.escrow.keys(), &envelope, &image.sealed.sha256).await;
        let (data_key, algorithm) = opened.map_err(escrow_failed("open an envelope"))?;
        let request = UploadRequest {
            path: to.clone(),
            description: image.description.clone(),
            algorithm,
            recipients: self.still_registered(&image, &envelope).await?,
            expected_sha256: Some(image.sealed.plaintext_sha256),
            empty: EmptyImage::Allowed,
            precondition: Precondition::default(),
            content_length: Some(image.sealed.plaintext_length),
            copy_of: Some(Original { path: from.clone(), wanted }),
            by: by.clone(),
        };
        let plan = self.plan_upload(&request).await?;
        let plaintext = Box::pin(self.plaintext(&image, data_key, algorithm).await?);
        let accepted =
            self.upload(request, plan, plaintext).await.map_err(|error| match error {
                Error::ClientGone | Error::Unprocessable { code: "digest_mismatch", .. } => {
                    Error::Corrupt { detail: format!("{from} does not open: see `motorcade fsck`") }
                }
                other => other,
            })?;
        match accepted {
            Accepted::Created(image) | Accepted::AlreadyStored(image) => Ok(image),
        }
    }

    /// Refuses what would bring an image under a supplier's keys that is not the supplier's, or would
    /// take a supplier's image out of its delegation. A copy of a supplier's own image says nothing in
    /// its name that it has not said.
    async fn check_same_folder(&self, image: &ImageRecord, to: &ImagePath) -> Result<(), Error> {
        let (path, ids) = (&image.path, &image.description.hardware_ids);
        let from = self.find_supplier_of(path, ids).await?;
        let into = self.find_supplier_of(to, ids).await?;
        let detail = match (from, into) {
            (None, None) => return Ok(()),
            (Some(from), Some(into)) if from.name == into.name => return Ok(()),
            (Some(SupplierRecord { name, folder, .. }), _) => format!(
                "{path} is in {folder}, the folder of the supplier {name}, and what lies there is signed with its keys alone: name \
                 a path in it"
            ),
            (None, Some(SupplierRecord { name, folder, .. })) => format!(
                "{to} is in {folder}, the folder of the supplier {name}, who alone uploads there: name a path outside of it"
            ),
        };
        Err(Error::Unprocessable { code: "supplier_folder", detail })
    }

    /// What was sealed again at `to`, by whoever, yanked or not. What is still being taken in is waited
    /// for, so that it is found as well.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub(in crate::app) async fn find_copy(
        &self,
        image: &ImageRecord,
        to: &ImagePath,
    ) -> Result<Option<ImageRecord>, Error> {
        drop(self.sealing.write().await);
        let is_copy =
            |other: &ImageRecord| other.sealed.plaintext_sha256 == image.sealed.plaintext_sha256;
        Ok(self.catalog.find_image(to).await?.filter(is_copy))
    }

    async fn still_registered(
        &self,
        image: &ImageRecord,
        envelope: &Envelope,
    ) -> Result<Option<Vec<String>>, Error> {
        let ids = &image.description.hardware_ids;
        let registered = self.catalog.list_recipients().await?;
        let is_registered = |kid: &Kid| {
            registered.iter().any(|one| one.kid == kid.as_str() && ids.contains(&one.hardware_id))
        };
        let kids: Vec<String> =
            envelope.recipients().filter(is_registered).map(String::from).collect();
        Ok((!kids.is_empty()).then_some(kids))
    }

    /// The bytes of an image, opened on a thread of their own, a segment ahead of whoever reads.
    async fn plaintext(
        &self,
        image: &ImageRecord,
        data_key: DataKey,
        algorithm: SealAlgorithm,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + use<>, Error> {
        let key = BlobKey::target(image.path.as_str(), image.sealed.sha256);
        let blob = self.blobs.open(&key).await?;
        let sealed = blob.reader();
        let (pieces, opened) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("open".to_owned())
            .spawn(move || {
                if let Err(error) = open(sealed, &data_key, algorithm, &pieces) {
                    let _ = pieces.blocking_send(Err(error)); // nobody reads on
                }
            })
            .map_err(Error::internal("start a thread"))?;
        Ok(stream::unfold(opened, |mut opened| async move { Some((opened.recv().await?, opened)) }))
    }
}

fn open(
    sealed: impl io::Read,
    data_key: &DataKey,
    algorithm: SealAlgorithm,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut reader = SegmentReader::new(sealed, data_key, algorithm).map_err(io::Error::other)?;
    let new_piece = || Vec::with_capacity(PIECE_SIZE + algorithm.segment_size());
    let (mut piece, mut segment) = (new_piece(), Vec::with_capacity(algorithm.segment_size()));
    loop {
        let is_over = reader.next_segment(&mut segment).map_err(io::Error::other)?.is_none();
        if piece.is_empty() {
            std::mem::swap(&mut piece, &mut segment); // large segments are not copied
        } else {
            piece.append(&mut segment);
        }
        if is_over || piece.len() >= PIECE_SIZE {
            let full = std::mem::replace(&mut piece, new_piece());
            if !full.is_empty() && pieces.blocking_send(Ok(full.into())).is_err() {
                return Ok(()); // nobody reads on
            }
        }
        if is_over {
            return Ok(());
        }
    }
}

/// A path in the image's own folder, so that whoever is bound to that still has it.
fn numbered(path: &ImagePath, number: u32) -> Result<ImagePath, Error> {
    let text = path.as_str();
    let (folder, file) = text.rsplit_once('/').map_or(("", text), |(folder, file)| (folder, file));
    let folder = match folder.rsplit_once('/') {
        Some((above, last)) if is_numbered(last) => above,
        None if is_numbered(folder) => "",
        _ => folder,
    };
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{slash}{RESEALED}{number}/{file}").parse().map_err(
        |rule: ParseImagePathError| Error::Unprocessable {
            code: "bad_path",
            detail: format!("the path gets too long, name another: {rule}"),
        },
    )
}

fn is_numbered(folder: &str) -> bool {
    folder.strip_prefix(RESEALED).is_some_and(|number| number.parse::<u32>().is_ok())
}

const READ: &str = "read a stored envelope";
const RESEALED: &str = "resealed-";
const MOST_RESEALS: u32 = 1000;
/// Of small segments, some are handed on together.
const PIECE_SIZE: usize = 256 * 1024; // 256 KiB

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resealed_image_is_in_a_folder_beside_the_first_one() {
        for (path, number, expected) in [
            ("gw/4.2.0/gateway.bin", 1, "gw/4.2.0/resealed-1/gateway.bin"),
            ("gw/4.2.0/resealed-1/gateway.bin", 2, "gw/4.2.0/resealed-2/gateway.bin"),
            ("gateway.bin", 1, "resealed-1/gateway.bin"),
            ("resealed-1/gateway.bin", 3, "resealed-3/gateway.bin"),
            ("resealed-x/gateway.bin", 1, "resealed-x/resealed-1/gateway.bin"),
        ] {
            assert_eq!(numbered(&path.parse().unwrap(), number).unwrap().as_str(), expected);
        }
    }
}
