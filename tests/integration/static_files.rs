//! The plainest file server there is, for folders that are said to be repositories as they are.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use motorcade::uptane::client::VerifiedRepository;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Serves a folder until it is dropped.
pub(crate) struct StaticFiles {
    address: SocketAddr,
    folder: PathBuf,
    serving: JoinHandle<()>,
}

impl StaticFiles {
    pub(crate) async fn serve(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let root = folder.to_owned();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, root.clone()));
            }
        });
        Self { address, folder: folder.to_owned(), serving }
    }

    /// Base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The folder as a stock TUF client has verified it, from root version 1.
    pub(crate) async fn repository(&self) -> VerifiedRepository {
        let root = std::fs::read(self.folder.join("1.root.json")).unwrap();
        VerifiedRepository::load(&root, &self.url()).await.unwrap()
    }
}

impl Drop for StaticFiles {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers the requests of one connection, which are GET requests without a body.
async fn answer(stream: TcpStream, folder: PathBuf) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut target = String::new();
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 2 {
            if let Some(path) = line.strip_prefix("GET ") {
                target =
                    path.split(' ').next().unwrap_or_default().trim_start_matches('/').to_owned();
            }
            line.clear();
        }
        if target.is_empty() {
            return Ok(());
        }
        let (status, body) = match std::fs::read(folder.join(target)) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        stream
            .write_all(
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
            )
            .await?;
        stream.write_all(&body).await?;
        stream.flush().await?;
    }
}
