//! Where blobs in an S3-compatible object store are.

use std::fmt;
use std::str::FromStr;

use super::BaseUrl;

/// A bucket, and what else is set about it. Region, credentials and the endpoint, if none is given
/// here, come from where AWS's own programs take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Which one, and the prefix of all names in it.
    pub url: BucketUrl,
    /// Where the store answers this server.
    pub endpoint: Option<BaseUrl>,
    /// Where it answers those who are sent to it, if that is elsewhere.
    pub public_endpoint: Option<BaseUrl>,
    /// Where a request names the bucket; none to have it follow from the endpoint.
    pub addressing: Option<Addressing>,
    /// How the store encrypts what it keeps, if it is told to.
    pub encryption: Option<StoreEncryption>,
}

/// Where a request names its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// `https://ENDPOINT/BUCKET/KEY`
    Path,
    /// `https://BUCKET.ENDPOINT/KEY`
    VirtualHost,
}

/// How a store encrypts what it keeps (`x-amz-server-side-encryption`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreEncryption {
    /// Such as `AES256` or `aws:kms`.
    pub algorithm: String,
    /// Which key of its KMS it uses.
    pub kms_key: Option<String>,
}

/// `s3://BUCKET/PREFIX`: a bucket, and the prefix of all names in it, which ends with a slash if
/// there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    /// Name of the bucket.
    pub bucket: String,
    /// What the names in it begin with.
    pub prefix: String,
}

/// Why a text names no bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseBucketUrlError {
    /// It is something else.
    #[error("blobs are in a bucket like s3://BUCKET or s3://BUCKET/PREFIX")]
    Form,
    /// No bucket has such a name.
    #[error(
        "the name of a bucket has 3 to 255 letters, digits, dots, hyphens and underscores, and begins with a letter or digit"
    )]
    Bucket,
    /// The prefix can't be that.
    #[error(
        "the prefix in a bucket has printable ASCII, at most 200 characters, and no part that is empty, . or .."
    )]
    Prefix,
}

impl FromStr for BucketUrl {
    type Err = ParseBucketUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use ParseBucketUrlError as E;
        let rest = text.trim().strip_prefix("s3://").ok_or(E::Form)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let begins_well = bucket.starts_with(|first: char| first.is_ascii_alphanumeric());
        if !(3..=255).contains(&bucket.len()) || !bucket.bytes().all(is_plain) || !begins_well {
            return Err(E::Bucket);
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.is_empty() {
            return Ok(Self { bucket: bucket.into(), prefix: String::new() });
        }
        let is_clean = |part: &str| !matches!(part, "" | "." | "..");
        let is_printable = prefix.bytes().all(|byte| byte.is_ascii_graphic());
        if prefix.len() > 200 || !is_printable || !prefix.split('/').all(is_clean) {
            return Err(E::Prefix);
        }
        Ok(Self { bucket: bucket.into(), prefix: format!("{prefix}/") })
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, prefix } = self;
        write!(f, "s3://{bucket}/{prefix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_name_and_perhaps_a_prefix() {
        for (text, shown) in [
            ("s3://blobs", "s3://blobs/"),
            ("s3://blobs/", "s3://blobs/"),
            ("s3://blobs/ota/cars", "s3://blobs/ota/cars/"),
            ("s3://my.bucket/a/", "s3://my.bucket/a/"),
        ] {
            assert_eq!(text.parse::<BucketUrl>().unwrap().to_string(), shown);
        }
        use ParseBucketUrlError as E;
        for (text, fault) in [
            ("", E::Form),
            ("blobs", E::Form),
            ("https://s3.example/blobs", E::Form),
            ("s3://", E::Bucket),
            ("s3://ab", E::Bucket),
            ("s3://-ab", E::Bucket),
            ("s3://user:secret@blobs", E::Bucket),
            ("s3://blobs//a", E::Prefix),
            ("s3://blobs/a/../b", E::Prefix),
            ("s3://blobs/a b", E::Prefix),
            ("s3://blobs/ä", E::Prefix),
        ] {
            assert_eq!(text.parse::<BucketUrl>().unwrap_err(), fault, "{text}");
        }
    }
}
