//! A client of the server's API.

use anyhow::{Context, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::config::{ClientConfig, ClientSettings};

/// The server, and the token to use there.
pub(super) struct Api {
    http: reqwest::Client,
    config: ClientConfig,
}

impl Api {
    pub(super) fn new(settings: ClientSettings) -> anyhow::Result<Self> {
        let config = settings.resolve()?;
        // Redirects could carry the token to another host; the API has none.
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { http, config })
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
    pub(super) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(reqwest::Error::without_url);
        let response = response.with_context(|| format!("failed to reach {}", self.config.server))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem: Value = response.json().await.unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("the server gave no reason");
        let hint = match status {
            StatusCode::UNAUTHORIZED => "\nhint: make a token on the server with `motorcade token create --role …`",
            _ => "",
        };
        bail!("{detail} ({status}){hint}");
    }

    /// Sends a request and reads the JSON that comes back.
    pub(super) async fn json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let response = self.send(request).await?;
        response.json().await.context("failed to read the server's answer")
    }
}
