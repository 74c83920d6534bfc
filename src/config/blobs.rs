//! Settings of where blobs are.

use std::fmt;

use clap::{Args, ValueEnum};

use super::Error;
use crate::model::{Addressing, BaseUrl, Bucket, BucketUrl, StoreEncryption};

/// Where blobs are, if they are in no folder of the state directory.
#[derive(Debug, Clone, Default, Args)]
pub struct BlobSettings {
    /// Bucket of an S3-compatible object store that blobs are in, such as s3://motorcade/repo; region
    /// and credentials are taken from AWS_REGION, AWS_ACCESS_KEY_ID and so on (docs/S3.md) [default:
    /// a folder of the state directory]
    #[arg(long, env = "MOTORCADE_BLOBS", value_name = "URL")]
    pub(super) blobs: Option<BucketUrl>,

    /// Where the object store answers this server [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or
    /// AWS itself]
    #[arg(long, env = "MOTORCADE_BLOBS_ENDPOINT", value_name = "URL")]
    pub(super) blobs_endpoint: Option<BaseUrl>,

    /// Where the object store answers those who are sent to it [default: where it answers this
    /// server]
    #[arg(long, env = "MOTORCADE_BLOBS_PUBLIC_ENDPOINT", value_name = "URL")]
    pub(super) blobs_public_endpoint: Option<BaseUrl>,

    /// Where a request names the bucket [default: virtual-host at AWS, path elsewhere]
    #[arg(long, env = "MOTORCADE_BLOBS_ADDRESSING", value_name = "STYLE")]
    pub(super) blobs_addressing: Option<AddressingStyle>,

    /// How the object store is told to encrypt what it keeps, such as AES256 or aws:kms [default: as
    /// the bucket says]
    #[arg(long, env = "MOTORCADE_BLOBS_ENCRYPTION", value_name = "ALGORITHM")]
    pub(super) blobs_encryption: Option<String>,

    /// Which key of its KMS it uses for that
    #[arg(long, env = "MOTORCADE_BLOBS_KMS_KEY", value_name = "KEY")]
    pub(super) blobs_kms_key: Option<String>,
}

/// Where a request names its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AddressingStyle {
    /// In the path.
    Path,
    /// In the host's name.
    VirtualHost,
}

impl BlobSettings {
    /// Fills in from a file what is set nowhere else.
    #[must_use]
    pub(super) fn or(self, file: Self) -> Self {
        Self {
            blobs: self.blobs.or(file.blobs),
            blobs_endpoint: self.blobs_endpoint.or(file.blobs_endpoint),
            blobs_public_endpoint: self.blobs_public_endpoint.or(file.blobs_public_endpoint),
            blobs_addressing: self.blobs_addressing.or(file.blobs_addressing),
            blobs_encryption: self.blobs_encryption.or(file.blobs_encryption),
            blobs_kms_key: self.blobs_kms_key.or(file.blobs_kms_key),
        }
    }

    /// The bucket, if blobs are in one.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if something is set about a bucket that none is, or a key without
    /// encryption.
    pub fn bucket(&self) -> Result<Option<Bucket>, Error> {
        let Some(url) = self.blobs.clone() else {
            return if self.says_nothing() { Ok(None) } else { Err(Error::Unusable(NO_BUCKET)) };
        };
        if self.blobs_kms_key.is_some() && self.blobs_encryption.is_none() {
            return Err(Error::Unusable(NO_ENCRYPTION));
        }
        let encryption = self
            .blobs_encryption
            .clone()
            .map(|algorithm| StoreEncryption { algorithm, kms_key: self.blobs_kms_key.clone() });
        let addressing = self.blobs_addressing.map(|style| match style {
            AddressingStyle::Path => Addressing::Path,
            AddressingStyle::VirtualHost => Addressing::VirtualHost,
        });
        Ok(Some(Bucket {
            url,
            endpoint: self.blobs_endpoint.clone(),
            public_endpoint: self.blobs_public_endpoint.clone(),
            addressing,
            encryption,
        }))
    }

    /// The variables that say the same to another process.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |value: Option<&dyn fmt::Display>| value.map(ToString::to_string);
        let style = self.blobs_addressing.and_then(|style| style.to_possible_value());
        let all = [
            ("MOTORCADE_BLOBS", text(self.blobs.as_ref().map(|url| url as _))),
            ("MOTORCADE_BLOBS_ENDPOINT", text(self.blobs_endpoint.as_ref().map(|url| url as _))),
            (
                "MOTORCADE_BLOBS_PUBLIC_ENDPOINT",
                text(self.blobs_public_endpoint.as_ref().map(|url| url as _)),
            ),
            ("MOTORCADE_BLOBS_ADDRESSING", style.map(|style| style.get_name().to_owned())),
            ("MOTORCADE_BLOBS_ENCRYPTION", self.blobs_encryption.clone()),
            ("MOTORCADE_BLOBS_KMS_KEY", self.blobs_kms_key.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn says_nothing(&self) -> bool {
        self.blobs_endpoint.is_none()
            && self.blobs_public_endpoint.is_none()
            && self.blobs_addressing.is_none()
            && self.blobs_encryption.is_none()
            && self.blobs_kms_key.is_none()
    }
}

const NO_BUCKET: &str = "something is set about the bucket for blobs, and no bucket: set `--blobs s3://BUCKET`, or leave out what begins \
     with `--blobs-` (and MOTORCADE_BLOBS_…)";
const NO_ENCRYPTION: &str =
    "blobs-kms-key is for blobs-encryption: set that too, such as to aws:kms";

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parse(words: &[&str]) -> Result<Option<Bucket>, String> {
        let command = BlobSettings::augment_args(Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        let settings = BlobSettings::from_arg_matches(&matches).unwrap();
        settings.bucket().map_err(|error| error.to_string())
    }

    #[test]
    fn variables_say_the_same_as_flags() {
        let words = ["--blobs=s3://cars/ota", "--blobs-addressing=virtual-host"];
        let command = BlobSettings::augment_args(Command::new("demo").no_binary_name(true));
        let matches = command.try_get_matches_from(words).unwrap();
        let settings = BlobSettings::from_arg_matches(&matches).unwrap();
        let variables = settings.variables();
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let expected =
            [("MOTORCADE_BLOBS", "s3://cars/ota/"), ("MOTORCADE_BLOBS_ADDRESSING", "virtual-host")];
        assert_eq!(variables, expected);
    }

    #[test]
    fn a_bucket_has_what_is_set_about_it_and_nothing_is_set_about_none() {
        assert_eq!(parse(&[]), Ok(None));
        let words = [
            "--blobs=s3://cars/ota",
            "--blobs-endpoint=http://127.0.0.1:9000",
            "--blobs-addressing=virtual-host",
            "--blobs-encryption=aws:kms",
            "--blobs-kms-key=k1",
        ];
        let bucket = parse(&words).unwrap().unwrap();
        assert_eq!(bucket.url.to_string(), "s3://cars/ota/");
        assert_eq!(bucket.endpoint.unwrap().as_str(), "http://127.0.0.1:9000");
        assert_eq!(bucket.addressing, Some(Addressing::VirtualHost));
        assert_eq!(bucket.encryption.unwrap().kms_key.as_deref(), Some("k1"));
        assert_eq!(parse(&["--blobs-addressing=path"]), Err(NO_BUCKET.to_owned()));
        let key = parse(&["--blobs=s3://cars", "--blobs-kms-key=k1"]);
        assert_eq!(key, Err(NO_ENCRYPTION.to_owned()));
        assert!(parse(&["--blobs=cars"]).unwrap_err().contains("s3://BUCKET"));
    }
}
