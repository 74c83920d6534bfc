//! A client of the server's API.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::RETRY_AFTER;
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::{ClientConfig, ClientSettings};
use crate::model::BaseUrl;
use motorcade_host::key_exchange::{PostQuantum, offer_post_quantum};
use motorcade_host::shown::printable;

/// The server, and the token to use there.
pub(super) struct Api {
    http: reqwest::Client,
    config: ClientConfig,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server said no.
    #[error(transparent)]
    Refused(Refused),
    /// There was no answer.
    #[error("failed to reach {server}{}", hint(source))]
    Unreachable {
        /// Base URL.
        server: BaseUrl,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// A refusal in the server's words (RFC 9457).
#[derive(Debug, thiserror::Error)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    /// The problem as it came; also from a proxy, with other members than ours.
    pub(super) problem: Value,
    /// How long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// What any problem has that says something (RFC 9457, 3.1.4).
#[derive(Deserialize)]
struct Detail {
    detail: String,
}

/// What to do about an error whose own words don't say.
fn hint(error: &reqwest::Error) -> &'static str {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("UnknownIssuer") {
            return ", whose certificate comes from a CA that is unknown here (name its file with --ca-file or MOTORCADE_CA_FILE)";
        }
        cause = error.source();
    }
    ""
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = Detail::deserialize(&self.problem).ok().map(|problem| problem.detail);
        let detail = detail.as_deref().unwrap_or("the server gave no reason");
        write!(f, "{} ({})", printable(detail), self.status)?;
        match self.status {
            StatusCode::UNAUTHORIZED => f.write_str(
                "\nhint: make a token on the server with `motorcade token create --role …`",
            ),
            _ => Ok(()),
        }
    }
}

impl Api {
    pub(super) fn new(settings: ClientSettings) -> anyhow::Result<Self> {
        let config = settings.resolve()?;
        offer_post_quantum(PostQuantum::First); // what CI uploads is the plaintext of an image
        // Redirects could carry the token to another host; the API has none.
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            // A server that is busy reads no body for a while, and answers then; the default gives
            // up before.
            .tcp_user_timeout(NOTHING_TAKEN_TIMEOUT);
        if let Some((path, pem)) = &config.ca {
            let certificates = Certificate::from_pem_bundle(pem)
                .ok()
                .filter(|certificates| !certificates.is_empty());
            let certificates = certificates
                .with_context(|| format!("{} has no certificate in PEM", path.display()))?;
            http = http.tls_certs_merge(certificates);
        }
        Ok(Self { http: http.build().context("failed to prepare TLS")?, config })
    }

    /// Starts a request to a path below `/api/v1/`.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1/{path}", self.config.server);
        self.http.request(method, url).bearer_auth(&*self.config.token)
    }

    /// Starts a request to a path of the server, without this client's token.
    pub(super) fn to_server(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.config.server))
    }

    /// Fetches what is open to everyone.
    pub(super) async fn fetch(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let response = self.send(self.to_server(Method::GET, path)).await?;
        Ok(response.bytes().await.context("failed to read the server's answer")?.to_vec())
    }

    /// Sends a request; an answer that is an error becomes one, in the server's words.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| Failure::Unreachable {
            server: self.config.server.clone(),
            source: error.without_url(),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let seconds = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let problem = response.json().await.unwrap_or_default();
        Err(Failure::Refused(Refused {
            status,
            problem,
            retry_after: seconds.map(Duration::from_secs),
        }))
    }

    /// Sends a request and reads the JSON that comes back.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> anyhow::Result<T> {
        let response = self.send(request).await?;
        response.json().await.context("failed to read the server's answer")
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const NOTHING_TAKEN_TIMEOUT: Duration = Duration::from_secs(15 * 60); // 15 minutes
