//! Delivery: what `/repo` serves, and the checks that keep a damaged file from being served.

mod gzip;
mod shared;

use std::time::Duration;

use bytes::Bytes;
pub(in crate::app) use gzip::CompressedFiles;
use sha2::{Digest, Sha256};
pub(in crate::app) use shared::SharedFiles;

use crate::app::Error;
use crate::app::images::Images;
pub use crate::blob::ReadVerb;
use crate::blob::{Blob, BlobKey};
use crate::envelope::jwe::Envelope;
use crate::model::{ENVELOPE_SUFFIX, RoleName, Sha256Digest, Timestamp};

/// A file of the repository, ready to be served.
pub struct Delivery {
    /// Which file.
    pub key: BlobKey,
    /// How its bytes are coded.
    pub coding: Coding,
    /// Their number, as coded.
    pub length: u64,
    /// When it was stored.
    pub modified: Timestamp,
    /// Its bytes, as coded.
    pub content: Content,
    /// Digest of the file, before it is coded.
    sha256: Sha256Digest,
}

/// How the bytes of a delivery are coded (RFC 9110, 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As they were stored.
    Identity,
    /// RFC 1952.
    Gzip,
}

impl Delivery {
    /// Whether there is another form of the file for clients that read gzip.
    pub fn is_compressible(&self) -> bool {
        self.coding == Coding::Gzip
            || (matches!(self.key, BlobKey::Metadata { .. }) && self.length >= MIN_SIZE)
    }

    /// The strong entity tag, in quotes (RFC 9110, 8.8.3). Each coding has its own.
    pub fn etag(&self) -> String {
        match self.coding {
            Coding::Identity => format!("\"{}\"", self.sha256),
            Coding::Gzip => format!("\"{}-gzip\"", self.sha256),
        }
    }
}

/// The bytes of a delivery.
pub enum Content {
    /// In memory, and checked against their digest.
    Bytes(Bytes),
    /// In the store, too large to be checked on the way.
    Blob(Blob),
}

impl Images {
    /// The file in gzip, if it is one that is worth it and there is time for it; otherwise as it
    /// is.
    pub async fn compress(&self, mut delivery: Delivery) -> Delivery {
        let Content::Bytes(plain) = &delivery.content else { return delivery };
        if delivery.coding == Coding::Gzip || !delivery.is_compressible() {
            return delivery;
        }
        if let Some(compressed) = self.compressed.get(delivery.sha256, plain, &self.runtime).await {
            delivery.coding = Coding::Gzip;
            delivery.length = compressed.len() as u64;
            delivery.content = Content::Bytes(compressed);
        }
        delivery
    }

    /// Opens the file that `name`, a path below `/repo/`, stands for; either name of a target in a
    /// folder.
    ///
    /// Small files are read and hashed before a byte is served. A large one is refused if its
    /// length is wrong;
    /// [`crate::app::fsck`] reads it whole.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], also for a name that can't be one; [`Error::Corrupt`];
    /// [`Error::Unavailable`] for a timestamp that has expired.
    pub async fn deliver(&self, name: &str) -> Result<Delivery, Error> {
        for key in BlobKey::candidates(name) {
            let opened = match &key {
                BlobKey::Timestamp => self.deliver_timestamp().await,
                BlobKey::Metadata { version, role } => {
                    self.deliver_metadata(&key, *version, role).await
                }
                BlobKey::Target { path, sha256 } => self.deliver_target(&key, path, *sha256).await,
            };
            match opened {
                Err(Error::NotFound { .. }) => {}
                other => return other,
            }
        }
        Err(no_file())
    }

    /// Which target `name` stands for, for whoever is sent to where its bytes are. A store that is
    /// elsewhere is not asked: what is listed is there.
    ///
    /// # Errors
    ///
    /// As [`Self::deliver`].
    pub async fn locate_target(&self, name: &str) -> Result<Option<BlobKey>, Error> {
        let candidates = BlobKey::candidates(name);
        if !matches!(candidates.first(), Some(BlobKey::Target { .. })) {
            return Ok(None);
        }
        if self.blobs.is_remote() {
            for key in candidates {
                let BlobKey::Target { path, sha256 } = &key else { continue };
                let listed = self.catalog.find_target(path).await?;
                if listed.is_some_and(|entry| entry.sha256 == *sha256) {
                    return Ok(Some(key));
                }
            }
        }
        self.deliver(name).await.map(|delivery| Some(delivery.key))
    }

    /// A URL under which a target can be read for a while.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]; [`Error::Internal`] if blobs have no such URLs.
    pub async fn presign(
        &self,
        key: &BlobKey,
        verb: ReadVerb,
        valid_for: Duration,
    ) -> Result<String, Error> {
        let presigned = self.blobs.presign(key, verb, valid_for).await?;
        presigned.ok_or_else(|| {
            Error::internal("sign a URL")(std::io::Error::other("blobs are in no object store"))
        })
    }

    async fn deliver_timestamp(&self) -> Result<Delivery, Error> {
        let current = self.publisher.current_timestamp().await?.ok_or_else(|| Error::NotFound {
            code: "not_published",
            detail: "nothing has been published yet".into(),
        })?;
        if current.expires_at <= self.clock.now() {
            return Err(expired(current.expires_at));
        }
        let content = Content::Bytes(current.bytes);
        Ok(delivery(BlobKey::Timestamp, current.sha256, current.published_at, content))
    }

    async fn deliver_metadata(
        &self,
        key: &BlobKey,
        version: u64,
        role: &RoleName,
    ) -> Result<Delivery, Error> {
        // Of a role that is not this repository's there is no file, whatever somebody has put
        // there. Of one that nobody delegates to any more there is: snapshots list it, and targets
        // that people sign may delegate to it until they have signed others.
        let last = self.catalog.find_last_file(role).await?;
        let Some(published) = last else { return Err(no_file()) };
        let blob = self.blobs.open(key).await?;
        let modified = blob.modified;
        // Only length and digest of what is published now are known; older files stand for
        // themselves by their signatures.
        let is_current = published.version == version;
        if is_current && published.length != blob.length {
            return Err(self.corrupt(key));
        }
        let bytes = read_whole(&blob).await?;
        let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
        if (is_current && published.sha256 != sha256) || !bytes.starts_with(SIGNED_METADATA) {
            return Err(self.corrupt(key));
        }
        let content = Content::Bytes(self.shared.share(sha256, bytes));
        Ok(delivery(key.clone(), sha256, modified, content))
    }

    async fn deliver_target(
        &self,
        key: &BlobKey,
        path: &str,
        sha256: Sha256Digest,
    ) -> Result<Delivery, Error> {
        let blob = self.blobs.open(key).await?;
        if blob.length <= MAX_CHECKED_SIZE {
            return self.deliver_checked(key, sha256, &blob).await;
        }
        let length =
            match self.catalog.find_target(path).await?.filter(|entry| entry.sha256 == sha256) {
                Some(entry) => Some(entry.length),
                None => match path.strip_suffix(ENVELOPE_SUFFIX) {
                    Some(image) => {
                        return self.deliver_yanked_envelope(key, image, sha256, blob).await;
                    }
                    None => self.yanked_length(path, sha256).await?,
                },
            };
        match length {
            None => return Err(no_file()),
            Some(length) if length != blob.length => return Err(self.corrupt(key)),
            Some(_) => {}
        }
        Ok(delivery(key.clone(), sha256, blob.modified, Content::Blob(blob)))
    }

    /// The length of an image that is not listed any more: vehicles may still be fetching it.
    async fn yanked_length(&self, path: &str, sha256: Sha256Digest) -> Result<Option<u64>, Error> {
        let Ok(path) = path.parse() else { return Ok(None) };
        let image =
            self.catalog.find_image(&path).await?.filter(|image| image.sealed.sha256 == sha256);
        Ok(image.map(|image| image.sealed.length))
    }

    /// The envelope of such an image. Nobody has kept its length, so it is read however large it is.
    async fn deliver_yanked_envelope(
        &self,
        key: &BlobKey,
        image: &str,
        sha256: Sha256Digest,
        blob: Blob,
    ) -> Result<Delivery, Error> {
        let Ok(image) = image.parse() else { return Err(no_file()) };
        if blob.length > MAX_ENVELOPE_SIZE || self.catalog.find_image(&image).await?.is_none() {
            return Err(no_file());
        }
        self.deliver_checked(key, sha256, &blob).await
    }

    /// Reads a file whole, and compares it with its digest.
    async fn deliver_checked(
        &self,
        key: &BlobKey,
        sha256: Sha256Digest,
        blob: &Blob,
    ) -> Result<Delivery, Error> {
        let bytes = read_whole(blob).await?;
        if Sha256Digest::from_bytes(Sha256::digest(&bytes).into()) != sha256 {
            return Err(self.corrupt(key));
        }
        let content = Content::Bytes(self.shared.share(sha256, bytes));
        Ok(delivery(key.clone(), sha256, blob.modified, content))
    }

    fn corrupt(&self, key: &BlobKey) -> Error {
        self.metrics.add_corrupt_blob();
        tracing::error!(blob = %key, "stored file is damaged and not served; run `motorcade fsck`");
        Error::Corrupt {
            detail: format!(
                "{key} is damaged on the server, which has recorded it; it is not served"
            ),
        }
    }
}

fn no_file() -> Error {
    Error::NotFound {
        code: "file_not_found",
        detail: "there is no such file in the repository".into(),
    }
}

/// What has expired looks like an attack to a vehicle; that there is nothing newer is the server's
/// fault, and said as that.
fn expired(at: Timestamp) -> Error {
    let detail = format!(
        "timestamp.json expired at {at}, and could not be signed again: it is served once it is"
    );
    Error::Unavailable { code: "metadata_expired", detail }
}

fn delivery(key: BlobKey, sha256: Sha256Digest, modified: Timestamp, content: Content) -> Delivery {
    let length = match &content {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::Blob(blob) => blob.length,
    };
    Delivery { key, coding: Coding::Identity, length, modified, content, sha256 }
}

/// Reads a blob that the server has made itself, or has looked at the length of.
async fn read_whole(blob: &Blob) -> Result<Bytes, Error> {
    let read = blob.read_all(blob.length).await;
    read.map_err(Error::reading("a small file"))
}

const SIGNED_METADATA: &[u8] = b"{\"signatures\":["; // as every file of ours begins
const MAX_CHECKED_SIZE: u64 = 1024 * 1024; // 1 MiB: hashed in half a millisecond
const MAX_ENVELOPE_SIZE: u64 = Envelope::MAX_SIZE as u64;

/// In bytes. Below, the headers of an answer are more than what can be saved.
const MIN_SIZE: u64 = 1024;
