//! What a server answered, however it was asked.

use bytes::Bytes;
use motorcade::api::Problem;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap() }
    }

    /// The body as JSON, for what is checked as such.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        self.body()
    }

    /// The body as one of the types of the API.
    #[track_caller]
    pub(crate) fn body<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Asserts success and returns the body.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Bytes {
        assert_eq!(self.status, status, "{self:?}");
        self.body
    }

    /// Asserts that this is a problem (RFC 9457) with that status and code, and returns its
    /// `detail`.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: Problem = self.body();
        assert_eq!(problem.code, code, "{problem:?}");
        assert_eq!(problem.status, status, "{problem:?}");
        assert!(!problem.detail.is_empty(), "{problem:?}");
        problem.detail
    }
}
