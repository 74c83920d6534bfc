//! A stock TUF client, tough's, for looking at a repository from outside.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use sync_wrapper::SyncStream;
use tokio::io::AsyncWriteExt;
use tough::{
    Repository, RepositoryLoader, TargetName, Transport, TransportError, TransportErrorKind,
    TransportStream,
};
use url::Url;

/// What can go wrong between a client and a repository.
pub type ClientError = Box<dyn std::error::Error + Send + Sync>;

/// A repository whose metadata has been verified from a trusted root.
pub struct VerifiedRepository(Repository);

/// Metadata files of a repository before anybody is served them.
#[async_trait]
pub trait MetadataFiles: fmt::Debug + Send + Sync {
    /// The file that clients ask for as `name`, if there is one.
    ///
    /// # Errors
    ///
    /// Whatever the store says.
    async fn read(&self, name: &str) -> Result<Option<Bytes>, ClientError>;
}

/// What a target's metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTarget {
    /// Length in bytes.
    pub length: u64,
    /// The signed `custom` object.
    pub custom: serde_json::Value,
}

impl VerifiedRepository {
    /// Loads and verifies the metadata below `base_url`, starting from the trusted bytes of a root.
    ///
    /// # Errors
    ///
    /// Whatever tough says, such as a signature that does not verify or a file that has expired.
    pub async fn load(trusted_root: &[u8], base_url: &str) -> Result<Self, ClientError> {
        let metadata_url = Url::parse(&format!("{}/", base_url.trim_end_matches('/')))?;
        let targets_url = metadata_url.join("targets/")?;
        let transport = HttpTransport(reqwest::Client::builder().no_proxy().build()?);
        let loader =
            RepositoryLoader::new(&trusted_root, metadata_url, targets_url).transport(transport);
        Ok(Self(loader.load().await?))
    }

    /// The same for files that nobody is served yet.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub async fn load_from(
        trusted_root: &[u8],
        files: Arc<dyn MetadataFiles>,
    ) -> Result<Self, ClientError> {
        Ok(Self(loader_of(&trusted_root, FilesTransport::of(files))?.load().await?))
    }

    /// Versions of root, timestamp and snapshot.
    pub fn versions(&self) -> [u64; 3] {
        let Self(repository) = self;
        [
            repository.root().signed.version.get(),
            repository.timestamp().signed.version.get(),
            repository.snapshot().signed.version.get(),
        ]
    }

    /// What the metadata says of a target, if it lists it.
    pub fn find(&self, target: &str) -> Option<VerifiedTarget> {
        let (_, found) = self.0.all_targets().find(|(name, _)| name.resolved() == target)?;
        let custom = found.custom.clone().into_iter().collect();
        Some(VerifiedTarget { length: found.length, custom: serde_json::Value::Object(custom) })
    }

    /// Downloads a target to `file`, verified.
    ///
    /// # Errors
    ///
    /// Whatever tough says: also if a byte differs from what was signed.
    pub async fn download(&self, target: &str, file: &Path) -> Result<(), ClientError> {
        let name = TargetName::new(target)?;
        let mut pieces = self.0.read_target(&name).await?.ok_or("no such target")?;
        let mut file = tokio::fs::File::create(file).await?;
        while let Some(piece) = pieces.try_next().await? {
            file.write_all(&piece).await?;
        }
        file.flush().await?;
        Ok(())
    }
}

/// Walks a root chain from the trusted bytes of a root to its end, and no further: the last one must
/// not have expired (TUF 1.0.34, 5.3).
///
/// # Errors
///
/// Whatever tough says.
pub async fn walk_roots(
    trusted_root: &[u8],
    files: Arc<dyn MetadataFiles>,
) -> Result<(), ClientError> {
    let transport = FilesTransport { ends_at: Some(AFTER_ROOTS), ..FilesTransport::of(files) };
    let has_ended = Arc::clone(&transport.has_ended);
    match loader_of(&trusted_root, transport)?.load().await {
        Err(error) if !has_ended.load(Ordering::Relaxed) => Err(error.into()),
        _ => Ok(()),
    }
}

fn loader_of<'a>(
    trusted_root: &'a &[u8],
    transport: FilesTransport,
) -> Result<RepositoryLoader<'a>, ClientError> {
    let base = Url::parse("http://repository.invalid/")?;
    let loader = RepositoryLoader::new(trusted_root, base.clone(), base.join("targets/")?);
    Ok(loader.transport(transport))
}

/// Gives files to a client without a server.
#[derive(Debug, Clone)]
struct FilesTransport {
    files: Arc<dyn MetadataFiles>,
    /// The file at which the client is stopped.
    ends_at: Option<&'static str>,
    has_ended: Arc<AtomicBool>,
}

impl FilesTransport {
    fn of(files: Arc<dyn MetadataFiles>) -> Self {
        Self { files, ends_at: None, has_ended: Arc::default() }
    }
}

#[async_trait]
impl Transport for FilesTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path().trim_start_matches('/');
        if self.ends_at == Some(name) {
            self.has_ended.store(true, Ordering::Relaxed);
            return Err(TransportError::new(TransportErrorKind::Other, &url));
        }
        let read = self.files.read(name).await;
        let failed = |error| TransportError::new_with_cause(TransportErrorKind::Other, &url, error);
        let file = read
            .map_err(failed)?
            .ok_or_else(|| TransportError::new(TransportErrorKind::FileNotFound, &url))?;
        Ok(Box::pin(stream::iter([Ok(file)])))
    }
}

/// What a client asks for once it has the last root.
const AFTER_ROOTS: &str = "timestamp.json";

/// Fetches all files with one client. tough's own transport makes a new one for each, which takes
/// longer than walking a repository of 256 bins.
#[derive(Debug, Clone)]
struct HttpTransport(reqwest::Client);

#[async_trait]
impl Transport for HttpTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let failed = |kind, url: &Url, error| TransportError::new_with_cause(kind, url, error);
        let response = match self
            .0
            .get(url.clone())
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
        {
            Ok(response) => response,
            // Tells tough that there is no newer root (TUF 1.0.34, 5.3.3).
            Err(error) if error.status() == Some(reqwest::StatusCode::NOT_FOUND) => {
                return Err(failed(TransportErrorKind::FileNotFound, &url, error));
            }
            Err(error) => return Err(failed(TransportErrorKind::Other, &url, error)),
        };
        let pieces = response.bytes_stream();
        let pieces = pieces.map_err(move |error| failed(TransportErrorKind::Other, &url, error));
        Ok(Box::pin(SyncStream::new(pieces)))
    }
}
