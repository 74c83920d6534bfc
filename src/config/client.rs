//! Settings of the commands that talk to a server.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::Error;

/// Which server, and who is calling.
#[derive(Clone, Args)]
pub struct ClientSettings {
    /// Base URL of the server
    #[arg(long, env = "MOTORCADE_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,

    /// API token; better set in the environment, where other users can't see it
    #[arg(long, env = "MOTORCADE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// File that holds the API token
    #[arg(long, env = "MOTORCADE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

/// Settings with the token read.
pub struct ClientConfig {
    /// Base URL without a slash at the end.
    pub server: String,
    /// API token.
    pub token: Zeroizing<String>,
}

impl ClientSettings {
    /// Reads the token.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if there is none, [`Error::File`].
    pub fn resolve(self) -> Result<ClientConfig, Error> {
        let token = match (self.token, self.token_file) {
            (Some(token), _) if !token.trim().is_empty() => token,
            (_, Some(path)) => {
                fs::read_to_string(&path).map_err(|source| Error::File { path: path.display().to_string(), source })?
            }
            (_, None) => {
                return Err(Error::Missing(
                    "no API token: set MOTORCADE_TOKEN, which `motorcade token create` prints on the server",
                ));
            }
        };
        let token = Zeroizing::new(token.trim().to_owned());
        if !self.server.starts_with("http://") && !self.server.starts_with("https://") {
            return Err(Error::Unusable("the server must be a URL, such as http://127.0.0.1:8080"));
        }
        Ok(ClientConfig { server: self.server.trim_end_matches('/').to_owned(), token })
    }
}
