//! Settings of where blobs are moved to.

use clap::Args;

use super::{AddressingStyle, BlobSettings, Error};
use crate::model::{BaseUrl, Bucket, BucketUrl};

/// Where blobs are moved to, as [`BlobSettings`] says where they are.
#[derive(Debug, Clone, Default, Args)]
pub struct BlobTarget {
    /// Empty bucket of an S3-compatible object store, or prefix in it, to move the blobs to, such as
    /// s3://motorcade/repo; region and credentials are taken from AWS_REGION, AWS_ACCESS_KEY_ID and so
    /// on (docs/S3.md)
    #[arg(long, env = "MOTORCADE_TO_BLOBS", value_name = "URL")]
    to_blobs: Option<BucketUrl>,

    /// Where the object store answers [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or AWS itself]
    #[arg(long, env = "MOTORCADE_TO_BLOBS_ENDPOINT", value_name = "URL")]
    to_blobs_endpoint: Option<BaseUrl>,

    /// Where a request names the bucket [default: virtual-host at AWS, path elsewhere]
    #[arg(long, env = "MOTORCADE_TO_BLOBS_ADDRESSING", value_name = "STYLE")]
    to_blobs_addressing: Option<AddressingStyle>,

    /// How the object store is told to encrypt what it keeps, such as AES256 or aws:kms [default: as
    /// the bucket says]
    #[arg(long, env = "MOTORCADE_TO_BLOBS_ENCRYPTION", value_name = "ALGORITHM")]
    to_blobs_encryption: Option<String>,

    /// Which key of its KMS it uses for that
    #[arg(long, env = "MOTORCADE_TO_BLOBS_KMS_KEY", value_name = "KEY")]
    to_blobs_kms_key: Option<String>,
}

impl BlobTarget {
    /// The bucket, if the blobs move.
    ///
    /// # Errors
    ///
    /// As [`BlobSettings::bucket`].
    pub fn bucket(&self) -> Result<Option<Bucket>, Error> {
        let settings = BlobSettings {
            blobs: self.to_blobs.clone(),
            blobs_endpoint: self.to_blobs_endpoint.clone(),
            blobs_public_endpoint: None,
            blobs_addressing: self.to_blobs_addressing,
            blobs_encryption: self.to_blobs_encryption.clone(),
            blobs_kms_key: self.to_blobs_kms_key.clone(),
        };
        settings.bucket()
    }
}
