//! Settings of the commands that talk to a server.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::Error;
use crate::model::BaseUrl;

/// Which server, and who is calling.
#[derive(Clone, Args)]
pub struct ClientSettings {
    /// Base URL of the server
    #[arg(
        long,
        env = "MOTORCADE_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    server: BaseUrl,

    /// API token; better set in the environment, where other users can't see it
    #[arg(long, env = "MOTORCADE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// File that holds the API token
    #[arg(long, env = "MOTORCADE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,

    /// Certificates of the CAs that the server may be certified by, in PEM, besides the system's
    #[arg(long, env = "MOTORCADE_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the token.
        f.debug_struct("ClientSettings").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Settings with the files read.
pub struct ClientConfig {
    /// Base URL.
    pub server: BaseUrl,
    /// API token.
    pub token: Zeroizing<String>,
    /// More CAs: the file, and what is in it.
    pub ca: Option<(PathBuf, Vec<u8>)>,
}

impl ClientSettings {
    /// Reads the token and the CAs.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if there is no token, [`Error::File`], [`Error::Unusable`].
    pub fn resolve(self) -> Result<ClientConfig, Error> {
        let (token, from) = match (self.token, self.token_file) {
            (Some(token), _) => (token, "what is set as the API token".to_owned()),
            (None, Some(path)) => {
                (fs::read_to_string(&path).map_err(cant_read(&path))?, path.display().to_string())
            }
            (None, None) => {
                return Err(Error::Missing(
                    "no API token: set MOTORCADE_TOKEN, which `motorcade token create` prints on the server",
                ));
            }
        };
        let token = Zeroizing::new(token.trim().to_owned());
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Token { from });
        }
        let read = |path: PathBuf| -> Result<_, Error> {
            let pem = fs::read(&path).map_err(cant_read(&path))?;
            Ok((path, pem))
        };
        Ok(ClientConfig { server: self.server, token, ca: self.ca_file.map(read).transpose()? })
    }
}

fn cant_read(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::File { path, source }
}
