//! Objects by the names that the store's prefix stands before: each method is one request, or the
//! same one for each page of an answer.

use std::future::Future;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{Object, ServerSideEncryption};
use bytes::Bytes;
use tokio::runtime::Handle;

use super::fault::{Fault, Kind};
use super::timeouts::{briefly, patiently};
use crate::blob::{BlobKey, ReadVerb};
use crate::model::{BucketUrl, StoreEncryption};

/// A bucket that can be asked.
pub(super) struct Objects {
    pub(super) client: Client,
    /// Signs for where others reach the store.
    pub(super) presigner: Client,
    pub(super) url: BucketUrl,
    pub(super) encryption: Option<StoreEncryption>,
    /// Where it is, for people.
    pub(super) store: String,
    /// Where requests run: connections outlive whoever asks for the first thing on them.
    pub(super) runtime: Handle,
}

/// How an object is described to whoever gets it from the store itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described {
    pub(super) content_type: &'static str,
    pub(super) cache_control: &'static str,
}

impl Described {
    /// As the blob of that key is served.
    pub(super) fn as_blob(key: &BlobKey) -> Self {
        let cache_control =
            if key.is_immutable() { "public, max-age=31536000, immutable" } else { "no-cache" };
        Self { content_type: key.content_type(), cache_control }
    }

    /// For what is nobody's to read.
    pub(super) const INTERNAL: Self =
        Self { content_type: "application/octet-stream", cache_control: "no-store" };
}

/// An object that is there.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) length: u64,
}

/// An entry of a list.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) modified: Option<DateTime>,
}

/// How deep a list goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// To the next slash.
    Here,
    /// To everything that begins like that.
    All,
}

impl Objects {
    /// The object's key in the bucket.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.url.prefix)
    }

    /// Its name, if the key is below the prefix.
    pub(super) fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.url.prefix.as_str())
    }

    /// What an operation's failure means.
    pub(super) fn fault<E>(&self, error: &SdkError<E, HttpResponse>) -> Fault
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        Fault::of(&self.store, &self.url.bucket, error)
    }

    /// Runs it where connections live on, to its end, also if nobody waits any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Fault> {
        let ended = self.runtime.spawn(work).await;
        ended.map_err(|error| Fault::new(Kind::Refused, format!("a request broke off: {error}")))
    }

    /// The same for a thread that may block.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Fault> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.runtime.spawn(async move { drop(sender.send(work.await)) });
        receiver.recv().map_err(|_| Fault::new(Kind::Refused, "a request broke off"))
    }

    /// Stores an object, in place of one that is there.
    pub(super) async fn put(
        &self,
        name: &str,
        bytes: Bytes,
        described: Described,
    ) -> Result<(), Fault> {
        let (sse, kms_key) = self.encrypted();
        let put = self
            .client
            .put_object()
            .bucket(&self.url.bucket)
            .key(self.key(name))
            .content_type(described.content_type)
            .cache_control(described.cache_control)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key)
            .content_length(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
            .body(ByteStream::from(bytes));
        put.customize()
            .config_override(patiently(LARGE_ATTEMPT, LARGE_OPERATION))
            .send()
            .await
            .map(drop)
            .map_err(|error| self.fault(&error))
    }

    /// Looks whether an object is there. A bucket that isn't looks the same: `HEAD` has no more than
    /// a status.
    pub(super) async fn head(&self, name: &str) -> Result<Option<Found>, Fault> {
        let head = self.client.head_object().bucket(&self.url.bucket).key(self.key(name));
        match head.send().await.map_err(|error| self.fault(&error)) {
            Ok(found) => {
                let length = found.content_length().and_then(|length| length.try_into().ok());
                Ok(Some(Found { length: length.unwrap_or(0) }))
            }
            Err(fault) if fault.kind == Kind::NoSuchKey => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Asks for an object, or bytes of it, `first` to `last`; of the content that has `etag`, if one
    /// is given.
    pub(super) async fn get(
        &self,
        name: &str,
        range: Option<(u64, u64)>,
        etag: Option<String>,
    ) -> Result<GetObjectOutput, Fault> {
        let get = self
            .client
            .get_object()
            .bucket(&self.url.bucket)
            .key(self.key(name))
            .set_range(range.map(|(first, last)| format!("bytes={first}-{last}")))
            .set_if_match(etag);
        get.send().await.map_err(|error| self.fault(&error))
    }

    /// A small object whole, if it is there.
    pub(super) async fn read(&self, name: &str, time: Duration) -> Result<Option<Bytes>, Fault> {
        let get = self.client.get_object().bucket(&self.url.bucket).key(self.key(name));
        let reading = async {
            let found = get.customize().config_override(briefly(time)).send().await;
            let found = match found.map_err(|error| self.fault(&error)) {
                Err(fault) if fault.kind == Kind::NoSuchKey => return Ok(None),
                found => found?,
            };
            let bytes = found.body.collect().await;
            let bytes = bytes.map_err(|error| {
                Fault::new(Kind::Away, format!("{} broke off: {error}", self.store))
            })?;
            Ok(Some(bytes.into_bytes()))
        };
        match tokio::time::timeout(time, reading).await {
            Ok(read) => read,
            Err(_) => Err(Fault::new(Kind::Away, format!("{} did not answer in time", self.store))),
        }
    }

    /// Removes an object, if it is there.
    pub(super) async fn delete(&self, name: &str) -> Result<(), Fault> {
        let delete = self.client.delete_object().bucket(&self.url.bucket).key(self.key(name));
        match delete.send().await.map_err(|error| self.fault(&error)) {
            Err(fault) if fault.kind != Kind::NoSuchKey => Err(fault),
            _ => Ok(()),
        }
    }

    /// All objects whose names begin like that.
    pub(super) async fn list(&self, begin: &str, depth: Depth) -> Result<Vec<Listed>, Fault> {
        let (mut all, mut token) = (Vec::new(), None);
        loop {
            let list = self
                .client
                .list_objects_v2()
                .bucket(&self.url.bucket)
                .prefix(self.key(begin))
                .set_delimiter((depth == Depth::Here).then(|| "/".to_owned()))
                .set_continuation_token(token);
            let page = list.send().await.map_err(|error| self.fault(&error))?;
            all.extend(page.contents().iter().filter_map(|object| self.listed(object)));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                return Ok(all);
            }
        }
    }

    /// The first page of objects whose names begin like that and come after another name.
    pub(super) async fn list_from(&self, begin: &str, after: &str) -> Result<Vec<Listed>, Fault> {
        let list = self
            .client
            .list_objects_v2()
            .bucket(&self.url.bucket)
            .prefix(self.key(begin))
            .start_after(self.key(after));
        let page = list.send().await.map_err(|error| self.fault(&error))?;
        Ok(page.contents().iter().filter_map(|object| self.listed(object)).collect())
    }

    fn listed(&self, object: &Object) -> Option<Listed> {
        Some(Listed {
            name: self.name(object.key()?)?.to_owned(),
            length: object.size().and_then(|size| size.try_into().ok()).unwrap_or(0),
            modified: object.last_modified().copied(),
        })
    }

    /// A URL under which an object can be read for a while.
    pub(super) async fn presign(
        &self,
        name: &str,
        verb: ReadVerb,
        valid_for: Duration,
    ) -> Result<String, Fault> {
        let presigning = PresigningConfig::expires_in(valid_for);
        let presigning =
            presigning.map_err(|error| Fault::new(Kind::Refused, error.to_string()))?;
        let (bucket, key) = (&self.url.bucket, self.key(name));
        let presigned = match verb {
            ReadVerb::Get => {
                let get = self.presigner.get_object().bucket(bucket).key(key);
                get.presigned(presigning).await.map_err(|error| self.fault(&error))?
            }
            ReadVerb::Head => {
                let head = self.presigner.head_object().bucket(bucket).key(key);
                head.presigned(presigning).await.map_err(|error| self.fault(&error))?
            }
        };
        Ok(presigned.uri().to_owned())
    }

    /// How the store is to encrypt what it is given.
    pub(super) fn encrypted(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.encryption {
            None => (None, None),
            Some(StoreEncryption { algorithm, kms_key }) => {
                (Some(algorithm.as_str().into()), kms_key.clone())
            }
        }
    }
}

/// Of what is up to a part long.
pub(super) const LARGE_ATTEMPT: Duration = Duration::from_secs(60);
pub(super) const LARGE_OPERATION: Duration = Duration::from_secs(240);
