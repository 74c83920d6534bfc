//! Pushes a file so that it can be resumed: over a connection that breaks, and after the machine or
//! the server was away. Of what the server has, nothing is sent again.
//!
//! The server finds an upload again that was begun in the same words, digest included: another run
//! of the command goes on where this one was stopped.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use indicatif::ProgressBar;
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Body, Method, RequestBuilder, StatusCode};

use super::retry::pause_before_resuming;
use super::source::Source;
use crate::cli::api::{Api, Failure, Refused};
use crate::cli::output;

/// A push.
pub(super) struct Resumable<'a> {
    pub(super) api: &'a Api,
    pub(super) source: &'a Source,
    /// Of the image, in bytes.
    pub(super) length: u64,
    /// What is said of the image.
    pub(super) metadata: String,
    /// How long nothing may get on.
    pub(super) patience: Duration,
}

/// What came of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The image is published.
    Taken,
    /// The server knows no such uploads.
    Unknown,
}

/// Where a push stands.
struct Progress {
    /// Id of the upload, once there is one.
    upload: Option<String>,
    /// Most bytes that the server has had.
    kept: u64,
    since: Instant,
    attempt: u32,
    bar: ProgressBar,
}

impl Progress {
    /// Notes how many bytes the server has; patience begins anew where it is more.
    fn note(&mut self, offset: u64) {
        self.bar.set_position(offset);
        if offset > self.kept {
            (self.kept, self.since, self.attempt) = (offset, Instant::now(), 0);
        }
    }
}

/// Pairs of a key and a value as `Upload-Metadata` has them.
pub(super) fn metadata<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs = pairs.into_iter().map(|(key, value)| format!("{key} {}", STANDARD.encode(value)));
    pairs.collect::<Vec<_>>().join(",")
}

impl Resumable<'_> {
    /// Sends the file until the server has published it.
    pub(super) async fn push(&self) -> anyhow::Result<Pushed> {
        let bar = output::bytes("uploading", self.length);
        let since = Instant::now();
        let mut progress = Progress { upload: None, kept: 0, since, attempt: 0, bar };
        loop {
            let error = match self.step(&mut progress).await {
                Ok(offset) if offset == self.length => break,
                Ok(_) => continue,
                Err(error) => error,
            };
            if progress.upload.is_none() && is_unknown(&error) {
                progress.bar.finish_and_clear();
                return Ok(Pushed::Unknown);
            }
            if let Some(fault) = self.source.fault().await {
                self.terminate(&progress).await;
                bail!(fault);
            }
            self.pause(error, &mut progress).await?;
        }
        progress.bar.finish_and_clear();
        Ok(Pushed::Taken)
    }

    /// Asks what the server has, or begins; then sends what it has not. Returns what it has then.
    async fn step(&self, progress: &mut Progress) -> Result<u64, Failure> {
        let offset = match &progress.upload {
            Some(id) => self.find(id).await?,
            None => {
                let (id, offset) = self.begin().await?;
                progress.upload = id;
                offset
            }
        };
        progress.note(offset);
        let Some(id) = progress.upload.clone().filter(|_| offset < self.length) else {
            return Ok(offset);
        };
        let sent = progress.bar.clone();
        let rest = self.source.body_from(offset);
        let rest = rest.inspect_ok(move |piece| sent.inc(piece.len() as u64));
        let request = self.request(Method::PATCH, &format!("uploads/{id}"));
        let request = request
            .header("Upload-Offset", offset)
            .header("Content-Type", "application/offset+octet-stream")
            .header("Content-Length", self.length - offset);
        let response = self.api.send(request.body(Body::wrap_stream(rest))).await?;
        let offset = number(response.headers(), "upload-offset").unwrap_or(offset);
        progress.note(offset);
        Ok(offset)
    }

    /// Begins an upload, or finds the one that was begun before; returns its id and what the server
    /// has.
    async fn begin(&self) -> Result<(Option<String>, u64), Failure> {
        let request = self.request(Method::POST, "uploads");
        let request = request
            .header("Upload-Length", self.length)
            .header("Upload-Metadata", self.metadata.as_str());
        let response = self.api.send(request).await?;
        let headers = response.headers();
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let id = location.and_then(|location| location.rsplit('/').next()).map(str::to_owned);
        Ok((id, number(headers, "upload-offset").unwrap_or(0)))
    }

    async fn find(&self, id: &str) -> Result<u64, Failure> {
        let response = self.api.send(self.request(Method::HEAD, &format!("uploads/{id}"))).await?;
        Ok(number(response.headers(), "upload-offset").unwrap_or(0))
    }

    /// Waits before the next step, if that can get on.
    async fn pause(&self, error: Failure, progress: &mut Progress) -> anyhow::Result<()> {
        progress.attempt += 1;
        if is_gone(&error) && progress.upload.take().is_some() {
            output::note(format_args!(
                "the server has nothing of this upload any more; beginning again"
            ));
            progress.kept = 0;
            return Ok(());
        }
        let has_begun = progress.upload.is_some() || progress.kept > 0;
        let attempt = if has_begun { progress.attempt + 1 } else { progress.attempt };
        let pause = pause_before_resuming(&error, attempt)
            .filter(|pause| progress.since.elapsed() + *pause <= self.patience);
        let Some(pause) = pause else { return Err(error).context("the image was not taken") };
        output::note(format_args!("{error}; going on in {} s", pause.as_secs()));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Ends an upload of what is no image any more; whatever stays of it expires.
    async fn terminate(&self, progress: &Progress) {
        let Some(id) = &progress.upload else { return };
        for _ in 0..TERMINATIONS {
            let request = self.request(Method::DELETE, &format!("uploads/{id}"));
            match self.api.send(request).await {
                Err(Failure::Refused(Refused { status: StatusCode::LOCKED, .. })) => {
                    tokio::time::sleep(Duration::from_millis(500)).await; // it sees soon that the body broke off
                }
                _ => return,
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.api.request(method, path).header("Tus-Resumable", "1.0.0")
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// An answer of a server that is older than these uploads.
fn is_unknown(error: &Failure) -> bool {
    let statuses = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
    matches!(error, Failure::Refused(refused) if statuses.contains(&refused.status))
}

fn is_gone(error: &Failure) -> bool {
    let statuses = [StatusCode::NOT_FOUND, StatusCode::GONE];
    matches!(error, Failure::Refused(refused) if statuses.contains(&refused.status))
}

/// How often it is tried to end an upload.
const TERMINATIONS: usize = 10;
