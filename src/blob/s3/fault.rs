//! What a store answers when it does not do what it is asked, and what that means.

use std::error::Error as StdError;
use std::io;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::blob::Error;

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// For the store's operator: which store, and what it said.
    reason: String,
    is_cut: bool,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is no object of that name.
    NoSuchKey,
    /// The multipart upload was completed, or aborted, or never begun.
    NoSuchUpload,
    /// No room, or a quota is used up.
    Full,
    /// The store is away, or lets nobody in.
    Away,
    /// It understood the request, and does not do it.
    Refused,
}

impl Fault {
    pub(super) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), is_cut: false }
    }

    /// An answer broke off, or came to a halt.
    pub(super) fn cut(store: &str) -> Self {
        Self { is_cut: true, ..Self::new(Kind::Away, format!("an answer of {store} broke off")) }
    }

    /// Whether an answer had begun: the client tries again what has none.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// What an operation answered, at `store`.
    pub(super) fn of<E>(store: &str, bucket: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(answer) => {
                let (status, meta) = (answer.raw().status().as_u16(), answer.err().meta());
                let date = answer.raw().headers().get("date");
                let answer = Answer { status, code: meta.code(), message: meta.message(), date };
                answer.fault(store, bucket)
            }
            SdkError::TimeoutError(_) => {
                Self::new(Kind::Away, format!("{store} did not answer in time"))
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                Self::new(Kind::Away, format!("{store} did not answer in time"))
            }
            other => Self::new(
                Kind::Away,
                format!("{store} can't be reached, or asked: {}", causes(other)),
            ),
        }
    }

    /// For the store's operator.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn into_error(self, verb: &'static str, name: &str) -> Error {
        let (name, reason) = (name.to_owned(), self.reason);
        match self.kind {
            Kind::NoSuchKey | Kind::NoSuchUpload => Error::NotFound(name),
            Kind::Full => Error::Full { verb, name },
            Kind::Away => Error::Unavailable { verb, name, reason },
            Kind::Refused => Error::Backend { verb, name, source: io::Error::other(reason) },
        }
    }
}

/// What a store answered.
struct Answer<'a> {
    status: u16,
    code: Option<&'a str>,
    message: Option<&'a str>,
    date: Option<&'a str>,
}

impl Answer<'_> {
    fn fault(&self, store: &str, bucket: &str) -> Fault {
        let says = self.says();
        let (kind, reason) = match (self.code.unwrap_or_default(), self.status) {
            ("NoSuchKey" | "NotFound", _) => (Kind::NoSuchKey, format!("{store} {says}")),
            ("NoSuchUpload", _) => (Kind::NoSuchUpload, format!("{store} {says}")),
            ("NoSuchBucket", _) => {
                (Kind::Away, format!("there is no bucket {bucket} at {store} ({says})"))
            }
            ("InvalidAccessKeyId", _) => (
                Kind::Away,
                format!("{store} does not know the access key: set AWS_ACCESS_KEY_ID ({says})"),
            ),
            ("SignatureDoesNotMatch", _) => (
                Kind::Away,
                format!(
                    "the access key for {store}, or its secret, is wrong: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY ({says})"
                ),
            ),
            ("RequestTimeTooSkewed" | "RequestExpired", _) => {
                let date = self.date.unwrap_or("nothing of its own");
                let reason = format!(
                    "the clock of this host and that of {store} differ by too much: it is {date} there; set the clock \
                     ({says})"
                );
                (Kind::Away, reason)
            }
            (
                "PermanentRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
                _,
            ) => (
                Kind::Away,
                format!(
                    "{bucket} is in another region, or at another endpoint, than {store}: set AWS_REGION ({says})"
                ),
            ),
            (
                "QuotaExceeded"
                | "InsufficientCapacity"
                | "InsufficientStorage"
                | "XMinioStorageFull",
                _,
            )
            | (_, 507) => (Kind::Full, format!("{store} {says}")),
            (_, 401 | 403) => (
                Kind::Away,
                format!("{store} does not let these credentials use {bucket} ({says})"),
            ),
            ("ServiceUnavailable" | "SlowDown", _) | ("", 503) => {
                (Kind::Away, format!("{store} is busy, or full ({says})"))
            }
            ("", 404) => (Kind::NoSuchKey, format!("{store} {says}")),
            (_, 501) => (Kind::Refused, format!("{store} {says}")),
            (_, 408 | 429 | 500..) => (Kind::Away, format!("{store} {says}")),
            _ => (Kind::Refused, format!("{store} {says}")),
        };
        Fault::new(kind, reason)
    }

    /// Some stores send no message, and to HEAD none sends anything.
    fn says(&self) -> String {
        let code = self.code.map_or_else(String::new, |code| format!(" {code}"));
        let message = self.message.filter(|message| !message.is_empty());
        let message = message.map_or_else(String::new, |message| format!(": {message}"));
        format!("answered {}{code}{message}", self.status)
    }
}

/// The last cause says most; those before say where it was met.
fn causes(error: &dyn StdError) -> String {
    let mut all = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if all.last() != Some(&text) {
            all.push(text);
        }
        next = cause.source();
    }
    all.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_means_what_its_code_says() {
        let fault = |status, code| {
            let answer =
                Answer { status, code, message: None, date: Some("Thu, 26 Nov 2026 18:00:00 GMT") };
            answer.fault("http://store", "blobs")
        };
        for (status, code, kind, named) in [
            (404, Some("NoSuchKey"), Kind::NoSuchKey, "NoSuchKey"),
            (404, None, Kind::NoSuchKey, "404"),
            (404, Some("NoSuchBucket"), Kind::Away, "no bucket blobs at http://store"),
            (404, Some("NoSuchUpload"), Kind::NoSuchUpload, "NoSuchUpload"),
            (403, Some("InvalidAccessKeyId"), Kind::Away, "AWS_ACCESS_KEY_ID"),
            (403, Some("SignatureDoesNotMatch"), Kind::Away, "AWS_SECRET_ACCESS_KEY"),
            (
                403,
                Some("RequestTimeTooSkewed"),
                Kind::Away,
                "it is Thu, 26 Nov 2026 18:00:00 GMT there",
            ),
            (403, Some("AccessDenied"), Kind::Away, "does not let these credentials use blobs"),
            (403, Some("QuotaExceeded"), Kind::Full, "QuotaExceeded"),
            (403, None, Kind::Away, "403"),
            (507, None, Kind::Full, "507"),
            (503, Some("SlowDown"), Kind::Away, "busy, or full (answered 503 SlowDown)"),
            (503, None, Kind::Away, "busy, or full"),
            (500, None, Kind::Away, "500"),
            (400, Some("EntityTooLarge"), Kind::Refused, "EntityTooLarge"),
            (501, Some("NotImplemented"), Kind::Refused, "NotImplemented"),
        ] {
            let fault = fault(status, code);
            assert_eq!(fault.kind, kind, "{status} {code:?}");
            assert!(fault.reason.contains(named), "{}", fault.reason);
        }
    }
}
