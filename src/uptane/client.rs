//! A stock TUF client, tough's, for looking at a repository from outside.

use std::path::Path;

use async_trait::async_trait;
use futures_util::TryStreamExt;
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
