//! What an image may add to signed metadata. Its name, version, hardware ids, constraints and path
//! are signed, for ever and for every client; so they are bounded together, and refused before a
//! byte of the image is sealed.

use super::UploadRequest;
use super::lister::Lister;
use crate::app::Error;
use crate::app::images::Images;
use crate::catalog::{FolderBound, ListingBound};
use crate::model::{MAX_BIN_BYTES, SealedImage, Sha256Digest, TargetEntry};
use crate::uptane::custom::ImageCustom;

impl Images {
    /// Checks that an image's entries are not too long, and that the bins that will list them have
    /// room.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] if they are too long, [`Error::Conflict`] if there is no room.
    pub(super) async fn check_listing(
        &self,
        request: &UploadRequest,
        lister: &Lister,
    ) -> Result<(), Error> {
        let entries = longest_entries(request);
        let bytes: u64 = entries.iter().map(TargetEntry::listed_bytes).sum();
        if bytes > MAX_ENTRIES {
            let detail = format!(
                "what is said of this image would take {bytes} bytes of signed metadata, and {MAX_ENTRIES} are the most: \
                 use a shorter path or fewer and shorter hardware_id, requires and conflicts"
            );
            return Err(Error::Unprocessable { code: "description_too_long", detail });
        }
        let room = entries.map(|entry| (self.role_of(lister, &entry.path), entry.listed_bytes()));
        Ok(self.catalog.check_room(&room, &bound(request, lister)).await?)
    }

    /// Tells the operator how full the fullest bin is. Their number is decided by `init`, so that
    /// there has to be time.
    pub(in crate::app) async fn watch_bins(&self) {
        let Ok(fullest) = self.catalog.largest_listing().await else { return }; // whoever needs the catalog reports it
        self.metrics.set_largest_bin(fullest, MAX_BIN_BYTES);
        if fullest > MAX_BIN_BYTES / 2 {
            tracing::warn!(
                size_bytes = fullest,
                limit = MAX_BIN_BYTES,
                "a hash bin is more than half full, and uploads that it would list are refused once it is: yank images \
                 that nobody needs (docs/OPERATIONS.md)"
            );
        }
    }
}

/// How much the roles may list after an upload. A supplier's role is its own: nobody has to be left
/// room in it.
pub(super) fn bound(request: &UploadRequest, lister: &Lister) -> ListingBound {
    let prefix = request.by.path_prefix.clone().filter(|_| *lister == Lister::Bins);
    let folder = prefix.map(|prefix| FolderBound { prefix, bytes: MAX_FOLDER_SHARE });
    ListingBound { role_bytes: MAX_BIN_BYTES, folder }
}

/// The image's entry and its envelope's, with the longest lengths.
fn longest_entries(request: &UploadRequest) -> [TargetEntry; 2] {
    let sha256 = Sha256Digest::from_bytes([0; 32]);
    let sealed = SealedImage {
        algorithm: request.algorithm,
        length: u64::MAX,
        sha256,
        plaintext_length: u64::MAX,
        plaintext_sha256: sha256,
    };
    let custom = ImageCustom::new(&request.description, &sealed).to_json();
    let entry = |path, custom| TargetEntry { path, length: u64::MAX, sha256, custom };
    [entry(request.path.to_string(), Some(custom)), entry(request.path.envelope_path(), None)]
}

/// Most bytes of an image's two entries: 32 constraints of 40 characters fit beside a usual path.
const MAX_ENTRIES: u64 = 4 * 1024; // 4 KiB

/// Most bytes in one bin of what lies in a folder, for those who may upload there alone: a
/// supplier, or who has its token, can't keep everybody else from uploading.
const MAX_FOLDER_SHARE: u64 = MAX_BIN_BYTES / 4;
