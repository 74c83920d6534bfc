//! Blobs in a bucket of an S3-compatible object store.
//!
//! The bucket, below its prefix, has what `/repo` serves under the same names, and so is a static
//! repository by itself; both names of a target in a folder are objects, one a copy that the store
//! makes. What is this server's own is below `.motorcade/`: whose bucket it is, and what is on its way
//! into the repository.
//!
//! Stores differ in what they know of S3. This asks for no more than what all of them do (docs/S3.md):
//! single requests with signed bodies, and no conditional writes. That a name is given to one blob
//! alone is what the catalog sees to, by versions that are reserved and names that are announced;
//! here it is looked at before.

mod client;
mod contract;
mod copy;
mod fault;
mod kept;
mod ledger;
mod multipart;
mod objects;
mod owner;
mod parts;
mod reading;
mod signed;
mod staged;
mod sweep;
mod timeouts;
mod upload;

use std::sync::{Arc, OnceLock};

use aws_sdk_s3::config::Credentials;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::{Blob, Error};
use crate::model::Bucket;
use fault::Fault;
use kept::Kept;
use objects::{Depth, Objects};
use signed::SignedUrls;

/// A [`BlobStore`](super::BlobStore) in a bucket.
#[derive(Clone)]
pub struct S3BlobStore {
    objects: Arc<Objects>,
    /// Whose uploads a sweep takes.
    server: String,
    owner: Arc<OnceLock<String>>,
    sending: Arc<Semaphore>,
    kept: Arc<Kept>,
    signed: Arc<SignedUrls>,
}

impl S3BlobStore {
    /// Opens the store. What is on its way into it is under the name of `server`, which sweeps it
    /// away when it starts again. Requests run on the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if there are no credentials, or nothing says where the store is. Nothing
    /// is asked of it yet.
    pub async fn open(bucket: &Bucket, server: &str) -> Result<Self, Error> {
        Self::open_by(bucket, server, None).await
    }

    /// The same with credentials that are given.
    #[cfg(test)]
    pub(super) async fn open_with(
        bucket: &Bucket,
        server: &str,
        keys: Credentials,
    ) -> Result<Self, Error> {
        Self::open_by(bucket, server, Some(keys)).await
    }

    async fn open_by(
        bucket: &Bucket,
        server: &str,
        keys: Option<Credentials>,
    ) -> Result<Self, Error> {
        let opened = client::open(bucket, keys, Handle::current()).await;
        Ok(Self {
            objects: opened.map_err(|fault| fault.into_error("open", &bucket.url.to_string()))?,
            server: server.to_owned(),
            owner: Arc::default(),
            sending: Arc::new(Semaphore::new(PARTS_ON_THEIR_WAY)),
            kept: Arc::default(),
            signed: Arc::default(),
        })
    }

    /// A name below `folder` that nobody else takes.
    fn new_name(&self, folder: &str) -> String {
        format!("{folder}{}/{:032x}", self.server, rand::random::<u128>())
    }

    /// Does it where connections live on, to its end.
    async fn run<T, F>(
        &self,
        (verb, name): (&'static str, &str),
        work: impl FnOnce(Arc<Objects>) -> F + Send,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let ended = self.objects.run(work(Arc::clone(&self.objects))).await;
        ended.flatten().map_err(|fault| fault.into_error(verb, name))
    }

    /// The same for what makes its errors itself.
    async fn run_named<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let ended = self.objects.run(work).await;
        ended.map_err(|fault| fault.into_error("use", &self.objects.url.to_string())).flatten()
    }

    async fn open_name(&self, name: String) -> Result<Blob, Error> {
        let objects = Arc::clone(&self.objects);
        let is_target = name.starts_with("targets/");
        let beginning = if is_target { reading::TARGET } else { reading::METADATA };
        self.run_named(async move { reading::open(&objects, &name, beginning).await }).await
    }

    async fn list_names(&self, depth: Depth) -> Result<Vec<String>, Error> {
        let listed = self.run(("list", "the bucket"), move |objects| async move {
            objects.list("", depth).await
        });
        let names = listed.await?.into_iter().map(|object| object.name);
        Ok(names.filter(|name| !name.starts_with(OWN)).collect())
    }
}

const OWN: &str = ".motorcade/";
const STAGING: &str = ".motorcade/staging/";
const PARTS: &str = ".motorcade/parts/";
const QUARANTINE: &str = ".motorcade/quarantine/";
/// Parts of all uploads that may be on their way at once, each up to 8 MiB of memory, and 32 MiB in
/// images of more than 31 GiB.
const PARTS_ON_THEIR_WAY: usize = 16;
